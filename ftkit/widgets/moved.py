"""The what-moved panel: the model as a stack, and how far each part of it went from the base (lesson 05)."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pandas as pd
from ipywidgets import HTML, Dropdown

from ftkit.display import Record, count, escape, shorten
from ftkit.drift import Drift, what_moved
from ftkit.record import Run
from ftkit.widgets.panel import Panel, grid, offer
from ftkit.widgets.training import TrainingPanel

#: What can be looked at, in words.
MEASURES = {
    "weights": "weights: how far they went",
    "representations": "representations: how the texts' vectors changed",
    "attention": "attention: how much of it went elsewhere",
}
_MEANING = {
    "weights": "How far each group's weights went from where they started, relative to their own length.",
    "representations": "How the vectors of the texts changed, after each group: 1 - CKA, which is 0 where they are the "
    "same up to rotation and scale. By chance: what the same texts give in another order.",
    "attention": "The share of attention that a token gives to others than in the base, mean over tokens and heads.",
}


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
        # Once a run is measured, what moved is kept, and the run, with its model, is not.
        self._looked = [SimpleNamespace(run=run, plan=run.plan, drift=None) for run in runs]

        self.run = self.control(Dropdown, "Run", self._show_measured, options=self._offered())
        self.measure = self.control(Dropdown, "Look at", self._show, options=[(w, m) for m, w in MEASURES.items()])
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
        return self._chosen and self._chosen.drift

    @property
    def code(self) -> str:
        """The calls that measure the same."""
        lines = [f"drift = ft.what_moved({self._name.format(self.run.value)})"]
        if self._training:
            plan = self._chosen.plan if self._chosen else self._training.plan
            lines.insert(0, f"run = ft.fit(base, data, ft.{plan.code()})")
        if self.group.value:
            lines.append(f"drift.layers_of({self.group.value!r})")
        return "\n".join(lines)

    @property
    def static(self) -> Record:
        """What was measured; before that the run, or what the training panel would train."""
        looked = self._chosen
        return self._training.static if looked is None else looked.drift or looked.run

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(include, exclude)
        self._show_measured()
        return bundle

    def retire(self) -> None:
        super().retire()
        self._training = None
        # A kernel keeps every widget; it should not keep the models that came by it.
        self._looked = [looked for looked in self._looked if looked.drift]
        offer(self.run, self._offered())

    @property
    def _chosen(self) -> SimpleNamespace | None:
        return None if self.run.value is None else self._looked[self.run.value]

    def _offered(self) -> list[tuple[str, int]]:
        return [(f"{n + 1}: {shorten(looked.plan.code(), 80)}", n) for n, looked in enumerate(self._looked)]

    def _trained(self, run: Run) -> None:
        """Take a run that the training panel has just finished; this is called in its thread."""
        if self._training and run:
            measured = [looked for looked in self._looked if looked.drift]
            self._looked = [*measured, SimpleNamespace(run=run, plan=run.plan, drift=None)]
            offer(self.run, self._offered(), len(self._looked) - 1)
            self._show_measured()

    def _show_measured(self) -> None:
        """Show the chosen run; if it has not been measured, that begins."""
        self._show()
        if self._chosen and not self._chosen.drift:
            self.in_thread(self._measure)

    def _measure(self) -> None:
        """Compare base and tuned model, once a run; in a thread or not, so only traits are assigned."""
        while (looked := self._chosen) and not looked.drift:  # another may be chosen meanwhile
            self.say("Comparing the tuned model with its base, text by text: a few seconds, once.")
            looked.drift, looked.run = what_moved(looked.run), None
            if looked is self._chosen:
                self._show()
                self.tell_listeners()

    def _show(self) -> None:
        """Draw the stack, and the layers of the chosen group."""
        looked = self._chosen
        drift = looked and looked.drift
        groups = [group for group in drift.groups["group"] if group != "head"][::-1] if drift else []
        if list(self.group.options) != groups:  # or the group that was chosen stays
            offer(self.group, groups)
        self.run.disabled, self.group.disabled = not looked, not groups
        self.show_code()
        zero, chosen = looked and looked.plan.start == "zero", self.group.value
        self._stack.value = stack(drift.groups, self.measure.value, from_zeros=zero, chosen=chosen) if drift else ""
        self._layers.value = layers(drift, chosen) if drift else ""
        if drift:
            self.say(drift.summary())
        elif not looked:
            self.say("There is no run yet. When the training panel has finished one, what it moved shows here.")


def stack(groups: pd.DataFrame, measure: str, *, from_zeros: bool, chosen: str | None = None) -> str:
    """Return the groups as a table, the head on top: a bar, the number in words, and what was planned.

    Parameters
    ----------
    groups : DataFrame
        As in a `Drift`; NaN where there is nothing to measure.
    measure : str
        A key of `MEASURES`.
    from_zeros : bool
        Whether the head started as zeros; otherwise it started as a probe.
    chosen : str, optional
        The group to mark.
    """
    groups = groups[::-1]
    of_measure = {"weights": groups["weights_moved"], "attention": groups["attention_shift"]}
    amounts = of_measure.get(measure, 1 - groups["cka"])
    # A head is new: it has no bar, since it has no length from before that one could be relative to.
    lengths = amounts.where(groups["group"] != "head", 0).fillna(0)
    told = [_told(amount, measure, planned) for amount, planned in zip(amounts, groups["planned"], strict=True)]
    if groups["group"].iloc[0] == "head" and amounts.iloc[0] > 0:
        told[0] = "new, from zeros" if from_zeros else f"{told[0]} from the probe it started as"
    names, bars, planned = groups["group"].map(escape), _bars(lengths), groups["planned"].map(escape)
    columns = [("Group", "", names), ("How far", "bar", bars), ("In numbers", "", told), ("Planned", "short", planned)]
    if measure == "representations":
        by_chance = ["" if math.isnan(cka) else _told(1 - cka, measure) for cka in groups["cka_chance"]]
        columns.append(("By chance", "n", by_chance))
    longest = f" The longest bar is {_told(lengths.max(), measure)}." if lengths.any() else ""
    caption = "The model as a stack: texts enter at the bottom, answers leave at the top"
    return f"<p>{escape(_MEANING[measure])}{longest}</p>{grid(caption, columns, list(groups['group'] == chosen))}"


def layers(drift: Drift, group: str) -> str:
    """Return how far the layers of one group went, as a table."""
    found, planned = drift.layers_of(group), drift.groups.set_index("group").loc[group, "planned"]
    told = [_told(moved, "weights", planned) for moved in found["weights_moved"]]
    bars, names, sizes = _bars(found["weights_moved"]), found["layer"].map(escape), found["n_weights"].map(count)
    how_far = [("How far its weights went", "bar", bars), ("In numbers", "", told)]
    return grid(f"The layers of {group}", [("Layer", "", names), *how_far, ("Weights", "n", sizes)])


def _told(amount: float, measure: str, planned: str = "") -> str:
    if math.isnan(amount):
        return "nothing to measure here"
    if amount == 0:
        return "exactly 0 (frozen)" if planned == "frozen" else "exactly 0"
    return f"{amount:.3g}" if measure == "representations" else f"{100 * amount:.3g} %"


def _bars(lengths: pd.Series) -> list[str]:
    return [f'<div style="width:{100 * n / lengths.max():.1f}%"></div>' if n else "" for n in lengths]
