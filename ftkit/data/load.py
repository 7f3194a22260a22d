"""`load_data`: one front door for named sets and for a learner's own data."""

from __future__ import annotations

import csv
import difflib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftkit import sources
from ftkit.data import columns, files, repair
from ftkit.data.cards import Card, data_sets
from ftkit.data.lazy import numbered, picked, through
from ftkit.data.rows import KINDS, PARTS, Rows
from ftkit.data.sets import parse
from ftkit.data.splits import Splits
from ftkit.data.splitting import allocate, first_equal, hashed, joined, normalised, one_hot, units
from ftkit.display import count, shorten
from ftkit.findings import Finding, FtkitError


def load_data(
    source: Any,
    *,
    text: str | None = None,
    label: str | None = None,
    group: str | None = None,
    kind: str = "single",
    order: Sequence[Any] | None = None,
    name: str | None = None,
    per_class: int | None = None,
    draw: int = 0,
    seed: int = 0,
    split: tuple[float, float, float] = (0.7, 0.1, 0.2),
    stream: bool | None = None,
) -> Splits:
    """Return labelled texts, checked, mended and split so that no text and no group is in two splits.

    Parameters
    ----------
    source : str, Path, DataFrame, list, datasets.Dataset or DatasetDict
        A name that `data_sets()` lists; a CSV, TSV, JSON, JSONL, Excel, Parquet or Arrow file; a folder of Parquet or
        Arrow files; a table; or a list of (text, label) pairs. The splits of a DatasetDict are kept, and of files in
        a folder if they are named after them.
    text, label : str, optional
        The columns of your own data; looked for by usual names when None.
    group : str, optional
        A column whose equal values must stay in one split: the patient, the customer, the contract.
    kind : str
        `"single"`, `"multiple"` (labels as lists, or separated by ";" or "|") or `"ordered"`.
    order : sequence, optional
        The labels of kind `"ordered"` from lowest to highest; numbers need none.
    name : str, optional
        What to call your own data.
    per_class : int, optional
        At most so many train rows a class, 1 or more; valid shrinks in proportion (5 a class at least), test stays.
    draw : int
        Which fixed draw of a set that has them (0, 1 or 2 for `health/diagnoses`).
    seed : int
        Decides the split and which rows `per_class` keeps.
    split : tuple of three floats
        The shares of train, valid and test; they sum to 1. Sets with fixed draws have their own.
    stream : bool, optional
        Whether the texts stay on disk, and memory hardly grows with the rows: for Parquet and Arrow. They do by
        default in files of more than 50 MB. The splits are the same either way.

    Raises
    ------
    FtkitError
        FT001 to FT044: one sentence on what was expected, what was found, where, and what to do.

    >>> pairs = [(f"{word} {i}", word) for word in ("good", "bad") for i in range(10)]
    >>> load_data(pairs, name="words").summary()
    'words: 14 train, 2 valid and 4 test rows in 2 classes.'
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}")
    if len(split) != 3 or min(split) <= 0 or abs(sum(split) - 1) > 1e-6:
        raise ValueError(f"split is {split!r}; it must be three shares above 0 that sum to 1")
    shelf, wanted = data_sets(), {"text": text, "label": label, "group": group}
    if isinstance(source, str) and source in shelf:
        if any(wanted.values()) or order is not None or kind != "single":
            raise ValueError(f"{source!r} has its own columns; text, label, group, kind, order are for your own data")
        found = {"name": source, "card": shelf[source], **_named(shelf[source], draw, seed, split)}
    else:
        if isinstance(source, str) and "." not in Path(source).name and not Path(source).expanduser().exists():
            near = difflib.get_close_matches(source, shelf, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(shelf)}."
            raise FtkitError("FT023", f"There is neither a data set nor a file named {source!r}; {hint}")
        table = _Table(source, wanted, several=kind == "multiple", stream=stream)
        rows = table.rows(kind, order, name or table.where)
        parts = table.parts(rows, split, seed)
        table.look_at(parts)
        found = {"name": rows.source, "findings": tuple(table.findings), **parts}
    splits = Splits(seed=seed, **found)
    return splits if per_class is None else splits.limit(per_class, seed)


def _named(card: Card, draw: int, seed: int, split: Sequence[float]) -> dict[str, Rows]:
    rows = parse(card.name)
    if card.draws == 0:
        return rows.dealt(allocate(one_hot(rows.labels, rows.n_labels), units(rows.texts, rows.groups), split, seed))
    if not 0 <= draw < card.draws:
        raise ValueError(f"draw is {draw}; {card.name} has the draws 0 to {card.draws - 1}")
    index = sources.data_root() / "indices" / f"{card.name.replace('/', '-')}-{draw}.csv"
    place = {row_id: i for i, row_id in enumerate(rows.ids)}
    with index.open(encoding="utf-8", newline="") as lines:
        drawn = np.array([(place[row["id"]], PARTS.index(row["split"])) for row in csv.DictReader(lines)])
    return rows.take(drawn[:, 0]).dealt(drawn[:, 1])


class _Table:
    """A learner's rows on their way to `Rows`: as they were read, mended; then those that can be split are kept.

    What is compared is held as numbers, eight to sixteen bytes a row; the texts themselves may stay on disk.

    Parameters
    ----------
    source : object
        What `load_data` was given.
    wanted : mapping of str to str or None
        The columns that were asked for.
    several : bool
        Whether a row may have any number of labels.
    stream : bool, optional
        Whether the texts stay on disk.
    """

    def __init__(self, source: Any, wanted: Mapping[str, str | None], *, several: bool, stream: bool | None) -> None:
        table, self.given, on_disk, self.where, self.findings = files.read(source, stream)
        if len(self.given) < 3:
            rows = "1 row" if len(self.given) == 1 else f"{len(self.given)} rows"
            raise FtkitError("FT009", f"{self.where} has {rows} below its header; expected at least 3; add rows.")
        header = table.columns if hasattr(table, "columns") else table.column_names
        at, chosen, notes = columns.choose(header, self.where, wanted)
        self.findings += notes
        cells = {role: files.cells(table, k, on_disk=on_disk) for role, k in at.items()}
        titles = {role: f"{self.where}, column {column!r}" for role, column in chosen.items()}
        self.column = titles["label"]
        self.texts = through(cells["text"], lambda value, _: repair.mended(value))
        # No text has a capital once it is normalised, so "A" can stand for none at all.
        texts = repair.texts(cells["text"], titles["text"], self.findings)
        self.text = hashed("A" if t is None else normalised(t) for t in texts)
        self.labels, self.names, named = repair.labels(cells["label"], self.column, self.findings, several=several)
        self.keep = np.flatnonzero((self.text != hashed("A")).any(axis=1) & named)
        self.groups = self.group = None
        if "group" in cells:
            alone = {"FT024": array("q", (i for i, g in enumerate(cells["group"], start=1) if repair.is_missing(g)))}
            self.findings += repair.findings(alone, titles["group"])
            self.groups = through(cells["group"], _group)
            self.group = hashed(self.groups)

    def units(self, rows: np.ndarray) -> np.ndarray:
        """Return the unit of each of some rows, see `splitting.units`."""
        return joined(self.text[rows], None if self.group is None else self.group[rows])

    def drop(self, rows: np.ndarray, code: str, before: str, after: str = "") -> None:
        """Drop rows, if there are any, and say so."""
        if len(rows):
            self.keep, told = np.setdiff1d(self.keep, rows), repair.numbered(rows + 1)
            self.findings.append(Finding(code=code, message=f"{self.where}: {before} {told}{after}."))

    def drop_repeats(self) -> None:
        """Keep the first of equal texts in each given split; drop a text altogether if its labels contradict."""
        text, labels = first_equal(self.text[self.keep]), self.labels[self.keep]
        # A random number for each label: sets of labels are equal if their sums are, but for a chance of 1 in 2 ** 63.
        meaning = labels @ np.random.default_rng(0).integers(2**63, size=labels.shape[1])
        if len(torn := np.flatnonzero(np.isin(text, text[meaning != meaning[text]]))):
            others = " and others" if len(set(text[torn])) > 1 else ""
            what = f"{shorten(self.texts[self.keep[torn[0]]], 50)!r}{others} had different labels; dropped"
            self.drop(self.keep[torn], "FT020", what)
        first = first_equal(np.column_stack([self.given[self.keep], self.text[self.keep]]))
        self.drop(self.keep[first != np.arange(len(first))], "FT019", "dropped repeated texts in")

    def drop_leaks(self) -> None:
        """Drop rows whose text or group is in another given split too: test keeps its rows, then valid, then train."""
        unit, given = self.units(self.keep), self.given[self.keep]
        latest = np.zeros(len(unit), dtype=np.int64)
        np.maximum.at(latest, unit, given)
        self.drop(self.keep[given < latest[unit]], "FT021", "dropped", ", counted through all splits")

    def drop_small(self, *, several: bool) -> None:
        """Drop labels that cannot be in all three splits, and fail if fewer than two remain."""
        unit, labels = self.units(self.keep), self.labels[self.keep].tocoo()
        n_labels = len(self.names)
        pairs = np.unique(unit[labels.row] * n_labels + labels.col)  # a unit and a label
        places = np.bincount(pairs % n_labels, minlength=n_labels)
        small = self.names[(places > 0) & (places < 3)].tolist()
        if (places >= 3).sum() < 2:
            there = [f"{name!r} ({n})" for name, n in zip(self.names, places, strict=True) if n]
            least = f"at least 3 different {'texts' if self.groups is None else 'groups'} each"
            told = f"expected two or more classes with {least}, found {', '.join(there[:5]) or 'none'}"
            raise FtkitError("FT017", f"{self.column}: {told}; add rows, or name another column by label=.")
        if small:
            names = ", ".join(map(repr, small[:5])) + (f" and {count(len(small) - 5)} more" if len(small) > 5 else "")
            self.findings.append(Finding(code="FT016", message=f"{self.column}: dropped the label {names}."))
        self.labels, self.names = self.labels[:, places >= 3], self.names[places >= 3]
        if not several:
            self.keep = self.keep[np.diff(self.labels.indptr)[self.keep] > 0]

    def rows(self, kind: str, order: Sequence[Any] | None, source: str) -> Rows:
        """Return what can be split."""
        self.drop_repeats()
        self.drop_leaks()
        self.drop_small(several=kind == "multiple")
        place = {name: i for i, name in enumerate(self.names)}
        names = repair.ranked(set(place), order, self.column) if kind == "ordered" else repair.sorted_names(set(place))
        labels = self.labels[self.keep][:, [place[name] for name in names]]
        return Rows(
            name="all",
            texts=picked(self.texts, self.keep),
            labels=labels.toarray() if kind == "multiple" else labels.indices,
            label_names=names,
            kind=kind,
            groups=picked(self.groups, self.keep),
            ids=numbered("row", self.keep + 1),
            source=source,
        )

    def parts(self, rows: Rows, split: Sequence[float], seed: int) -> dict[str, Rows]:
        """Cut the rows, keeping the splits that they came with and taking only those that are missing out of train."""
        part_of = self.given[self.keep]
        missing = [0, *(i for i in (1, 2) if not (part_of == i).any())]
        if len(missing) > 1:
            own, shares = np.flatnonzero(part_of == 0), np.array([split[i] for i in missing])
            wanted = one_hot(rows.labels[own], rows.n_labels)
            part_of[own] = np.array(missing)[allocate(wanted, self.units(self.keep[own]), shares / shares.sum(), seed)]
        return rows.dealt(part_of)

    def look_at(self, parts: Mapping[str, Rows]) -> None:
        """Fail if a split is empty, and say so if one lacks a label."""
        for name, part in parts.items():
            if not len(part):
                told = f"{self.where} leaves no rows for {name}; add rows, or groups to choose from."
                raise FtkitError("FT009", told)
            if part.counts.min() == 0:
                lacking = ", ".join(repr(part.label_names[j]) for j in np.flatnonzero(part.counts == 0)[:5])
                told = f"{self.where}: {name} has no row with the label {lacking}."
                self.findings.append(Finding(code="FT027", message=told))


def _group(value: Any, i: int) -> str:
    return f"row {i + 1}" if repair.is_missing(value) else str(value).strip()
