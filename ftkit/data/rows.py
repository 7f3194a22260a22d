"""Labelled texts of one split as a record: texts, labels, groups, and how often they were opened for scoring."""

import functools
import hashlib
import json
import operator
from collections.abc import Sequence
from dataclasses import field, replace

import numpy as np
import pandas as pd

from ftkit.data.repair import did_you_mean, readable
from ftkit.data.splitting import normalised, one_hot
from ftkit.display import Record, count, shorten

#: What labels may be: one class a text, any number of labels a text, or one grade out of a ranked few.
KINDS = ("single", "multiple", "ordered")
PARTS = ("train", "valid", "test")


class LazyTexts(Sequence):
    """Texts that are not kept: each is read from an Arrow column, and made readable, when it is asked for.

    Columns of Parquet, Arrow and saved Datasets are mapped from disk, so that they may be larger than the memory.

    Parameters
    ----------
    cells : pandas.arrays.ArrowExtensionArray
        The whole column, as `files.read` returns it; cells at `at` hold texts.
    at : np.ndarray
        (n,) int: the cells, in the order of this sequence.

    >>> texts = LazyTexts(pd.array(["a", "b", "c"], dtype="string[pyarrow]"), np.array([2, 0]))
    >>> texts[0], list(texts), texts[:1] == ("c",), texts[np.array([False, True])]
    ('c', ['c', 'a'], True, <1 text, read when asked for>)
    """

    def __init__(self, cells: Sequence, at: np.ndarray) -> None:
        self._cells, self._at = cells, at

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, which: int | slice | Sequence[int] | np.ndarray) -> "LazyTexts | str":
        at = self._at[which]
        return LazyTexts(self._cells, at) if isinstance(at, np.ndarray) else readable(self._cells[at])

    def __add__(self, other: Sequence[str]) -> "LazyTexts | tuple[str, ...]":
        if isinstance(other, LazyTexts) and other._cells is self._cells:
            return LazyTexts(self._cells, np.concatenate([self._at, other._at]))
        return (*self, *other) if len(other) else self

    def __radd__(self, other: Sequence[str]) -> "LazyTexts | tuple[str, ...]":
        return (*other, *self) if len(other) else self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(operator.eq, self, other))

    def __repr__(self) -> str:
        return f"<{count(len(self))} text{'s' if len(self) != 1 else ''}, read when asked for>"


