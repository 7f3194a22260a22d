"""Finding the columns, mending texts and labels where that is safe, and saying so; refusing where it is not."""

import contextlib
import difflib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ftkit.data.splitting import wording
from ftkit.display import count, shorten
from ftkit.findings import Finding, FtkitError

#: Longer texts are cut: no encoder reads so far, and one runaway quote must not fill the memory.
MAX_CHARACTERS = 1_000_000
#: More distinct labels than this are an identifier or a measurement, not classes.
MAX_LABELS = 1_000
_LISTS, _NUMBERS = (list, tuple, set, frozenset, np.ndarray), (int, float, np.generic)
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

#: The names that people usually give to a column, the likeliest first.
_USUAL = {
    "text": "text sentence review content body message description comment document utterance question abstract title",
    "label": "label labels class category target sentiment intent topic condition rating stars grade score tags",
}


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return a question with the nearest of the known names, or else a hint of another kind.

    >>> did_you_mean("Grafe", ("grade", "text"), "there are two."), did_you_mean("x", ("grade",), "there is one.")
    ("did you mean 'grade'?", 'there is one.')
    """
    by_fold = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), by_fold, n=1)
    return f"did you mean {by_fold[near[0]]!r}?" if near else otherwise


def findings(rows: Mapping[str, list[int]], where: str) -> list[Finding]:
    """Return a finding for each code of what was mended, with the numbers of its rows, counted from 1."""
    return [Finding(code=c, message=f"{where}: {_MENDED[c]} in {numbered(r)}.") for c, r in sorted(rows.items()) if r]


def numbered(rows: Sequence[int]) -> str:
    """Return row numbers as people write them.

    >>> numbered([3]), numbered([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    ('row 3', 'rows 1, 2, 3, 4, 5, 6, 7, 8 and 2 more')
    """
    return f"row{'s' if len(rows) > 1 else ''} {listed(rows, 8)}"


def listed(values: Sequence[Any], shown: int) -> str:
    """Return the first few values, separated by commas, and how many more there are."""
    return ", ".join(map(str, values[:shown])) + (f" and {count(n)} more" if (n := len(values) - shown) > 0 else "")


def choose(
    frame: pd.DataFrame, where: str, wanted: Mapping[str, str | None]
) -> tuple[pd.DataFrame, dict[str, str], list[Finding]]:
    """Return the columns `"text"`, `"label"` and `"group"`, their names in `frame`, and what had to be assumed.

    Invisible characters and outer white space of column names do not matter.

    Parameters
    ----------
    frame : DataFrame
        As it was read.
    where : str
        What to call the source.
    wanted : mapping of str to str or None
        The column that was asked for as `"text"`, `"label"` and `"group"`; text and label are looked for by usual
        names when None.

    Raises
    ------
    FtkitError
        FT008 if a column is not there, is there twice, or cannot be guessed.
    """
    before = [str(c) for c in frame.columns]
    columns = [" ".join(c.replace("\ufeff", "").replace("\0", "").split()) for c in before]
    notes = []
    if changed := ", ".join(repr(b) for b, a in zip(before, columns, strict=True) if b != a):
        told = f"In the header of {where}, white space or invisible characters were removed from {changed}."
        notes.append(Finding(code="FT006", message=told))
    chosen: dict[str, str] = {}
    for role in sorted(wanted, key=lambda role: not wanted[role]):  # what was asked for comes before what is guessed
        if wanted[role] or role in _USUAL:
            chosen[role] = _column(columns, list(chosen.values()), wanted[role], role, where)
    for role, column in chosen.items():
        if (n := columns.count(column)) > 1:
            told = f"{where} has {n} columns named {column!r}, expected one for {role}; rename or remove the others."
            raise FtkitError("FT008", told)
        if len(roles := [r for r, c in chosen.items() if c == column]) > 1:
            told = f"Column {column!r} of {where} cannot be {' and '.join(roles)} at once; name another by {roles[1]}=."
            raise FtkitError("FT008", told)
    if guessed := [f"{c!r} as the {r}" for r, c in chosen.items() if not wanted[r] and c.casefold() != r]:
        told = f"{where}: took column {' and '.join(guessed)}; name others by text= and label=."
        notes.append(Finding(code="FT005", message=told))
    at = [columns.index(column) for column in chosen.values()]
    return frame.iloc[:, at].set_axis(list(chosen), axis=1), chosen, notes


def _column(columns: list[str], taken: list[str], name: str | None, role: str, where: str) -> str:
    """Return the column of a name, whatever its case, or else the one with the likeliest of the usual names."""
    if name in columns:
        return name
    wanted = [" ".join(str(name).split())] if name else _USUAL[role].split()
    left = [c for c in columns if name or c not in taken]
    found = [c for w in wanted for c in left if c.casefold() == w.casefold()]
    if found and (not name or len(set(found)) == 1):
        return found[0]
    what = f"{where} has no column {name!r}" if name else f"No column of {where} is named like a {role}"
    near = [c for c in left if difflib.get_close_matches(c.casefold(), wanted, n=1, cutoff=0.8)]
    hint = f"did you mean {role}={near[0]!r}?" if near else f"say which one by {role}=."
    hint = did_you_mean(wanted[0], columns, hint) if name else hint
    raise FtkitError("FT008", f"{what}; it has {listed(list(map(repr, columns)), 12)}; {hint}")


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, NaT, pandas' NA or blank text."""
    if value is None or isinstance(value, str):
        return not value or not value.replace("\ufeff", "").replace("\0", "").strip()
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))


