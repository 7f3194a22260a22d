"""Mending texts and labels where that is safe, and saying so; refusing, in one sentence, where it is not."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ftkit.display import count, shorten
from ftkit.findings import Finding, FtkitError

#: Longer texts are cut: no encoder reads so far, and one runaway quote must not fill the memory.
MAX_CHARACTERS = 1_000_000
#: More distinct labels than this are an identifier or a measurement, not classes.
MAX_LABELS = 1_000
_STANDS_FOR_NOTHING = {"nan", "null", "none", "n/a", "#n/a", "<na>", "nat"}
_UNREADABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of surrogate pairs, which UTF-8 cannot write


class Notes:
    """Collects row numbers by code, and turns them into one finding each."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.rows: dict[str, list[int]] = {}

    def add(self, code: str, row: int) -> None:
        """Remember that `code` was seen in `row`, counted from 1."""
        self.rows.setdefault(code, []).append(row)

    def findings(self, messages: dict[str, str]) -> list[Finding]:
        """Return a finding for each code that was seen, its message followed by the rows."""
        return [
            Finding(code=code, message=f"{self.where}: {messages[code]} in {numbered(rows)}.")
            for code, rows in sorted(self.rows.items())
        ]


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


def texts(values: Sequence[Any], where: str, column: str) -> tuple[list[str | None], list[Finding]]:
    """Return each cell as a text, or None where there is none.

    HTML and the like stay verbatim: what is shown is escaped when it is shown.

    Raises
    ------
    FtkitError
        FT011 if nearly all are numbers, FT012 if one is a list or another object.
    """
    notes = Notes(where)
    mended: list[str | None] = []
    n_numbers = 0
    for row, value in enumerate(values, start=1):
        if is_missing(value) or (isinstance(value, str) and value.strip().casefold() in _STANDS_FOR_NOTHING):
            notes.add("FT010", row)
            mended.append(None)
            continue
        if not isinstance(value, str):
            if not _is_number(value):
                raise FtkitError(
                    "FT012",
                    f"{where}, column {column!r}, row {row}: expected a text, found a {type(value).__name__} "
                    f"({shorten(value, 40)}); join it into one text first.",
                )
            notes.add("FT011", row)
            value = str(value)
        n_numbers += _number(value) is not None
        if len(value) > MAX_CHARACTERS:
            notes.add("FT013", row)
            value = value[:MAX_CHARACTERS]
        if _UNREADABLE.search(value):
            notes.add("FT025", row)
            value = _UNREADABLE.sub("\ufffd", value)
        mended.append(value)
    n_texts = sum(t is not None for t in mended)
    if n_texts and n_numbers > 0.9 * n_texts:
        raise FtkitError(
            "FT011",
            f"{where}, column {column!r}: expected texts, found numbers in {count(n_numbers)} of {count(n_texts)} "
            "rows; name the column of the texts by text=.",
        )
    return mended, notes.findings(
        {
            "FT010": f"dropped blank texts in column {column!r}",
            "FT011": f"took numbers as texts in column {column!r}",
            "FT013": f"cut texts in column {column!r} to {count(MAX_CHARACTERS)} characters",
            "FT025": f"replaced characters that no tokenizer can read in column {column!r}",
        }
    )


def labels(
    values: Sequence[Any], where: str, column: str, *, several: bool
) -> tuple[list[tuple[str, ...] | None], list[Finding]]:
    """Return each cell as a tuple of label names, or None where there is no label.

    White space is collapsed, whole numbers written as floats become whole ("1.0" is "1"), and spellings that differ
    by case alone become the most frequent of them.

    Parameters
    ----------
    values : sequence
        Cells: text, numbers or truth values; with `several`, also lists, or text separated by ";" or "|".
    where, column : str
        What to call the source and the column.
    several : bool
        Whether a row may have any number of labels.

    Raises
    ------
    FtkitError
        FT012 if a cell is a list or another object where one label is expected, FT018 if there are too many labels.
    """
    notes = Notes(where)
    cells: list[list[str] | None] = []
    for row, value in enumerate(values, start=1):
        listed = isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "ndarray"
        if not listed and is_missing(value):
            notes.add("FT014", row)
            cells.append(None)
            continue
        if listed and not several:
            raise FtkitError(
                "FT012",
                f"{where}, column {column!r}, row {row}: expected one label, found a list ({shorten(value, 40)}); "
                "give kind='multiple' if a text may have several labels.",
            )
        entries = list(value) if listed else re.split(r"[;|]", value) if several and isinstance(value, str) else [value]
        for entry in entries:
            if not isinstance(entry, str) and not _is_number(entry):
                raise FtkitError(
                    "FT012",
                    f"{where}, column {column!r}, row {row}: expected a label, found a {type(entry).__name__} "
                    f"({shorten(entry, 40)}); write it as a text or a number.",
                )
        cells.append([str(e) for e in entries if not is_missing(e)])
    written = Counter(name for cell in cells if cell for name in cell)
    name_of = _spellings(written)
    found = notes.findings({"FT014": f"dropped rows without a label in column {column!r}"})
    if changed := [(before, after) for before, after in name_of.items() if before != after]:
        pairs = ", ".join(f"{shorten(before, 40)!r} as {shorten(after, 40)!r}" for before, after in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        found.append(Finding(code="FT015", message=f"{where}, column {column!r}: took {pairs}{more}."))
    names, n_rows = set(name_of.values()), sum(cell is not None for cell in cells)
    if len(names) > MAX_LABELS or (len(names) > 20 and len(names) > n_rows / 2):
        raise FtkitError(
            "FT018",
            f"{where}, column {column!r}: expected a few classes, found {count(len(names))} different labels in "
            f"{count(n_rows)} rows, which look like an identifier or a measurement; name the column of the classes by "
            "label=.",
        )
    return [None if cell is None else tuple(sorted({name_of[e] for e in cell})) for cell in cells], found


def _spellings(written: Counter[str]) -> dict[str, str]:
    """Map each label as written to the label it means."""
    tidy = {name: " ".join(name.replace("\ufeff", "").split()) for name in written}
    numbers = {name: _number(text) for name, text in tidy.items()}
    if all(n is not None and n.is_integer() for n in numbers.values()):
        return {name: str(int(n)) for name, n in numbers.items()}
    uses: dict[str, Counter[str]] = {}
    for name, text in tidy.items():
        uses.setdefault(text.casefold(), Counter())[text] += written[name]
    # The most frequent spelling; among equals the first in the alphabet, so that the order of rows does not matter.
    best = {fold: min(spellings, key=lambda s: (-spellings[s], s)) for fold, spellings in uses.items()}
    return {name: best[text.casefold()] for name, text in tidy.items()}


def ranked(names: set[str], order: Sequence[Any] | None, where: str, column: str) -> tuple[str, ...]:
    """Return label names from lowest to highest: as in `order`, or by number.

    Raises
    ------
    FtkitError
        FT022 if a label is not in `order`, or is no number and no order was given.
    """
    if order is None:
        if words := sorted(name for name in names if _number(name) is None):
            raise FtkitError(
                "FT022",
                f"{where}, column {column!r}: {words[0]!r} is not a number, so its rank is not known; "
                "give order=('lowest', …, 'highest').",
            )
        return tuple(sorted(names, key=float))
    means = {name.casefold(): name for name in names}
    wanted = [" ".join(str(name).split()).casefold() for name in order]
    if unknown := sorted(set(means) - set(wanted)):
        raise FtkitError(
            "FT022",
            f"{where}, column {column!r}: label {means[unknown[0]]!r} is not in order={tuple(order)!r}; add it there.",
        )
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
