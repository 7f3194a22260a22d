"""The freeze panel: choose how deep to freeze and how fast to learn, and see the cost at once (lesson 04)."""

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

#: Peak learning rates offered; each is about twice the one before.
RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3)
# Told apart by pattern and by the words beside them, not by colour alone; both stand out on white and on black.
_TRAINS = "repeating-linear-gradient(45deg,#d9782d,#d9782d 6px,#e39a60 6px,#e39a60 12px)"
_FROZEN = "rgba(128,128,128,.5)"
_CELL = "padding:.15em .8em .15em 0;vertical-align:middle;white-space:nowrap;"


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
            depths.append((f"as given: {self._start.words}", self._start.train))
        look = {"layout": ipywidgets.Layout(width="30em"), "style": {"description_width": "8.5em"}}
        self.depth = ipywidgets.Dropdown(options=depths, value=self._start.train, description="What may move", **look)
        self.rate = ipywidgets.Dropdown(
            options=[(f"{r:g}", r) for r in sorted({*RATES, self._start.lr})],
            value=self._start.lr,
            description="Learning rate",
            **look,
        )
        self.epochs = ipywidgets.BoundedIntText(
            value=self._start.epochs, min=1, max=max(50, self._start.epochs), description="Epochs", **look
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
        plan, preview, cost = self.value, self.preview, self.estimate
        largest = max(preview.sizes.values())
        rows = "".join(
            _layer(g, n, n / largest, f"{plan.rate(g):g}" if g in preview.trained else None)
            for g, n in reversed(preview.sizes.items())
        )
        share = 100 * preview.n_trained / preview.n_total
        may_move = f"<b>{count(preview.n_trained)}</b> of {count(preview.n_total)} weights may move ({share:.3g} %)."
        costs = f"About <b>{seconds(cost.train_s)}</b> and {size(cost.peak_bytes)} of memory on this machine"
        self._shown.value = (
            '<div style="line-height:1.5;max-width:46em">'
            f'<p role="status" aria-live="polite">{may_move} {costs}, give or take a third.</p>'
            '<table style="border-collapse:collapse;width:100%"><caption style="text-align:left;padding:.3em 0">'
            "The model as a stack: texts enter at the bottom, answers leave at the top</caption>"
            f"<thead><tr>{_heading('Group')}{_heading('Weights', 2)}{_heading('State, and learning rate')}</tr></thead>"
            f"<tbody>{rows}</tbody></table>"
            f"<p>The same as code: <code>{escape(f'ft.{plan.code()}')}</code></p>"
            # An arrow key on a closed list does not change it: JupyterLab takes the key, and goes to the next cell.
            "<p><small>By keyboard: Tab goes to a control, Space opens its list, arrows and Enter choose.</small></p>"
            "</div>"
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # Without a front end (on a code host, in a printed page) the static table stands in for the panel.
        static = self.preview._repr_mimebundle_()
        return {**static, **self._box._repr_mimebundle_(), "text/plain": static["text/plain"]}


def _heading(text: str, columns: int = 1) -> str:
    return f'<th scope="col" colspan="{columns}" style="{_CELL}font-weight:normal;text-align:left">{text}</th>'


def _layer(group: str, n: int, width: float, rate: str | None) -> str:
    """Return one layer as a table row: name, a bar as long as its share of weights, its count, its state in words."""
    look = f"background:{_FROZEN if rate is None else _TRAINS};height:1em;width:{max(1, 100 * width):.0f}%"
    state = "frozen" if rate is None else f"<b>trains</b> at {rate}"
    return (
        f'<tr><th scope="row" style="{_CELL}text-align:left;font-weight:normal">{escape(group)}</th>'
        f'<td style="{_CELL}width:50%"><div style="{look}"></div></td>'
        f'<td style="{_CELL}text-align:right">{count(n)}</td>'
        f'<td style="{_CELL}text-align:left">{state}</td></tr>'
    )
