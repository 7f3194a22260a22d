"""How one row shows itself in a panel: an excerpt, the tokens a model reads of it, and its near-duplicates."""

from __future__ import annotations

import re

import pandas as pd

from ftkit.data import Rows
from ftkit.data.duplicates import NearDuplicates
from ftkit.display import count, escape, percent, shorten
from ftkit.pretrained import Base
from ftkit.pretrained.pieces import boxes, tokens
from ftkit.widgets.grid import grid

#: Of a longer text, only so much is shown and broken into tokens: whole licences would hold up every key typed.
MOST_CHARACTERS = 4_000
_MOST_PIECES = 100
_MOST_TWINS = 5
_EXCERPT = 120  # characters: two or three lines of a table


def excerpt(text: str, wanted: str = "") -> str:
    """Return the beginning of a text as HTML, or the part around `wanted`, with that marked.

    >>> excerpt("Fracture of <femur>", "FRACTURE of")
    '<mark>Fracture of</mark> &lt;femur&gt;'
    """
    line, sought = " ".join(text.split()), re.compile(f"({re.escape(' '.join(wanted.split()))})", re.IGNORECASE)
    found = sought.search(line)
    if not wanted.strip() or not found:
        return escape(shorten(line, _EXCERPT))
    start = 0 if found.end() < _EXCERPT else max(0, found.start() - _EXCERPT // 3)
    shown = ("…" if start else "") + shorten(line[start : start + 2 * _EXCERPT], _EXCERPT)
    # Splitting by a pattern in brackets keeps what matched, at the odd places.
    return "".join(f"<mark>{escape(p)}</mark>" if i % 2 else escape(p) for i, p in enumerate(sought.split(shown)))


def n_tokens(base: Base, text: str) -> str:
    """Return how many tokens a text has, and in words whether some of them are cut."""
    n = len(base.tokenizer(text[:MOST_CHARACTERS], verbose=False)["input_ids"])
    return f"{count(n)}{_more(text)}{', cut' if n > base.max_tokens else ''}"


def told_tokens(base: Base, text: str) -> str:
    """Return a text's tokens as HTML: a sentence on what is cut, and a box for each token."""
    (pieces,) = tokens(base, [text[:MOST_CHARACTERS]]).pieces
    n, n_cut, more = len(pieces), sum(p.cut for p in pieces), _more(text)
    cut = f"<b>{count(n_cut)}{more}</b> of them ({percent(n_cut / max(n, 1))}) are cut: dashed and struck through."
    start = max(0, base.max_tokens - _MOST_PIECES // 2) if n_cut else 0
    part = pieces[start : start + _MOST_PIECES]
    told = f"<b>{count(n)}{more}</b> tokens; {escape(base.name)} reads up to {base.max_tokens}, so "
    told += cut if n_cut else "all of it."
    if len(part) < n or more:
        told += f" Here are {count(len(part))} of them, from token {count(start + 1)} on."
    return f'<p>{told}</p><p class="pieces">{boxes(part)}</p>'


def told_row(row: Rows, base: Base | None = None, found: NearDuplicates | None = None) -> str:
    """Return a row as HTML: its text, what the model reads of it, and its near-duplicates where they were looked for.

    Parameters
    ----------
    row : Rows
        One row, named after its split.
    base : Base, optional
    found : NearDuplicates, optional
        Of the data that the row is from.
    """
    (text,), (label,) = row.texts, row.named_labels()
    group = f", group <b>{escape(row.groups[0])}</b>" if row.groups else ""
    told = f"<p>The chosen row: id <b>{escape(row.ids[0])}</b>{group}, label <b>{escape(label)}</b></p>"
    # What may have to be scrolled is reachable by Tab, or the keyboard could not scroll it.
    told += f'<blockquote tabindex="0">{escape(text[:MOST_CHARACTERS])}{"…" if _more(text) else ""}</blockquote>'
    told += told_tokens(base, text) if base else ""
    return told + (_told_twins(found.of(row.ids[0]), row.name, label, found.threshold) if found else "")


def _told_twins(found: pd.DataFrame, split: str, label: str, threshold: float) -> str:
    """Return a row's near-duplicates as HTML; another split or another label than the row's own is said in words."""
    alike = f"similarity {threshold:g} or more"
    if not len(found):
        return f"<p>No near-duplicate of this row ({alike}).</p>"
    rows = [
        (f"{t.Similarity:.2f}", excerpt(t.Text), _beside(label, t.Label, "label"), _beside(split, t.Split, "split"))
        for t in found.head(_MOST_TWINS).itertuples()
    ]
    caption = f"Near-duplicates of this row ({len(rows)} of {count(len(found))}; {alike})"
    return grid(caption, {"Similarity": "", "Text": "", "Label": "label", "Split": "short"}, rows)


def _beside(own: str, other: str, what: str) -> str:
    return escape(other) + ("" if other == own else f" (another {what})")


def _more(text: str) -> str:
    return " or more" if len(text) > MOST_CHARACTERS else ""
