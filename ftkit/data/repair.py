"""Mending texts and labels where that is safe, and saying so; refusing, in one sentence, where it is not."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ftkit.display import count, shorten
from ftkit.findings import Finding, FtkitError

#: Longer texts are cut: no encoder reads so far, and one runaway quote must not fill the memory.
MAX_CHARACTERS = 1_000_000
#: More distinct labels than this are an identifier or a measurement, not classes.
MAX_LABELS = 1_000
_STANDS_FOR_NOTHING = {"nan", "null", "none", "n/a", "#n/a", "<na>", "nat"}
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


def texts(values: Sequence[Any], where: str) -> tuple[list[str | None], list[Finding]]:
    """Return each cell as a text, or None where there is none.

    HTML and the like stay verbatim: what is shown is escaped when it is shown.

    Parameters
    ----------
    values : sequence
        Cells: texts, some of them blank or numbers.
    where : str
        What to call the source and the column.

    Raises
    ------
    FtkitError
        FT011 if nearly all are numbers, FT012 if one is a list or another object.
    """
    rows, mended, n_numbers = defaultdict(list), [], 0
    for row, value in enumerate(values, start=1):
        if is_missing(value) or (isinstance(value, str) and value.strip().casefold() in _STANDS_FOR_NOTHING):
            rows["FT010"].append(row)
            mended.append(None)
            continue
        if not isinstance(value, str):
            if not _is_number(value):
                found = f"found a {type(value).__name__} ({shorten(value, 40)}); join it into one text first."
                raise FtkitError("FT012", f"{where}, row {row}: expected a text, {found}")
            rows["FT011"].append(row)
            value = str(value)
        n_numbers += _number(value) is not None
        if len(value) > MAX_CHARACTERS:
            rows["FT013"].append(row)
            value = value[:MAX_CHARACTERS]
        if _UNREADABLE.search(value):
            rows["FT025"].append(row)
            value = _UNREADABLE.sub("\ufffd", value)
        mended.append(value)
    n_texts = sum(t is not None for t in mended)
    if n_texts and n_numbers > 0.9 * n_texts:
        found = f"found numbers in {count(n_numbers)} of {count(n_texts)} rows"
        raise FtkitError("FT011", f"{where}: expected texts, {found}; name the column of the texts by text=.")
    return mended, findings(rows, where)


def labels(values: Sequence[Any], where: str, *, several: bool) -> tuple[list[tuple[str, ...] | None], list[Finding]]:
    """Return each cell as a tuple of label names, or None where there is no label.

    White space is collapsed, whole numbers written as floats become whole ("1.0" is "1"), and spellings that differ
    by case alone become the most frequent of them.

    Parameters
    ----------
    values : sequence
        Cells: text, numbers or truth values; with `several`, also lists, or text separated by ";" or "|".
    where : str
        What to call the source and the column.
    several : bool
        Whether a row may have any number of labels.

    Raises
    ------
    FtkitError
        FT012 if a cell is a list or another object where one label is expected, FT018 if there are too many labels.
    """
    rows, cells = defaultdict(list), []
    for row, value in enumerate(values, start=1):
        listed = isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "ndarray"
        if not listed and is_missing(value):
            rows["FT014"].append(row)
            cells.append(None)
            continue
        entries = list(value) if listed and several else [value]
        if several and isinstance(value, str):
            entries = re.split(r"[;|]", value)
        for entry in entries:
            if not isinstance(entry, str) and not _is_number(entry):
                raise FtkitError(
                    "FT012",
                    f"{where}, row {row}: expected one label, found a {type(entry).__name__} ({shorten(entry, 40)}); "
                    "write it as a text or a number, or give kind='multiple' if a text may have several labels.",
                )
        cells.append([str(e) for e in entries if not is_missing(e)])
    name_of = _spellings(Counter(name for cell in cells if cell for name in cell))
    found = findings(rows, where)
    if changed := [(before, after) for before, after in name_of.items() if before != after]:
        pairs = ", ".join(f"{shorten(before, 40)!r} as {shorten(after, 40)!r}" for before, after in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        found.append(Finding(code="FT015", message=f"{where}: took {pairs}{more}."))
    names, n_rows = set(name_of.values()), sum(cell is not None for cell in cells)
    if len(names) > MAX_LABELS or (len(names) > 20 and len(names) > n_rows / 2):
        raise FtkitError(
            "FT018",
            f"{where}: expected a few classes, found {count(len(names))} different labels in {count(n_rows)} rows, "
            "which look like an identifier or a measurement; name the column of the classes by label=.",
        )
    return [None if cell is None else tuple(sorted({name_of[e] for e in cell})) for cell in cells], found


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
