"""scikit-learn's logistic regression on the frozen model's vectors, its one setting chosen on valid."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import nn

from benchmarks.peers import Tuned
from benchmarks.peers.classifier import load_encoder

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def load(job: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """Return encoder and tokenizer."""
    return load_encoder(job["model"])


def tune(loaded: tuple[nn.Module, Any], rows: Mapping[str, Any], job: Mapping[str, Any]) -> Tuned:
    """Encode once, fit one regression for each strength of the penalty, keep the best on valid."""
    encode = _encoder(*loaded, job["max_tokens"])
    train, valid = (encode(rows[part]["texts"]) for part in ("train", "valid"))
    fits = []
    for strength in STRENGTHS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(LogisticRegression(C=strength, max_iter=300).fit(train, rows["train"]["labels"]))
    best = max(fits, key=lambda model: model.score(valid, rows["valid"]["labels"]))
    return Tuned(lambda texts: best.predict(encode(texts)).tolist(), {"C": best.C})


def _encoder(encoder: nn.Module, tokenizer: Any, max_tokens: int) -> Any:
    def encode(texts: Sequence[str]) -> np.ndarray:
        ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
        order, vectors = np.argsort([len(i) for i in ids], kind="stable"), np.zeros((len(ids), 384), dtype=np.float32)
        encoder.eval()
        with torch.inference_mode():
            for start in range(0, len(order), 64):
                chosen = order[start : start + 64]
                batch = tokenizer.pad(
                    {"input_ids": [ids[i] for i in chosen]}, return_tensors="pt", pad_to_multiple_of=8
                )
                hidden, mask = encoder(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
                vectors[chosen] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
        return vectors

    return encode
