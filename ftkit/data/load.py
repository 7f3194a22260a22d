"""`load_data`: one front door for named sets and for a learner's own data."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ftkit import sources
from ftkit.data import files, repair
from ftkit.data.rows import KINDS, PARTS, LazyTexts, Rows
from ftkit.data.sets import Card, data_sets, parse
from ftkit.data.splits import Splits
from ftkit.data.splitting import allocate, one_hot, units
from ftkit.display import shorten
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
) -> Splits:
    """Return labelled texts, checked, mended and split so that no text and no group is in two splits.

    Parameters
    ----------
    source : str, Path, DataFrame, list, datasets.Dataset or DatasetDict
        A name that `data_sets()` lists; a CSV, TSV, JSON, JSONL, Excel, Parquet or Arrow file; a table; or a list of
        (text, label) pairs. The splits of a DatasetDict are kept. Texts of Parquet, Arrow and a Dataset stay on disk,
        so that there may be more of them than the memory holds.
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
            hint = repair.did_you_mean(source, shelf, f"there are {', '.join(shelf)}.")
            raise FtkitError("FT023", f"There is neither a data set nor a file named {source!r}; {hint}")
        found = _Table(source, wanted, kind).split(order, name, split, seed)
        pa.default_memory_pool().release_unused()  # what reading and mending took beside the rows
    splits = Splits(seed=seed, **found)
    return splits if per_class is None else splits.limit(per_class, seed)


def _named(card: Card, draw: int, seed: int, split: Sequence[float]) -> dict[str, Rows]:
    rows = parse(card.name)
    if card.draws == 0:
        return rows.dealt(allocate(one_hot(rows.labels, rows.n_labels), units(rows.texts, rows.groups), split, seed))
    if not 0 <= draw < card.draws:
        raise ValueError(f"draw is {draw}; {card.name} has the draws 0 to {card.draws - 1}")
    drawn = pd.read_csv(sources.data_root() / "indices" / f"{card.name.replace('/', '-')}-{draw}.csv")
    return rows.take(pd.Series(range(len(rows)), rows.ids)[drawn["id"]]).dealt(drawn["split"].map(PARTS.index))


