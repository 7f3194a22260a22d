"""The freeze panel: choose how deep to freeze and how fast to learn, and see at once what that will cost (lesson 04)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

from ftkit import forecast
from ftkit.display import count, escape, seconds, size
from ftkit.plan import Plan, Preview

if TYPE_CHECKING:
    from ftkit.data import Splits
    from ftkit.forecast import Estimate
    from ftkit.pretrained import Base

#: Peak learning rates offered; each is about three times the one before.
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)


class FreezePanel:
    """Choose how many blocks of a model may move, their learning rate and the epochs; nothing is trained here.

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
    """

    def __init__(self, base: Base, data: Splits, plan: Plan | None = None) -> None:
        self.base, self.data = base, data
        self._start = plan or Plan(train="top 1")
        self._calibration = forecast.calibrate(base, data)
        blocks = sum(g.startswith("block ") for g in base.groups)
        depths = [("the head only", "head")]
        depths += [(f"the head and the top {k} of {blocks} blocks", f"top {k}") for k in range(1, blocks)]
        depths += [(f"the head and all {blocks} blocks", "blocks"), ("everything, embeddings too", "all")]
        if self._start.train not in [value for _, value in depths]:
            depths.append((f"as given: {self._start.train}", self._start.train))
        rates = sorted({*RATES, self._start.lr})
        wide = ipywidgets.Layout(width="26em")
        style = {"description_width": "8.5em"}
        self.depth = ipywidgets.Dropdown(
            options=depths, value=self._start.train, description="What may move", layout=wide, style=style
        )
        self.rate = ipywidgets.Dropdown(
            options=[(f"{r:g}", r) for r in rates], value=self._start.lr, description="Learning rate", layout=wide, style=style
        )
        self.epochs = ipywidgets.BoundedIntText(
            value=self._start.epochs, min=1, max=50, description="Epochs", layout=wide, style=style
        )
        self._shown = ipywidgets.HTML()
        controls = (self.depth, self.rate, self.epochs)
        for control in controls:
            control.observe(lambda change: self._show(), "value")
        self._box = ipywidgets.VBox([*controls, self._shown]).add_class("ftkit-freeze")
        self._show()

    @property
    def value(self) -> Plan:
        """The plan as the controls stand."""
        return self._start.but(train=self.depth.value, lr=self.rate.value, epochs=self.epochs.value)

    @property
    def preview(self) -> Preview:
        """What the plan means for this model, group by group."""
        return self.value.preview(self.base, len(self.data.label_names))

    @property
    def estimate(self) -> Estimate:
        """The first estimate of the plan's cost on this machine."""
        return forecast.estimate(self.base, self.data, self.value, self._calibration)

    def _show(self) -> None:
        preview, cost = self.preview, self.estimate
        largest = max(preview.sizes.values())
        rows = "".join(_layer(g, n, n / largest, g in preview.trained) for g, n in reversed(preview.sizes.items()))
        share = 100 * preview.n_trained / preview.n_total
        self._shown.value = (
            '<div class="ftkit" style="line-height:1.4;max-width:46em">'
            f'<p role="status" aria-live="polite"><b>{count(preview.n_trained)}</b> of {count(preview.n_total)} weights '
            f"may move ({share:.2g} %). About <b>{seconds(cost.train_s)}</b> and {size(cost.peak_bytes)} of memory on "
            "this machine, give or take a third.</p>"
            f'<table style="border-collapse:collapse;width:100%"><caption style="text-align:left">The model as a stack: '
            f"texts enter at the bottom, answers leave at the top</caption>{rows}</table>"
            f"<p>The same as code: <code>{escape(f'ft.{self.value.code()}')}</code></p></div>"
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # Without a front end (on a code host, in a printed page) the static table stands in for the panel.
        static = self.preview._repr_mimebundle_()
        return {**static, **self._box._repr_mimebundle_(), "text/plain": static["text/plain"]}


def _layer(group: str, n: int, width: float, trains: bool) -> str:
    """Return one layer as a table row: name, a bar as long as its share of the weights, its count, its state in words."""
    colour = "repeating-linear-gradient(45deg,#d9782d,#d9782d 6px,#e39a60 6px,#e39a60 12px)" if trains else "#b9bec6"
    bar = f'<div style="background:{colour};height:1em;width:{max(1, 100 * width):.0f}%"></div>'
    state = "<b>trains</b>" if trains else "frozen"
    number = "text-align:right;padding:0 .8em;white-space:nowrap"
    return (
        f'<tr><th scope="row" style="text-align:left;font-weight:normal;padding-right:.8em;white-space:nowrap">'
        f'{escape(group)}</th><td style="width:60%">{bar}</td><td style="{number}">{count(n)}</td><td>{state}</td></tr>'
    )