def readable(cell: Any) -> str:
    """Return a cell as a text that is no longer than any encoder reads, without characters that no tokenizer reads.

    HTML and the like stay verbatim: what is shown is escaped when it is shown.
    """
    return _UNREADABLE.sub("\ufffd", str(cell)[:MAX_CHARACTERS])


def texts(values: Iterable[Any], where: str) -> tuple[list[str | None], list[Finding]]:
    """Return the wording of each cell's text, once `readable`, or None where there is none; texts are not kept.

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
    rows, wordings, n_numbers = defaultdict(list), [], 0
    for row, value in enumerate(values, start=1):
        if is_missing(value) or (isinstance(value, str) and value.strip().casefold() in _STANDS_FOR_NOTHING):
            rows["FT010"].append(row)
            wordings.append(None)
            continue
        if not isinstance(value, (str, *_NUMBERS)):
            found = f"found a {type(value).__name__} ({shorten(value, 40)}); join it into one text first."
            raise FtkitError("FT012", f"{where}, row {row}: expected a text, {found}")
        written, text = str(value), readable(value)
        n_numbers += _number(written) is not None
        cut, foreign = len(written) > MAX_CHARACTERS, text != written[:MAX_CHARACTERS]
        for code, mended in (("FT011", not isinstance(value, str)), ("FT013", cut), ("FT025", foreign)):
            if mended:
                rows[code].append(row)
        wordings.append(wording(text))
    n_texts = len(wordings) - len(rows["FT010"])
    if n_texts and n_numbers > 0.9 * n_texts:
        found = f"found numbers in {count(n_numbers)} of {count(n_texts)} rows"
        raise FtkitError("FT011", f"{where}: expected texts, {found}; name the column of the texts by text=.")
    return wordings, findings(rows, where)


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
        if is_missing(value):
            rows["FT014"].append(row)
            cells.append(None)
            continue
        written = re.split(r"[;|]", value) if several and isinstance(value, str) else value
        entries = written if several and isinstance(written, _LISTS) else [value]
        if odd := [entry for entry in entries if not isinstance(entry, (str, *_NUMBERS))]:
            told = f"expected one label, found a {type(odd[0]).__name__} ({shorten(odd[0], 40)})"
            hint = "write it as a text or a number, or give kind='multiple' if a text may have several labels."
            raise FtkitError("FT012", f"{where}, row {row}: {told}; {hint}")
        cells.append(tuple(str(e) for e in entries if not is_missing(e)))
    name_of = _spellings(Counter(name for cell in cells if cell for name in cell))
    found = findings(rows, where)
    if changed := [(before, after) for before, after in name_of.items() if before != after]:
        pairs = [f"{shorten(before, 40)!r} as {shorten(after, 40)!r}" for before, after in changed]
        found.append(Finding(code="FT015", message=f"{where}: took {listed(pairs, 5)}."))
    names, n_rows = set(name_of.values()), sum(cell is not None for cell in cells)
    if len(names) > MAX_LABELS or (len(names) > 20 and len(names) > n_rows / 2):
        told = f"expected a few classes, found {count(len(names))} different labels in {count(n_rows)} rows"
        hint = "which look like an identifier or a measurement; name the column of the classes by label=."
        raise FtkitError("FT018", f"{where}: {told}, {hint}")
    means = {cell: cell and tuple(sorted({name_of[e] for e in cell})) for cell in set(cells)}
    return [means[cell] for cell in cells], found


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


def _number(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return number if math.isfinite(number := float(text)) else None
