"""A second or two of measuring: the parts whose sum is a run, on real rows, in the plan's number format."""

from __future__ import annotations

import copy
import functools
import time
import timeit
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ftkit import cache, doctor, tasks
from ftkit.baseline.logistic import STRENGTHS
from ftkit.data import Rows, Splits
from ftkit.display import record
from ftkit.forecast.energy import metered
from ftkit.plan import Plan
from ftkit.pretrained import Base, pool

#: Seconds in which repeats are begun; the first, which only warms up, and two more are made in any case.
BUDGET_S = 1.5
#: Rows of a split that are tokenized at most, evenly spaced: enough to know its lengths.
SAMPLE = 2048
#: Steps that the eight logistic regressions of a probe take together: 94, 123 and 198 on `health/diagnoses` with
#: 8, 32 and 200 rows a class.
ITERATIONS = 150


@record
class Calibration:
    """What this machine takes for one base and one data set, measured by `calibrate`.

    Parameters
    ----------
    rounds : tuple of mapping
        What each repeat measured: by a name such as `"float32 forward"` the seconds for a batch, whatever its size,
        and the seconds for each token in it.
    train, valid : tuple of int
        Tokens of the rows of each split, or of an evenly spaced part of them.
    texts : mapping of str to int
        The key under which `cache` keeps each of these texts, and its number of tokens.
    watts : float or None
        The power that was drawn meanwhile; None where it cannot be told.
    """

    rounds: tuple[Mapping[str, tuple[float, float]], ...]
    train: tuple[int, ...]
    valid: tuple[int, ...]
    texts: Mapping[str, int]
    watts: float | None


def dtype_of(plan: Plan) -> str:
    """Return the number format that a plan trains in here."""
    return doctor.fastest_dtype() if plan.dtype == "auto" else plan.dtype


def needed(base: Base, data: Splits, plan: Plan) -> set[str]:
    """Return the names of what has to be measured to forecast a plan."""
    trained, dtype = plan.preview(base, len(data.label_names)).trained, dtype_of(plan)
    parts = ["forward", "head", *(["through", "train"] if any(g.startswith("block ") for g in trained) else [])]
    parts += ["through", "train", "embeddings"] if "embeddings" in trained else []
    return {"float32 forward", *(f"{dtype} {part}" for part in parts)} | ({"logistic"} if plan.start == "probe" else set())


def calibrate(base: Base, data: Splits, plans: Plan | Sequence[Plan] = Plan(train="all")) -> Calibration:  # noqa: B008
    """Measure for about two seconds what steps of a plan cost on this machine; nothing is changed.

    Parameters
    ----------
    base : Base
    data : Splits
        Batches of its training rows are pushed through the encoder, and back.
    plans : Plan or sequence of Plan
        What the forecasts will be for: only what these need is measured, in their number formats. By default
        everything that a plan in float32 needs.
    """
    plans = [plans] if isinstance(plans, Plan) else list(plans)
    names = set().union(*(needed(base, data, plan) for plan in plans))
    lengths, took, n_texts, texts = [], 0.0, 0, {}
    for part in (data.train, data.valid):
        sample = part.texts[:: -(-len(part) // SAMPLE)]
        began = time.perf_counter()
        ids = base.tokenize(sample)
        took, n_texts = took + time.perf_counter() - began, n_texts + len(sample)
        lengths.append(tuple(map(len, ids)))
        texts |= dict(zip(cache.keys_of(ids), lengths[-1], strict=True))
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), metered() as watts:
        shapes, functions = _prepared(base, data.train, plans[0], names)
        ends, taken = time.perf_counter() + BUDGET_S, []
        while len(taken) < 3 or (time.perf_counter() < ends and len(taken) < 20):
            taken.append({n: [timeit.timeit(lambda: f(s), number=1) for s in shapes] for n, f in functions.items()})  # noqa: B023
    n_tokens = [shape["input_ids"].numel() for shape in shapes]
    rounds = tuple({**_lines(one, n_tokens), "text": (took / n_texts, 0.0)} for one in taken[1:])
    return Calibration(rounds=rounds, train=lengths[0], valid=lengths[1], texts=texts, watts=watts())


def _prepared(base: Base, rows: Rows, plan: Plan, names: set[str]) -> tuple[list[dict], dict[str, Callable]]:
    """Return two batches of different shape, and what is to be timed with each of them, by name."""
    sample = rows.texts[:: -(-len(rows) // SAMPLE)]
    ids = sorted(base.tokenize(sample), key=len)
    base.encoder.eval()
    forward = functools.partial(_forward, base)
    forward(base.batch(ids[-1:]), "float32")
    row_s = timeit.timeit(lambda: forward(base.batch(ids[-1:]), "float32"), number=1)
    # Half the batch with short texts, and a whole one with longer ones; fewer rows where a forward pass is slow.
    n = max(2, min(plan.batch_size // plan.accumulate, len(ids), int(0.2 / row_s)))
    shapes = [base.batch(ids[at : at + size]) for at, size in ((len(ids) // 4, n // 2), (3 * len(ids) // 4 - n // 2, n))]
    ...
