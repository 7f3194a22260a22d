"""A first estimate of what a run will cost, from a short measurement on this machine: seconds and memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure

from ftkit import doctor, plots
from ftkit.data import Splits
from ftkit.display import Record, count, record, seconds, size
from ftkit.plan import Plan
from ftkit.pretrained import Base

REPEATS = 5  # measurements, of which the median counts; two more warm up


@record
class Calibration:
    """What this machine takes for one base and one data set, measured by `calibrate`.

    Parameters
    ----------
    forward_s : float
        Seconds for a batch of 32 through the frozen encoder.
    update_s : float
        Seconds AdamW takes for each million weights.
    n_blocks, n_train, n_valid : int
        Blocks of the encoder; rows to train on and to validate on.
    activation_bytes : int
        What one block keeps for the backward pass of a batch of 32.
    """

    forward_s: float
    update_s: float
    n_blocks: int
    n_train: int
    n_valid: int
    activation_bytes: int


@record
class Estimate(Record):
    """What a plan will roughly cost.

    Parameters
    ----------
    plan : Plan
    train_s : float
        Seconds of wall time.
    peak_bytes : int
        Memory of the whole process at its highest.
    """

    plan: Plan
    train_s: float
    peak_bytes: int

    def summary(self) -> str:
        return (
            f"Roughly {seconds(self.train_s)} and {size(self.peak_bytes)} of memory for {self.plan.code()} here; "
            "expect to be off by a third either way."
        )


@record
class Estimates(Record):
    """What several plans will roughly cost, side by side.

    Parameters
    ----------
    estimates : tuple of Estimate
    n_trained : tuple of int
        How many weights may move in each plan.
    """

    estimates: tuple[Estimate, ...]
    n_trained: tuple[int, ...]

    def summary(self) -> str:
        ranked = sorted(self.estimates, key=lambda e: e.train_s)
        fastest, slowest = ranked[0], ranked[-1]
        told = [f"{e.plan.words}: about {seconds(e.train_s)}" for e in (fastest, slowest)]
        return f"{'; '.join(told)}. Expect each to be off by a third either way."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [
            (e.plan.words, count(n), seconds(e.train_s), size(e.peak_bytes))
            for e, n in zip(self.estimates, self.n_trained, strict=True)
        ]
        return [("Estimates", pd.DataFrame(rows, columns=["what trains", "weights that may move", "time", "memory"]))]

    def picture(self) -> tuple[Figure, str]:
        names, took = [e.plan.words for e in self.estimates], [e.train_s for e in self.estimates]
        told = "The backward pass goes down to the lowest group that trains, and no further."
        return plots.bars(names, took, label="estimated seconds").figure, f"Estimated seconds for each plan. {told}"


def estimates(base: Base, data: Splits, plans: Sequence[Plan]) -> Estimates:
    """Estimate what several plans cost, from one calibration.

    Parameters
    ----------
    base : Base
    data : Splits
    plans : sequence of Plan
    """
    calibration = calibrate(base, data)
    return Estimates(
        estimates=tuple(estimate(base, data, plan, calibration) for plan in plans),
        n_trained=tuple(plan.preview(base, len(data.label_names)).n_trained for plan in plans),
    )


def calibrate(base: Base, data: Splits) -> Calibration:
    """Measure for under a second what a batch of typical length costs on this machine.

    Parameters
    ----------
    base : Base
    data : Splits
        A batch of its training rows is pushed through the encoder; nothing is trained.
    """
    ids = base.tokenize(data.train.texts[:32])
    batch = base.batch(ids)

    def forward() -> None:
        with torch.inference_mode():
            base.encoder(**batch)

    weights = torch.nn.Parameter(torch.zeros(1_000_000))
    weights.grad = torch.zeros_like(weights)
    optimizer = torch.optim.AdamW([weights], fused=True)
    # Kept by one block for its backward pass: about 16 vectors of hidden size a token, and two attention maps.
    n_tokens = batch["input_ids"].numel()
    attention = 2 * n_tokens * batch["input_ids"].shape[1] * base.encoder.config.num_attention_heads
    return Calibration(
        forward_s=_median_s(forward) * 32 / len(ids),
        update_s=_median_s(optimizer.step),
        n_blocks=sum(g.startswith("block ") for g in base.groups),
        n_train=len(data.train),
        n_valid=len(data.valid),
        activation_bytes=4 * (16 * n_tokens * base.hidden_size + attention) * 32 // len(ids),
    )


def estimate(base: Base, data: Splits, plan: Plan, calibration: Calibration | None = None) -> Estimate:
    """Estimate the seconds and the memory of a run, before it is paid for.

    A backward pass costs about twice its forward pass. It goes down to the lowest group that trains, and no further:
    that is why freezing from below saves time. What is frozen below is computed once, unless the plan keeps nothing;
    the estimate takes it that nothing was kept before.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
    calibration : Calibration, optional
        From `calibrate(base, data)`; measured now if None.
    """
    c = calibration or calibrate(base, data)
    preview = plan.preview(base, len(data.label_names))
    batch, n_steps = plan.batch_size / 32, math.ceil(c.n_train / plan.batch_size)
    n_rows = c.n_train + c.n_valid
    train_s = c.forward_s * n_rows / 32 + 3 if plan.start == "probe" else 0.0
    # Half of a backward pass is the gradient of the weights, which biases, norm layers and adapters hardly have.
    backward, kept = 2 if (plan.tensors, plan.method) == ("all", "full") else 1, 0.0
    for epoch in range(1, plan.epochs + 1):
        stage = plan.stage(list(preview.sizes), epoch)
        depth = _n_blocks_crossed(stage, c.n_blocks) / c.n_blocks
        if plan.cache and 1 - depth != kept:
            kept = 1 - depth
            train_s += c.forward_s * kept * n_rows / 32
        update_s = c.update_s * sum(preview.moving[g] for g in stage) / 1e6
        train_s += n_steps * (c.forward_s * (1 - kept + backward * depth) * batch + update_s)
        n_validations = 1 + (epoch == 1)  # the start is scored, too
        train_s += n_validations * c.forward_s * (1 - kept) * c.n_valid / 32
    # A copy of the model; gradient and two moments for what trains, its start and its best state; activations.
    activations = c.activation_bytes * _n_blocks_crossed(preview.trained, c.n_blocks) * batch
    memory = 4 * preview.n_total + 4 * 5 * preview.n_trained + activations
    return Estimate(plan=plan, train_s=train_s, peak_bytes=int(doctor.rss_bytes() + memory))


def _n_blocks_crossed(trained: Sequence[str], n_blocks: int) -> int:
    """Return how many blocks the backward pass goes down through to reach the lowest group that trains."""
    blocks = [int(g.split()[1]) for g in trained if g.startswith("block ")]
    return n_blocks - (0 if "embeddings" in trained else min(blocks, default=n_blocks))


def _median_s(function: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS + 2):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])
