"""No tool but the machine: how fast it multiplies matrices in the shapes that training everything needs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.peers import Tuned
from benchmarks.peers.classifier import load_encoder, tokenized


def load(job: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """Return encoder and tokenizer."""
    return load_encoder(job["model"])


def tune(loaded: tuple[nn.Module, Any], rows: Mapping[str, Any], job: Mapping[str, Any]) -> Tuned:
    """Measure the rate of all products of an epoch, in both number formats, without anything around them."""
    encoder, tokenizer = loaded
    lengths = [len(row["input_ids"]) for row in tokenized(tokenizer, rows["train"], job["max_tokens"])]
    tokens = [sum(lengths[i] for i in batch) for batch in job["batches"]]
    shapes = layer_shapes(encoder)
    told: dict[str, Any] = {
        "n_matrix_weights": sum(i * o for i, o in shapes),
        "n_tokens": sum(lengths),
        "n_padded_tokens": sum(max(lengths[i] for i in batch) * len(batch) for batch in job["batches"]),
    }
    for name in ("float32", "bfloat16"):
        told[name] = rate(shapes, tokens, getattr(torch, name))
    return Tuned(lambda texts: [0] * len(texts), told)


def layer_shapes(encoder: nn.Module) -> list[tuple[int, int]]:
    """Return the inputs and outputs of each linear layer of an encoder."""
    return [(m.in_features, m.out_features) for m in encoder.modules() if isinstance(m, nn.Linear)]


def n_operations(shapes: Sequence[tuple[int, int]], tokens: Sequence[int]) -> int:
    """Return the operations of one epoch: each weight multiplies and adds once a token, forward and twice backward.

    >>> n_operations([(384, 1536)], [100])
    353894400
    """
    return 6 * sum(i * o for i, o in shapes) * sum(tokens)


def rate(shapes: Sequence[tuple[int, int]], tokens: Sequence[int], dtype: torch.dtype, repeats: int = 3) -> float:
    """Return operations a second over the products of an epoch, the median of some repeats.

    For a batch of n tokens and a layer that makes `outputs` of `inputs` numbers: (n, inputs) by (inputs, outputs) to go
    forward, (n, outputs) by (outputs, inputs) for the gradient of what came in, (outputs, n) by (n, inputs) for that of
    the weights.
    """
    weights = {(i, o): torch.randn(o, i).to(dtype) for i, o in set(shapes)}
    numbers = {width: torch.randn(max(tokens), width).to(dtype) for width in {w for shape in shapes for w in shape}}
    seconds = []
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        for n in tokens:
            for inputs, outputs in shapes:
                weight, x, gradient = weights[inputs, outputs], numbers[inputs][:n], numbers[outputs][:n]
                x @ weight.T
                gradient @ weight
                gradient.T @ x
        if repeat:  # the first one also sets things up
            seconds.append(time.perf_counter() - began)
    return n_operations(shapes, tokens) / statistics.median(seconds)
