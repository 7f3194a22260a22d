"""What a plan means for one model, and whether the model agrees with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ftkit import methods
from ftkit.display import Record, count, record
from ftkit.findings import FtkitError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from ftkit.plan import Plan

_NORM = re.compile(r"(?i)norm|(?:^|\.)ln_")


@record
class Preview(Record):
    """What a plan means for one model: the weights of each group, and which may move.

    Parameters
    ----------
    plan : Plan
    sizes : mapping of group name to number of weights
    moving : mapping of group name to number of weights that may move
        Zero for a frozen group; less than its size where only biases or norm layers move.
    rates : mapping of group name to float
        The peak learning rate of each group that trains.
    """

    plan: Plan
    sizes: Mapping[str, int]
    moving: Mapping[str, int]
    rates: Mapping[str, float]

    @property
    def trained(self) -> tuple[str, ...]:
        """The groups in which something may move."""
        return tuple(g for g, n in self.moving.items() if n)

    @property
    def n_trained(self) -> int:
        """Number of weights that may move."""
        return sum(self.moving.values())

    @property
    def n_total(self) -> int:
        """Number of weights in all."""
        return sum(self.sizes.values())

    def summary(self) -> str:
        return (
            f"{count(self.n_trained)} of {count(self.n_total)} weights may move "
            f"({100 * self.n_trained / self.n_total:.3g} %): {', '.join(self.trained)}."
        )

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        import pandas as pd

        epochs = {}
        for epoch in range(self.plan.epochs, 0, -1):
            epochs |= dict.fromkeys(self.plan.stage(list(self.sizes), epoch), epoch)
        rows = [
            (g, "trains" if self.moving[g] else "frozen", count(n), count(self.moving[g]),
             f"{self.rates[g]:g}" if self.moving[g] else "", epochs.get(g, ""))
            for g, n in self.sizes.items()
        ]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["group", "state", "weights", "may move", "learning rate", "from epoch"])
        # A column that says nothing new is left out.
        if not self.plan.gradual:
            frame = frame.drop(columns="from epoch")
        if all(n in (0, self.sizes[g]) for g, n in self.moving.items()):
            frame = frame.drop(columns="may move")
        return [("Groups", frame)]

    def picture(self) -> tuple[Figure, str]:
        from ftkit import plots

        ax = plots.layers(list(self.sizes), list(self.sizes.values()), [g in self.trained for g in self.sizes])
        return ax.figure, f"The model as a stack, input at the bottom. {self.summary()}"


def moves(plan: Plan, name: str) -> bool:
    """Return whether a tensor of the encoder moves, if its group does."""
    if method := methods.METHODS[plan.method]:
        return f".{method.adds}" in name
    return {"all": True, "bias": name.endswith("bias"), "norm": _NORM.search(name) is not None}[plan.tensors]


def verify(model: nn.Module, groups: Mapping[str, Sequence[str]], movable: Collection[str]) -> None:
    """Ask the model itself whether exactly the planned parameters may move, whoever set it.

    Parameters
    ----------
    model : torch.nn.Module
    groups : mapping of group name to parameter names
    movable : collection of str
        The parameters that should move.

    Raises
    ------
    FtkitError
        FT052, naming the group that disagrees with the plan.
    """
    parameters = dict(model.named_parameters())
    if sorted(n for names in groups.values() for n in names) != sorted(parameters):
        raise FtkitError("FT052", "The groups do not hold every parameter of the model exactly once.")
    for group, names in groups.items():
        if wrong := [n for n in names if parameters[n].requires_grad != (n in movable)]:
            how = "may move" if parameters[wrong[0]].requires_grad else "are frozen"
            told = f"In {group!r} {len(wrong)} of {len(names)} parameter tensors {how} against the plan, such as"
            raise FtkitError("FT052", f"{told} {wrong[0]}. Something else set requires_grad after the plan did.")
