"""The training panel: start a run, watch it, stop it, and read its result beside a baseline and earlier runs."""

import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
from ipywidgets import HTML, Button, Dropdown, HBox, VBox

from ftkit import baseline as baselines
from ftkit import report, training
from ftkit.data import Splits
from ftkit.display import Note, count, escape, percent, seconds, shorten, table_html
from ftkit.evaluation import Evaluation, Predictor, evaluate
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.record import Run
from ftkit.widgets.freeze import FreezePanel
from ftkit.widgets.live import Live
from ftkit.widgets.panel import Panel, announced, offer

#: Runs of earlier panels for the same data stay comparable for as long as the kernel lives.
_REMEMBERED: dict[str, list["Entry"]] = {}
#: What a run may have to beat.
Rival = Evaluation | Predictor
#: One training at a time: two would share the processor, and the random numbers that make a run repeatable.
_TRAINING = threading.Lock()
_COLUMNS = ["run", "plan", "kept epoch", "valid right (%)", "time", "ended early"]
_NOTE = "These rows also chose the epoch that was kept, which flatters a little: judge once, at the end, on test."


class Entry(NamedTuple):
    """What is remembered of a run when its model is gone: enough to list it and to compare with it."""

    label: str
    answers: Evaluation
    row: tuple[Any, ...]


class WorkPanel(Panel):
    """A panel with a button that starts its work, in a thread, and a button that stops it.

    A subclass defines `work`, which runs in a thread or not, and trains within `alone`.

    Parameters
    ----------
    key : str
        As for a `Panel`.
    start, stop : str
        What the buttons say.
    """

    #: What the start button starts with: read when it is clicked, and given to `work`.
    plan: Any = None

    def __init__(self, key: str, start: str, stop: str) -> None:
        super().__init__(key)
        self._retired = False
        self.start_button = self.control(Button, start, self._start_clicked, button_style="primary")
        self.stop_button = self.control(Button, stop, self._stop_clicked, disabled=True)
        self.box.add_class("ftkit-training")

    def run_blocking(self) -> Any:
        """Do the work here and now, and return the value; work that is under way is waited for.

        Interrupt the kernel to stop: what there is by then is kept.
        """
        if self.busy:
            self.wait()
        else:
            self.stopping = False
            self._work(self.plan)
        return self.value

    def retire(self) -> None:
        self._retired = True
        super().retire()
        self.wait(5)
        self.start_button.disabled = self.stop_button.disabled = True
        self.say("A newer panel has taken this one's place.")

    def alone(self, told: str, train: Callable[..., Any], *given: Any, **how: Any) -> Any:
        """Wait until no other panel trains, say what is done, and return what `train` returns for the rest.

        FT057 is raised, if it is stopped while it waits.
        """
        while not _TRAINING.acquire(timeout=0.2):
            if self.stopping:
                raise FtkitError("FT057", "Stopped before it began.")
            self.say("Waiting for the training in another panel to end.")
        try:
            self.say(f"{told} To stop: the button; where a cell waits for it, the square in the toolbar.")
            return train(*given, **how)
        finally:
            _TRAINING.release()

    def _start_clicked(self) -> None:
        if not self.start_button.disabled:
            self.wait(1)  # the button is given back an instant before its thread has ended
        if not self.busy:
            self.start_button.disabled, self.stop_button.disabled = True, False
            # The plan as the freeze panel stands now, not as it will stand later.
            self.in_thread(functools.partial(self._work, self.plan))

    def _stop_clicked(self) -> None:
        self.stop_button.disabled = True
        self.say("Stopping. What there is by now is kept.")  # before the work can say that it has stopped
        self.stop()

    def _work(self, plan: Any) -> None:
        self.start_button.disabled = True
        try:
            self.work(plan)
        except Exception as error:
            self.show_error(error)
            raise
        finally:
            self.start_button.disabled, self.stop_button.disabled = self._retired, True


class FitPanel(WorkPanel):
    """A panel that tunes a base on data and shows the course of each run, beside what the run has to beat.

    Parameters
    ----------
    base : Base
    data : Splits
    baseline : Evaluation, Predictor or None
        As for a `TrainingPanel`.
    start, stop : str
        What the buttons say.
    """

    def __init__(self, base: Base, data: Splits, baseline: Rival | None, start: str, stop: str) -> None:
        if isinstance(baseline, Evaluation) and not _same_rows(baseline, data):
            raise FtkitError("FT070", f"{baseline.name!r} was not scored on data.valid; evaluate it there first.")
        super().__init__(data.name, start, stop)
        self.base, self.data, self._live = base, data, HTML()
        # Scored here, not at the start of a run: a run can be stopped at any time, and this cannot.
        predictor = baselines.majority(data) if baseline is None else baseline
        self._baseline = predictor if isinstance(predictor, Evaluation) else evaluate(predictor, data.valid)

    def fit(self, plan: Plan) -> Run:
        """Train when no other panel does, and show it."""
        live = Live(self._live, plan, (self._baseline.name, self._baseline.accuracy))
        watched = {"on_event": live.on_event, "stop": lambda: self.stopping}
        try:
            run = self.alone("Training.", training.fit, self.base, self.data, plan, **watched)
        except Exception:
            live.draw("Ended without a result.")
            raise
        live.draw(f"{count(run.n_steps)} steps in {seconds(run.train_s)}.")
        return run


