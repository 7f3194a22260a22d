"""Mending texts and labels where that is safe, and saying so; refusing, in one sentence, where it is not."""

from __future__ import annotations

import functools
import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ftkit.display import count, shorten
from ftkit.findings import Finding, FtkitError

#: Longer texts are cut: no encoder reads so far, and one runaway quote must not fill the memory.
MAX_CHARACTERS = 1_000_000
#: More distinct labels than this are an identifier or a measurement, not classes.
MAX_LABELS = 1_000
#: A column with more ways of writing them is not read to its end: each would be kept, in a file of any size.
MAX_SPELLINGS = 100 * MAX_LABELS
_STANDS_FOR_NOTHING = {"nan", "null", "none", "n/a", "#n/a", "<na>", "nat"}
_Numbers = functools.partial(array, "q")  # of rows: eight bytes each, where a list has forty
_UNREADABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of surrogate pairs, which UTF-8 cannot write
_MENDED = {
    "FT010": "dropped blank texts",
    "FT011": "took numbers as texts",
    "FT013": f"cut texts to {count(MAX_CHARACTERS)} characters",
    "FT014": "dropped rows without a label",
    "FT024": "there is no group",
    "FT025": "replaced characters that no tokenizer can read",
}


def findings(rows: Mapping[str, list[int]], where: str) -> list[Finding]:
    """Return a finding for each code of what was mended, with the numbers of its rows, counted from 1."""
    return [Finding(code=c, message=f"{where}: {_MENDED[c]} in {numbered(r)}.") for c, r in sorted(rows.items()) if r]


def numbered(rows: Sequence[int]) -> str:
    """Return row numbers as people write them.

    >>> numbered([3]), numbered([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    ('row 3', 'rows 1, 2, 3, 4, 5, 6, 7, 8 and 2 more')
    """
    shown = ", ".join(str(r) for r in rows[:8]) + (f" and {count(len(rows) - 8)} more" if len(rows) > 8 else "")
    return f"row{'s' if len(rows) > 1 else ''} {shown}"


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, NaT, pandas' NA or blank text."""
    if value is None or isinstance(value, str):
        return not value or not value.replace("\ufeff", "").replace("\0", "").strip()
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))


def mended(value: Any) -> str:
    """Return a cell as a text: not too long, and nothing in it that cannot be read."""
    return _UNREADABLE.sub("\ufffd", str(value)[:MAX_CHARACTERS])


def texts(values: Iterable[Any], where: str, found: list[Finding]) -> Iterator[str | None]:
    """Yield each cell as a text, or None where there is none; at the end `found` is longer by what was noticed.

    HTML and the like stay verbatim: what is shown is escaped when it is shown.

    Parameters
    ----------
    values : iterable
        Cells: texts, some of them blank or numbers.
    where : str
        What to call the source and the column.
    found : list of Finding

    Raises
    ------
    FtkitError
        FT011 if nearly all are numbers, FT012 if one is a list or another object.
    """
    rows, n_texts, n_numbers = defaultdict(_Numbers), 0, 0
    for row, value in enumerate(values, start=1):
        if is_missing(value) or (isinstance(value, str) and value.strip().casefold() in _STANDS_FOR_NOTHING):
            rows["FT010"].append(row)
            yield None
            continue
        if not isinstance(value, str):
            if not _is_number(value):
                what = f"found a {type(value).__name__} ({shorten(value, 40)}); join it into one text first."
                raise FtkitError("FT012", f"{where}, row {row}: expected a text, {what}")
            rows["FT011"].append(row)
            value = str(value)
        n_texts, n_numbers = n_texts + 1, n_numbers + (_number(value) is not None)
        if len(value) > MAX_CHARACTERS:
            rows["FT013"].append(row)
        if _UNREADABLE.search(value, 0, MAX_CHARACTERS):
            rows["FT025"].append(row)
        yield mended(value)
    if n_texts and n_numbers > 0.9 * n_texts:
        what = f"found numbers in {count(n_numbers)} of {count(n_texts)} rows"
        raise FtkitError("FT011", f"{where}: expected texts, {what}; name the column of the texts by text=.")
    found += findings(rows, where)


