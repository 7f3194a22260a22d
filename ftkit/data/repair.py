"""Finding the columns, mending texts and labels where that is safe, and saying so; refusing where it is not."""

import contextlib
import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ftkit.data.splitting import wording
from ftkit.display import count, shorten
from ftkit.findings import Finding, FtkitError

#: Longer texts are cut: no encoder reads so far, and one runaway quote must not fill the memory.
MAX_CHARACTERS = 1_000_000
_LISTS, _NUMBERS = (list, tuple, set, frozenset, np.ndarray), (int, float, np.generic)
_STANDS_FOR_NOTHING = {"nan", "null", "none", "n/a", "#n/a", "<na>", "nat"}

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


def mended(code: str, told: str, rows: Sequence[int], after: str = "") -> list[Finding]:
    """Return a finding on some rows with their numbers, as people write them; none if there are no such rows.

    >>> [mended("FT019", "dropped", rows)[0].message for rows in ([3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])]
    ['dropped row 3.', 'dropped rows 1, 2, 3, 4, 5, 6, 7, 8 and 2 more.']
    """
    numbers = f"row{'s' if len(rows) > 1 else ''} {listed(rows, 8)}"
    return [Finding(code=code, message=f"{told} {numbers}{after}.")] if len(rows) else []


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
    notes, chosen = [], {}
    if changed := ", ".join(repr(b) for b, a in zip(before, columns, strict=True) if b != a):
        told = f"In the header of {where}, white space or invisible characters were removed from {changed}."
        notes.append(Finding(code="FT006", message=told))
    roles = [role for role in wanted if wanted[role] or role in _USUAL]
    for role in sorted(roles, key=lambda role: not wanted[role]):  # what was asked for comes before what is guessed
        column = _column(columns, list(chosen.values()), wanted[role], role, where)
        if (n := columns.count(column)) > 1:
            raise FtkitError("FT008", f"{where} has {n} columns named {column!r}; rename or remove all but one.")
        if twice := [f"{other} and {role}" for other, c in chosen.items() if c == column]:
            raise FtkitError("FT008", f"{where}: column {column!r} cannot be {twice[0]} at once; give another {role}=.")
        chosen[role] = column
    if guessed := " and ".join(f"{c!r} as the {r}" for r, c in chosen.items() if not wanted[r] and c.casefold() != r):
        notes.append(Finding(code="FT005", message=f"{where}: took column {guessed}; name others by text= and label=."))
    return frame.set_axis(columns, axis=1)[list(chosen.values())].set_axis(list(chosen), axis=1), chosen, notes


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
    if isinstance(value, str):
        return not value.replace("\ufeff", "").replace("\0", "").strip()
    return pd.api.types.is_scalar(value) and pd.isna(value)


