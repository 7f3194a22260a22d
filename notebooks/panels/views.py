"""What the panels of errors and of labels share: views of rows by what was found about each."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from ipywidgets import Dropdown

from ftkit.data import Rows
from ftkit.display import escape, percent
from ftkit.widgets.panel import Column
from ftkit.widgets.rows import RowsPanel, whole


class ViewsPanel(RowsPanel):
    """Rows of which something was found: views of them, and what was found beside each text.

    Parameters
    ----------
    name : str
        What the rows are of, above their table.
    rows : Rows
        What there is to look at.
    found : DataFrame
        What was found about each of `rows`, in their order. It is kept, and may be changed.
    views : mapping of str to (str, str, bool)
        The views in words; for each which rows are in it (a query of `found`), the column that sorts them, and whether
        the smallest come first.
    shown : mapping of str to str
        For each column of the table its heading, and the column of `found`: of shares of one, or else of text.
    """

    def __init__(self, name: str, rows: Rows, found: pd.DataFrame, views: Mapping[str, tuple], shown: Mapping) -> None:
        super().__init__(name, rows)
        self._found, self._views, self._shown = found, views, shown
        self.view = self.control(Dropdown, "Show", self._filter, options=list(views))

    @property
    def _at(self) -> int | None:
        """The place of the chosen row among all rows."""
        return None if self.row.value is None else int(self._order[self.row.value])

    def _matching(self) -> Rows:
        (query, by, rising), kept = self._views[self.view.value], set(self._all.where(**self._asked).ids)
        found = self._found[[self._all.ids[i] in kept for i in self._found.index]]
        self._order = found.query(query).sort_values(by, ascending=rising, kind="stable").index
        return self._all.take(self._order)

    def _columns(self, rows: Rows) -> list[Column]:
        part = self._found.loc[self._order[self._on_page.start : self._on_page.stop]]
        looks = {heading: "n" if part[column].dtype == float else "label" for heading, column in self._shown.items()}
        return [(h, look, [escape(_told(v)) for v in part[self._shown[h]]]) for h, look in looks.items()]

    def _told(self, row: Rows) -> str:
        facts = {heading.lower(): _told(self._found[column][self._at]) for heading, column in self._shown.items()}
        return f'<div role="status">{whole(row, **facts)}</div>'  # read aloud, while the hand stays on its control


def _told(value: Any) -> str:
    return percent(value) if isinstance(value, float) else value
