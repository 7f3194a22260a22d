"""The data panel: rows by split, label and text, what the model reads of them, and their near-duplicates."""

import re
from collections.abc import Iterable

import pandas as pd
from ipywidgets import HTML, Button, Dropdown, Text

from ftkit.data import NearDuplicates, Rows, Splits, near_duplicates
from ftkit.display import count, escape, percent, shorten, table_html
from ftkit.pretrained import Base
from ftkit.pretrained.pieces import boxes, tokens
from ftkit.widgets.panel import Panel, announced, grid, offer

ROWS_A_PAGE = 8
#: Of a longer text, only so much is shown and broken into tokens: whole licences would hold up every key typed.
MOST_CHARACTERS = 4_000
_MOST_PIECES = 100
_EXCERPT = 120  # characters: two or three lines of a table


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
    value: Rows
    duplicates: NearDuplicates | None = None

    def __init__(self, data: Splits, base: Base | None = None, *, key: str | None = None) -> None:
        super().__init__(data.name if key is None else key)
        self.data, self.base = data, base
        self._counted = {"rows": data.parts}  # of each split, in words and as something that has a length

        splits, labels = [part.name for part in data.parts], data.label_names
        # "" is any; not None, since a list whose value is None shows nothing as chosen.
        every = [("every label", ""), *zip(labels, labels, strict=True)]
        # In test, say: the rows of the chosen split that have a near-duplicate there. It waits for the button.
        anywhere = [("any split, or none", ""), *zip(splits, splits, strict=True)]
        self.split = self.control(Dropdown, "Split", self._filter, options=splits)
        self.label = self.control(Dropdown, "Label", self._filter, options=every)
        self.contains = self.control(Text, "Text contains", self._filter, placeholder="any text")
        self.twin_in = self.control(Dropdown, "Near-duplicate in", self._filter, options=anywhere, disabled=True)
        self.row = self.control(Dropdown, "Look at row", self._look).add_class("wide")
        self.earlier_button = self.control(Button, "Previous page", lambda: self._turn(self._page - 1))
        self.later_button = self.control(Button, "Next page", lambda: self._turn(self._page + 1))
        self.duplicates_button = self.control(Button, "Find near-duplicates", lambda: self.in_thread(self._find))
        self._splits, self._table, self._detail = HTML(), HTML(), HTML()
        # In one line after another, as many as fit; each of the texts and tables takes a line of its own (panels.css).
        filters = (self.split, self.label, self.contains, self.duplicates_button, self.twin_in, self.status)
        leafing = (self._table, self.earlier_button, self.later_button, self.row, self._detail)
        self.box.children = (*filters, *leafing, self._splits, self.shown_code, self.style)
        self._filter()

    @property
    def code(self) -> str:
        """The calls that give these rows, and what is shown of them."""
        given = ", ".join(f"{name}={value!r}" for name, value in self._asked.items())
        rows, within = f"data.{self.split.value}", self.twin_in.value
        if within:
            rows = f"found.twins({self.split.value!r}, within={within!r})"
        lines = ["from ftkit.data import near_duplicates", "found = near_duplicates(data)"] if self.duplicates else []
        lines.append(f"rows = {rows}{f'.where({given})' if given else ''}")
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

    def _filter(self) -> None:
        """Take the rows that the controls ask for, from their first page on."""
        asked, within = {"label": self.label.value, "contains": self.contains.value}, self.twin_in.value
        self._asked = asked = {name: value for name, value in asked.items() if value}
        parts = {p.name: self.duplicates.twins(p.name, within) if within else p for p in self.data.parts}
        matching = {name: rows.where(**asked) if asked else rows for name, rows in parts.items()}
        self._counted["rows that pass the filter"] = matching.values()
        self.value = matching[self.split.value]
        self._turn(0)
        self.tell_listeners()

    def _turn(self, page: int) -> None:
        """Show a page, and look at its first row."""
        name, texts, n_all = self.split.value, self.value.texts, len(getattr(self.data, self.split.value))
        last = max(0, len(texts) - 1) // ROWS_A_PAGE
        self._page = min(max(0, page), last)
        self._on_page = on_page = range(len(texts))[self._page * ROWS_A_PAGE :][:ROWS_A_PAGE]  # positions in `value`
        self.earlier_button.disabled, self.later_button.disabled = self._page == 0, self._page == last
        offer(self.row, [(f"{i + 1}: {shorten(texts[i], 80)}", i) for i in on_page])
        self.row.disabled = not texts
        self._look()
        told = "All" if len(texts) == n_all else f"<b>{count(len(texts))}</b> of"
        rows = f"rows {count(on_page.start + 1)} to {count(on_page.stop)}, page {self._page + 1} of {last + 1}"
        care = " Look at test rows if you must, but decide nothing by them." if name == "test" else ""
        self.status.value = announced(f"{told} {count(n_all)} {name} rows{f'; {rows}' if texts else ''}.{care}")

    def _look(self) -> None:
        """Show the rows of this page, all of the chosen one, and how many there are."""
        rows, at = self.value.take(self._on_page), self.row.value
        texts = [excerpt(text, self.contains.value) for text in rows.texts]
        columns = [("Row", "", [count(i + 1) for i in self._on_page]), ("Text", "", texts)]
        columns.append(("Label", "label", map(escape, rows.named_labels())))
        if self.base:
            columns.append(("Tokens", "n", [n_tokens(self.base, text) for text in rows.texts]))
        self._table.value = grid(f"{self.data.name}, {self.split.value}", columns, [i == at for i in self._on_page])
        self._detail.value = "" if at is None else told_row(self.value.take([at]), self.base, self.duplicates)
        counts = [(what, *(count(len(part)) for part in parts)) for what, parts in self._counted.items()]
        splits = pd.DataFrame(counts, columns=["split", *(part.name for part in self.data.parts)])
        self._splits.value = table_html(splits, "The splits")
        self.show_code()

    def _find(self) -> None:
        """Compare all texts with each other, once; in a thread or not, so only traits are assigned."""
        n = sum(map(len, self.data.parts))
        self.say(f"Comparing {count(n)} texts with each other: some seconds, once. Go on looking meanwhile.")
        self.duplicates = near_duplicates(self.data)
        self.duplicates_button.disabled, self.twin_in.disabled = True, False
        parts, twins = self.data.parts, self.duplicates.twins
        alike = [{i for q in parts if q is not p for i in twins(p.name, q.name).ids} for p in parts]
        self._counted["rows with a near-duplicate in another split"] = alike
        self._look()
        self.say(self.duplicates.summary())


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
    n, n_cut, limit, more = len(pieces), sum(p.cut for p in pieces), base.max_tokens, _more(text)
    start = max(0, limit - _MOST_PIECES // 2) if n_cut else 0
    part = pieces[start : start + _MOST_PIECES]
    cut = f"<b>{count(n_cut)}{more}</b> of them ({percent(n_cut / max(n, 1))}) are cut: dashed and struck through."
    reads = f"{escape(base.name)} reads up to {limit}, so {cut if n_cut else 'all of it.'}"
    told = f"<b>{count(n)}{more}</b> tokens; {reads}"
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
    if not found:
        return told
    twins, alike = found.of(row.ids[0]), f"similarity {found.threshold:g} or more"
    if not len(twins):
        return f"{told}<p>No near-duplicate of this row ({alike}).</p>"
    near = twins.head(5)
    alikes, texts = near["Similarity"].map("{:.2f}".format), near["Text"].map(excerpt)
    # Another split or another label than the row's own is said in words.
    labels, splits = _beside(label, near["Label"], "label"), _beside(row.name, near["Split"], "split")
    columns = [("Similarity", "", alikes), ("Text", "", texts), ("Label", "label", labels), ("Split", "short", splits)]
    return told + grid(f"Near-duplicates of this row ({len(near)} of {count(len(twins))}; {alike})", columns)


def _beside(own: str, others: Iterable[str], what: str) -> list[str]:
    return [escape(other) + ("" if other == own else f" (another {what})") for other in others]


def _more(text: str) -> str:
    return " or more" if len(text) > MOST_CHARACTERS else ""
