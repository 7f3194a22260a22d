"""The label panel: doubtful labels of train, decided one by one by somebody who reads them (lesson 10)."""

from pathlib import Path

import numpy as np
import pandas as pd
from ipywidgets import HTML, Button, Dropdown

from ftkit.checks.labels import DROP, KEEP, Decisions, LabelIssues, one_label_a_row
from ftkit.data import Splits
from ftkit.data.splitting import wording
from ftkit.display import count, escape
from ftkit.widgets.panel import offer
from ftkit.widgets.rows import ROWS_A_PAGE
from panels.views import ViewsPanel

#: Decisions that are in no file outlive their panel, by data and labels, for as long as the kernel lives.
_REMEMBERED: dict[tuple, Decisions] = {}
_ROWS = {"all doubtful rows": "doubtful", "undecided": "doubtful and decision == ''", "decided": "decision != ''"}
_ROWS |= {"every train row by quality": "index >= 0"}
_SHOWN = {"Label": "label", "Suggested": "suggested", "Quality": "quality", "Decision": "told"}
_QUALITY = "Quality is how probable such a model finds the label that the row has."
_MEND = """mended = decisions.mended(data)
makers = {
    "labels as they are": lambda splits: ft.probe(base, splits),
    "labels mended": lambda splits: ft.probe(base, decisions.mended(splits)),
}
ft.compare(*ft.cross_validate(makers, data).values())"""


class LabelsPanel(ViewsPanel):
    """Read the doubtful rows of train and decide: keep the label, take the suggestion or another one, drop the row.

    Each button goes on to the next undecided row. Nothing is trained here.

    Parameters
    ----------
    data : Splits
        One label a row.
    issues : LabelIssues
        What `label_issues` found in it.
    marks : str or Path, optional
        A CSV file that keeps the decisions: it is read first, and each decision is written at once. Without one they
        are kept for as long as the kernel lives.

    Attributes
    ----------
    value : Decisions
        What was decided so far.
    rows : Rows
        The rows that pass the filter.

    Raises
    ------
    FtkitError
        As `Decisions.read`, if the file is damaged; it is left as it is.
    ValueError
        If a row may have several labels, the issues are those of other rows, or a decision in the file is no label.
    """

    css_class = "ftkit-labels"
    value = Decisions()

    def __init__(self, data: Splits, issues: LabelIssues, marks: str | Path | None = None) -> None:
        one_label_a_row(data, "LabelsPanel() shows")
        rows, names = data.train, np.array(data.label_names, dtype=object)
        if issues.rows.texts != rows.texts:
            raise ValueError("issues: expected what label_issues() found in these data, found that of other rows")
        self._marks, self._of = None if marks is None else Path(marks).expanduser(), (data.name, data.label_names)
        found = pd.DataFrame({"label": rows.named_labels(), "suggested": names[issues.suggested]})
        found["quality"], found["doubtful"] = issues.quality, np.isin(np.arange(len(rows)), issues.order)
        found["wording"], made = [wording(text) for text in rows.texts], self._kept()
        views = {words: (query, "quality", True) for words, query in _ROWS.items()}
        super().__init__(data.name, rows, found, views, _SHOWN)
        self._take(made)
        self.decision = self.control(Dropdown, "Decision", lambda: self._decide(self.decision.value))
        self.keep_button = self.control(Button, "Keep", lambda: self._decide(KEEP))
        self.take_button = self.control(Button, "Take the suggestion", lambda: self._decide(None))
        self.drop_button = self.control(Button, "Drop", lambda: self._decide(DROP))
        actions = (self.keep_button, self.take_button, self.drop_button, self.decision)
        told = HTML(f"<p>{escape(issues.summary())} {_QUALITY}</p>")
        self._arrange((self.view, self.label, self.contains), told, actions=actions)

    @property
    def code(self) -> str:
        """The calls that mend the labels, and ask what that is worth."""
        decided = self._found["decision"][self._found["decision"] != ""]
        made = f"Decisions().decide(data.train.take({list(decided.index)}), {list(decided)})"
        if self._marks and len(decided):
            made = f"Decisions.read({str(self._marks)!r})"
        return f"from ftkit.checks.labels import Decisions\ndecisions = {made}\n{_MEND}"

    def _look(self) -> None:
        super()._look()
        if self._at is not None:
            row, names = self._found.loc[self._at], self._all.label_names
            told = [("undecided", ""), (f"keep: {row['label']}", KEEP), ("drop the row", DROP)]
            told += [(name, name) for name in sorted(names, key=lambda name: name != row["suggested"])]
            offer(self.decision, told, [what for _, what in told].index(row["decision"]))

    def _kept(self) -> Decisions:
        """Return what was decided; a file says what holds, since somebody may have edited it meanwhile."""
        if self._marks and self._marks.exists():
            return Decisions.read(self._marks).checked(self._of[1])
        return _REMEMBERED.get(self._of, Decisions())

    def _take(self, made: Decisions) -> None:
        self.value, found = made, self._found
        found["decision"] = made.made["decision"].reindex(found["wording"], fill_value="").to_numpy()
        found["told"] = found["decision"].replace("", "undecided")
        decided = found["decision"][found["doubtful"]] != ""
        self._remark = f" {count(decided.sum())} of {count(len(decided))} doubtful rows are decided."

    def _decide(self, what: str | None) -> None:
        """Note a decision about the chosen row, by default its suggestion, and look at the next that is undecided."""
        if (place := self.row.value) is None:
            return
        what = self._found["suggested"][self._at] if what is None else what
        made = self._kept().decide(self._all.take([self._at]), what)
        if self._marks:
            made.write(self._marks)
        else:
            _REMEMBERED[self._of] = made
        self._take(made)
        others = self._found["decision"][np.roll(self._order, -place - 1)]
        left = others.index[others == ""] if what else []
        self.rows = self._matching()
        place = self._order.get_loc(left[0]) if len(left) else min(place, len(self.rows) - 1)
        self._turn(*divmod(place, ROWS_A_PAGE))
        self.tell_listeners()
