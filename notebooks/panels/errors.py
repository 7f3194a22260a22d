"""The error browser: which answers are wrong and how sure they were, and which tokens one rests on (lesson 08)."""

import numpy as np
from ipywidgets import HTML, Button, Dropdown

from ftkit.data import Rows
from ftkit.data.splitting import one_hot
from ftkit.display import escape, percent
from ftkit.evaluation import Evaluation
from ftkit.record import Run
from ftkit.report.mistakes import VIEWS, Attributions, Mistakes, attributions
from ftkit.widgets.panel import announced, grid
from ftkit.widgets.rows import anything
from panels.views import ViewsPanel

_MOST_LABELS = 5


class ErrorsPanel(ViewsPanel):
    """Read the mistakes: the surest, the dearest, those that tuning made or mended; and the close calls.

    Looking scores nothing. Of several repeats, the probabilities are the mean.

    Parameters
    ----------
    after : Evaluation
        The answers to look at.
    before : Evaluation, optional
        Earlier answers to the same rows; more is offered with them.
    run : Run, optional
        Tells by a button which tokens an answer rests on. It should be what gave the answers, or one of several.

    Attributes
    ----------
    value : Rows
        The rows of the view, in its order.
    mistakes : Mistakes
        What is known of each answer.
    why : Attributions or None
        What the button found last.

    Raises
    ------
    FtkitError
        FT070, if the two were not scored on the same rows.
    """

    css_class = "ftkit-errors"
    why: Attributions | None = None
    _explained: int | None = None  # which row `why` is of

    def __init__(self, after: Evaluation, before: Evaluation | None = None, run: Run | None = None) -> None:
        self.mistakes, self._run = Mistakes(after=after, before=before), run
        self._each = found = self.mistakes.frame()
        found["told"] = found["answer"] + np.where(found["right"], "", " (wrong)")
        shown = {"Label": "label", "Answer": "told", "Sure": "sure"}
        if before:
            found["told before"] = found["before"] + np.where(found["right_before"], "", " (wrong)")
            shown["Before"] = "told before"
        views = {words: view for words, view in VIEWS.items() if before or "before" not in words}
        super().__init__(after.name, after.rows, found, views, shown)
        answers = anything("every answer", sorted(set(found["answer"])))
        self.answer = self.control(Dropdown, "Answer", self._filter, options=answers)
        self.why_button = self.control(Button, "Why this answer?", lambda: self.in_thread(self._explain))
        self.why_button.disabled = not run
        filters, told = (self.view, self.label, self.answer, self.contains), HTML(self.mistakes._repr_html_())
        self._arrange(filters, told, actions=[self.why_button])

    @property
    def code(self) -> str:
        """The calls that give these rows, and what the answer to the chosen one rests on."""
        (query, by, rising), answer = self._views[self.view.value], self.answer.value
        before, only = ", before=before" * bool(self.mistakes.before), f"\nfound = found[found['answer'] == {answer!r}]"
        why = f"\nattributions(run, rows.texts[{self.row.value}], {self._answer!r})" if self._run and self.rows else ""
        return f"""from ftkit.report.mistakes import Mistakes, attributions
found = Mistakes(after=after{before}).frame(){only if answer else ""}
found = found.query({query!r}).sort_values({by!r}, ascending={rising}, kind="stable")
rows = after.rows.take(found.index){self._where}{why}"""

    @property
    def static(self) -> Mistakes:
        """How many mistakes there are, and of which kinds."""
        return self.mistakes

    def run_blocking(self) -> Rows:
        """Find out here and now what the answer to the chosen row rests on, and return the rows of the view."""
        self.wait()
        self._explain()
        return self.value

    def retire(self) -> None:
        super().retire()
        self._run, self.why_button.disabled = None, True  # a kernel keeps every widget; it should not keep the model

    @property
    def _answer(self) -> str | None:
        """What was answered to the chosen row; None, its most probable label, where there may be several."""
        return None if self._all.kind == "multiple" else self._found["answer"][self._at]

    def _matching(self) -> Rows:
        answer, each = self.answer.value, self._each
        self._found = each[each["answer"] == answer] if answer else each
        return super()._matching()

    def _told(self, row: Rows) -> str:
        both = {"now": self.mistakes.after, "before": self.mistakes.before}
        proba = {when: answers.proba[:, self._at].mean(axis=0) for when, answers in both.items() if answers}
        own, order = one_hot(row.labels, row.n_labels)[0], np.argsort(-proba["now"], kind="stable")
        first = [i for place, i in enumerate(order) if place < _MOST_LABELS or own[i]]
        columns = [("Label", "name", [escape(row.label_names[i]) + " (its label)" * own[i] for i in first])]
        for when, p in proba.items():
            bars = [f'{percent(p[i])}<div style="width:{100 * p[i]:.1f}%"></div>' for i in first]
            columns.append((f"How probable {when}", "bar", bars))
        why = f"{announced(escape(self.why.summary()))}<p>{self.why.boxes()}</p>" if self._explained == self._at else ""
        return super()._told(row) + grid("The most probable labels", columns) + why

    def _explain(self) -> None:
        """Find the tokens that the answer rests on; in a thread or not, so only traits are assigned."""
        while self._run and (at := self._at) not in (None, self._explained):  # another row may be chosen meanwhile
            self.say("Working out which tokens the answer rests on: a second or so.")
            self.why, self._explained = attributions(self._run, self._all.texts[at], self._answer), at
            self._look()
        self._tell()
