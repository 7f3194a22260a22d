"""The freeze panel: choose what may move and how fast, group by group, and see the cost at once (lesson 04)."""

from __future__ import annotations

from typing import Any

import ipywidgets

from ftkit import forecast
from ftkit.data import Splits
from ftkit.display import count, escape, seconds, size
from ftkit.plan import Plan, Preview
from ftkit.pretrained import Base
from ftkit.widgets.panel import Panel, announced

#: Peak learning rates offered; each is about twice the one before.
RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3)
HEAD_RATES = (*RATES, 2e-3, 5e-3, 1e-2)
DECAYS = (0.95, 0.9, 0.8, 0.65, 0.5)


class FreezePanel(Panel):
    """Choose what may move, the learning rates and the epochs; nothing is trained here.

    Parameters
    ----------
    base : Base
        The pretrained model; it is only read, and measured for under a second.
    data : Splits
        What the plan is for: the number of classes and of rows.
    plan : Plan, optional
        Where the controls start; fields that have no control are kept as they are.

    Attributes
    ----------
    value : Plan
        The plan as chosen now. A cell that uses it later gets what the controls show then.

    Raises
    ------
    FtkitError
        FT051, if the plan names a group that the model has not; FT056, if it gives a frozen one a learning rate.
    """

    css_class = "ftkit-freeze"

    def __init__(self, base: Base, data: Splits, plan: Plan | None = None) -> None:
        super().__init__(data.name)
        self.base, self.data = base, data
        self._start = start = plan or Plan(train="top 1")
        groups = [*base.groups, "head"]
        self._presets = self._offer(groups)
        self._tensors, self._following = start.tensors, False

        depths = [(words, key) for key, (words, *_) in self._presets.items()]
        asked = next(key for key, (_, *given, _) in self._presets.items() if given == [start.train, start.tensors])
        self.depth = _choice("What may move", depths, asked)
        self.rate = _choice("Learning rate", _rates(RATES, start.lr), start.lr)
        self.epochs = ipywidgets.BoundedIntText(start.epochs, min=1, max=max(50, start.epochs), description="Epochs")
        decays = [(f"{d:g}", d) for d in sorted({*DECAYS, start.layer_decay} - {1.0}, reverse=True)]
        self.decay = _choice("Layer decay", [("1 (one rate for all)", 1.0), *decays], start.layer_decay)
        self.gradual = ipywidgets.Checkbox(start.gradual, description="Gradual unfreezing", indent=False)
        moves = start.resolve(groups)
        self.may_move = {g: ipywidgets.Checkbox(g in moves, description=f"{g} may move", indent=False) for g in groups}
        self.rates = {}
        for g in groups:
            rate = start.rates.get(g, start.head_lr if g == "head" else 0.0)
            offered = _rates(HEAD_RATES, rate) if g == "head" else [("as above", 0.0), *_rates(RATES, rate)]
            self.rates[g] = _choice(f"Rate of {g}", offered, rate)
        self._weights, self._states = ({g: ipywidgets.HTML() for g in groups} for _ in range(2))

        controls = (self.depth, self.rate, self.epochs, self.decay, self.gradual)
        for control in (*controls, *self.may_move.values(), *self.rates.values()):
            control.observe(self.guarded(self._changed), "value")
        row = ipywidgets.HBox(controls).add_class("controls")
        cells = [ipywidgets.HTML(f'<span class="head">{h}</span>') for h in ("Group", "Weights", "Own rate", "State")]
        for g in reversed(groups):
            cells += [self.may_move[g], self._weights[g], self.rates[g].add_class("rate"), self._states[g]]
        stack = ipywidgets.GridBox(cells)
        told = "The model as a stack: texts enter at the bottom, answers leave at the top."
        # An arrow key on a closed list does not change it: JupyterLab takes the key, and goes to the next cell.
        keys = "By keyboard: Tab goes to a control, Space opens its list, arrows and Enter choose."
        caption, hint = ipywidgets.HTML(f"<p>{told}</p>"), ipywidgets.HTML(f"<p><small>{keys}</small></p>")
        self.box.children = (row, self.status, caption, stack.add_class("stack"), self.shown_code, hint, self.style)
        self._show()

    @property
    def value(self) -> Plan:
        """The plan as the controls stand."""
        _, train, tensors, _ = self._presets[self.depth.value]
        ticked = self._ticked()
        return self._start.but(
            train=train or ticked,
            tensors=tensors or self._tensors,
            lr=self.rate.value,
            head_lr=self.rates["head"].value,
            rates={g: self.rates[g].value for g in ticked if g != "head" and self.rates[g].value},
            layer_decay=self.decay.value,
            gradual=self.gradual.value,
            epochs=self.epochs.value,
        )

    @property
    def code(self) -> str:
        """The plan as a call."""
        return f"ft.{self.value.code()}"

    @property
    def preview(self) -> Preview:
        """What the plan means for this model, group by group."""
        return self.value.preview(self.base, len(self.data.label_names))

    static = preview

    @property
    def estimate(self) -> forecast.Estimate:
        """The first estimate of the plan's cost on this machine."""
        return forecast.estimate(self.base, self.data, self.value, calibrate=False)

    def _offer(self, groups: list[str]) -> dict[str, tuple[str, Any, str | None, tuple[str, ...]]]:
        """Return what the list offers: by its key the words, `train`, `tensors`, and the groups that may then move."""
        n = sum(g.startswith("block ") for g in groups)
        offered = {"head": ("the head only", "head", "all")}
        offered |= {f"top {k}": (f"the head and the top {k} of {n} blocks", f"top {k}", "all") for k in range(1, n)}
        offered |= {
            "blocks": (f"the head and all {n} blocks", "blocks", "all"),
            "all": ("everything, embeddings too", "all", "all"),
            "bias": ("bias vectors only", "all", "bias"),
            "norm": ("norm layers only", "all", "norm"),
            "own": ("my own choice", None, None),
        }
        start = self._start
        if (start.train, start.tensors) not in [(train, tensors) for _, train, tensors in offered.values()]:
            offered["given"] = (f"as given: {start.but(gradual=False).words}", start.train, start.tensors)
        moves = {key: Plan(train=train).resolve(groups) if train else () for key, (_, train, _) in offered.items()}
        return {key: (*offer, moves[key]) for key, offer in offered.items()}

    def _ticked(self) -> tuple[str, ...]:
        return tuple(g for g, box in self.may_move.items() if box.value)

    def _changed(self, change: Any) -> None:
        """Let the list follow the boxes, and the boxes the list; then show what that means."""
        if self._following:
            return
        self._following = True
        try:
            if change["owner"] is self.depth and self.depth.value != "own":
                _, _, self._tensors, moves = self._presets[self.depth.value]
                for g, box in self.may_move.items():
                    box.value = g in moves
            elif change["owner"] in self.may_move.values():
                if not self._ticked():  # something has to move
                    self.may_move["head"].value = True
                meant = (self._tensors, self._ticked())
                self.depth.value = next((key for key, (*_, t, g) in self._presets.items() if (t, g) == meant), "own")
        finally:
            self._following = False
        self._show()

    def _show(self) -> None:
        """Bring what is shown up to date; what did not change is not sent to the page again."""
        plan, preview, cost = self.value, self.preview, self.estimate
        share = 100 * preview.n_trained / preview.n_total
        told = f"<b>{count(preview.n_trained)}</b> of {count(preview.n_total)} weights may move ({share:.3g} %). "
        told += f"About <b>{seconds(cost.train_s)}</b> and {size(cost.peak_bytes)} of memory on this machine, "
        told += "give or take a third."
        if stuck := plan.start == "zero" and "head" not in preview.trained:
            told += " <b>As it stands, nothing can be learned: a frozen head of zeros always answers alike (FT054).</b>"
        self.status.value = announced(told)
        largest = max(preview.sizes.values())
        epochs = range(plan.epochs, 0, -1)
        joins = {g: epoch for epoch in epochs for g in plan.stage(list(preview.sizes), epoch)}  # where each first moves
        for g, n in preview.sizes.items():
            moves = g in preview.trained
            self._weights[g].value = _bar(n, preview.moving[g] if moves else 0, largest)
            joined = f", from epoch {joins[g]}" if moves and joins[g] > 1 else ""
            self._states[g].value = f"<b>moves</b> at {preview.rates[g]:.3g}{joined}" if moves else "frozen"
            self.rates[g].disabled = not moves
        # The head is new: it has to move, unless it starts from a probe.
        self.may_move["head"].disabled = plan.start == "zero" and not stuck
        self.show_code()
        self.tell_listeners()


def _choice(words: str, options: list[tuple[str, Any]], value: Any) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(description=words, options=options, value=value)


def _rates(offered: tuple[float, ...], given: float) -> list[tuple[str, float]]:
    """Return the learning rates to offer, in words too; the given one is among them, and 0 is not."""
    return [(f"{r:g}", r) for r in sorted({*offered, given} - {0.0})]


def _bar(n: int, n_moving: int, largest: int) -> str:
    """Return a group's weights: a bar as long as their number, patterned as far as they may move, and the number."""
    width = max(1.0, 100 * n / largest)
    part = f'<span style="width:{100 * n_moving / n:.4g}%;min-width:3px"></span>' if n_moving else ""
    told = count(n) if n_moving in (0, n) else f"{count(n_moving)} of {count(n)}"
    bar = f'<span class="all" aria-hidden="true" style="width:{width:.1f}%">{part}</span>'
    return f'<div class="weights"><span>{bar}</span><span>{escape(told)}</span></div>'
