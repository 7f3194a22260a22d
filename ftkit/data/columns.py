"""Which column holds the text, the label and the group: as told, or by the names people usually give them."""

from __future__ import annotations

import difflib
from collections import Counter
from typing import TYPE_CHECKING

from ftkit.findings import Finding, FtkitError

if TYPE_CHECKING:
    import pandas as pd

_USUAL = {
    "text": "text sentence review content body message description comment document utterance question abstract title",
    "label": "label labels class category target sentiment intent topic condition rating stars grade score tags",
}


def cleaned(frame: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[Finding]]:
    """Return `frame` with invisible characters and outer white space taken off its column names."""
    before = [str(c) for c in frame.columns]
    after = [" ".join(c.replace("\ufeff", "").replace("\0", "").split()) for c in before]
    changed = [b for b, a in zip(before, after, strict=True) if b != a]
    frame = frame.copy(deep=False)
    frame.columns = after
    names = ", ".join(map(repr, changed))
    message = f"In the header of {where}, white space or invisible characters were removed from {names}."
    return frame, [Finding(code="FT006", message=message)] if changed else []


def choose(
    frame: pd.DataFrame, where: str, *, text: str | None, label: str | None, group: str | None
) -> tuple[dict[str, str], list[Finding]]:
    """Return the column of each role, and findings on what had to be assumed.

    Parameters
    ----------
    frame : DataFrame
        With cleaned column names.
    where : str
        What to call the source.
    text, label, group : str or None
        The names that were asked for; text and label are looked for by usual names when None.

    Raises
    ------
    FtkitError
        FT008 if a column is not there, is there twice, or cannot be guessed.
    """
    columns = list(frame.columns)
    chosen = {role: _named(columns, name, role, where) for role, name in (("text", text), ("label", label)) if name}
    guessed = []
    for role in ("text", "label"):
        if role not in chosen:
            chosen[role] = _guess(columns, role, where, taken=set(chosen.values()) | {group})
            if chosen[role].casefold() != role:
                guessed.append(f"{chosen[role]!r} as the {role}")
    if group is not None:
        chosen["group"] = _named(columns, group, "group", where)
    for role, column in chosen.items():
        if columns.count(column) > 1:
            raise FtkitError(
                "FT008",
                f"{where} has {columns.count(column)} columns named {column!r}, expected one for {role}; "
                "rename or remove the others.",
            )
    if most := [c for c, n in Counter(chosen.values()).items() if n > 1]:
        roles = " and ".join(role for role, column in chosen.items() if column == most[0])
        raise FtkitError("FT008", f"Column {most[0]!r} of {where} cannot be {roles} at once; name another by {roles}=.")
    message = f"{where}: took column {' and '.join(guessed)}; name others by text= and label=."
    return chosen, [Finding(code="FT005", message=message)] if guessed else []


def _named(columns: list[str], name: str, role: str, where: str) -> str:
    if name in columns:
        return name
    wanted = " ".join(str(name).split()).casefold()
    same = [c for c in dict.fromkeys(columns) if c.casefold() == wanted]
    if len(same) == 1:
        return same[0]
    by_fold = {c.casefold(): c for c in columns}
    near = difflib.get_close_matches(wanted, by_fold, n=1)
    hint = f"; did you mean {by_fold[near[0]]!r}?" if near else f"; give one of them as {role}=."
    raise FtkitError("FT008", f"{where} has no column {name!r}; it has {_listing(columns)}{hint}")


def _guess(columns: list[str], role: str, where: str, taken: set[str | None]) -> str:
    usual = _USUAL[role].split()
    found = sorted(
        (c for c in dict.fromkeys(columns) if c.casefold() in usual and c not in taken),
        key=lambda c: usual.index(c.casefold()),
    )
    if found:
        return found[0]
    left = [c for c in columns if c not in taken]
    near = next((c for c in left for _ in difflib.get_close_matches(c.casefold(), usual, n=1, cutoff=0.8)), None)
    hint = f"; did you mean {role}={near!r}?" if near else f"; say which one by {role}=."
    raise FtkitError("FT008", f"No column of {where} is named like a {role}; it has {_listing(columns)}{hint}")


def _listing(columns: list[str]) -> str:
    shown = ", ".join(repr(c) for c in columns[:12])
    return shown + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
