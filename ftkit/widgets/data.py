"""The data panel: rows by split, label and text, what the model reads of them, and their near-duplicates."""

from __future__ import annotations

import re

import ipywidgets
import pandas as pd

from ftkit.data import Rows, Splits
from ftkit.data.duplicates import NearDuplicates, near_duplicates
from ftkit.display import count, escape, percent, shorten, table_html
from ftkit.pretrained import Base
from ftkit.pretrained.pieces import boxes, tokens
from ftkit.widgets.panel import Panel, announced, grid

ROWS_A_PAGE = 8
#: Of a longer text, only so much is shown and broken into tokens: whole licences would hold up every key typed.
MOST_CHARACTERS = 4_000
_MOST_PIECES = 100
_MOST_TWINS = 5
_EXCERPT = 120  # characters: two or three lines of a table
_ANY = ""  # not None: a list whose value is None shows nothing as chosen


class DataPanel(Panel):
    """Look at the rows of a data set: filter, leaf through, see a row's tokens and its near-duplicates.

    Looking changes nothing and scores nothing. What is learned from test rows by looking is learned all the same, so
    the panel starts with train.

    Parameters
    ----------
    data : Splits
        What to look at.
    base : Base, optional
        Shows what this model reads of each row: its tokens, and those beyond the model's limit.
    key : str, optional
        The panel's place, where two for one data set are to stay; by default the name of the data.

    Attributes
    ----------
    value : Rows
        The rows that pass the filter, those of all pages.
    duplicates : NearDuplicates or None
        What the button found.
    """

    css_class = "ftkit-data"

    def __init__(self, data: Splits, base: Base | None = None, *, key: str | None = None) -> None:
        super().__init__(data.name if key is None else key)
        self.data, self.base = data, base
        self.duplicates: NearDuplicates | None = None

        splits, labels = [part.name for part in data.parts], data.label_names
        self.split = ipywidgets.Dropdown(description="Split", options=splits)
        every = [("every label", _ANY), *zip(labels, labels, strict=True)]
        self.label = ipywidgets.Dropdown(description="Label", options=every)
        # In test, say: the rows of the chosen split that have a near-duplicate there. It waits for the button.
        anywhere = [("any split, or none", _ANY), *zip(splits, splits, strict=True)]
        self.twin_in = ipywidgets.Dropdown(description="Near-duplicate in", options=anywhere, disabled=True)
        self.row = ipywidgets.Dropdown(description="Look at row")
        self.contains = ipywidgets.Text(description="Text contains", placeholder="any text")
        self.earlier_button, self.later_button, self.duplicates_button = (
            ipywidgets.Button(description=words) for words in ("Previous page", "Next page", "Find near-duplicates")
        )
        self._splits, self._table, self._detail = (ipywidgets.HTML() for _ in range(3))

        for control in (self.split, self.label, self.contains, self.twin_in):
            control.observe(self.guarded(lambda change: self._filter()), "value")
        self.row.observe(self.guarded(lambda change: self._look()), "value")
        self.earlier_button.on_click(self.guarded(lambda button: self._turn(self._page - 1)))
        self.later_button.on_click(self.guarded(lambda button: self._turn(self._page + 1)))
        self.duplicates_button.on_click(self.guarded(lambda button: self.in_thread(self._find)))
        # In one line after another, as many as fit; each of the texts and tables takes a line of its own (panels.css).
        filters = (self.split, self.label, self.contains, self.duplicates_button, self.twin_in)
        leafing = (self.earlier_button, self.later_button, self.row.add_class("wide"))
        told = (self._detail, self._splits, self.shown_code, self.style)
        self.box.children = (*filters, self.status, self._table, *leafing, *told)
        self._filter()

    @property
    def value(self) -> Rows:
        """The rows that pass the filter."""
        return self._matching[self.split.value]

    @property
    def code(self) -> str:
        """The calls that give these rows, and what is shown of them."""
        given = ", ".join(f"{name}={value!r}" for name, value in self._asked.items())
        lines, source = [], f"data.{self.split.value}"
        if self.duplicates:
            lines += ["from ftkit.data import near_duplicates", "found = near_duplicates(data)"]
        if self.twin_in.value:
            source = f"found.twins({self.split.value!r}, within={self.twin_in.value!r})"
        lines.append(f"rows = {source}{f'.where({given})' if given else ''}")
        if self.base and len(self.value):
            lines += ["from ftkit.pretrained import tokens", f"tokens(base, [rows.texts[{self.row.value}]])"]
        if self.duplicates and len(self.value):
            lines.append(f"found.of({self.value.ids[self.row.value]!r})")
        return "\n".join(lines)

    def run_blocking(self) -> Rows:
        """Find the near-duplicates here and now, and return the rows that pass the filter."""
        self.wait()
        if not self.duplicates:
            self._find()
        return self.value

    @property
    def _asked(self) -> dict[str, str]:
        asked = {"label": self.label.value, "contains": self.contains.value}
        return {name: value for name, value in asked.items() if value}

    def _filter(self) -> None:
        """Take the rows that the controls ask for, from their first page on."""
        asked, within = self._asked, self.twin_in.value
        parts = {p.name: self.duplicates.twins(p.name, within) if within else p for p in self.data.parts}
        self._matching = {name: rows.where(**asked) if asked else rows for name, rows in parts.items()}
        self._turn(0)
        self._show_splits()
        self.tell_listeners()

    def _turn(self, page: int) -> None:
        """Show a page, and look at its first row."""
        name, texts, n_all = self.split.value, self.value.texts, len(getattr(self.data, self.split.value))
        last = max(0, len(texts) - 1) // ROWS_A_PAGE
        self._page = min(max(0, page), last)
        self._on_page = range(len(texts))[self._page * ROWS_A_PAGE :][:ROWS_A_PAGE]  # positions in `value`
        self.earlier_button.disabled, self.later_button.disabled = self._page == 0, self._page == last
        self.row.options = [(f"{i + 1}: {shorten(texts[i], 80)}", i) for i in self._on_page]
        self.row.index, self.row.disabled = 0 if texts else None, not texts
        self._look()
        told = "All" if len(texts) == n_all else f"<b>{count(len(texts))}</b> of"
        told += f" {count(n_all)} {name} rows"
        if texts:
            first, end = self._on_page[0] + 1, self._on_page[-1] + 1
            told += f"; rows {count(first)} to {count(end)}, page {self._page + 1} of {last + 1}"
        care = " Look at test rows if you must, but decide nothing by them." if name == "test" else ""
        self.status.value = announced(f"{told}.{care}")

    def _look(self) -> None:
        """Show the rows of this page, and all of the chosen one."""
        rows, cells = self.value.take(self._on_page), []
        columns = {"Row": "", "Text": "", "Label": "label"} | ({"Tokens": "n"} if self.base else {})
        for i, text, label in zip(self._on_page, rows.texts, rows.named_labels(), strict=True):
            cells.append([count(i + 1), excerpt(text, self.contains.value), escape(label)])
            if self.base:
                cells[-1].append(n_tokens(self.base, text))
        at = self.row.value
        chosen = [i == at for i in self._on_page]
        self._table.value = grid(f"{self.data.name}, {self.split.value}", columns, cells, chosen)
        self._detail.value = "" if at is None else told_row(self.value.take([at]), self.base, self.duplicates)
        self.show_code()

    def _find(self) -> None:
        """Compare all texts with each other, once; in a thread or not, so only traits are assigned."""
        n = sum(map(len, self.data.parts))
        self.say(f"Comparing {count(n)} texts with each other: some seconds, once. Go on looking meanwhile.")
        self.duplicates = near_duplicates(self.data)
        self.duplicates_button.disabled, self.twin_in.disabled = True, False
        self._show_splits()
        self._look()
        self.say(self.duplicates.summary())

    def _show_splits(self) -> None:
        names = self._matching.keys()
        lines = {"rows": self.data.parts, "rows that pass the filter": self._matching.values()}
        if self.duplicates:
            lines["rows with a near-duplicate in another split"] = [
                {i for other in names - {name} for i in self.duplicates.twins(name, other).ids} for name in names
            ]
        rows = [(what, *(count(len(part)) for part in parts)) for what, parts in lines.items()]
        self._splits.value = table_html(pd.DataFrame(rows, columns=["split", *names]), "The splits")


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
    reads = f"reads up to {base.max_tokens}, so {cut if n_cut else 'all of it.'}"
    told = f"<b>{count(n)}{more}</b> tokens; {escape(base.name)} {reads}"
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
