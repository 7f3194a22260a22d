"""The data panel: rows by split, label and text, what the model reads of them, and their near-duplicates."""

from collections.abc import Iterable

import pandas as pd
from ipywidgets import HTML, Button, Dropdown

from ftkit.data import NearDuplicates, Rows, Splits, near_duplicates
from ftkit.display import count, escape, percent, table_html
from ftkit.pretrained import Base
from ftkit.pretrained.pieces import boxes, tokens
from ftkit.widgets.panel import Column, grid
from ftkit.widgets.rows import MOST_CHARACTERS, ROWS_A_PAGE, RowsPanel, anything, excerpt, or_more, whole

__all__ = ["MOST_CHARACTERS", "ROWS_A_PAGE", "DataPanel", "excerpt", "n_tokens", "told_row", "told_tokens"]

_MOST_PIECES = 100


class DataPanel(RowsPanel):
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
    duplicates: NearDuplicates | None = None

    def __init__(self, data: Splits, base: Base | None = None, *, key: str | None = None) -> None:
        super().__init__(data.name, data.train, key)
        self.data, self.base = data, base
        self._counted = {"rows": data.parts}  # of each split, in words and as something that has a length

        splits = [part.name for part in data.parts]
        self.split = self.control(Dropdown, "Split", self._filter, options=splits)
        # In test, say: the rows of the chosen split that have a near-duplicate there. It waits for the button.
        anywhere = anything("any split, or none", splits)
        self.twin_in = self.control(Dropdown, "Near-duplicate in", self._filter, options=anywhere, disabled=True)
        self.duplicates_button = self.control(Button, "Find near-duplicates", lambda: self.in_thread(self._find))
        self._splits = HTML()
        self._arrange((self.split, self.label, self.contains, self.duplicates_button, self.twin_in), self._splits)

    @property
    def code(self) -> str:
        """The calls that give these rows, and what is shown of them."""
        rows, within = f"data.{self.split.value}", self.twin_in.value
        if within:
            rows = f"found.twins({self.split.value!r}, within={within!r})"
        lines = ["from ftkit.data import near_duplicates", "found = near_duplicates(data)"] if self.duplicates else []
        lines.append(f"rows = {rows}{self._where}")
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

    def _matching(self) -> Rows:
        asked, within = self._asked, self.twin_in.value
        parts = {p.name: self.duplicates.twins(p.name, within) if within else p for p in self.data.parts}
        matching = {name: rows.where(**asked) if asked else rows for name, rows in parts.items()}
        self._counted["rows that pass the filter"] = matching.values()
        self._all = getattr(self.data, self.split.value)
        return matching[self.split.value]

    def _columns(self, rows: Rows) -> list[Column]:
        columns = [("Label", "label", map(escape, rows.named_labels()))]
        if self.base:
            columns.append(("Tokens", "n", [n_tokens(self.base, text) for text in rows.texts]))
        return columns

    def _told(self, row: Rows) -> str:
        return told_row(row, self.base, self.duplicates)

    def _look(self) -> None:
        """Show the rows of this page, all of the chosen one, and how many there are."""
        super()._look()
        counts = [(what, *(count(len(part)) for part in parts)) for what, parts in self._counted.items()]
        splits = pd.DataFrame(counts, columns=["split", *(part.name for part in self.data.parts)])
        self._splits.value = table_html(splits, "The splits")

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


def n_tokens(base: Base, text: str) -> str:
    """Return how many tokens a text has, and in words whether some of them are cut."""
    n = len(base.tokenizer(text[:MOST_CHARACTERS], verbose=False)["input_ids"])
    return f"{count(n)}{or_more(text)}{', cut' if n > base.max_tokens else ''}"


def told_tokens(base: Base, text: str) -> str:
    """Return a text's tokens as HTML: a sentence on what is cut, and a box for each token."""
    (pieces,) = tokens(base, [text[:MOST_CHARACTERS]]).pieces
    n, n_cut, limit, more = len(pieces), sum(p.cut for p in pieces), base.max_tokens, or_more(text)
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
    told = whole(row) + (told_tokens(base, text) if base else "")
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
