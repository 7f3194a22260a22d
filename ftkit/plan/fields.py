"""What each field of a plan may hold: checked once, when the plan is made, with field and value in the message."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ftkit import methods
from ftkit.findings import FtkitError

if TYPE_CHECKING:
    from ftkit.plan import Plan

_CHOICES = {
    "tensors": ("all", "bias", "norm"),
    "method": methods.METHODS,
    "start": ("zero", "probe"),
    "schedule": ("linear", "cosine", "constant"),
    "keep": ("best", "last"),
    "monitor": ("accuracy", "macro_f1", "loss"),
    "class_weight": (None, "balanced"),
    "dtype": ("float32", "bfloat16", "auto"),
    "gradual": (False, True),
    "compile": (False, True),
    "cache": (True, False),
}
_BOUNDS = {"warmup": (0, 1), "weight_decay": (0, 1), "layer_decay": (0.01, 1)}
_BOUNDS |= {"clip": (1e-6, math.inf), "alpha": (0.01, 1e4)}


def checked(plan: Plan) -> dict[str, Any]:
    """Return the fields that are stored otherwise than given: as a tuple, a read-only mapping, a plain number.

    Raises
    ------
    FtkitError
        FT050, naming the first field that is out of range.
    """
    train = plan.train
    if not isinstance(train, str):
        if not isinstance(train, Sequence) or not all(isinstance(name, str) for name in train):
            raise _wrong("train", train, "the name of a group, such as 'head', or a sequence of names")
        train = tuple(train)
    if not train:
        raise _wrong("train", train, "at least one group, such as 'head'; with none nothing can learn")
    if not isinstance(plan.rates, Mapping):
        raise _wrong("rates", plan.rates, "a mapping of group names to learning rates")
    rates = {"lr": plan.lr, "head_lr": plan.head_lr} | {f"rates[{g!r}]": r for g, r in plan.rates.items()}
    for name, rate in rates.items():
        if not _number(rate) or not 0 < rate <= 1:
            raise _wrong(name, rate, "above 0 and at most 1, typically 1e-5 to 1e-2")
    # A number out of numpy would not go into JSON, so plain ones are stored.
    plain: dict[str, Any] = {"lr": float(plan.lr), "head_lr": float(plan.head_lr)}
    for name in ("epochs", "batch_size", "accumulate", "rank", *(("patience",) if plan.patience is not None else ())):
        value = getattr(plan, name)
        if not _whole(value) or value < 1:
            raise _wrong(name, value, "a whole number, 1 or more")
        plain[name] = int(value)
    if not _whole(plan.seed) or not 0 <= plan.seed < 2**63:
        raise _wrong("seed", plan.seed, "a whole number, 0 or more")
    for name, (low, high) in _BOUNDS.items():
        value = getattr(plan, name)
        if not _number(value) or not low <= value <= high:
            raise _wrong(name, value, f"{low} to {high}")
        plain[name] = float(value)
    for name, choices in _CHOICES.items():
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
    rates = MappingProxyType({g: float(r) for g, r in plan.rates.items()})
    return plain | {"seed": int(plan.seed), "train": train, "rates": rates}


def _number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)


def _whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _wrong(name: str, value: object, expected: str) -> FtkitError:
    return FtkitError("FT050", f"Plan.{name}: expected {expected}; found {value!r}.")
