"""`load_data`: one front door for named sets and for a learner's own data."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ftkit import sources
from ftkit.data import columns, files, repair
from ftkit.data.cards import Card, data_sets
from ftkit.data.rows import KINDS, Rows
from ftkit.data.sets import parse
from ftkit.data.splits import Splits
from ftkit.data.splitting import allocate, normalised, one_hot, units
from ftkit.display import count, shorten
from ftkit.findings import Finding, FtkitError

_NAMES = ("train", "valid", "test")


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
    shelf = data_sets()
    if isinstance(source, str) and source in shelf:
        if (text, label, group, order, kind) != (None, None, None, None, "single"):
            raise ValueError(f"{source!r} has its own columns; text, label, group, kind, order are for your own data")
        splits = _named(shelf[source], draw, seed, split)
    else:
        if isinstance(source, str) and "." not in Path(source).name and not Path(source).expanduser().exists():
            near = difflib.get_close_matches(source, shelf, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(shelf)}."
            raise FtkitError("FT023", f"There is neither a data set nor a file named {source!r}; {hint}")
        splits = _own(source, text, label, group, kind, order, name, seed, split)
    return splits if per_class is None else splits.limit(per_class, seed)


def _named(card: Card, draw: int, seed: int, split: Sequence[float]) -> Splits:
    rows = parse(card.name)
    if card.draws == 0:
        return Splits(name=card.name, card=card, seed=seed, **_cut(rows, split, seed))
    if not 0 <= draw < card.draws:
        raise ValueError(f"draw is {draw}; {card.name} has the draws 0 to {card.draws - 1}")
    index = sources.data_root() / "indices" / f"{card.name.replace('/', '-')}-{draw}.csv"
    place = {row_id: i for i, row_id in enumerate(rows.ids)}
    chosen: dict[str, list[int]] = {part: [] for part in _NAMES}
    with index.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            chosen[row["split"]].append(place[row["id"]])
    return Splits(name=card.name, card=card, seed=seed, **{k: _part(rows, k, at) for k, at in chosen.items()})


def _cut(rows: Rows, split: Sequence[float], seed: int) -> dict[str, Rows]:
    part = allocate(one_hot(rows.labels, rows.n_labels), units(rows.texts, rows.groups), split, seed)
    return {name: _part(rows, name, np.flatnonzero(part == i)) for i, name in enumerate(_NAMES)}


def _part(rows: Rows, name: str, at: Sequence[int] | np.ndarray) -> Rows:
    return replace(rows.take(at), name=name, _opened=[0])


def _own(
    source: Any,
    text: str | None,
    label: str | None,
    group: str | None,
    kind: str,
    order: Sequence[Any] | None,
    name: str | None,
    seed: int,
    split: Sequence[float],
) -> Splits:
    tables, where, findings = files.read(source)
    if (n_rows := sum(map(len, tables.values()))) < 3:
        rows = "1 row" if n_rows == 1 else f"{n_rows} rows"
        raise FtkitError("FT009", f"{where} has {rows} below its header; expected at least 3; add rows.")
    cells: dict[str, list[Any]] = {"text": [], "label": [], "group": []}
    given: list[str] = []
    for part, table in tables.items():
        table, notes = columns.cleaned(table, where)
        chosen, more = columns.choose(table, where, text=text, label=label, group=group)
        findings += [f for f in notes + more if f.message not in {g.message for g in findings}]
        for role, column in chosen.items():
            cells[role] += table[column].tolist()
        given += [part] * len(table)
    texts, notes = repair.texts(cells["text"], where, chosen["text"])
    labels, more = repair.labels(cells["label"], where, chosen["label"], several=kind == "multiple")
    findings += notes + more
    groups = None
    if group is not None:
        groups = [f"row {i}" if repair.is_missing(g) else str(g).strip() for i, g in enumerate(cells["group"], start=1)]
        if alone := [i for i, g in enumerate(cells["group"], start=1) if repair.is_missing(g)]:
            findings.append(
                Finding(code="FT024", message=f"{where}: no {chosen['group']!r} in {repair.numbered(alone)}.")
            )
    keep = [i for i, (t, names) in enumerate(zip(texts, labels, strict=True)) if t is not None and names is not None]
    keep = _without_repeats(keep, texts, labels, given, where, findings)
    if groups or len(tables) > 1:
        keep = _without_leaks(keep, texts, groups, given, where, findings)
    keep, labels = _without_small(keep, texts, labels, groups, kind, where, chosen["label"], findings)
    present = {label for i in keep for label in labels[i]}
    ordered = kind == "ordered"
    label_names = repair.ranked(present, order, where, chosen["label"]) if ordered else repair.sorted_names(present)
    number = {label: j for j, label in enumerate(label_names)}
    coded = np.zeros((len(keep), len(number)), dtype=np.uint8)
    for row, i in enumerate(keep):
        coded[row, [number[label] for label in labels[i]]] = 1
    rows = Rows(
        name="all",
        texts=tuple(texts[i] for i in keep),
        labels=coded if kind == "multiple" else coded.argmax(1),
        label_names=label_names,
        kind=kind,
        groups=None if groups is None else tuple(groups[i] for i in keep),
        ids=tuple(f"row-{i + 1}" for i in keep),
        source=name or where,
    )
    parts = _parts(rows, [given[i] for i in keep], split, seed)
    for part in parts.values():
        if not len(part):
            raise FtkitError("FT009", f"{where} leaves no rows for {part.name}; add rows, or groups to choose from.")
        if part.counts.min() == 0:
            lacking = ", ".join(repr(label_names[j]) for j in np.flatnonzero(part.counts == 0)[:5])
            findings.append(Finding(code="FT027", message=f"{where}: {part.name} has no row with the label {lacking}."))
    return Splits(name=name or where, findings=tuple(findings), seed=seed, **parts)


def _parts(rows: Rows, given: list[str], split: Sequence[float], seed: int) -> dict[str, Rows]:
    """Cut the rows, keeping the splits that they came with and taking only those that are missing out of train."""
    if "all" in given:
        return _cut(rows, split, seed)
    came = {name: [i for i, part in enumerate(given) if part == name] for name in _NAMES}
    shares = [split[0], *(0 if came[n] else s for n, s in zip(_NAMES[1:], split[1:], strict=True))]
    train = rows.take(came["train"])
    floor = 1 if len(shares) - shares.count(0) > 1 else 0
    unit, wanted = units(train.texts, train.groups), one_hot(train.labels, rows.n_labels)
    wished = [s for s in shares if s > 0]
    dealt = allocate(wanted, unit, [s / sum(wished) for s in wished], seed, floor)
    names = [n for n, s in zip(_NAMES, shares, strict=True) if s > 0]
    parts = {n: _part(train, n, np.flatnonzero(dealt == i)) for i, n in enumerate(names)}
    return parts | {n: _part(rows, n, came[n]) for n in _NAMES if n not in parts}


def _without_repeats(
    keep: list[int], texts: list, labels: list, given: list[str], where: str, findings: list[Finding]
) -> list[int]:
    """Keep the first of equal texts in each given split; drop a text altogether if its labels contradict each other."""
    key = {i: normalised(texts[i]) for i in keep}
    meanings: dict[str, set] = {}
    for i in keep:
        meanings.setdefault(key[i], set()).add(labels[i])
    torn = [i for i in keep if len(meanings[key[i]]) > 1]
    if torn:
        others = " and others" if len({key[i] for i in torn}) > 1 else ""
        what = repr(shorten(texts[torn[0]], 50)) + others
        rows = repair.numbered([i + 1 for i in torn])
        findings.append(Finding(code="FT020", message=f"{where}: {what} had different labels; dropped {rows}."))
    seen: set[tuple[str, str]] = set()
    kept, repeats, gone = [], [], set(torn)
    for i in keep:
        if i in gone:
            continue
        (repeats if (given[i], key[i]) in seen else kept).append(i)
        seen.add((given[i], key[i]))
    if repeats:
        rows = repair.numbered([i + 1 for i in repeats])
        findings.append(Finding(code="FT019", message=f"{where}: dropped repeated texts in {rows}."))
    return kept


def _without_leaks(
    keep: list[int], texts: list, groups: list | None, given: list[str], where: str, findings: list[Finding]
) -> list[int]:
    """Drop rows of given splits whose text or group is in another too: test keeps its rows, then valid, then train."""
    if not keep:
        return keep
    unit = units([texts[i] for i in keep], None if groups is None else [groups[i] for i in keep])
    rank = {"train": 0, "valid": 1, "test": 2, "all": 3}
    latest: dict[int, int] = {}
    for i, u in zip(keep, unit, strict=True):
        latest[u] = max(latest.get(u, 0), rank[given[i]])
    leaks = [i for i, u in zip(keep, unit, strict=True) if rank[given[i]] < latest[u]]
    if leaks:
        rows = repair.numbered([i + 1 for i in leaks])
        findings.append(Finding(code="FT021", message=f"{where}: dropped {rows}, counted through all splits."))
    return [i for i in keep if i not in set(leaks)]


def _without_small(
    keep: list[int],
    texts: list,
    labels: list,
    groups: list | None,
    kind: str,
    where: str,
    column: str,
    findings: list[Finding],
) -> tuple[list[int], list]:
    """Drop labels that cannot be in all three splits, and fail if fewer than two remain."""
    unit = units([texts[i] for i in keep], None if groups is None else [groups[i] for i in keep]) if keep else []
    places: dict[str, set[int]] = {}
    for i, u in zip(keep, unit, strict=True):
        for label in labels[i]:
            places.setdefault(label, set()).add(u)
    small = sorted(label for label, where_it_is in places.items() if len(where_it_is) < 3)
    if len(places) - len(small) < 2:
        found = ", ".join(f"{label!r} ({len(at)})" for label, at in sorted(places.items())[:5]) or "none"
        raise FtkitError(
            "FT017",
            f"{where}, column {column!r}: expected two or more classes with at least 3 different "
            f"{'groups' if groups else 'texts'} each, found {found}; add rows, or name another column by label=.",
        )
    if small:
        names = ", ".join(map(repr, small[:5])) + (f" and {count(len(small) - 5)} more" if len(small) > 5 else "")
        findings.append(Finding(code="FT016", message=f"{where}, column {column!r}: dropped the label {names}."))
    gone = set(small)
    left = [None if names is None else tuple(n for n in names if n not in gone) for names in labels]
    return [i for i in keep if left[i] or kind == "multiple"], left