def labels(values: Iterable, where: str, found: list, *, several: bool) -> tuple[csr_array, np.ndarray, np.ndarray]:
    """Return which labels each cell has, (n, n_names) of 0 and 1, their names, and which cells are labelled, (n,) bool.

    White space is collapsed, whole numbers written as floats become whole ("1.0" is "1"), and spellings that differ
    by case alone become the most frequent of them. `found` becomes longer by what was noticed.

    Parameters
    ----------
    values : iterable
        Cells: text, numbers or truth values; with `several`, also lists, or text separated by ";" or "|".
    where : str
        What to call the source and the column.
    found : list of Finding
    several : bool
        Whether a row may have any number of labels.

    Raises
    ------
    FtkitError
        FT012 if a cell is a list or another object where one label is expected, FT018 if there are too many labels.
    """
    rows, number, flat, ends = defaultdict(_Numbers), {}, array("i"), _Numbers([0])
    for row, value in enumerate(values, start=1):
        listed = isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "ndarray"
        entries = list(value) if listed and several else [value]
        if not listed and is_missing(value):
            rows["FT014"].append(row)
            entries = []
        elif several and isinstance(value, str):
            entries = re.split(r"[;|]", value)
        for entry in entries:
            if not isinstance(entry, str) and not _is_number(entry):
                what = f"expected one label, found a {type(entry).__name__} ({shorten(entry, 40)}); write it as a text"
                todo = "or a number, or give kind='multiple' if a text may have several labels."
                raise FtkitError("FT012", f"{where}, row {row}: {what} {todo}")
        flat.extend(number.setdefault(str(e), len(number)) for e in entries if not is_missing(e))
        ends.append(len(flat))
        if len(number) > MAX_SPELLINGS:
            break  # it will be refused, and may have a name for every row to come
    name_of = _spellings(Counter(dict(zip(number, np.bincount(flat).tolist(), strict=True))))
    found += findings(rows, where)
    if changed := [(before, after) for before, after in name_of.items() if before != after]:
        pairs = ", ".join(f"{shorten(before, 40)!r} as {shorten(after, 40)!r}" for before, after in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        found.append(Finding(code="FT015", message=f"{where}: took {pairs}{more}."))
    names, labelled = sorted(set(name_of.values())), np.ones(len(ends) - 1, dtype=bool)
    labelled[np.array(rows["FT014"], dtype=np.int64) - 1] = False
    if len(names) > MAX_LABELS or len(number) > MAX_SPELLINGS or len(names) > max(20, labelled.sum() / 2):
        what = (
            f"found {count(len(names))} different labels in {count(labelled.sum())} rows, which look like an identifier"
        )
        todo = "or a measurement; name the column of the classes by label=."
        raise FtkitError("FT018", f"{where}: expected a few classes, {what} {todo}")
    place = {name: i for i, name in enumerate(names)}
    column = np.array([place[name_of[written]] for written in number], dtype=np.int32)[np.asarray(flat)]
    has = csr_array((np.ones(len(flat), bool), column, np.asarray(ends)), shape=(len(labelled), len(names)))
    has.sum_duplicates()  # of truth values: once true, always true
    return has.astype(np.uint8), np.array(names, dtype=object), labelled


def _spellings(written: Counter[str]) -> dict[str, str]:
    """Map each label as written to the label it means."""
    tidy = {name: " ".join(name.replace("\ufeff", "").split()) for name in written}
    numbers = {name: _number(text) for name, text in tidy.items()}
    if all(n is not None and n.is_integer() for n in numbers.values()):
        return {name: str(int(n)) for name, n in numbers.items()}
    uses: dict[str, Counter[str]] = defaultdict(Counter)
    for name, text in tidy.items():
        uses[text.casefold()][text] += written[name]
    # The most frequent spelling; among equals the first in the alphabet, so that the order of rows does not matter.
    best = {fold: min(spellings, key=lambda s: (-spellings[s], s)) for fold, spellings in uses.items()}
    return {name: best[text.casefold()] for name, text in tidy.items()}


def ranked(names: set[str], order: Sequence[Any] | None, where: str) -> tuple[str, ...]:
    """Return label names from lowest to highest: as in `order`, or by number.

    Raises
    ------
    FtkitError
        FT022 if a label is not in `order`, or is no number and no order was given.
    """
    if order is None:
        if words := sorted(name for name in names if _number(name) is None):
            told = f"{words[0]!r} is not a number, so its rank is not known; give order=('lowest', …, 'highest')."
            raise FtkitError("FT022", f"{where}: {told}")
        return tuple(sorted(names, key=float))
    means = {name.casefold(): name for name in names}
    wanted = [" ".join(str(name).split()).casefold() for name in order]
    if unknown := sorted(set(means) - set(wanted)):
        told = f"label {means[unknown[0]]!r} is not in order={tuple(order)!r}; add it there."
        raise FtkitError("FT022", f"{where}: {told}")
    return tuple(means[fold] for fold in wanted if fold in means)


def sorted_names(names: set[str]) -> tuple[str, ...]:
    """Return label names in the order of their numbers, if all are numbers, or else of the alphabet."""
    numeric = all(_number(name) is not None for name in names)
    return tuple(sorted(names, key=float if numeric else lambda n: (n.casefold(), n)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
