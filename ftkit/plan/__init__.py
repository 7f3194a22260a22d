"""An inert record of what trains and how; a preview of the counts; sets `requires_grad` and verifies it (lesson 04).

A `Plan` only says what should happen. It can be made, compared and changed without a model; `preview` shows what it
means for one; `apply` carries it out on a copy that `fit` owns, and `verify` asks the model, not the plan, what is so.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ftkit.display import Record
from ftkit.findings import FtkitError
from ftkit.plan.preview import Preview, verify

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from ftkit.pretrained import Base

__all__ = ["Plan", "Preview", "verify"]

_CHOICES = {
    "start": ("zero", "probe"),
    "schedule": ("linear", "cosine", "constant"),
    "keep": ("best", "last"),
    "monitor": ("accuracy", "macro_f1", "loss"),
    "class_weight": (None, "balanced"),
    "dtype": ("float32", "bfloat16"),
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Plan(Record):
    """Which weights may move, how fast, how long, and from which start.

    Parameters
    ----------
    train : str or sequence of str
        The groups that may move: `"head"`, `"block 5"`, `"final"`, `"embeddings"` (a base's `groups` lists them), or a
        word for several: `"top 2"` (the last two blocks and all above), `"blocks"` (all but the embeddings), `"all"`.
        The rest is frozen.
    lr : float
        Learning rate of the pretrained groups.
    head_lr : float
        Learning rate of the head, which is new and has further to go.
    rates : mapping of str to float
        Learning rates of single groups, where they differ from the two above (discriminative learning rates).
    start : str
        `"zero"`: the head starts with zero weights. `"probe"`: it starts from a linear probe on the frozen features
        (LP-FT; A. Kumar et al., Fine-Tuning can Distort Pretrained Features, ICLR 2022).
    epochs : int
        Passes over the training rows, at most.
    batch_size : int
        Rows in a step.
    weight_decay : float
        AdamW's; biases and norm layers are exempt.
    warmup : float
        Share of all steps in which the rates climb from zero, 0 to 1.
    schedule : str
        How the rates fall afterwards: `"linear"` or `"cosine"` to zero, or `"constant"`.
    patience : int or None
        Stop after so many epochs without a better score on `valid`; None never stops early.
    keep : str
        The weights of the `"best"` epoch on `valid`, or of the `"last"`.
    monitor : str
        What is best: `"accuracy"`, `"macro_f1"` or (lowest) `"loss"` on `valid`.
    class_weight : str or None
        `"balanced"` lets each class count equally in the loss.
    clip : float
        Longest allowed gradient (its norm); longer ones are scaled down.
    dtype : str
        `"float32"`, or `"bfloat16"` for autocast, which is faster on some processors (`ft.check_machine()` measures).
    seed : int
        The one seed: order of rows, and dropout.

    Raises
    ------
    FtkitError
        FT050, if a value is out of range; the message names field, value and range.

    Examples
    --------
    >>> plan = Plan(train="top 2", lr=1e-4)
    >>> plan.but(lr=5e-5)
    Plan(train='top 2', lr=5e-05)
    """

    train: str | tuple[str, ...] = "head"
    lr: float = 1e-4
    head_lr: float = 1e-3
    rates: Mapping[str, float] = field(default_factory=dict)
    start: str = "zero"
    epochs: int = 4
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "linear"
    patience: int | None = None
    keep: str = "best"
    monitor: str = "accuracy"
    class_weight: str | None = None
    clip: float = 1.0
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.train, str):
            if not isinstance(self.train, Sequence) or not all(isinstance(name, str) for name in self.train):
                raise _wrong("train", self.train, "the name of a group, such as 'head', or a sequence of names")
            object.__setattr__(self, "train", tuple(self.train))
        object.__setattr__(self, "rates", MappingProxyType(dict(self.rates)))
        if not self.train:
            raise _wrong("train", self.train, "at least one group, such as 'head'; with none nothing can learn")
        for name, rate in [
            ("lr", self.lr),
            ("head_lr", self.head_lr),
            *((f"rates[{g!r}]", r) for g, r in self.rates.items()),
        ]:
            if not _number(rate) or not 0 < rate <= 1:
                raise _wrong(name, rate, "above 0 and at most 1, typically 1e-5 to 1e-2")
        for name in ("epochs", "batch_size", *(("patience",) if self.patience is not None else ())):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise _wrong(name, value, "a whole number, 1 or more")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise _wrong("seed", self.seed, "a whole number, 0 or more")
        for name, low, high in (("warmup", 0, 1), ("weight_decay", 0, 1), ("clip", 1e-6, float("inf"))):
            if not _number(getattr(self, name)) or not low <= getattr(self, name) <= high:
                raise _wrong(name, getattr(self, name), f"{low} to {high}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise _wrong(name, getattr(self, name), f"one of {', '.join(map(repr, choices))}")

    def __hash__(self) -> int:
        return hash(
            (self.train, self.lr, self.epochs, self.seed, frozenset(self.rates.items()))
        )  # equal plans, equal hash

    def but(self, **changes: Any) -> Plan:
        """Return this plan with some fields changed: an experiment is a small difference."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON and TOML can hold."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **values,
            "rates": dict(self.rates),
            "train": self.train if isinstance(self.train, str) else list(self.train),
        }

    def code(self) -> str:
        """Return the call that makes this plan, with only the fields that differ from the defaults."""
        set_ = [
            f"{f.name}={dict(v) if f.name == 'rates' else v!r}"
            for f in dataclasses.fields(self)
            if (v := getattr(self, f.name)) != (f.default if f.default is not dataclasses.MISSING else {})
            or f.name == "train"
        ]
        return f"Plan({', '.join(set_)})"

    def __repr__(self) -> str:
        return self.code()

    def resolve(self, groups: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the groups that may move, out of a model's ordered `groups`.

        Raises
        ------
        FtkitError
            FT051, if a name matches no group; the message lists the groups and the nearest name.
        """
        blocks = [g for g in groups if g.startswith("block ")]
        chosen: set[str] = set()
        for name in (self.train,) if isinstance(self.train, str) else self.train:
            top = re.fullmatch(r"top (\d+)", name)
            if top and int(top[1]) <= len(blocks):
                first = groups.index(blocks[len(blocks) - int(top[1])]) if int(top[1]) else groups.index("head")
                chosen |= set(groups[first:])
            elif name in ("all", "blocks"):
                chosen |= {g for g in groups if name == "all" or g != "embeddings"}
            elif name in groups:
                chosen.add(name)
            else:
                near = difflib.get_close_matches(name, groups, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                raise FtkitError(
                    "FT051",
                    f"Plan.train: no group here is called {name!r}{hint} There are "
                    f"{', '.join(groups)}; 'top 1' to 'top {len(blocks)}', 'blocks' and 'all' stand for several.",
                )
        if unknown := [g for g in self.rates if g not in groups]:
            raise FtkitError(
                "FT051", f"Plan.rates: this model has no group {unknown[0]!r}. It has {', '.join(groups)}."
            )
        return tuple(g for g in groups if g in chosen)

    def rate(self, group: str) -> float:
        """Return the peak learning rate of a group that trains."""
        return self.rates.get(group, self.head_lr if group == "head" else self.lr)

    def preview(self, base: Base, n_classes: int) -> Preview:
        """Return what this plan means for a model: each group, whether it moves, how many weights, at what rate.

        Parameters
        ----------
        base : Base
            The pretrained model; it is only read.
        n_classes : int
            Number of classes: the head has `(hidden_size + 1) * n_classes` weights.
        """
        from ftkit.pretrained import group_sizes

        sizes = {**group_sizes(base.encoder, base.groups), "head": (base.hidden_size + 1) * n_classes}
        return Preview(plan=self, sizes=sizes, trained=self.resolve(list(sizes)))

    def apply(self, model: nn.Module, groups: Mapping[str, Sequence[str]]) -> None:
        """Let the planned groups of `model` move and freeze the others, in place (`fit` calls it on its own copy)."""
        trained = set(self.resolve(list(groups)))
        movable = {n for g in trained for n in groups[g]}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in movable)
        verify(model, groups, trained)

    def summary(self) -> str:
        return f"{self.code()}: {self.words} may move, the rest is frozen."

    @property
    def words(self) -> str:
        """What trains, as it was asked for."""
        return self.train if isinstance(self.train, str) else ", ".join(self.train)

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        import pandas as pd

        default = Plan()
        rows = [(k, str(v), "" if v == getattr(default, k) else "set") for k, v in self.to_dict().items()]
        rows.sort(key=lambda r: r[2] == "")  # what was set comes before the defaults
        return [("Plan", pd.DataFrame(rows, columns=["field", "value", "differs"]))]


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _wrong(name: str, value: object, expected: str) -> FtkitError:
    return FtkitError("FT050", f"Plan.{name}: expected {expected}; found {value!r}.")
