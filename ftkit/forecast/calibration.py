"""A second or two of measuring: the parts whose sum is a run, on real rows, in the plan's number format."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ftkit import cache, doctor, tasks
from ftkit.data import Splits
from ftkit.display import record
from ftkit.forecast.energy import metered
from ftkit.plan import Plan
from ftkit.pretrained import Base, pool

#: Seconds in which repeats are begun; the first, which only warms up, and two more are made in any case.
BUDGET_S = 1.5
#: Rows of a split that are tokenized at most, evenly spaced: enough to know its lengths.
SAMPLE = 2048
#: Weights, and steps of a logistic regression, that are timed together.
WEIGHTS, ITERATIONS = 4_000_000, 10
_EVERYTHING = Plan(train="all")


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
    lowest, dtype = plan.preview(base, len(data.label_names)).trained[0], dtype_of(plan)
    parts = ["forward", "head", *(["through", "train"] if lowest != "head" else [])]
    parts += ["embeddings"] if lowest == "embeddings" else []
    always = {"float32 forward", "update", *(["logistic"] if plan.start == "probe" else [])}
    return always | {f"{dtype} {part}" for part in parts}


def calibrate(base: Base, data: Splits, plans: Plan | Sequence[Plan] = _EVERYTHING) -> Calibration:
    """Measure for about two seconds what the steps of a plan cost on this machine; nothing is changed.

    Parameters
    ----------
    base : Base
    data : Splits
        Batches of its training rows are pushed through the encoder, and back.
    plans : Plan or sequence of Plan
        What the forecasts will be for: only what these need is measured, in their number formats, with rows as many
        as the first has in a batch. By default everything that a plan in float32 needs.
    """
    plans = [plans] if isinstance(plans, Plan) else list(plans)
    names = sorted(set().union(*(needed(base, data, plan) for plan in plans)))
    samples = [part.texts[:: -(-len(part) // SAMPLE)] for part in (data.train, data.valid)]
    began = time.perf_counter()
    train, valid = (base.tokenize(sample) for sample in samples)
    text_s = (time.perf_counter() - began) / (len(train) + len(valid))
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), metered() as watts:
        bench = _Bench(base, data, sorted(train, key=len), plans[0].batch_size // plans[0].accumulate)
        rounds, ends = [], time.perf_counter() + BUDGET_S
        while len(rounds) < 3 or (time.perf_counter() < ends and len(rounds) < 20):
            rounds.append({**bench.costs(names), "text": (text_s, 0.0)})
    return Calibration(
        rounds=tuple(rounds[1:]),
        train=tuple(map(len, train)),
        valid=tuple(map(len, valid)),
        texts=dict(zip(cache.keys_of([*train, *valid]), map(len, [*train, *valid]), strict=True)),
        watts=watts(),
    )


class _Bench:
    """Steps of training, with two batches of different shape: half a batch of short texts, and one of longer ones."""

    def __init__(self, base: Base, data: Splits, ids: list[list[int]], n_rows: int) -> None:
        self.base, self.data, self.n_texts = base, data, len(ids)
        n_blocks = sum(g.startswith("block ") for g in base.groups)
        self.depth = min(2, n_blocks)
        # The weights are the base's own, gradients are not: a copy of them would be the largest thing in memory.
        own = {id(p): nn.Parameter(p.detach()) for p in base.encoder.eval().parameters()}
        self.shadow = copy.deepcopy(base.encoder, own).train()
        self.upper = cache.above(self.shadow, n_blocks - self.depth)
        self.lowest = cache.shallow(self.shadow, lambda blocks: blocks[:1])
        self.head, self.weights = nn.Linear(base.hidden_size, len(data.label_names)), nn.Parameter(torch.zeros(WEIGHTS))
        self.weights.grad = torch.zeros(WEIGHTS)
        self.optimizers = [torch.optim.AdamW(part, fused=True) for part in (self.head.parameters(), [self.weights])]
        for _ in range(2):  # the first also sets things up; where a pass is slow, fewer rows have to do
            began = time.perf_counter()
            self._forward(ids[-1:], bfloat16=False)
        n = max(2, min(n_rows, len(ids), int(0.2 / (time.perf_counter() - began))))
        self.batches = [ids[len(ids) // 4 :][: n // 2], ids[max(0, 3 * len(ids) // 4 - n) :][:n]]

    def costs(self, names: Sequence[str]) -> dict[str, tuple[float, float]]:
        """Time each part once with each batch; return the seconds for a batch, and for each token of it, by name."""
        taken = {}
        for name in names:
            for ids in self.batches:
                began = time.perf_counter()
                self._run(name, ids)
                taken.setdefault(name, []).append(time.perf_counter() - began)
        found = {name: np.array(both) for name, both in taken.items()}
        for name in names:
            dtype, _, part = name.partition(" ")
            if part in ("train", "through"):
                found[name] = (found[name] - taken[f"{dtype} head"]) / self.depth
            elif part == "embeddings":
                found[name] = found[name] - taken[f"{dtype} head"] - found[f"{dtype} train"]
        short, long = (self.base.batch(ids)["input_ids"].numel() for ids in self.batches)
        slopes = {name: max(0.0, (b - a) / (long - short)) * (" " in name) for name, (a, b) in found.items()}
        return {
            name: (max(0.0, found[name].mean() - slopes[name] * (short + long) / 2), slopes[name]) for name in names
        }

    def _run(self, name: str, ids: list[list[int]]) -> None:
        dtype, _, part = name.partition(" ")
        if name == "update":
            nn.utils.clip_grad_norm_([self.weights], 1.0)
            self.optimizers[1].step()
        elif name == "logistic":
            self._fit()
        elif part == "forward":
            self._forward(ids, bfloat16=dtype == "bfloat16")
        else:
            self._step(part, ids, bfloat16=dtype == "bfloat16")

    def _forward(self, ids: list[list[int]], *, bfloat16: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            pool(self.base.encoder, self.base.batch(ids), self.base.pooling)

    def _step(self, part: str, ids: list[list[int]], *, bfloat16: bool) -> None:
        """Go forward and back through the head alone, or one or two blocks too, with or without their gradients."""
        batch, through = self.base.batch(ids), part == "through"
        self.shadow.requires_grad_(not through)
        hidden = torch.ones(*batch["input_ids"].shape, self.base.hidden_size, requires_grad=through)
        labels = torch.tensor(self.data.train.labels[: len(ids)])
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            if part == "head":
                vectors = hidden[:, 0]
            elif part == "embeddings":
                vectors = pool(self.lowest, batch, self.base.pooling)
            else:
                batch = {"inputs_embeds": hidden, "attention_mask": batch["attention_mask"]}
                vectors = pool(self.upper, batch, self.base.pooling)
            loss = tasks.loss(self.head(nn.functional.dropout(vectors)).float(), labels, self.data.kind)
        loss.backward()
        nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self.optimizers[0].step()
        for module in (self.head, self.shadow):
            module.zero_grad()
        loss.item()

    def _fit(self) -> None:
        from sklearn.linear_model import LogisticRegression

        features = np.random.default_rng(0).normal(size=(self.n_texts, self.base.hidden_size))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is told to stop before it has converged
            classes = np.arange(self.n_texts) % len(self.data.label_names)
            LogisticRegression(max_iter=ITERATIONS, tol=1e-12).fit(features, classes)
