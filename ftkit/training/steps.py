"""The parts of the loop that are no loop: what it tells, a step's rows, the optimizer, the rate, what moved."""

import math
from collections.abc import Mapping, Sequence

import torch

from ftkit import doctor, methods, tasks
from ftkit.display import count, record, seconds, size
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base

Groups = Mapping[str, Sequence[str]]


@record
class Event:
    """Something that happened during a run.

    Parameters
    ----------
    kind : str
        `"epoch"` after an epoch (and once before the first step, as epoch 0), `"step"` after a step, `"cache"`
        before the frozen blocks are computed, or `"resumed"` where a run goes on from a checkpoint.
    step, n_steps : int
        Steps taken, and planned.
    elapsed_s : float
        Seconds since the run began.
    values : mapping
        For a step its `loss`, its `rate` (the share of the peak learning rate) and its `n_rows`; for an epoch its
        entry in the history; for the cache `n_texts` and the `n_bytes` they take on disk.
    """

    kind: str
    step: int
    n_steps: int
    elapsed_s: float
    values: Mapping[str, float]


def say_epochs(event: Event) -> None:
    """Print one line an epoch: the losses, the score on `valid`, and the time to go; and what is about to be kept."""
    if event.kind == "cache":
        n_texts, n_bytes = event.values["n_texts"], event.values["n_bytes"]
        print(f"The frozen blocks are computed once: {count(n_texts)} texts, {size(n_bytes)} on disk.", flush=True)
    if event.kind == "resumed":
        print(f"Going on after step {count(event.step)} of {count(event.n_steps)}.", flush=True)
    if event.kind == "epoch" and event.step:
        left = event.elapsed_s / event.step * (event.n_steps - event.step)
        to_go = f", about {seconds(left)} to go" if left > 1 else ""
        told = "training loss {train_loss:.3f}, valid loss {valid_loss:.3f}, valid accuracy {accuracy:.3f}"
        told = f"epoch {event.values['epoch']:.0f}: {told.format(**event.values)}"
        print(f"{told} ({seconds(event.elapsed_s)}{to_go})", flush=True)


class Ended(Exception):
    """Ends a run early, from inside the loop: the reason, and the findings that say more."""


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


def better(new: Mapping[str, float], old: Mapping[str, float], monitor: str) -> bool:
    """Return whether one epoch's entry beats another's; equal is not better."""
    return new["valid_loss"] < old["valid_loss"] if monitor == "loss" else new[monitor] > old[monitor]


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
