"""What a run reports when it has ended: what the optimizer held, how far each group went, why a loss went wrong."""

import math
from collections.abc import Mapping, Sequence

import torch

from ftkit import methods, tasks
from ftkit.findings import FtkitError
from ftkit.pretrained import Base


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
            change += (now[name] - old).square().sum().item()
            length += old.square().sum().item()
        # A head that started from zeros has no length to compare with: its change is told as a whole (100 %).
        moved[group] = math.sqrt(change / length) if length else float(change > 0)
    return moved
