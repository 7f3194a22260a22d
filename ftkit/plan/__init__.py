"""An inert record of what trains and how; a preview of the counts; sets `requires_grad` and verifies it (lesson 04).

A `Plan` only says what should happen. It can be made, compared and changed without a model; `preview` shows what it
means for one; `apply` carries it out on a copy that `fit` owns, and `verify` asks the model, not the plan, what is so.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

from ftkit import methods
from ftkit.display import Record, Tables
from ftkit.findings import FtkitError
from ftkit.plan.preview import Preview, checked, moves, verify

if TYPE_CHECKING:
    from torch import nn

    from ftkit.pretrained import Base

__all__ = ["Plan", "Preview", "verify"]


class Plan(Record, eq=True):
    """Which weights may move, how fast, how long, and from which start.

    Parameters
    ----------
    train : str or sequence of str
        The groups that may move: `"head"`, `"block 5"`, `"final"`, `"embeddings"` (a base's `groups` lists them), or a
        word for several: `"top 2"` (the last two blocks and all above), `"blocks"` (all but the embeddings), `"all"`.
        The rest is frozen.
    tensors : str
        What may move inside those groups: `"all"`; `"bias"`, their bias vectors only (BitFit; E. Ben Zaken et al.,
        ACL 2022); or `"norm"`, their norm layers only. A head that trains always moves whole.
    method : str
        How their blocks move: `"full"`, the pretrained tensors themselves; or a few new ones beside them, while all
        pretrained ones stand still: `"lora"`, `"rslora"`, `"dora"`, `"ia3"`, `"adapter"`, `"prefix"` (see
        `ftkit.methods`). New tensors learn faster: LoRA's `lr` is usually about ten times that of `"full"` (E. Hu et
        al., ICLR 2022).
    rank : int
        Rank of the LoRA family's matrices, width of a bottleneck adapter, or length of a prefix.
    alpha : float
        What the LoRA family adds is multiplied by `alpha / rank` (rsLoRA: by `alpha / sqrt(rank)`).
    lr : float
        Learning rate of the pretrained groups, or of what a method adds to them.
    head_lr : float
        Learning rate of the head, which is new and has further to go.
    rates : mapping of str to float
        Learning rates of single groups, where they differ from the two above (discriminative learning rates).
    layer_decay : float
        Each group learns at this many times the rate of the one above it; 1 is one rate for all (J. Howard and
        S. Ruder, Universal Language Model Fine-tuning, ACL 2018, used 1 / 2.6).
    gradual : bool
        Gradual unfreezing (the same paper): the topmost group moves first, and in each epoch one more joins it; where
        there are fewer epochs than groups, several join at once, so that all have moved at the end.
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
    accumulate : int
        In how many parts a step's rows are computed, one after the other: less memory, the same gradient, more time.
    dtype : str
        `"float32"`, `"bfloat16"` for autocast, or `"auto"`: whichever of the two was measured to train faster on this
        machine (`ft.check_machine()` tells). A run's own plan says which one that was.
    compile : bool
        Let `torch.compile` make each block anew as one piece: it needs a C++ compiler, and about a minute for it.
    cache : bool
        Whether what the frozen blocks make of a text is computed once and kept on disk, for this run and others; the
        last digits of the result differ a little from computing it anew in every batch.
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
    tensors: Literal["all", "bias", "norm"] = "all"
    method: str = "full"
    rank: int = 8
    alpha: float = 16.0
    lr: float = 1e-4
    head_lr: float = 1e-3
    rates: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float = 1.0
    gradual: bool = False
    start: Literal["zero", "probe"] = "zero"
    epochs: int = 4
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    monitor: Literal["accuracy", "macro_f1", "loss"] = "accuracy"
    class_weight: Literal[None, "balanced"] = None
    clip: float = 1.0
    accumulate: int = 1
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    compile: bool = False
    cache: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in checked(self).items():
            object.__setattr__(self, name, value)

    def __hash__(self) -> int:
        return hash((self.train, self.lr, self.epochs, self.seed))  # equal plans, equal hash

    def __reduce__(self) -> tuple:
        return functools.partial(Plan, **self.to_dict()), ()  # a read-only mapping can be neither copied nor pickled

    def but(self, **changes: Any) -> Plan:
        """Return this plan with some fields changed: an experiment is a small difference."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON and TOML can hold."""
        train = self.train if type(self.train) is str else [*self.train]
        return {**vars(self), "rates": dict(self.rates), "train": train}

    def code(self) -> str:
        """Return the call that makes this plan, with only the fields that differ from the defaults."""
        given, usual = ({**vars(plan), "rates": dict(plan.rates)} for plan in (self, Plan()))
        return f"Plan({', '.join(f'{n}={v!r}' for n, v in given.items() if v != usual[n] or n == 'train')})"

    __repr__ = code

    def resolve(self, groups: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the groups that may move, out of a model's ordered `groups`.

        Raises
        ------
        FtkitError
            FT051, if a name matches no group; the message lists the groups and the nearest name. FT056, if `rates`
            names a group that is frozen.
        """
        lowest = ["head", *(g for g in reversed(groups) if g.startswith("block "))]
        meant = {f"top {n}": groups[groups.index(g) :] for n, g in enumerate(lowest)} | {g: [g] for g in groups}
        meant |= {"all": groups, "blocks": [g for g in groups if g != "embeddings"]}
        asked = (self.train,) if isinstance(self.train, str) else self.train
        if unknown := [name for name in asked if name not in meant]:
            near = difflib.get_close_matches(unknown[0], groups, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            several = f"'top 1' to 'top {len(lowest) - 1}', 'blocks' and 'all' stand for several."
            told = f"no group here is called {unknown[0]!r}{hint} There are {', '.join(groups)}; {several}"
            raise FtkitError("FT051", f"Plan.train: {told}")
        chosen = {g for name in asked for g in meant[name]}
        for g in self.rates:
            if g not in groups:
                raise FtkitError("FT051", f"Plan.rates: this model has no group {g!r}. It has {', '.join(groups)}.")
            if g not in chosen:
                raise FtkitError("FT056", f"Plan.rates has a rate for {g!r}, but {self.words!r} leaves it frozen.")
        return tuple(g for g in groups if g in chosen)

    def stage(self, groups: Sequence[str], epoch: int) -> tuple[str, ...]:
        """Return the groups that move in an epoch (the first is 1): all that train, unless unfreezing is gradual.

        >>> Plan(train="top 2", gradual=True).stage(["embeddings", "block 0", "block 1", "head"], epoch=2)
        ('block 1', 'head')
        """
        trained = self.resolve(groups)
        n = max(epoch, math.ceil(len(trained) * epoch / self.epochs)) if self.gradual else len(trained)
        return trained[-n:]

    def rates_for(self, groups: Sequence[str]) -> dict[str, float]:
        """Return the peak learning rate of each group that trains, out of a model's ordered `groups`.

        >>> Plan(train="top 2", lr=1e-4, layer_decay=0.5).rates_for(["embeddings", "block 0", "block 1", "head"])
        {'block 0': 5e-05, 'block 1': 0.0001, 'head': 0.001}
        """
        below = [g for g in groups if g != "head"][::-1]
        usual = {g: self.lr * self.layer_decay**depth for depth, g in enumerate(below)} | {"head": self.head_lr}
        return {g: self.rates.get(g, usual[g]) for g in self.resolve(groups)}

    def movable(self, groups: Mapping[str, Sequence[str]], epoch: int | None = None) -> set[str]:
        """Return the names of the parameters that may move, at all or in one epoch.

        Parameters
        ----------
        groups : mapping of group name to parameter names
        epoch : int, optional
            Counted from 1; only what moves in it, where unfreezing is gradual.

        FT069 is raised if the method's new tensors are missing: `methods.attach` comes first.
        """
        if methods.METHODS[self.method] and not any(moves(self, n) for names in groups.values() for n in names):
            raise FtkitError("FT069", f"Plan.method is {self.method!r}, and the model holds none of its tensors.")
        moving = self.resolve(list(groups)) if epoch is None else self.stage(list(groups), epoch)
        return {name for g in moving for name in groups[g] if g == "head" or moves(self, name)}

    def preview(self, base: Base, n_classes: int) -> Preview:
        """Return what this plan means for a model: each group, whether it moves, how many weights, at what rate.

        Parameters
        ----------
        base : Base
            The pretrained model; it is only read.
        n_classes : int
            Number of classes: the head has `(hidden_size + 1) * n_classes` weights.
        """
        begun = dataclasses.replace(base, encoder=methods.start(base.encoder, self))
        n_weights = {n: p.numel() for n, p in begun.encoder.named_parameters()}
        n_weights["head"] = (base.hidden_size + 1) * n_classes
        groups = {**begun.groups, "head": ("head",)}
        movable = self.movable(groups)
        moving = {g: sum(n_weights[n] for n in names if n in movable) for g, names in groups.items()}
        sizes = {g: sum(n_weights[n] for n in names) for g, names in groups.items()}
        return Preview(plan=self, sizes=sizes, moving=moving, rates=self.rates_for(list(groups)))

    def apply(self, model: nn.Module, groups: Mapping[str, Sequence[str]], epoch: int | None = None) -> None:
        """Let what is planned move and freeze the rest, in place (`fit` calls it on its own copy).

        Parameters
        ----------
        model : torch.nn.Module
        groups : mapping of group name to the model's parameter names
        epoch : int, optional
            The state for one epoch of gradual unfreezing, counted from 1.
        """
        movable = self.movable(groups, epoch)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in movable)
        verify(model, groups, movable)

    def summary(self) -> str:
        return f"{self.code()}: {self.words} may move, the rest is frozen."

    @property
    def words(self) -> str:
        """What trains, as it was asked for."""
        groups = self.train if isinstance(self.train, str) else ", ".join(self.train)
        part = {"all": "", "bias": ", bias vectors only", "norm": ", norm layers only"}[self.tensors]
        if method := methods.METHODS[self.method]:
            part = f", {method.title.format(rank=self.rank)} only"
        return f"{groups}{part}{', gradually' if self.gradual else ''}"

    def tables(self) -> Tables:
        import pandas as pd

        default = Plan()
        rows = [(k, str(v), "" if v == getattr(default, k) else "set") for k, v in self.to_dict().items()]
        rows.sort(key=lambda r: r[2] == "")  # what was set comes before the defaults
        return [("Plan", pd.DataFrame(rows, columns=["field", "value", "differs"]))]
