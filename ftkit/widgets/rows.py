"""What panels over rows share: a filter, pages, a table of one page, and one row looked at."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ipywidgets import HTML, Button, DOMWidget, Dropdown, Text

from ftkit.data import Rows
from ftkit.display import count, escape, shorten
from ftkit.widgets.panel import Panel, announced, grid, offer

ROWS_A_PAGE = 8
#: Of a longer text, only so much is shown and broken into tokens: whole licences would hold up every key typed.
MOST_CHARACTERS = 4_000
_EXCERPT = 120  # characters: two or three lines of a table


class RowsPanel(Panel):
    """What panels over rows share: a filter by label and text, pages, a table of one page, and one row looked at.

    A subclass makes controls of its own, then calls `_arrange`. It says which rows pass (`_matching`), what the table
    tells of those on a page besides their texts (`_columns`), and all of the chosen one (`_told`).

    Parameters
    ----------
    name : str
        What the rows are of, above their table.
    rows : Rows
        What there is to look at.
    key : str, optional
        The panel's place; by default the two names.

    Attributes
    ----------
    value, rows : Rows
        The rows that pass the filter, those of all pages.
    """

    rows: Rows
    #: What is said after how many rows there are, as markup.
    _remark = ""

    def __init__(self, name: str, rows: Rows, key: str | None = None) -> None:
        super().__init__(f"{name}, {rows.name}" if key is None else key)
        self._name, self._all = name, rows
        self.label = self.control(Dropdown, "Label", self._filter, options=anything("every label", rows.label_names))
        self.contains = self.control(Text, "Text contains", self._filter, placeholder="any text")
        self.row = self.control(Dropdown, "Look at row", self._look).add_class("wide")
        self.earlier_button = self.control(Button, "Previous page", lambda: self._turn(self._page - 1))
        self.later_button = self.control(Button, "Next page", lambda: self._turn(self._page + 1))
        self._table, self._detail = HTML(), HTML()

    @property
    def value(self) -> Any:
        """The rows that pass the filter, those of all pages; of a subclass, what it is for."""
        return self.rows

    def _arrange(self, filters: Sequence[DOMWidget], *beneath: DOMWidget, actions: Sequence[DOMWidget] = ()) -> None:
        """Put the controls into their places, and take the first rows; `actions` are about the chosen one."""
        # In one line after another, as many as fit; each of the texts and tables takes a line of its own (panels.css).
        leafing = (self._table, self.earlier_button, self.later_button, self.row, *actions, self._detail)
        shown = (*filters, self.status, *leafing, *beneath, self.shown_code, self.style)
        self.box.add_class("ftkit-rows").children = shown
        self._filter()

    def _filter(self) -> None:
        """Take the rows that the controls ask for, from their first page on."""
        asked = {"label": self.label.value, "contains": self.contains.value}
        self._asked = {name: value for name, value in asked.items() if value}
        given = ", ".join(f"{name}={value!r}" for name, value in self._asked.items())
        self._where = f".where({given})" if given else ""  # the same as code
        self.rows = self._matching()
        self._turn(0)
        self.tell_listeners()

    def _turn(self, page: int, chosen: int = 0) -> None:
        """Show a page, and look at one of its rows."""
        texts = self.rows.texts
        self._last = max(0, len(texts) - 1) // ROWS_A_PAGE
        self._page = min(max(0, page), self._last)
        self._on_page = on_page = range(len(texts))[self._page * ROWS_A_PAGE :][:ROWS_A_PAGE]  # positions in `rows`
        self.earlier_button.disabled, self.later_button.disabled = self._page == 0, self._page == self._last
        offer(self.row, [(f"{i + 1}: {shorten(texts[i], 80)}", i) for i in on_page], chosen)
        self.row.disabled = not texts
        self._look()
        self._tell()

    def _tell(self) -> None:
        """Say how many rows pass, and which of them are on the page."""
        n, n_all, name, on_page = len(self.rows), len(self._all), self._all.name, self._on_page
        told = "All" if n == n_all else f"<b>{count(n)}</b> of"
        rows = f"; rows {count(on_page.start + 1)} to {count(on_page.stop)}, page {self._page + 1} of {self._last + 1}"
        care = " Look at test rows if you must, but decide nothing by them." if name == "test" else ""
        told = f"{told} {count(n_all)} {escape(name)} rows{rows if n else ''}"
        self.status.value = announced(f"{told}.{care}{self._remark}")

    def _look(self) -> None:
        """Show the rows of this page, and all of the chosen one."""
        rows, at = self.rows.take(self._on_page), self.row.value
        texts = [excerpt(text, self.contains.value) for text in rows.texts]
        columns = [("Row", "", [count(i + 1) for i in self._on_page]), ("Text", "", texts), *self._columns(rows)]
        self._table.value = grid(f"{self._name}, {rows.name}", columns, [i == at for i in self._on_page])
        self._detail.value = "" if at is None else self._told(self.rows.take([at]))
        self.show_code()


def anything(words: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return what a list offers that may stay open: anything, in words, and each of some names."""
    # "" is any; not None, since a list whose value is None shows nothing as chosen.
    return [(words, ""), *((name, name) for name in names)]


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


def whole(row: Rows, **facts: str) -> str:
    """Return one row as HTML: its id, group and label, other facts by their names, and its text."""
    (text,), group = row.texts, {"group": row.groups[0]} if row.groups else {}
    facts = {"id": row.ids[0]} | group | {"label": row.named_labels()[0]} | facts
    told = ", ".join(f"{name} <b>{escape(fact)}</b>" for name, fact in facts.items())
    # What may have to be scrolled is reachable by Tab, or the keyboard could not scroll it.
    text = f'<blockquote tabindex="0">{escape(text[:MOST_CHARACTERS])}{"…" if or_more(text) else ""}</blockquote>'
    return f"<p>The chosen row: {told}</p>{text}"


def or_more(text: str) -> str:
    """Return what follows a number of tokens, where a text is longer than what is counted."""
    return " or more" if len(text) > MOST_CHARACTERS else ""