def readable(cell: Any) -> str:
    """Return a cell as a text that is no longer than any encoder reads, without characters that no tokenizer reads.

    HTML and the like stay verbatim: what is shown is escaped when it is shown.
    """
    # NUL, and halves of surrogate pairs, which UTF-8 cannot write.
    return re.sub("[\x00\ud800-\udfff]", "\ufffd", str(cell)[:MAX_CHARACTERS])


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
    wordings, blank, numbers, cut, foreign, n_numbers = [], [], [], [], [], 0
    for row, value in enumerate(values, start=1):
        if is_missing(value) or (isinstance(value, str) and value.strip().casefold() in _STANDS_FOR_NOTHING):
            blank.append(row)
            wordings.append(None)
            continue
        if not isinstance(value, (str, *_NUMBERS)):
            found = f"found a {type(value).__name__} ({shorten(value, 40)}); join it into one text first."
            raise FtkitError("FT012", f"{where}, row {row}: expected a text, {found}")
        written, text = str(value), readable(value)
        n_numbers += _number(written) is not None
        numbers += [] if isinstance(value, str) else [row]
        cut += [row] if len(written) > MAX_CHARACTERS else []
        foreign += [row] if text != written[:MAX_CHARACTERS] else []
        wordings.append(wording(text))
    n_texts = len(wordings) - len(blank)
    if n_texts and n_numbers > 0.9 * n_texts:
        found = f"found numbers in {count(n_numbers)} of {count(n_texts)} rows"
        raise FtkitError("FT011", f"{where}: expected texts, {found}; name the column of the texts by text=.")
    found = mended("FT010", f"{where}: dropped blank texts in", blank)
    found += mended("FT011", f"{where}: took numbers as texts in", numbers)
    found += mended("FT013", f"{where}: cut texts to {count(MAX_CHARACTERS)} characters in", cut)
    found += mended("FT025", f"{where}: replaced characters that no tokenizer can read in", foreign)
    return wordings, found


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
    cells = []
    for row, value in enumerate(values, start=1):
        written = re.split(r"[;|]", value) if several and isinstance(value, str) else value
        entries = written if several and isinstance(written, _LISTS) else [value]
        if odd := [e for e in entries if not (isinstance(e, (str, *_NUMBERS)) or is_missing(value))]:
            told = f"expected one label, found a {type(odd[0]).__name__} ({shorten(odd[0], 40)})"
            raise FtkitError("FT012", f"{where}, row {row}: {told}; make it a text, or give kind='multiple'.")
        cells.append(None if is_missing(value) else tuple(str(e) for e in entries if not is_missing(e)))
    name_of = _spellings(Counter(name for cell in cells if cell for name in cell))
    none = [row for row, cell in enumerate(cells, start=1) if cell is None]
    found = mended("FT014", f"{where}: dropped rows without a label in", none)
    if taken := [f"{shorten(old, 40)!r} as {shorten(new, 40)!r}" for old, new in name_of.items() if old != new]:
        found.append(Finding(code="FT015", message=f"{where}: took {listed(taken, 5)}."))
    names, n_rows = set(name_of.values()), len(cells) - len(none)
    if len(names) > 1_000 or (len(names) > 20 and len(names) > n_rows / 2):
        told = f"different labels in {count(n_rows)} rows, which look like an identifier or a measurement"
        raise FtkitError("FT018", f"{where}: expected classes, found {count(len(names))} {told}; give another label=.")
    return [cell and tuple(sorted({name_of[name] for name in cell})) for cell in cells], found


def _spellings(written: Counter[str]) -> dict[str, str]:
    """Map each label as written to the label it means."""
    tidy = {name: " ".join(name.replace("\ufeff", "").split()) for name in written}
    numbers = {name: _number(text) for name, text in tidy.items()}
    if all(n is not None and n.is_integer() for n in numbers.values()):
        return {name: str(int(n)) for name, n in numbers.items()}
    often = Counter(tidy[name] for name in written.elements())
    # The most frequent spelling, which comes last, stays; among equals the first in the alphabet, so that the order of
    # rows does not matter.
    best = {text.casefold(): text for text in sorted(often, key=lambda text: (-often[text], text), reverse=True)}
    return {name: best[text.casefold()] for name, text in tidy.items()}


def in_order(names: set[str], order: Sequence[Any] | None, where: str, *, ranked: bool) -> tuple[str, ...]:
    """Return label names as in `order`, where they are `ranked`; or else by number, if all are numbers, or alphabet.

    Raises
    ------
    FtkitError
        FT022 if they are ranked and one is not in `order`, or is no number and no order was given.
    """
    if order is None or not ranked:
        words = sorted(name for name in names if _number(name) is None)
        if ranked and words:
            raise FtkitError("FT022", f"{where}: {words[0]!r} has no known rank; give order=('lowest', …, 'highest').")
        return tuple(sorted(names, key=(lambda name: (name.casefold(), name)) if words else float))
    means = {name.casefold(): name for name in names}
    wanted = [" ".join(str(name).split()).casefold() for name in order]
    if unknown := sorted(set(means) - set(wanted)):
        raise FtkitError("FT022", f"{where}: label {means[unknown[0]]!r} is not in order={tuple(order)!r}; add it.")
    return tuple(means[fold] for fold in wanted if fold in means)


def _number(text: str) -> float | None:
    with contextlib.suppress(ValueError):
        return number if np.isfinite(number := float(text)) else None