class TrainingPanel(FitPanel):
    """Train on a button, watch the curves, stop and keep the best; then see whether it helped.

    Only the last run's model is kept. Of earlier runs there are the answers on `valid`, so that every run can be
    compared with every earlier one. `test` is not opened. A later panel for data of the same name stops this one's run.

    Parameters
    ----------
    base : Base
        The pretrained model; `fit` works on a copy of it.
    data : Splits
    plan : Plan or FreezePanel
        What to train. A freeze panel is read when the training starts.
    baseline : Evaluation or Predictor, optional
        What the run has to beat: an evaluation on `data.valid`, or anything that can be scored on it. By default the
        most frequent class; a frozen probe asks for more.

    Attributes
    ----------
    value : Run or None
        The last run.

    Raises
    ------
    FtkitError
        FT070, if the baseline was not scored on `data.valid`.
    """

    css_class = "ftkit-training"
    value: Run | None = None

    def __init__(self, base: Base, data: Splits, plan: Plan | FreezePanel, *, baseline: Rival | None = None) -> None:
        super().__init__(base, data, baseline, "Start training", "Stop and keep the best")
        self._source, self._filling = plan, False
        self._entries = _REMEMBERED.setdefault(data.name, [])
        self._entries[:] = [entry for entry in self._entries if _same_rows(entry.answers, data)]

        self.compare_with = self.control(Dropdown, "Compare with", self._show_result)
        self._result, self._table, self._after = HTML(), HTML(), VBox()
        buttons = HBox([self.start_button, self.stop_button])
        self.box.children = (buttons, self.status, self._live, self._after, self.shown_code, self.style)
        if isinstance(plan, Panel):
            plan.on_value(lambda value: self.show_code())
        self.show_code()
        self.say("Nothing has been trained here yet.")
        self._show_entries()

    @property
    def plan(self) -> Plan:
        """What the next start would train."""
        return self._source.value if isinstance(self._source, Panel) else self._source

    @property
    def code(self) -> str:
        """The calls that train and compare."""
        return f"run = ft.fit(base, data, ft.{self.plan.code()})\nft.compare(baseline, run.on_valid)"

    @property
    def static(self) -> Run | Note:
        """The run; before there is one, a sentence that says so."""
        return self.value or Note(text=f"Nothing has been trained here yet. The plan: {self.plan.code()}")

    def retire(self) -> None:
        super().retire()
        self.value = None

    def work(self, plan: Plan) -> None:
        """Train, keep the run in the place of the one before, and show what came of it."""
        run = self.fit(plan)
        if self._retired:
            return
        self.value = run
        number, code = 1 + max((entry.row[0] for entry in self._entries), default=0), run.plan.code()
        answers = dataclasses.replace(run.on_valid, name=f"run {number}")
        right, took = f"{100 * answers.accuracy:.1f}", seconds(run.train_s)
        row = (number, shorten(code, 200), run.best_epoch, right, took, run.stopped or "")
        self._entries.append(Entry(f"{answers.name}: {code}", answers, row))
        del self._entries[:-30]  # so many are remembered
        # First what is known, since the intervals of the comparison take a second where there are many classes.
        self._result.value = ""
        ended = f" It ended early: {run.stopped}." if run.stopped else ""
        kept = f"Kept epoch {run.best_epoch}, with {percent(answers.accuracy)} of valid right."
        found = "".join(f" {f.code}: {f.message}" for f in run.findings)
        self.say(f"Finished {answers.name}.{ended} {kept}{found}")
        self._show_entries()
        self.tell_listeners()

    def _show_entries(self) -> None:
        """List the runs, and offer the earlier ones to compare the last one with."""
        if self._entries:
            rows = pd.DataFrame([entry.row for entry in reversed(self._entries)], columns=_COLUMNS)
            self._table.value = table_html(rows, "Runs of this session, the latest first")
            self._after.children = [self.compare_with, self._result, self._table] if self.value else [self._table]
        if self.value:
            options = [(self._baseline.name, self._baseline), *((e.label, e.answers) for e in self._entries[-2::-1])]
            # What was chosen stays chosen.
            at = next((i for i, (_, answers) in enumerate(options) if answers is self.compare_with.value), 0)
            self._filling = True
            offer(self.compare_with, options, at)
            self._filling = False
            self._show_result()

    def _show_result(self) -> None:
        """Set the last run beside what was chosen to compare it with."""
        before = self.compare_with.value
        if not self._filling and before is not None:
            after = self._entries[-1].answers
            ((caption, scores),) = report.scoreboard(before, after).tables()
            told, _, why = report.compare(before, after).summary().partition(". ")
            verdict = announced(f"<b>{escape(told)}.</b> {escape(why)}")
            self._result.value = f"{verdict}{table_html(scores, caption)}<p><small>{_NOTE}</small></p>"


def _same_rows(answers: Evaluation, data: Splits) -> bool:
    return answers.rows.texts == data.valid.texts and answers.rows.ids == data.valid.ids
