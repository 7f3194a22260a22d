"""What the steps of a plan consist of, counted: batches and tokens through each part of the model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ftkit import cache
from ftkit.cache.shelf import ROWS
from ftkit.data import Splits
from ftkit.forecast.calibration import ITERATIONS, WEIGHTS, Calibration, dtype_of
from ftkit.plan import Plan
from ftkit.pretrained import Base

#: Steps that the eight logistic regressions of a probe take together: 94, 123 and 198 on `health/diagnoses` with
#: 8, 32 and 200 rows a class.
PROBE_ITERATIONS = 150


def work(base: Base, data: Splits, plan: Plan, c: Calibration) -> dict[str, np.ndarray]:
    """Return how many batches, and tokens in them, a plan sends through each part that `calibrate` measured.

    A backward pass goes down to the lowest group that trains, and no further: that is why freezing from below saves
    time. What is frozen below is computed once, unless the plan keeps nothing, or it lies on disk already.
    """
    preview, dtype = plan.preview(base, len(data.label_names)), dtype_of(plan)
    groups, n_rows = list(preview.sizes), len(data.train)
    blocks = [g for g in groups if g.startswith("block ")]
    share = {g: preview.moving[g] / n for g, n in preview.sizes.items()}
    more = n_rows / len(c.train), len(data.valid) / len(c.valid)  # where only a part was tokenized
    epoch = more[0] * _batches(base, c.train, plan.batch_size // plan.accumulate, 16 * plan.batch_size)
    valid, n_steps, kept = more[1] * _batches(base, c.valid, 64), math.ceil(n_rows / plan.batch_size), 0
    found: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
    found["text"] += (n_rows + len(data.valid), 0)
    if plan.start == "probe":
        for part, times, lengths in zip((data.train, data.valid), more, (c.train, c.valid), strict=True):
            if (tuple(part.texts), 64) not in base._encoded:
                found["text"] += (len(part), 0)
                found["float32 forward"] += times * _batches(base, lengths, 64)
        found["logistic"] += (more[0] * PROBE_ITERATIONS / ITERATIONS, 0)
    for number in range(1, plan.epochs + 1):
        stage = [g for g in plan.stage(groups, number) if share[g]]
        crossed = [g for g in blocks if groups.index(g) >= groups.index(stage[0])]
        depth = len(blocks) - len(crossed)
        if plan.cache and depth != kept:
            kept = depth
            prefix = cache.Prefix(base=base, depth=depth, pooled=stage[0] == "head", dtype=dtype)
            lengths = [c.texts[key] for key in cache.missing(prefix, c.texts)]
            found[f"{dtype} forward"] += depth / len(blocks) * max(more) * _filled(prefix, lengths)
        found[f"{dtype} forward"] += (depth - kept) / len(blocks) * epoch
        found["float32 forward"] += (1 - kept / len(blocks)) * (1 + (number == 1)) * valid  # the start is scored, too
        found[f"{dtype} head"] += epoch
        found["update"] += (n_steps * sum(preview.moving[g] for g in stage) / WEIGHTS, 0)
        for g in crossed:  # of biases alone, or of new tensors beside the old, only a share has gradients
            found[f"{dtype} train"] += share[g] * (g in stage) * epoch
            found[f"{dtype} through"] += (1 - share[g] * (g in stage)) * epoch
        if stage[0] == "embeddings":
            found[f"{dtype} embeddings"] += share["embeddings"] * epoch
    return found


def _batches(base: Base, lengths: Sequence[int], n_rows: int, n_pool: int | None = None) -> np.ndarray:
    """Return into how many batches texts go, and the tokens in them, padded; like lengths go together in a pool."""
    rows = np.random.default_rng(0).permutation(lengths)
    pool = n_pool or len(rows)
    rows = np.concatenate([np.sort(rows[at : at + pool]) for at in range(0, len(rows), pool)])
    cut = [rows[at : at + n_rows] for at in range(0, len(rows), n_rows)]
    return np.array([len(cut), sum(len(part) * base.padded(int(part.max())) for part in cut)])


def _filled(prefix: cache.Prefix, lengths: Sequence[int]) -> np.ndarray:
    """Return the batches that the cache computes texts in, each of one length and filled up, and their tokens."""
    padded, n = np.unique([prefix.length(length) for length in lengths], return_counts=True)
    n_batches = np.ceil(n / ROWS)
    return np.array([n_batches.sum(), ROWS * (n_batches @ padded)])
