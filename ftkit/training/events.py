"""What a run tells while it lasts and when it has ended, and how it is ended from inside."""

import math
from collections.abc import Mapping, Sequence

import torch

from ftkit import methods, tasks
from ftkit.display import count, record, seconds, size
from ftkit.findings import Finding, FtkitError
from ftkit.pretrained import Base


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
        told = "training loss {train_loss:.3f}, valid loss {valid_loss:.3f}, valid accuracy {accuracy:.3f}"
        to_go = f", about {seconds(left)} to go" if left > 1 else ""
        epoch = f"epoch {event.values['epoch']:.0f}: {told.format(**event.values)}"
        print(f"{epoch} ({seconds(event.elapsed_s)}{to_go})", flush=True)


class Ended(Exception):
    """Ends a run early, from inside the loop."""

    def __init__(self, reason: str, *findings: Finding, resumable: bool = False) -> None:
        self.reason, self.findings, self.resumable = reason, findings, resumable


def held(
    optimizer: torch.optim.Optimizer, model: tasks.Classifier, groups: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Return how many weights of each group the optimizer itself holds, whatever the plan says."""
    held = {id(p) for settings in optimizer.param_groups for p in settings["params"]}
    parameters = dict(model.named_parameters())
    return {g: sum(parameters[n].numel() for n in names if id(parameters[n]) in held) for g, names in groups.items()}


@torch.no_grad()
def how_far(
    model: tasks.Classifier, base: Base, groups: Mapping[str, Sequence[str]], start: Mapping[str, torch.Tensor]
) -> dict[str, float]:
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
