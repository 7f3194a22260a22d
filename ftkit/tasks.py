"""What differs between kinds of task: the head, the loss, and how probabilities become answers.

Three kinds of labels: `"single"` (one of several classes), `"multiple"` (any number of them), and `"ordered"` (one of
several ranks, such as stars). Labels are arrays: (n,) of class indices for single and ordered, (n, n_classes) of
zeros and ones for multiple.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ftkit.cache import above
from ftkit.pretrained import Base, group_parameters, in_batches, pool


class Classifier(torch.nn.Module):
    """A pretrained encoder, pooling, dropout, and a linear head: token ids in, one logit for each class out.

    Parameters
    ----------
    base : Base
        Its encoder is copied, so that the base stays as it was.
    n_classes : int
        Number of logits.
    """

    def __init__(self, base: Base, n_classes: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(base.encoder)
        self.pooling = base.pooling
        config = base.encoder.config
        rate = getattr(config, "classifier_dropout", None)
        self.dropout = torch.nn.Dropout(rate if rate is not None else getattr(config, "hidden_dropout_prob", 0.1))
        self.head = torch.nn.Linear(base.hidden_size, n_classes)
        # Zeros, not noise: the first answers are then even over the classes, and the first step is the data's alone.
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return logits of shape (batch, n_classes), of token ids, or of what `cache` keeps of a text."""
        encoder = self.encoder
        if "hidden" in batch:
            encoder = above(encoder, batch["depth"])
            batch = {"inputs_embeds": batch["hidden"], "attention_mask": batch["attention_mask"]}
        vectors = batch["vectors"] if "vectors" in batch else pool(encoder, batch, self.pooling)
        return self.head(self.dropout(vectors))


def classifier_groups(of: Base | Classifier) -> dict[str, tuple[str, ...]]:
    """Return the parameter names of a `Classifier` by group: the encoder's groups, and the head last.

    Of a base they are those of an untouched `Classifier`; a method's new tensors (`Plan.method`) only a model tells.
    """
    groups = {g: tuple(f"encoder.{n}" for n in names) for g, names in group_parameters(of.encoder).items()}
    return {**groups, "head": ("head.weight", "head.bias")}


def loss(logits: torch.Tensor, labels: torch.Tensor, kind: str, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Return the mean loss in nats: cross-entropy, or for multiple labels the mean binary cross-entropy.

    Parameters
    ----------
    logits : torch.Tensor, shape (batch, n_classes)
    labels : torch.Tensor, shape (batch,) of int64, or (batch, n_classes) for multiple
    kind : str
        `"single"`, `"multiple"` or `"ordered"`. Ordered labels are learned as classes; their order counts in the score.
    weights : torch.Tensor, optional, shape (n_classes,)
        How much an error on each class counts.
    """
    if kind == "multiple":
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), pos_weight=weights)
    return torch.nn.functional.cross_entropy(logits, labels, weight=weights)


def share(labels: torch.Tensor, part: Sequence[int], batch: Sequence[int], weights: torch.Tensor | None) -> float:
    """Return how much of a batch's mean loss the mean loss of a part of it is: 1.0 for all of it.

    Parameters
    ----------
    labels : torch.Tensor, shape (n,) or (n, n_classes)
        Of all rows.
    part, batch : sequence of int
        Row numbers.
    weights : torch.Tensor, optional, shape (n_classes,)
        As in `loss`: with single labels the mean is weighted by the class of each row.
    """
    if weights is None or labels.ndim > 1:
        return len(part) / len(batch)
    return (weights[labels[part]].sum() / weights[labels[batch]].sum()).item()


def probabilities(logits: np.ndarray, kind: str) -> np.ndarray:
    """Return probabilities of shape (n, n_classes); each row sums to one, except for multiple labels.

    >>> probabilities(np.zeros((1, 4)), "single")
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    logits = np.asarray(logits, dtype=np.float64)
    if kind == "multiple":
        return 1 / (1 + np.exp(-logits))
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def answers(proba: np.ndarray, kind: str) -> np.ndarray:
    """Return the answers that probabilities stand for, in the shape of labels.

    The most probable class for single labels, all above one half for multiple ones, and for ordered labels the
    median rank, which makes the smallest expected absolute error.

    >>> answers(np.array([[0.45, 0.1, 0.45]]), "ordered")
    array([1])
    """
    if kind == "multiple":
        return (proba > 0.5).astype(np.uint8)
    if kind == "ordered":
        return (np.cumsum(proba, axis=1) < 0.5 - 1e-12).sum(axis=1)
    return proba.argmax(axis=1)


def class_weights(labels: np.ndarray, n_classes: int, kind: str) -> np.ndarray:
    """Return balanced weights: each class counts as much as any other, however many rows it has (mean one).

    >>> class_weights(np.array([0, 0, 0, 1]), 2, "single").round(2)
    array([0.67, 2.  ])
    """
    if kind == "multiple":
        positive = np.maximum(labels.sum(axis=0), 1)
        return (len(labels) - positive) / positive
    return len(labels) / (n_classes * np.maximum(np.bincount(labels, minlength=n_classes), 1))


def logits_of(
    model: Classifier, base: Base, ids: Sequence[Sequence[int]], batch_size: int = 64, **how: Any
) -> np.ndarray:
    """Return the logits of tokenized texts, shape (n, n_classes), in evaluation mode and without gradients.

    What else `in_batches` takes is passed on: `before_batch`, `batch_of` where a batch is not made of tokens, `turn`.
    """
    model.eval()
    device = next(model.parameters()).device

    def logits(batch: Mapping[str, Any]) -> torch.Tensor:
        return model({k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()})

    with torch.no_grad():  # not inference mode: a model dealt out over processes could not be trained after it
        return in_batches(base, ids, logits, model.head.out_features, batch_size, **how)
