"""The model that peers tune: the same function as ftkit's `Classifier`, with a loss, as their training tools want it.

Written again, and not imported, so that a peer's process holds no more than a user of it would have. A test proves that
both give the same logits and have the same parameter names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer


class Classifier(nn.Module):
    """An encoder, the mean of its token vectors, dropout, and a linear head of zeros."""

    def __init__(self, encoder: nn.Module, n_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(encoder.config.hidden_dropout_prob)
        self.head = nn.Linear(encoder.config.hidden_size, n_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor | None = None, **_: Any
    ) -> dict[str, torch.Tensor]:
        """Return `logits` (batch, n_classes) and, where there are labels, the mean cross-entropy as `loss`."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        logits = self.head(self.dropout((hidden * mask).sum(1) / mask.sum(1)))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits.float(), labels), "logits": logits}


def load_encoder(folder: str) -> tuple[nn.Module, Any]:
    """Return encoder and tokenizer out of a folder, in float32."""
    encoder = AutoModel.from_pretrained(folder, dtype="float32", add_pooling_layer=False, local_files_only=True)
    return encoder, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def tokenized(tokenizer: Any, rows: Mapping[str, Any], max_tokens: int) -> list[dict[str, Any]]:
    """Return the rows as a training tool takes them: token ids, mask and label of each."""
    found = tokenizer(rows["texts"], truncation=True, max_length=max_tokens)
    parts = zip(found["input_ids"], found["attention_mask"], rows["labels"], strict=True)
    return [{"input_ids": i, "attention_mask": m, "labels": y} for i, m, y in parts]


def freeze(model: nn.Module, movable: Sequence[str]) -> None:
    """Let the named parameters move, and no other."""
    names = set(movable)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def make_optimizer(model: nn.Module, movable: Sequence[str], job: Mapping[str, Any]) -> torch.optim.AdamW:
    """Return AdamW over what may ever move, the head at its own rate, biases and norms undecayed, as ftkit's is."""
    names, groups = set(movable), []
    for in_head, rate in ((False, job["lr"]), (True, job["head_lr"])):
        for decayed in (True, False):
            chosen = [
                p
                for n, p in model.named_parameters()
                if n in names and n.startswith("head.") == in_head and (p.ndim > 1) == decayed
            ]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": job["weight_decay"] if decayed else 0.0})
    return torch.optim.AdamW(groups, fused=True)


def answerer(model: nn.Module, tokenizer: Any, max_tokens: int) -> Callable[[Sequence[str]], list[int]]:
    """Return a function that answers texts with a tuned model, those of like length together."""

    def answer(texts: Sequence[str]) -> list[int]:
        ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
        order, answers = sorted(range(len(ids)), key=lambda i: len(ids[i])), [0] * len(ids)
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), 64):
                chosen = order[start : start + 64]
                batch = tokenizer.pad(
                    {"input_ids": [ids[i] for i in chosen]}, return_tensors="pt", pad_to_multiple_of=8
                )
                logits = model(batch["input_ids"], batch["attention_mask"])["logits"]
                for i, found in zip(chosen, logits.argmax(1).tolist(), strict=True):
                    answers[i] = found
        return answers

    return answer
