"""A model as a stack, and how far each part of it went: tables with bars, as HTML."""

from __future__ import annotations

import math

import pandas as pd

from ftkit.display import count, escape
from ftkit.drift import Drift
from ftkit.widgets.grid import grid

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
    amounts = {
        "weights": groups["weights_moved"],
        "representations": 1 - groups["cka"],
        "attention": groups["attention_shift"],
    }[measure]
    # A head is new: it has no bar, since it has no length from before that one could be relative to.
    lengths = amounts.where(groups["group"] != "head", 0).fillna(0)
    columns = {"Group": "", "How far": "bar", "In numbers": "", "Planned": "short"}
    rows = []
    for row, amount, length in zip(groups.itertuples(), amounts, lengths, strict=True):
        told = _told(amount, measure, row.planned)
        if row.group == "head" and amount > 0:
            told = "new, from zeros" if from_zeros else f"{told} from the probe it started as"
        rows.append([escape(row.group), _bar(length, lengths.max()), told, escape(row.planned)])
    if measure == "representations":
        columns["By chance"] = "n"
        for row, chance in zip(rows, groups["cka_chance"], strict=True):
            row.append("" if math.isnan(chance) else _told(1 - chance, measure))
    longest = f" The longest bar is {_told(lengths.max(), measure)}." if lengths.any() else ""
    caption = "The model as a stack: texts enter at the bottom, answers leave at the top"
    marked = list(groups["group"] == chosen)
    return f"<p>{escape(_MEANING[measure])}{longest}</p>{grid(caption, columns, rows, marked)}"


def layers(drift: Drift, group: str) -> str:
    """Return how far the layers of one group went, as a table."""
    found, planned = drift.layers_of(group), drift.groups.set_index("group").loc[group, "planned"]
    longest = found["weights_moved"].max()
    rows = [
        (escape(layer), _bar(moved, longest), _told(moved, "weights", planned), count(n))
        for layer, moved, n in zip(found["layer"], found["weights_moved"], found["n_weights"], strict=True)
    ]
    columns = {"Layer": "", "How far its weights went": "bar", "In numbers": "", "Weights": "n"}
    return grid(f"The layers of {group}", columns, rows)


def _told(amount: float, measure: str, planned: str = "") -> str:
    if math.isnan(amount):
        return "nothing to measure here"
    if amount == 0:
        return "exactly 0 (frozen)" if planned == "frozen" else "exactly 0"
    return f"{amount:.3g}" if measure == "representations" else f"{100 * amount:.3g} %"


def _bar(length: float, longest: float) -> str:
    return f'<div style="width:{100 * length / longest:.1f}%"></div>' if length else ""
