"""Rows inside and outside the kind of text that a model was tuned on: official descriptions, and other wordings."""

from dataclasses import replace

import numpy as np
import pandas as pd

from ftkit.data.rows import Rows
from ftkit.data.sets import parse
from ftkit.data.splits import Splits
from ftkit.display import Record, count

_SET = "health/diagnoses"


class Shift(Record):
    """What to tune on, and two kinds of rows to score on: the same kind of text, and another.

    Parameters
    ----------
    data : Splits
        Train and valid hold one kind of text only; test is as it was, and closed.
    inside : Rows
        The kind of text that is tuned on, from groups that are not in train.
    outside : Rows
        Another kind of text, from the same groups as `inside`.
    """

    data: Splits
    inside: Rows
    outside: Rows

    def summary(self) -> str:
        train, inside, outside = (count(len(rows)) for rows in (self.data.train, self.inside, self.outside))
        scored = f"{inside} of the same kind (inside) and {outside} of another (outside)"
        return f"{train} rows to tune on; to score on, {scored}, all of groups that train does not have."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        parts = (self.inside, self.outside)
        spread = [rows.take(np.unique(np.linspace(0, len(rows) - 1, 6).astype(int)[1:])).head() for rows in parts]
        return list(zip(("Inside, five of the rows", "Outside, five of the rows"), spread, strict=True))


def other_wordings(data: Splits, *, n: int = 600) -> Shift:
    """Split `health/diagnoses` by who worded it: official descriptions inside, the other listed wordings outside.

    The classification lists other wordings beneath a code, such as "Foville syndrome". Inside and outside are drawn
    from the full list, out of the disease categories of `data.valid`: none of them is in train or in test.

    Parameters
    ----------
    data : Splits
        What `load_data("health/diagnoses", ...)` returned.
    n : int
        Rows inside and outside, at most, spread over the list.

    Raises
    ------
    ValueError
        If the data are another set.
    """
    if data.train.source != _SET or data.valid.groups is None:
        raise ValueError(f"data is {data.name!r}; other_wordings() reads the full list of {_SET!r}")

    def other(rows: Rows) -> np.ndarray:
        return np.array(["#" in i for i in rows.ids])  # a code is a description; code, '#', number: another wording

    train, valid = (part.take(~other(part)) for part in (data.train, data.valid))
    every = parse(_SET)
    unseen = np.isin(np.array(every.groups), sorted(set(data.valid.groups)))
    parts = {}
    for name, worded in (("inside", ~other(every)), ("outside", other(every))):
        at = np.flatnonzero(unseen & worded)
        parts[name] = replace(every.take(at[np.linspace(0, len(at) - 1, min(n, len(at))).astype(int)]), name=name)
    return Shift(data=replace(data, train=train, valid=valid), **parts)
