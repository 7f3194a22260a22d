"""The what-moved panel: the model as a stack, and how far each part of it went from the base (lesson 05)."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from ipywidgets import HTML, Dropdown

from ftkit.display import Record, count, escape, shorten
from ftkit.drift import Drift, what_moved
from ftkit.drift.moved import ATTENTION, VECTORS, WEIGHTS, in_words
from ftkit.record import Run
from ftkit.widgets.panel import Panel, grid, offer
from ftkit.widgets.training import TrainingPanel

_MEANING = {
    WEIGHTS: "How far each group's weights went from where they started, relative to their own length.",
    VECTORS: "How the vectors of the texts changed, after each group: 1 - CKA, which is 0 where they are the same up "
    "to rotation and scale. By chance: what the same texts give in another order.",
    ATTENTION: "The share of attention that a token gives to others than in the base, mean over tokens and heads.",
}
#: The columns of a Drift's own table that say it in numbers.
_NUMBERS = {WEIGHTS: ["weights moved"], VECTORS: ["CKA with the base", "CKA by chance"], ATTENTION: ["attention shift"]}


class WhatMovedPanel(Panel):
    """See which groups of a run moved, and how far: their weights, the texts' vectors, the attention.

    Measuring takes a few seconds when a run is first seen; what was found is then kept, and the run's model is not.

    Parameters
    ----------
    source : Run, sequence of Run, or TrainingPanel
        What to look at. Each run that a training panel finishes is measured and shown.
    key : str, optional
        The panel's place; by default the data and plans of its runs, or the data of the training panel.

    Attributes
    ----------
    value : Drift or None
        What moved in the chosen run, measured now if it was not before; None as long as there is no run.

    Raises
    ------
    TypeError
        If the source is none of these.
    """

    css_class = "ftkit-moved"

    def __init__(self, source: Run | Sequence[Run] | TrainingPanel, *, key: str | None = None) -> None:
        training = source if isinstance(source, TrainingPanel) else None
        runs = list(source) if isinstance(source, list | tuple) else [source]
        if training:
            runs = [training.value] if training.value else []
        elif not runs or not all(isinstance(run, Run) for run in runs):
            raise TypeError(f"source: expected a Run, a list of runs or a TrainingPanel, found {shorten(source)}")
        place = training.data.name if training else " ".join(f"{r.data.name} {r.plan.code()}" for r in runs)
        super().__init__(place if key is None else key)
        self._training, self._name = training, "runs[{}]" if isinstance(source, list | tuple) else "run"
        # Once a run is measured, what moved stands in its place: the run, with its model, is not kept.
        self._looked: list[Run | Drift] = runs

        self.run = self.control(Dropdown, "Run", self._show_measured, options=self._offered())
        self.measure = self.control(Dropdown, "Look at", self._show, options=list(_MEANING))
        self.group = self.control(Dropdown, "Layers of", self._show)
        self._stack, self._layers = HTML().add_class("stack"), HTML()
        shown = (self.run, self.measure, self.status, self._stack, self.group, self._layers, self.shown_code)
        self.box.children = (*shown, self.style)
        self._show()
        if training:
            training.on_value(self._trained)

    @property
    def value(self) -> Drift | None:
        """What moved in the chosen run; while it is being measured, this waits."""
        self.wait()
        self._measure()
        return self._chosen

    @property
    def code(self) -> str:
        """The calls that measure the same."""
        lines = [f"drift = ft.what_moved({self._name.format(self.run.value)})"]
        if self._training:
            plan = (self._chosen or self._training).plan
            lines.insert(0, f"run = ft.fit(base, data, ft.{plan.code()})")
        if self.group.value:
            lines.append(f"drift.layers_of({self.group.value!r})")
        return "\n".join(lines)

    @property
    def static(self) -> Record:
        """What was measured; before that the run, or what the training panel would train."""
        return self._chosen or self._training.static

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(include, exclude)
        self._show_measured()
        return bundle

    def retire(self) -> None:
        super().retire()
        self._training = None
        # A kernel keeps every widget; it should not keep the models that came by it.
        self._looked = [looked for looked in self._looked if isinstance(looked, Drift)]
        offer(self.run, self._offered())

    @property
    def _chosen(self) -> Run | Drift | None:
        return None if self.run.value is None else self._looked[self.run.value]

    def _offered(self) -> list[tuple[str, int]]:
        return [(f"{n + 1}: {shorten(looked.plan.code(), 80)}", n) for n, looked in enumerate(self._looked)]

    def _trained(self, run: Run) -> None:
        """Take a run that the training panel has just finished; this is called in its thread."""
        if self._training and run:
            self._looked = [*(looked for looked in self._looked if isinstance(looked, Drift)), run]
            offer(self.run, self._offered(), len(self._looked) - 1)
            self._show_measured()

    def _show_measured(self) -> None:
        """Show the chosen run; if it has not been measured, that begins."""
        self._show()
        if isinstance(self._chosen, Run):
            self.in_thread(self._measure)

    def _measure(self) -> None:
        """Compare base and tuned model, once a run; in a thread or not, so only traits are assigned."""
        while isinstance(run := self._chosen, Run):  # another may be chosen meanwhile
            self.say("Comparing the tuned model with its base, text by text: a few seconds, once.")
            drift, looked = what_moved(run), self._looked
            if run in looked:  # the panel may have let go of it meanwhile
                looked[looked.index(run)] = drift
            if self._chosen is drift:
                self._show()
                self.tell_listeners()

    def _show(self) -> None:
        """Draw the stack, and the layers of the chosen group."""
        drift = self._chosen if isinstance(self._chosen, Drift) else None
        groups = [group for group in drift.groups["group"] if group != "head"][::-1] if drift else []
        if list(self.group.options) != groups:  # or the group that was chosen stays
            offer(self.group, groups)
        self.run.disabled, self.group.disabled = not self._looked, not groups
        self.show_code()
        self._stack.value = stack(drift, self.measure.value, self.group.value) if drift else ""
        self._layers.value = layers(drift, self.group.value) if drift else ""
        if drift:
            self.say(drift.summary())
        elif not self._looked:
            self.say("There is no run yet. When the training panel has finished one, what it moved shows here.")


def stack(drift: Drift, measure: str, chosen: str | None = None) -> str:
    """Return one measure out of the drift's own table of groups, the head on top, with a bar in each row.

    Parameters
    ----------
    drift : Drift
    measure : str
        One of its `lengths()`: these are the bars.
    chosen : str, optional
        The group to mark.
    """
    shown = drift.tables()[0][1].loc[::-1, ["group", *_NUMBERS[measure], "planned"]]
    columns = [(name, "short", [escape(cell) or "not measured" for cell in cells]) for name, cells in shown.items()]
    columns.insert(1, (measure, "bar", _bars(drift.lengths()[measure][::-1])))
    caption = "The model as a stack: texts enter at the bottom, answers leave at the top"
    return f"<p>{escape(_MEANING[measure])}</p>{grid(caption, columns, list(shown['group'] == chosen))}"


def layers(drift: Drift, group: str) -> str:
    """Return how far the layers of one group went, as a table."""
    found = drift.layers_of(group)
    names, lengths, sizes = map(escape, found["layer"]), found["weights_moved"], map(count, found["n_weights"])
    columns = [("layer", "", names), ("how far", "bar", _bars(lengths))]
    columns += [("weights moved", "short", map(in_words, lengths)), ("weights", "n", sizes)]
    return grid(f"The layers of {group}", columns)


def _bars(lengths: pd.Series) -> list[str]:
    return [f'<div style="width:{100 * n / lengths.max():.1f}%"></div>' if n > 0 else "" for n in lengths]
