"""The parts of the loop that are no loop: the rows of a step, the optimizer, the rate, and who is in training mode."""

import math
from collections.abc import Mapping, Sequence

import torch

from ftkit import doctor, tasks
from ftkit.plan import Plan


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


def make_optimizer(model: tasks.Classifier, groups: Mapping[str, Sequence[str]], plan: Plan) -> torch.optim.AdamW:
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
        for decayed in (True, False):
            chosen = [parameters[n] for n in groups[group] if n in movable and (n in matrices) == decayed]
            if chosen:
                decay = plan.weight_decay if decayed else 0.0
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


def set_modes(model: tasks.Classifier, groups: Mapping[str, Sequence[str]], plan: Plan, epoch: int = 1) -> None:
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
