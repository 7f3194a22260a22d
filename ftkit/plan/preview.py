"""What a plan may say, what it means for one model, and whether the model agrees with it."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from ftkit import methods
from ftkit.display import Picture, Record, Tables, count
from ftkit.findings import FtkitError

if TYPE_CHECKING:
    from torch import nn

    from ftkit.plan import Plan


def _between(low: float, high: float) -> tuple[type, Callable, str]:
    return float, lambda value: low <= value <= high, f"{low} to {high}"


#: Of each number the type it is stored as, what it has to fulfil, and how that is said.
_RATE = float, lambda value: 0 < value <= 1, "above 0 and at most 1, typically 1e-5 to 1e-2"
_COUNT = int, lambda value: value >= 1, "a whole number, 1 or more"
_NUMBERS = {
    **dict.fromkeys(("lr", "head_lr"), _RATE),
    **dict.fromkeys(("epochs", "batch_size", "accumulate", "rank", "patience"), _COUNT),
    **dict.fromkeys(("warmup", "weight_decay"), _between(0, 1)),
    "seed": (int, lambda value: 0 <= value < 2**63, "a whole number, 0 or more"),
    "layer_decay": _between(0.01, 1),
    "clip": _between(1e-6, math.inf),
    "alpha": _between(0.01, 1e4),
}


def checked(plan: Plan) -> dict[str, Any]:
    """Return the fields that are stored otherwise than given: as a tuple, a read-only mapping, a plain number.

    Raises
    ------
    FtkitError
        FT050, naming the first field that is out of range.
    """
    train = plan.train if isinstance(plan.train, str | Sequence) else ()
    if not train or not all(isinstance(name, str) for name in train):
        raise _wrong("train", plan.train, "a group, such as 'head', or a sequence of them; with none nothing can learn")
    if not isinstance(plan.rates, Mapping):
        raise _wrong("rates", plan.rates, "a mapping of group names to learning rates")
    # A number out of numpy would not go into JSON, so plain ones are stored.
    given = {name: getattr(plan, name) for name in _NUMBERS if name != "patience" or plan.patience is not None}
    plain = {name: _plain(name, value, *_NUMBERS[name]) for name, value in given.items()}
    rates = {group: _plain(f"rates[{group!r}]", rate, *_RATE) for group, rate in plan.rates.items()}
    kinds = get_type_hints(type(plan))
    allowed = {name: get_args(kind) for name, kind in kinds.items() if get_origin(kind) is Literal}
    allowed |= {name: (False, True) for name, kind in kinds.items() if kind is bool} | {"method": methods.METHODS}
    for name, choices in allowed.items():
        value = getattr(plan, name)
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
            raise _wrong(name, value, f"one of {', '.join(map(repr, choices))}")
    method = methods.METHODS[plan.method]
    if method and plan.tensors != "all":
        raise _wrong("tensors", plan.tensors, f"'all', as with method {plan.method!r} no pretrained tensor moves")
    for name in ("rank", "alpha"):  # what would be ignored is refused
        default = getattr(type(plan), name)
        if getattr(plan, name) != default and name not in (method.uses if method else ()):
            raise _wrong(name, getattr(plan, name), f"{default}, the default, as method {plan.method!r} has no {name}")
    train = train if isinstance(train, str) else tuple(train)
    return plain | {"train": train, "rates": MappingProxyType(rates)}


def _plain(name: str, value: object, kind: type, fits: Callable, expected: str) -> float:
    known = isinstance(value, numbers.Integral if kind is int else numbers.Real) and not isinstance(value, bool)
    if not known or not fits(value):
        raise _wrong(name, value, expected)
    return kind(value)


def _wrong(name: str, value: object, expected: str) -> FtkitError:
    return FtkitError("FT050", f"Plan.{name}: expected {expected}; found {value!r}.")


_NORM = re.compile(r"(?i)norm|(?:^|\.)ln_")


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
        told = f"{count(self.n_trained)} of {count(self.n_total)} weights may move"
        return f"{told} ({100 * self.n_trained / self.n_total:.3g} %): {', '.join(self.trained)}."

    def tables(self) -> Tables:
        import pandas as pd

        epochs, rows = range(self.plan.epochs, 0, -1), []
        first = {g: epoch for epoch in epochs for g in self.plan.stage(list(self.sizes), epoch)}
        for g, n in self.sizes.items():
            state, rate = ("trains", f"{self.rates[g]:g}") if self.moving[g] else ("frozen", "")
            rows.append((g, state, count(n), count(self.moving[g]), rate, first.get(g, "")))
        frame = pd.DataFrame(rows, columns=["group", "state", "weights", "may move", "learning rate", "from epoch"])
        # A column that says nothing new is left out.
        if not self.plan.gradual:
            frame = frame.drop(columns="from epoch")
        if all(n in (0, self.sizes[g]) for g, n in self.moving.items()):
            frame = frame.drop(columns="may move")
        return [("Groups", frame)]

    def picture(self) -> Picture:
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
