"""`load_data`: one front door for named sets and for a learner's own data."""

from __future__ import annotations

import csv
import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftkit import sources
from ftkit.data import columns, files, repair
from ftkit.data.cards import Card, data_sets
from ftkit.data.rows import KINDS, PARTS, Rows
from ftkit.data.sets import parse
from ftkit.data.splits import Splits
from ftkit.data.splitting import allocate, normalised, one_hot, units
from ftkit.display import count, shorten
from ftkit.findings import Finding, FtkitError

_RANK = {"train": 0, "valid": 1, "test": 2, "all": 3}


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
) -> Splits:
    """Return labelled texts, checked, mended and split so that no text and no group is in two splits.

    Parameters
    ----------
    source : str, Path, DataFrame, list, datasets.Dataset or DatasetDict
        A name that `data_sets()` lists; a CSV, TSV, JSON, JSONL, Excel or Parquet file; a table; or a list of
        (text, label) pairs. The splits of a DatasetDict are kept.
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

    Raises
    ------
    FtkitError
        FT001 to FT026: one sentence on what was expected, what was found, where, and what to do.

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
        table = _Table(source, wanted, several=kind == "multiple")
        rows, given = table.rows(kind, order, name or table.where)
        parts = _parts(rows, given, split, seed)
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


def _parts(rows: Rows, given: Sequence[str], split: Sequence[float], seed: int) -> dict[str, Rows]:
    """Cut the rows, keeping the splits that they came with and taking only those that are missing out of train."""
    part_of = np.array([0 if part == "all" else PARTS.index(part) for part in given])
    missing = [0, *(i for i in (1, 2) if not (part_of == i).any())]
    own = np.flatnonzero(part_of == 0)
    if len(missing) > 1:
        train, shares = rows.take(own), np.array([split[i] for i in missing])
        unit, wanted = units(train.texts, train.groups), one_hot(train.labels, rows.n_labels)
        part_of[own] = np.array(missing)[allocate(wanted, unit, shares / shares.sum(), seed)]
    return rows.dealt(part_of)


class _Table:
    """A learner's rows on their way to `Rows`: as they were read, mended; then those that can be split are kept.

    Parameters
    ----------
    source : object
        What `load_data` was given.
    wanted : mapping of str to str or None
        The columns that were asked for.
    several : bool
        Whether a row may have any number of labels.
    """

    def __init__(self, source: Any, wanted: Mapping[str, str | None], *, several: bool) -> None:
        tables, where, self.findings = files.read(source)
        self.where = where
        if (n_rows := sum(map(len, tables.values()))) < 3:
            rows = "1 row" if n_rows == 1 else f"{n_rows} rows"
            raise FtkitError("FT009", f"{where} has {rows} below its header; expected at least 3; add rows.")
        cells: dict[str, list[Any]] = {"text": [], "label": [], "group": []}
        self.given: list[str] = []  # the split that each row came with
        for part, table in tables.items():
            table, chosen, notes = columns.choose(table, where, wanted)
            self.findings += [f for f in notes if f.message not in {g.message for g in self.findings}]
            for role, column in chosen.items():
                cells[role] += table[column].tolist()
            self.given += [part] * len(table)
        named = {role: f"{where}, column {column!r}" for role, column in chosen.items()}
        self.column, self.groups = named["label"], None
        self.texts, notes = repair.texts(cells["text"], named["text"])
        self.labels, more = repair.labels(cells["label"], named["label"], several=several)
        self.findings += notes + more
        if "group" in chosen:
            alone = [i for i, g in enumerate(cells["group"], start=1) if repair.is_missing(g)]
            self.findings += repair.findings({"FT024": alone}, named["group"])
            self.groups = [str(g).strip() for g in cells["group"]]
            for i in alone:
                self.groups[i - 1] = f"row {i}"
        told = zip(self.texts, self.labels, strict=True)
        self.keep = [i for i, (text, names) in enumerate(told) if text is not None and names is not None]

    def kept(self, values: Sequence[Any] | None) -> tuple | None:
        """Return the values of the rows that are kept; None stays None."""
        return None if values is None else tuple(values[i] for i in self.keep)

    def drop(self, rows: Sequence[int], code: str, before: str, after: str = "") -> None:
        """Drop rows, if there are any, and say so."""
        if rows:
            gone, told = set(rows), repair.numbered([i + 1 for i in rows])
            self.keep = [i for i in self.keep if i not in gone]
            self.findings.append(Finding(code=code, message=f"{self.where}: {before} {told}{after}."))

    def drop_repeats(self) -> None:
        """Keep the first of equal texts in each given split; drop a text altogether if its labels contradict."""
        key, meanings = {i: normalised(self.texts[i]) for i in self.keep}, defaultdict(set)
        for i in self.keep:
            meanings[key[i]].add(self.labels[i])
        if torn := [i for i in self.keep if len(meanings[key[i]]) > 1]:
            others = " and others" if len({key[i] for i in torn}) > 1 else ""
            self.drop(torn, "FT020", f"{shorten(self.texts[torn[0]], 50)!r}{others} had different labels; dropped")
        first: dict[tuple[str, str], int] = {}
        repeats = [i for i in self.keep if first.setdefault((self.given[i], key[i]), i) != i]
        self.drop(repeats, "FT019", "dropped repeated texts in")

    def drop_leaks(self) -> None:
        """Drop rows whose text or group is in another given split too: test keeps its rows, then valid, then train."""
        unit = units(self.kept(self.texts), self.kept(self.groups)).tolist()
        latest: dict[int, int] = {}
        for i, u in zip(self.keep, unit, strict=True):
            latest[u] = max(latest.get(u, 0), _RANK[self.given[i]])
        leaks = [i for i, u in zip(self.keep, unit, strict=True) if _RANK[self.given[i]] < latest[u]]
        self.drop(leaks, "FT021", "dropped", ", counted through all splits")

    def drop_small(self, *, several: bool) -> None:
        """Drop labels that cannot be in all three splits, and fail if fewer than two remain."""
        places: dict[str, set[int]] = defaultdict(set)
        for i, u in zip(self.keep, units(self.kept(self.texts), self.kept(self.groups)).tolist(), strict=True):
            for label in self.labels[i]:
                places[label].add(u)
        small = sorted(label for label, at in places.items() if len(at) < 3)
        if len(places) - len(small) < 2:
            found = ", ".join(f"{label!r} ({len(at)})" for label, at in sorted(places.items())[:5]) or "none"
            least = f"at least 3 different {'groups' if self.groups else 'texts'} each"
            told = f"expected two or more classes with {least}, found {found}; add rows, or name another column"
            raise FtkitError("FT017", f"{self.column}: {told} by label=.")
        if small:
            names = ", ".join(map(repr, small[:5])) + (f" and {count(len(small) - 5)} more" if len(small) > 5 else "")
            self.findings.append(Finding(code="FT016", message=f"{self.column}: dropped the label {names}."))
        gone = set(small)
        self.labels = [names and tuple(n for n in names if n not in gone) for names in self.labels]
        self.keep = [i for i in self.keep if self.labels[i] or several]

    def rows(self, kind: str, order: Sequence[Any] | None, source: str) -> tuple[Rows, tuple[str, ...]]:
        """Return what can be split, and the split that each row came with."""
        several = kind == "multiple"
        self.drop_repeats()
        self.drop_leaks()
        self.drop_small(several=several)
        labels = self.kept(self.labels)
        present = {name for names in labels for name in names}
        ordered = kind == "ordered"
        label_names = repair.ranked(present, order, self.column) if ordered else repair.sorted_names(present)
        coded = np.array([[name in names for name in label_names] for names in labels], dtype=np.uint8)
        rows = Rows(
            name="all",
            texts=self.kept(self.texts),
            labels=coded if several else coded.argmax(1),
            label_names=label_names,
            kind=kind,
            groups=self.kept(self.groups),
            ids=tuple(f"row-{i + 1}" for i in self.keep),
            source=source,
        )
        return rows, self.kept(self.given)

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
