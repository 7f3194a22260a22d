"""Labelled texts of one split as a record: texts, labels, groups, and how often they were opened for scoring."""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import field, replace

import numpy as np
import pandas as pd

from ftkit.data.lazy import READ_ROWS, kept, numbered, picked, through
from ftkit.data.splitting import first_equal, hashed, normalised, one_hot
from ftkit.display import Record, count, record, shorten

#: What labels may be: one class a text, any number of labels a text, or one grade out of a ranked few.
KINDS = ("single", "multiple", "ordered")
PARTS = ("train", "valid", "test")


@record
class Rows(Record):
    """Labelled texts of one split.

    Parameters
    ----------
    name : str
        The split: `"train"`, `"valid"`, `"test"`.
    texts : sequence of str
        One text a row, as written in the source: in memory a tuple; of a large file a `Lazy` that reads from disk.
    labels : np.ndarray
        (n,) int64 for kinds `"single"` and `"ordered"`; (n, n_labels) uint8 of 0 and 1 for `"multiple"`.
    label_names : tuple of str
        The name of each label; in rank order, lowest first, for kind `"ordered"`.
    kind : str
        `"single"`, `"multiple"` or `"ordered"`.
    groups : sequence of str, optional
        Rows of one group are near-copies of each other (one licence, one disease) and stay in one split.
    ids : sequence of str, optional
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
    groups: Sequence[str] | None = None
    ids: Sequence[str] = ()
    source: str = ""
    # One list shared by every copy that take() makes: looking at half of a test split is looking at it.
    _opened: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self) -> None:
        n = len(self.texts)
        if self.kind not in KINDS:
            raise ValueError(f"Rows.kind is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        labels = np.array(self.labels, dtype=np.uint8 if self.kind == "multiple" else np.int64)
        shape = (n, len(self.label_names)) if self.kind == "multiple" else (n,)
        if labels.shape != shape:
            raise ValueError(f"Rows.labels has the shape {labels.shape}; {n} texts of kind {self.kind} need {shape}")
        top = 2 if self.kind == "multiple" else len(self.label_names)
        if n and not (labels.min() >= 0 and labels.max() < top):
            raise ValueError(f"Rows.labels runs from {labels.min()} to {labels.max()}; it must be from 0 to {top - 1}")
        labels.flags.writeable = False
        ids = kept(self.ids) if len(self.ids) else numbered(self.name, np.arange(n))
        for key, value in (("ids", ids), ("groups", self.groups)):
            if value is not None and len(value) != n:
                raise ValueError(f"Rows.{key} has {len(value)} entries for {n} texts")
        if (again := np.flatnonzero(first_equal(hashed(ids)) != np.arange(n))).size:
            raise ValueError(f"Rows.ids must be unique; {ids[again[0]]!r} occurs twice")
        vars(self).update(texts=kept(self.texts), labels=labels, groups=kept(self.groups), ids=ids)
        vars(self)["label_names"] = tuple(self.label_names)

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

    def open(self) -> Rows:
        """Count one opening for scoring, and return these rows."""
        self._opened[0] += 1
        return self

    def take(self, indices: Sequence[int] | np.ndarray) -> Rows:
        """Return the rows at `indices` (positions, or a mask of truth values); the count of openings is shared."""
        at = np.asarray(indices)
        at = np.flatnonzero(at) if at.dtype == bool else at.astype(np.int64)
        columns = {name: picked(getattr(self, name), at) for name in ("texts", "groups", "ids")}
        return replace(self, labels=self.labels[at], **columns)

    def dealt(self, part_of: np.ndarray) -> dict[str, Rows]:
        """Return train, valid and test by name: the rows whose part, (n,), is 0, 1 and 2, none of them opened yet."""
        return {name: replace(self.take(part_of == i), name=name, _opened=[0]) for i, name in enumerate(PARTS)}

    @functools.cached_property
    def _normalised(self) -> Sequence[str]:
        # Kept, so that a search in long texts answers while one types; but not where the texts are on disk.
        return through(self.texts, lambda text, _: normalised(text))

    def where(self, *, label: str | None = None, contains: str | None = None) -> Rows:
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
                near = difflib.get_close_matches(label, self.label_names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.label_names)}"
                raise ValueError(f"there is no label {label!r}; {hint}")
            at = self.label_names.index(label)
            keep &= self.labels[:, at] > 0 if self.kind == "multiple" else self.labels == at
        if contains is not None:
            wanted = normalised(contains)
            keep &= np.fromiter((wanted in t for t in self._normalised), bool, len(self))
        return self.take(keep)

    def named_labels(self) -> list[str]:
        """Return each row's label by name; several are joined by "; "."""
        if self.kind != "multiple":
            return [self.label_names[i] for i in self.labels]
        return ["; ".join(self.label_names[j] for j in np.flatnonzero(row)) for row in self.labels]

    def head(self, n: int = 5) -> pd.DataFrame:
        """Return the first `n` rows as a table of text, label and, where there are any, group."""
        part = self.take(range(min(n, len(self))))
        columns = {"Text": [shorten(t) for t in part.texts], "Label": part.named_labels()}
        return pd.DataFrame(columns if part.groups is None else columns | {"Group": part.groups}, index=list(part.ids))

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of texts, labels and label names: equal rows, equal fingerprint."""
        # ASCII JSON, because a text may hold half a surrogate pair, which UTF-8 cannot write.
        told = hashlib.sha256(json.dumps([self.kind, self.label_names])[:-1].encode("ascii"))
        for column in (self.texts, self.labels):  # a piece at a time: the same JSON as of all at once
            for at in range(0, max(len(self), 1), READ_ROWS):
                piece = column[at : at + READ_ROWS]
                piece = json.dumps(piece.tolist() if column is self.labels else list(piece))[1:-1]
                told.update(f", {'' if at else '['}{piece}".encode("ascii"))
            told.update(b"]")
        told.update(b"]")
        return told.hexdigest()

    def summary(self) -> str:
        of = f" of {self.source}" if self.source else ""
        opened = f"opened {self.opened} time{'' if self.opened == 1 else 's'} for scoring"
        return f"{count(len(self))} {self.name} rows{of} with {self.n_labels} labels, {opened}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        return [("The first rows", self.head())]