class _Table:
    """A learner's rows on their way to `Rows`: as they were read, mended; then those that can be split are kept.

    Parameters
    ----------
    source : object
        What `load_data` was given.
    wanted : mapping of str to str or None
        The columns that were asked for.
    kind : str
        What its labels are.
    """

    def __init__(self, source: Any, wanted: Mapping[str, str | None], kind: str) -> None:
        tables, where, self.findings = files.read(source)
        if (n_rows := sum(map(len, tables.values()))) < 3:
            raise FtkitError("FT009", f"{where} needs at least 3 rows below its header, found {n_rows}; add rows.")
        pieces = []
        for part, table in tables.items():
            piece, chosen, notes = repair.choose(table, where, wanted)
            self.findings += [f for f in notes if f.message not in {g.message for g in self.findings}]
            plain = [role for role in piece if role != "text" or not isinstance(piece[role].dtype, pd.ArrowDtype)]
            pieces.append(piece.astype(dict.fromkeys(plain, object)).assign(given=PARTS.index(part)))
        cells = pd.concat(pieces, ignore_index=True)
        named = {role: f"{where}, column {column!r}" for role, column in chosen.items()}
        self.kind, self.where, self.column, self.texts = kind, where, named["label"], cells["text"].array
        wordings, notes = repair.texts(self.texts, named["text"])
        labels, more = repair.labels(cells["label"], named["label"], several=kind == "multiple")
        self.findings += notes + more
        if "group" in chosen:
            alone = cells["group"].map(repair.is_missing)
            self.findings += repair.mended("FT024", f"{named['group']}: there is no group in", alone.index[alone] + 1)
            cells["group"] = cells["group"].map(str).str.strip().mask(alone, [f"row {i + 1}" for i in cells.index])
        cells = cells.drop(columns="text").assign(wording=wordings, label=labels)
        self.rows = cells.dropna(subset=["wording", "label"])  # the index of a row is its place in the source

    def unit(self) -> np.ndarray:
        """Return the unit of each row that is kept: wordings are as equal as their texts."""
        return units(self.rows["wording"], self.rows.get("group"))

    def drop(self, gone: pd.Series, code: str, before: str, after: str = "") -> None:
        """Drop rows, if there are any, and say so."""
        self.findings += repair.mended(code, f"{self.where}: {before}", gone.index[gone] + 1, after)
        self.rows = self.rows[~gone]

    def drop_repeats(self) -> None:
        """Keep the first of equal texts, none in two given splits; drop a text altogether if its labels contradict."""
        torn = self.rows.groupby("wording")["label"].transform("nunique") > 1
        if torn.any():
            others = " and others" if self.rows["wording"][torn].nunique() > 1 else ""
            excerpt = shorten(repair.readable(self.texts[torn.idxmax()]), 50)
            self.drop(torn, "FT020", f"{excerpt!r}{others} had different labels; dropped")
        self.drop(self.rows.duplicated(["given", "wording"]), "FT019", "dropped repeated texts in")
        # A text or a group in two given splits: test keeps its rows, then valid, then train.
        leaks = self.rows["given"] < self.rows.groupby(self.unit())["given"].transform("max")
        self.drop(leaks, "FT021", "dropped", ", counted through all splits")

    def drop_small(self) -> None:
        """Drop labels that cannot be in all three splits, and fail if fewer than two remain."""
        places = self.rows.assign(unit=self.unit()).explode("label").groupby("label")["unit"].nunique()
        small = places.index[places < 3].tolist()
        if len(places) - len(small) < 2:
            found = ", ".join(f"{label!r} ({n})" for label, n in places.head().items()) or "none"
            told = f"two or more classes with at least 3 different {'groups' if 'group' in self.rows else 'texts'} each"
            raise FtkitError("FT017", f"{self.column}: expected {told}, found {found}; add rows, or change label=.")
        if names := repair.listed(list(map(repr, small)), 5):
            self.findings.append(Finding(code="FT016", message=f"{self.column}: dropped the label {names}."))
        left = self.rows["label"].map(lambda names: tuple(n for n in names if n not in small))
        self.rows = self.rows.assign(label=left)[left.map(bool) | (self.kind == "multiple")]

    def split(self, order: Sequence | None, name: str | None, shares: Sequence[float], seed: int) -> dict[str, Any]:
        """Return the fields of `Splits`: splits that the rows came with stay, missing ones are taken out of train."""
        self.drop_repeats()
        self.drop_small()
        cells = self.rows["label"]
        names = repair.in_order(set(cells.explode().dropna()), order, self.column, ranked=self.kind == "ordered")
        wanted = np.array([[name in cell for name in names] for cell in cells], dtype=np.uint8)
        texts = LazyTexts(self.texts, self.rows.index.to_numpy())
        texts = texts if isinstance(self.texts.dtype, pd.ArrowDtype) else tuple(texts)
        labels = wanted if self.kind == "multiple" else wanted.argmax(1)
        labelled = {"kind": self.kind, "labels": labels, "label_names": names, "groups": self.rows.get("group")}
        ids = [f"row-{i + 1}" for i in self.rows.index]
        rows = Rows(name="all", texts=texts, ids=ids, source=name or self.where, **labelled)
        part_of = self.rows["given"].to_numpy(copy=True)
        missing = [i for i in range(3) if i == 0 or not (part_of == i).any()]
        own, shares = part_of == 0, np.array(shares)[missing]
        if len(missing) > 1 and own.any():
            part_of[own] = np.array(missing)[allocate(wanted[own], self.unit()[own], shares / shares.sum(), seed)]
        parts = rows.dealt(part_of)
        if bare := [name for name, part in parts.items() if not len(part)]:
            raise FtkitError("FT009", f"{self.where} leaves no rows for {bare[0]}; add rows, or groups to choose from.")
        for name, part in parts.items():
            if lacking := [label for label, n in zip(part.label_names, part.counts, strict=True) if n == 0]:
                told = f"{self.where}: {name} has no row with the label {', '.join(map(repr, lacking[:5]))}."
                self.findings.append(Finding(code="FT027", message=told))
        return {"name": rows.source, "findings": tuple(self.findings), **parts}
