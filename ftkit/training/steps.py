"""What a step is made of: its rows, as tokens or as what frozen blocks made of them, the optimizer, rates and modes."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ftkit import cache, doctor, methods, tasks
from ftkit.findings import Finding, FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base

Groups = Mapping[str, Sequence[str]]


class Feed:
    """The rows of a run as batches: of what frozen blocks made of them, where there are some, or of tokens.

    Parameters
    ----------
    base : Base
    encoder : torch.nn.Module
        Computes what is kept: the base's own, or a copy on another device, frozen as far as that is asked.
    train, valid : lists of token ids
    **watch
        Functions that are called before something is kept, as `cache.activations` takes them.

    Attributes
    ----------
    stages : list of mapping
        What was kept, for each depth in turn.
    findings : list of Finding
        FT060 where there was no room, so that all is computed from the tokens.
    """

    def __init__(
        self, base: Base, encoder: torch.nn.Module, train: list[list[int]], valid: list[list[int]], **watch: Callable
    ) -> None:
        self._base, self._encoder, self._ids, self._first_valid = base, encoder, [*train, *valid], len(train)
        self._watch, self._kept, self._given, self.stages, self.findings = watch, None, 0, [], []

    def prepare(self, prefix: cache.Prefix | None) -> None:
        """Get ready for an epoch: what is frozen in it, if anything, is computed, if it was not before."""
        if prefix and self._kept and vars(self._kept.prefix) == vars(prefix):
            return
        self._close()
        if prefix and not self.findings:
            try:
                self._kept = cache.activations(prefix, self._ids, self._encoder, **self._watch)
            except FtkitError as error:
                if error.code != "FT060":
                    raise
                self.findings.append(Finding(code=error.code, message=error.message))

    def train(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return training rows as a batch for a `Classifier`."""
        if not self._kept:
            return self._base.batch([self._ids[i] for i in rows])
        self._given += len(rows)
        return self._kept.batch(rows)

    def valid(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return rows of `valid` as a batch for a `Classifier`."""
        return self.train([self._first_valid + i for i in rows])

    def report(self) -> dict[str, Any] | None:
        """Return what was kept and what it saved, as `Run.cache` tells it; None where nothing was."""
        self._close()
        if not self.stages:
            return None
        sums = ("n_bytes", "n_built", "built_s", "saved_s")
        told = {name: sum(stage[name] for stage in self.stages) for name in sums}
        told["digest"] = " ".join(dict.fromkeys(stage["digest"] for stage in self.stages))
        return self.stages[0] | told  # the first is the deepest: more moves later, not less

    def _close(self) -> None:
        """Write down what a stage did before the next one begins, and let go of it."""
        if kept := self._kept:
            stage = {"depth": kept.prefix.depth, "pooled": kept.prefix.pooled, "digest": kept.digest}
            stage |= {"n_bytes": kept.prefix.n_bytes(self._ids), "n_built": kept.n_built, "built_s": kept.built_s}
            self.stages.append(stage | {"saved_s": self._given * kept.text_s - kept.built_s})
        self._kept, self._given = None, 0


def frozen_prefix(base: Base, plan: Plan, groups: Groups, epoch: int) -> cache.Prefix | None:
    """Return what an epoch leaves frozen from below, or None if that is no whole block or is not to be kept."""
    movable = plan.movable(groups, epoch)
    # Whatever its groups are called: below what moves, in the order of the computation.
    below = list(itertools.takewhile(lambda g: not movable.intersection(groups[g]), groups))
    depth = sum(g.startswith("block ") for g in below)
    if not plan.cache or not depth:
        return None
    return cache.Prefix(base=base, depth=depth, pooled=below == [g for g in groups if g != "head"], dtype=plan.dtype)


def batches(lengths: Sequence[int], batch_size: int, order: torch.Generator) -> list[list[int]]:
    """Return the row numbers of each batch of one epoch, in an order drawn anew from `order`.

    Rows are shuffled, then sorted by length within every 16 batches, so that a batch holds texts of like length and
    little padding; the batches are shuffled again, so that no epoch goes from short to long.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each row.
    batch_size : int
    order : torch.Generator
        Where the shuffling takes its random numbers from; it moves on.
    """
    n, pool = len(lengths), 16 * batch_size
    shuffled = torch.randperm(n, generator=order).tolist()
    rows = [i for start in range(0, n, pool) for i in sorted(shuffled[start : start + pool], key=lambda i: lengths[i])]
    cut = [rows[start : start + batch_size] for start in range(0, n, batch_size)]
    return [cut[i] for i in torch.randperm(len(cut), generator=order).tolist()]


def make_optimizer(model: tasks.Classifier, groups: Groups, plan: Plan) -> torch.optim.AdamW:
    """Return AdamW over exactly the parameters that may move, each group at its rate, biases and norms undecayed.

    Each setting remembers its `peak` rate, of which the schedule takes a share.

    Notes
    -----
    I. Loshchilov and F. Hutter, Decoupled Weight Decay Regularization (ICLR 2019).
    """
    parameters, movable = dict(model.named_parameters()), plan.movable(groups)
    # The factors of (IA)³ are at rest at one; decay would draw them to zero.
    matrices = {n for n in movable if parameters[n].ndim > 1 and ".ia3_" not in n}
    settings = []
    for group, rate in plan.rates_for(list(groups)).items():
        for decay, names in ((plan.weight_decay, matrices), (0.0, movable - matrices)):
            if chosen := [parameters[n] for n in groups[group] if n in names]:
                settings.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": decay})
    return torch.optim.AdamW(settings, fused=True)


def rate_factor(step: int, n_steps: int, plan: Plan) -> float:
    """Return the share of the peak learning rate in force at a step: a climb, then the planned fall.

    >>> from ftkit.plan import Plan
    >>> [round(rate_factor(s, 10, Plan(warmup=0.2)), 2) for s in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    climb = int(plan.warmup * n_steps)
    if step < climb:
        return (step + 1) / climb
    through = (step - climb) / max(1, n_steps - climb)
    return {"constant": 1.0, "linear": 1 - through, "cosine": (1 + math.cos(math.pi * through)) / 2}[plan.schedule]


def set_modes(model: tasks.Classifier, groups: Groups, plan: Plan, epoch: int = 1) -> None:
    """Put what trains in training mode and all that is frozen in evaluation mode: no dropout, no moving statistics.

    `requires_grad=False` alone would leave dropout on in frozen layers, and BatchNorm's averages moving. `epoch`
    counts from 1; it matters where unfreezing is gradual.
    """
    model.eval()
    movable = plan.movable(groups, epoch)
    trained = {n for names in groups.values() if movable.intersection(names) for n in names}
    for name, module in model.named_modules():
        own = {n for n, _ in model.named_parameters(prefix="") if name and n.startswith(name + ".")}
        if own and own <= trained:
            module.train()
    model.dropout.train("head.weight" in trained)


def settled(plan: Plan) -> Plan:
    """Return a plan that names the dtype it is trained in: this machine's fastest, where it left that open.

    It is settled before a run begins, and stored in the run: a resumed one must not measure again.
    """
    return plan.but(dtype=doctor.fastest_dtype()) if plan.dtype == "auto" else plan


def held(optimizer: torch.optim.Optimizer, model: tasks.Classifier, groups: Groups) -> dict[str, int]:
    """Return how many weights of each group the optimizer itself holds, whatever the plan says."""
    held = {id(p) for settings in optimizer.param_groups for p in settings["params"]}
    parameters = dict(model.named_parameters())
    return {g: sum(parameters[n].numel() for n in names if id(parameters[n]) in held) for g, names in groups.items()}


@torch.no_grad()
def how_far(model: tasks.Classifier, base: Base, groups: Groups, start: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return each group's relative change, and make sure that what was frozen is bit for bit the base's."""
    now = dict(model.named_parameters())
    before = {f"encoder.{n}": p for n, p in base.encoder.named_parameters()}
    moved = {}
    for group, names in groups.items():
        change = length = 0.0
        for name in names:
            old = start[name] if name in start else before.get(methods.plain(name))
            if old is None:  # a frozen head: it started with zeros or as the probe, and is not in the base
                continue
            if name not in start and not torch.equal(now[name], old):
                raise FtkitError("FT053", f"{name} was frozen by the plan, and moved all the same.")
            length += torch.linalg.vector_norm(old).item() ** 2
            if name in start:  # the difference is a tensor of its own: memory is what a small machine lacks
                change += torch.linalg.vector_norm(now[name] - old).item() ** 2
        # A head that started from zeros has no length to compare with: its change is told as a whole (100 %).
        moved[group] = math.sqrt(change / length) if length else float(change > 0)
    return moved
