"""fastai's `Learner`, with its sorted loader, frozen groups and schedules.

Only `fastai.basics` and the loader for texts are used; both work where torchvision and spaCy are not installed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from fastai.basics import Adam, CrossEntropyLossFlat, DataLoaders, Learner, accuracy
from fastai.callback.schedule import ParamScheduler, SchedLin, combine_scheds
from fastai.callback.training import GradientClip
from fastai.text.data import SortedDL
from torch import nn

from benchmarks.peers import Tuned
from benchmarks.peers.classifier import Classifier, answerer, load_encoder, tokenized


class _Takes(nn.Module):
    """fastai gives a model its inputs by position and wants logits back."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.classifier(input_ids, attention_mask)["logits"]


def load(job: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """Return encoder and tokenizer."""
    return load_encoder(job["model"])


def tune(loaded: tuple[nn.Module, Any], rows: Mapping[str, Any], job: Mapping[str, Any]) -> Tuned:
    """Train with what may move in each epoch as the last parameter groups, unfrozen as fastai does it."""
    encoder, tokenizer = loaded
    random.seed(job["seed"])
    np.random.seed(job["seed"])
    torch.manual_seed(job["seed"])
    model = _Takes(Classifier(encoder, len(rows["label_names"])))
    parts = [
        [(row["input_ids"], row["labels"]) for row in tokenized(tokenizer, rows[part], job["max_tokens"])]
        for part in ("train", "valid")
    ]

    def collate(items: Sequence[tuple[list[int], int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        batch = tokenizer.pad({"input_ids": [ids for ids, _ in items]}, return_tensors="pt")
        return batch["input_ids"], batch["attention_mask"], torch.tensor([label for _, label in items])

    by_length = {"sort_func": lambda item: len(item[0]), "create_batch": collate, "num_workers": 0}
    loaders = DataLoaders(
        SortedDL(parts[0], bs=job["batch_size"], shuffle=True, **by_length),
        SortedDL(parts[1], bs=64, **by_length),
        device="cpu",
    )
    groups = _groups(model)
    learner = Learner(
        loaders,
        model,
        loss_func=CrossEntropyLossFlat(),
        opt_func=Adam,
        splitter=lambda _: list(groups.values()),
        metrics=accuracy,
        wd=job["weight_decay"],
        cbs=GradientClip(job["clip"]),
    )
    rates = np.array([job["lr"]] * (len(groups) - 1) + [job["head_lr"]])
    counts = [len(set(map(_group, moves))) for moves in job["moves"]]  # groups that move, in each epoch
    with learner.no_bar(), learner.no_logging():
        if job["gradual"]:
            for n in counts:
                learner.freeze_to(-n)
                learner.fit_one_cycle(1, rates)
        else:
            learner.freeze_to(-counts[0])
            rise = combine_scheds(
                [job["warmup"], 1 - job["warmup"]], [SchedLin(rates / 100, rates), SchedLin(rates, rates * 0)]
            )
            learner.fit(job["epochs"], rates, cbs=ParamScheduler({"lr": rise}))
    return Tuned(answerer(model.classifier, tokenizer, job["max_tokens"]), {})


def _groups(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters by group: embeddings, each block, head."""
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        groups.setdefault(_group(name), []).append(parameter)
    return groups


def _group(name: str) -> str:
    """Return the name of a parameter's group.

    >>> _group("classifier.encoder.encoder.layer.5.output.dense.bias"), _group("classifier.head.bias")
    ('layer.5', 'head')
    """
    _, found, after = name.partition("layer.")
    return found + after.split(".")[0] if found else "head" if "head." in name else "embeddings"
