"""Sequences of texts that are not in memory: each is read, or made, when it is asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

#: Rows that are read at a time; few enough that a thousand words each do not count.
READ_ROWS = 256
_NEAR = 4  # one stretch of so many times the rows wanted is read sooner than those rows alone


class Lazy(Sequence):
    """Texts that are read as they are asked for; what it keeps in memory is a number for each.

    Parameters
    ----------
    read : function of an array of positions
        Returns a list of what is there.
    at : np.ndarray
        (n,) int: the positions, in the order of this sequence.

    >>> numbered("row", np.array([7, 8, 9]))[1:]
    Lazy(['row-8', 'row-9'])
    """

    def __init__(self, read: Callable[[np.ndarray], list], at: np.ndarray) -> None:
        # A tenth of a short text is saved by four bytes where eight are not needed.
        self.read, self.at = read, at.astype(np.int32 if not len(at) or at.max() < 2**31 else np.int64, copy=False)

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, which: Any) -> Any:
        """Return one for a number; for a slice, a mask or several numbers another `Lazy`."""
        if isinstance(which, int | np.integer):
            return self.read(self.at[[which]])[0]
        return Lazy(self.read, self.at[which])

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), READ_ROWS):
            yield from self.read(self.at[start : start + READ_ROWS])

    def __add__(self, other: Sequence) -> Lazy | tuple:
        """Return both, one after the other; read into memory if they do not come from one place."""
        if isinstance(other, Lazy) and other.read is self.read:
            return Lazy(self.read, np.concatenate([self.at, other.at]))
        return (*self, *other)

    def __radd__(self, other: Sequence) -> tuple:
        return (*other, *self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    def __repr__(self) -> str:
        return f"Lazy({list(self[:5])!r}{f' and {len(self) - 5} more' if len(self) > 5 else ''})"


def numbered(name: str, at: np.ndarray) -> Lazy:
    """Return `"name-7"` for each 7 in `at`."""
    return Lazy(lambda at: [f"{name}-{i}" for i in at.tolist()], at)


def of_column(column: Sequence) -> Lazy:
    """Return a column of a `datasets.Dataset`, which it maps from disk; read row by row it is thirty times slower."""

    def read(at: np.ndarray) -> list:
        first, end = int(at.min()), int(at.max()) + 1
        if end - first > _NEAR * len(at):
            return column[at]
        near = column[first:end]
        return [near[i] for i in (at - first).tolist()]

    return Lazy(read, np.arange(len(column)))


def through(values: Sequence, change: Callable[[Any, int], Any]) -> list | Lazy:
    """Return the values, each changed by a function of it and of its position; lazily if they are lazy."""
    if not isinstance(values, Lazy):
        return [change(value, i) for i, value in enumerate(values)]
    return Lazy(lambda at: [change(v, i) for v, i in zip(values.read(at), at.tolist(), strict=True)], values.at)


def kept(values: Sequence | None) -> tuple | Lazy | None:
    """Return values as a tuple, but leave those on disk that are there; None stays None."""
    if hasattr(values, "column_name"):  # a column of a datasets.Dataset
        return of_column(values)
    return values if values is None or isinstance(values, Lazy) else tuple(values)


def picked(values: Sequence | None, at: np.ndarray) -> tuple | Lazy | None:
    """Return the values at some positions, (n,) int; None stays None."""
    return values[at] if isinstance(values, Lazy) else values and tuple(values[i] for i in at)
