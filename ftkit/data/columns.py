"""Which column holds the text, the label and the group: as told, or by the names people usually give them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from ftkit.findings import Finding, FtkitError

_USUAL = {
    "text": "text sentence review content body message description comment document utterance question abstract title",
    "label": "label labels class category target sentiment intent topic condition rating stars grade score tags",
}


def choose(
    header: Sequence[object], where: str, wanted: Mapping[str, str | None]
) -> tuple[dict[str, int], dict[str, str], list[Finding]]:
    """Return the position and the clean name of each role's column, and findings on what had to be assumed.

    Invisible characters and outer white space are taken off the column names.

    Parameters
    ----------
    header : sequence
        The names of the columns as they were read.
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
    before = [str(c) for c in header]
    columns = [" ".join(c.replace("\ufeff", "").replace("\0", "").split()) for c in before]
    findings = []
    if changed := ", ".join(repr(b) for b, a in zip(before, columns, strict=True) if b != a):
        told = f"In the header of {where}, white space or invisible characters were removed from {changed}."
        findings.append(Finding(code="FT006", message=told))
    chosen = {role: _named(columns, name, role, where) for role, name in wanted.items() if name}
    guessed = []
    for role in ("text", "label"):
        if role not in chosen:
            chosen[role] = _guess([c for c in columns if c not in chosen.values()], role, where, columns)
            if chosen[role].casefold() != role:
                guessed.append(f"{chosen[role]!r} as the {role}")
    for role, column in chosen.items():
        if (n := columns.count(column)) > 1:
            told = f"{where} has {n} columns named {column!r}, expected one for {role}; rename or remove the others."
            raise FtkitError("FT008", told)
        if len(roles := [r for r, c in chosen.items() if c == column]) > 1:
            told = f"Column {column!r} of {where} cannot be {' and '.join(roles)} at once; name another by {roles[1]}=."
            raise FtkitError("FT008", told)
    if guessed:
        told = f"{where}: took column {' and '.join(guessed)}; name others by text= and label=."
        findings.append(Finding(code="FT005", message=told))
    return {role: columns.index(column) for role, column in chosen.items()}, chosen, findings


def _named(columns: list[str], name: str, role: str, where: str) -> str:
    wanted, by_fold = " ".join(str(name).split()).casefold(), {c.casefold(): c for c in columns}
    same = {c for c in columns if c.casefold() == wanted}
    if name in columns or len(same) == 1:
        return name if name in columns else same.pop()
    near = difflib.get_close_matches(wanted, by_fold, n=1)
    hint = f"did you mean {by_fold[near[0]]!r}?" if near else f"give one of them as {role}=."
    raise FtkitError("FT008", f"{where} has no column {name!r}; it has {_listing(columns)}; {hint}")


def _guess(left: list[str], role: str, where: str, columns: list[str]) -> str:
    usual = _USUAL[role].split()
    if found := [c for c in left if c.casefold() in usual]:
        return min(found, key=lambda c: usual.index(c.casefold()))
    near = [c for c in left if difflib.get_close_matches(c.casefold(), usual, n=1, cutoff=0.8)]
    hint = f"did you mean {role}={near[0]!r}?" if near else f"say which one by {role}=."
    raise FtkitError("FT008", f"No column of {where} is named like a {role}; it has {_listing(columns)}; {hint}")


def _listing(columns: list[str]) -> str:
    shown = ", ".join(repr(c) for c in columns[:12])
    return shown + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