class Rows(Record):
    """Labelled texts of one split.

    Parameters
    ----------
    name : str
        The split: `"train"`, `"valid"`, `"test"`.
    texts : tuple of str, or LazyTexts
        One text a row, as written in the source.
    labels : np.ndarray
        (n,) int64 for kinds `"single"` and `"ordered"`; (n, n_labels) uint8 of 0 and 1 for `"multiple"`.
    label_names : tuple of str
        The name of each label; in rank order, lowest first, for kind `"ordered"`.
    kind : str
        `"single"`, `"multiple"` or `"ordered"`.
    groups : tuple of str, optional
        Rows of one group are near-copies of each other (one licence, one disease) and stay in one split.
    ids : tuple of str, optional
        A name for each row, unique; numbered by default.
    source : str
        The name of the data set.

    Raises
    ------
    ValueError
        If lengths, kinds or label values disagree.

    >>> rows = Rows(name="train", texts=("good", "bad"), labels=[1, 0], label_names=("no", "yes"))
    >>> len(rows), rows.take([0]).texts, rows.named_labels()
    (2, ('good',), ['yes', 'no'])
    """

    name: str
    texts: Sequence[str]
    labels: np.ndarray
    label_names: tuple[str, ...]
    kind: str = "single"
    groups: tuple[str, ...] | None = None
    ids: tuple[str, ...] = ()
    source: str = ""
    # One list shared by every copy that take() makes: looking at half of a test split is looking at it.
    _opened: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self) -> None:
        texts = self.texts if isinstance(self.texts, LazyTexts) else tuple(self.texts)
        names = tuple(self.label_names)
        n, several = len(texts), self.kind == "multiple"
        if self.kind not in KINDS:
            raise ValueError(f"Rows.kind is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        labels = np.array(self.labels, dtype=np.uint8 if several else np.int64)
        shape, top = ((n, len(names)), 2) if several else ((n,), len(names))
        if labels.shape != shape:
            raise ValueError(f"Rows.labels has the shape {labels.shape}; {n} texts of kind {self.kind} need {shape}")
        if n and not (labels.min() >= 0 and labels.max() < top):
            raise ValueError(f"Rows.labels runs from {labels.min()} to {labels.max()}; it must be from 0 to {top - 1}")
        labels.flags.writeable = False
        ids = tuple(self.ids) or tuple(f"{self.name}-{i}" for i in range(n))
        groups = None if self.groups is None else tuple(self.groups)
        for key, value in (("ids", ids), ("groups", groups)):
            if value is not None and len(value) != n:
                raise ValueError(f"Rows.{key} has {len(value)} entries for {n} texts")
        if len(set(ids)) != n:
            raise ValueError(f"Rows.ids must be unique; {pd.Series(ids).mode()[0]!r} occurs twice")
        vars(self).update(texts=texts, labels=labels, label_names=names, groups=groups, ids=ids)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def n_labels(self) -> int:
        """How many labels there are to choose from."""
        return len(self.label_names)

    @property
    def counts(self) -> np.ndarray:
        """Rows of each label, (n_labels,) int64."""
        return one_hot(self.labels, self.n_labels).sum(0, dtype=np.int64)

    @property
    def opened(self) -> int:
        """How often these rows, or a part of them, were opened for scoring."""
        return self._opened[0]

    def open(self) -> "Rows":
        """Count one opening for scoring, and return these rows."""
        self._opened[0] += 1
        return self

    def take(self, indices: Sequence[int] | np.ndarray) -> "Rows":
        """Return the rows at `indices` (positions, or a mask of truth values); the count of openings is shared."""
        at = np.arange(len(self))[list(indices)]
        texts = self.texts[at] if isinstance(self.texts, LazyTexts) else [self.texts[i] for i in at]
        groups = self.groups and [self.groups[i] for i in at]
        return replace(self, texts=texts, labels=self.labels[at], groups=groups, ids=[self.ids[i] for i in at])

    def dealt(self, part_of: np.ndarray) -> dict[str, "Rows"]:
        """Return train, valid and test by name: the rows whose part, (n,), is 0, 1 and 2, none of them opened yet."""
        return {name: replace(self.take(part_of == i), name=name, _opened=[0]) for i, name in enumerate(PARTS)}

    @functools.cached_property
    def _normalised(self) -> tuple[str, ...]:
        # Kept, so that a search in long texts answers while one types.
        return tuple(map(normalised, self.texts))

    def where(self, *, label: str | None = None, contains: str | None = None) -> "Rows":
        """Return the rows with a label, with a piece of text, or with both.

        Parameters
        ----------
        label : str, optional
            The name of a label; of kind "multiple", rows that have it among others count.
        contains : str, optional
            A piece of text; case and runs of white space do not matter.

        Raises
        ------
        ValueError
            If there is no label of that name.

        >>> rows = Rows(name="train", texts=("Good tea", "Bad tea"), labels=[1, 0], label_names=("no", "yes"))
        >>> rows.where(label="no").texts, rows.where(contains="TEA", label="yes").texts
        (('Bad tea',), ('Good tea',))
        """
        keep = np.ones(len(self), dtype=bool)
        if label is not None:
            if label not in self.label_names:
                hint = did_you_mean(label, self.label_names, f"there are {', '.join(self.label_names)}")
                raise ValueError(f"there is no label {label!r}; {hint}")
            keep &= one_hot(self.labels, self.n_labels)[:, self.label_names.index(label)] > 0
        if contains is not None:
            wanted, lazy = normalised(contains), isinstance(self.texts, LazyTexts)
            texts = map(normalised, self.texts) if lazy else self._normalised
            keep &= np.array([wanted in t for t in texts], dtype=bool)
        return self.take(keep)

    def named_labels(self) -> list[str]:
        """Return each row's label by name; several are joined by "; "."""
        if self.kind != "multiple":
            return [self.label_names[i] for i in self.labels]
        return ["; ".join(self.label_names[i] for i in np.flatnonzero(row)) for row in self.labels]

    def head(self, n: int = 5) -> pd.DataFrame:
        """Return the first `n` rows as a table of text, label and, where there are any, group."""
        part = self.take(range(min(n, len(self))))
        columns = {"Text": map(shorten, part.texts), "Label": part.named_labels()}
        return pd.DataFrame(columns if part.groups is None else columns | {"Group": part.groups}, index=list(part.ids))

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of texts, labels and label names: equal rows, equal fingerprint."""
        # ASCII JSON, because a text may hold half a surrogate pair, which UTF-8 cannot write; and one text at a time,
        # because all of them may be more than the memory holds.
        content = hashlib.sha256(json.dumps([self.kind, self.label_names])[:-1].encode("ascii"))
        for i, text in enumerate(self.texts):
            content.update(f", {'' if i else '['}{json.dumps(text)}".encode("ascii"))
        content.update(f"{']' if len(self) else ', []'}, {json.dumps(self.labels.tolist())}]".encode("ascii"))
        return content.hexdigest()

    def summary(self) -> str:
        of = f" of {self.source}" if self.source else ""
        opened = f"opened {self.opened} time{'' if self.opened == 1 else 's'} for scoring"
        return f"{count(len(self))} {self.name} rows{of} with {self.n_labels} labels, {opened}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        return [("The first rows", self.head())]
