"""What a plan means for one model, and whether the model agrees with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ftkit.display import Record, count, record
from ftkit.findings import FtkitError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import nn

    from ftkit.plan import Plan


@record
class Preview(Record):
    """What a plan means for one model: the weights of each group, and which may move.

    Parameters
    ----------
    plan : Plan
    sizes : mapping of group name to number of parameters
    trained : tuple of str
        The groups that may move.
    """

    plan: Plan
    sizes: Mapping[str, int]
    trained: tuple[str, ...]

    @property
    def n_trained(self) -> int:
        """Number of weights that may move."""
        return sum(self.sizes[g] for g in self.trained)

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

        rows = [
            (
                g,
                "trains" if g in self.trained else "frozen",
                count(n),
                f"{self.plan.rate(g):g}" if g in self.trained else "",
            )
            for g, n in self.sizes.items()
        ]
        return [("Groups", pd.DataFrame(rows, columns=["group", "state", "weights", "learning rate"]))]

    def picture(self) -> tuple[Figure, str]:
        from ftkit import plots

        ax = plots.layers(list(self.sizes), list(self.sizes.values()), [g in self.trained for g in self.sizes])
        return ax.figure, f"The model as a stack, input at the bottom. {self.summary()}"


def verify(model: nn.Module, groups: Mapping[str, Sequence[str]], trained: set[str] | Sequence[str]) -> None:
    """Ask the model itself whether exactly the planned groups may move, whoever set it.

    Raises
    ------
    FtkitError
        FT052, naming the group that disagrees with the plan.
    """
    parameters = dict(model.named_parameters())
    if len(named := [n for names in groups.values() for n in names]) != len(parameters) or set(named) != set(
        parameters
    ):
        raise FtkitError("FT052", "The groups do not hold every parameter of the model exactly once.")
    for group, names in groups.items():
        moving = sum(parameters[n].requires_grad for n in names)
        if moving != (len(names) if group in trained else 0):
            raise FtkitError(
                "FT052",
                f"{group!r} should be {'trained' if group in trained else 'frozen'}, but {moving} of its {len(names)} "
                "parameter tensors may move. Something else set requires_grad after the plan did.",
            )
