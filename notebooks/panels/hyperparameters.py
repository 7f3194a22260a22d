"""The hyperparameter panel: turn the dials, queue what they say, and see what became of it (lesson 06)."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from ipywidgets import HTML, Button, Checkbox, Dropdown, HBox

from ftkit.data import Splits
from ftkit.display import Record, Tables, shorten, table_html
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.widgets.training import FitPanel, Rival

#: The fields of a plan that can be chosen, what their lists are called, and what these offer.
_FIELDS = "lr head_lr batch_size epochs weight_decay warmup train seed".split()
_WORDS = "Learning rate,Head's learning rate,Batch size,Epochs,Weight decay,Warm-up,What may move,Seed".split(",")
_VALUES = {"batch_size": [4, 8, 16, 32, 64, 128], "epochs": [1, 2, 3, 4, 6, 8, 12, 16], "seed": list(range(10))}
_VALUES |= {"weight_decay": [0.0, 0.01, 0.1, 1.0], "warmup": [0.0, 0.05, 0.1, 0.2, 0.5]}
_FACTORS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)  # of the given rates
#: Trials of earlier panels for the same base and data, and the plans that still wait.
_REMEMBERED: dict[tuple[str, str], tuple[list["Trial"], list[Plan]]] = {}


class Trial(NamedTuple):
    """A plan, and what became of it; its model is not kept.

    Parameters
    ----------
    plan : Plan
    state : str
        `"queued"`, `"running"`, `"done"`, `"stopped"`, or `"failed"` with a colon and why.
    found : mapping of str to float
        Of the epoch that was kept: its number, `loss`, `accuracy` and `macro_f1` on `valid`; and `seconds`.
    """

    plan: Plan
    state: str = "queued"
    found: Mapping[str, float] = {}


class Trials(Record):
    """Plans that were tried, or wait to be, in this order; no model is kept, and `test` is not opened.

    Parameters
    ----------
    plan : Plan
        Where they started from; its `monitor` is the score.
    trials : tuple of Trial
    """

    plan: Plan
    trials: tuple[Trial, ...] = ()

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plan of each trial."""
        return tuple(trial.plan for trial in self.trials)

    @property
    def best(self) -> Trial | None:
        """The trial with the best score on `valid`, of those that are done; None if there is none."""
        score, sign = self.plan.monitor, -1 if self.plan.monitor == "loss" else 1
        done = [trial for trial in self.trials if trial.state == "done"]
        return max(done, key=lambda trial: sign * trial.found[score], default=None)

    def differs(self, plan: Plan) -> str:
        """Return what a plan has otherwise than the one that the trials started from; the seed is not told."""
        others = [f"{n}={v!r}" for n, v in vars(plan).items() if n != "seed" and v != getattr(self.plan, n)]
        return ", ".join(others) or "nothing"

    def summary(self) -> str:
        states, best, score = Counter(t.state.split(":")[0] for t in self.trials), self.best, self.plan.monitor
        did = f"Trials: {', '.join(f'{n} {state}' for state, n in states.items()) or 'none yet'}."
        if not best:
            return did
        n, found = states["done"], f"trial {1 + self.trials.index(best)}, {score} {best.found[score]:.3f}"
        luck = f", chosen for it out of {n}, so that it looks better on valid than it is" if n > 1 else ""
        return f"{did} Best on valid: {found}{luck}. Test was not opened."

    def frame(self) -> pd.DataFrame:
        """Return one row a trial: its number, what differs, seed, kept epoch, scores on `valid`, seconds, state."""
        found = dict.fromkeys(["kept epoch", "accuracy", self.plan.monitor, "seconds"])
        plans = [(n, self.differs(plan), plan.seed) for n, plan in enumerate(self.plans, 1)]
        rows = [(*plan, *map(t.found.get, found), t.state) for plan, t in zip(plans, self.trials, strict=True)]
        return pd.DataFrame(rows, columns=["trial", "differs in", "seed", *found, "state"], dtype=object)

    def tables(self, by: str = "trial", descending: bool = False) -> Tables:
        frame = self.frame().sort_values(by, ascending=not descending, kind="stable")
        shown = frame.map(lambda v: "" if v is None else f"{v:.4g}" if isinstance(v, float) else v)
        return [(f"Trials by {by}, {'descending' if descending else 'ascending'} (scores on valid)", shown)]


def presets(plan: Plan) -> dict[str, Plan]:
    """Return what to begin with, in words, out of a plan."""
    slow, fast = ({name: _times(getattr(plan, name), by) for name in _FIELDS[:2]} for by in (0.1, 3))
    return {
        "as given": plan,
        "careful: a tenth of the rates, twice the epochs": plan.but(**slow, epochs=2 * plan.epochs),
        "bold: three times the rates": plan.but(**fast),
        "small batches: a quarter of the rows": plan.but(batch_size=max(1, plan.batch_size // 4)),
        "probe only: the head": plan.but(train="head", rates={}),
    }


def _times(rate: float, by: float) -> float:
    return min(1.0, float(f"{by * rate:.2g}"))


class HyperparameterPanel(FitPanel):
    """Choose settings, queue them, run the queue, and compare what became of them on `valid`.

    No model is kept, and `test` is not opened. Trials last as long as the kernel lives: a later panel for the same base
    and data has them too. It takes this one's place, and stops its run; what is queued then waits.

    Parameters
    ----------
    base : Base
        The pretrained model; `fit` works on a copy of it.
    data : Splits
    plan : Plan
        Where the controls start; fields that have no control are kept as they are. Its `monitor` is the score.
    baseline : Evaluation or Predictor, optional
        What the curves are drawn beside, as for a `TrainingPanel`.

    Attributes
    ----------
    value : Trials
        What was tried, is tried, and waits.
    plan : Plan
        What the controls say.

    Raises
    ------
    FtkitError
        FT070, if the baseline was not scored on `data.valid`.
    """

    css_class = "ftkit-hyperparameters"

    def __init__(self, base: Base, data: Splits, plan: Plan, *, baseline: Rival | None = None) -> None:
        super().__init__(base, data, baseline, "Run the queue", "Stop this trial")
        self._start = plan
        self._trials, self._queue = _REMEMBERED.setdefault((base.name, data.fingerprint()), ([], []))
        n_blocks = sum(group.startswith("block ") for group in base.groups)
        offered = _VALUES | {name: [_times(getattr(plan, name), by) for by in _FACTORS] for name in _FIELDS[:2]}
        offered["train"] = ["head", *(f"top {n}" for n in range(1, n_blocks)), "blocks", "all"]
        self.settings = self.control(Dropdown, "Settings", lambda: self._turn(self.settings.value or self.plan))
        words = zip(_FIELDS, _WORDS, strict=True)
        self.fields = {n: self.control(Dropdown, word, self._show, options=offered[n]) for n, word in words}
        self.add_button = self.control(Button, "Add to the queue", lambda: self._add(self.plan))
        self.again_button = self.control(Button, "Add with the next seed", self._again)
        self.empty_button = self.control(Button, "Empty the queue", self._empty)
        self.sort_by = self.control(Dropdown, "Sort by", self._show, options=list(self.value.frame()))
        self.descending = self.control(Checkbox, "Descending", self._show, indent=False)
        self._table = HTML()
        queue = HBox([self.add_button, self.again_button, self.empty_button, self.start_button, self.stop_button])
        shown = (queue, self.status, self._live, self.sort_by, self.descending, self._table, self.shown_code)
        self.box.children = (self.settings, *self.fields.values(), *shown, self.style)
        self._turn(plan)

    @property
    def value(self) -> Trials:
        """What was tried, is tried, and is queued."""
        return Trials(plan=self._start, trials=(*self._trials, *map(Trial, self._queue)))

    @property
    def plan(self) -> Plan:
        """What the controls say; rates of single groups hold for what moved as given."""
        chosen = {name: control.value for name, control in self.fields.items()}
        return self._start.but(**chosen, rates=self._start.rates if chosen["train"] == self._start.train else {})

    @property
    def code(self) -> str:
        """The call that runs what the controls say."""
        return f"run = ft.fit(base, data, ft.{self.plan.code()})"

    def work(self, plan: Plan) -> None:
        """Run what is queued, one after another; in a thread or not, so only traits are assigned."""
        while self._queue and not self.stopping:
            plan, state, found, place = self._queue.pop(0), "stopped", {}, len(self._trials)
            self._trials.append(Trial(plan, "running"))
            self._show()
            try:
                run = self.fit(plan)
                kept = run.history[run.best_epoch]
                found = {**kept, "kept epoch": kept["epoch"], "loss": kept["valid_loss"], "seconds": run.train_s}
                broke = [f"failed: {f.code} {f.message}" for f in run.findings if f.code == "FT055"]
                self.stopping = self.stopping or run.stopped == "interrupted"
                state = broke[0] if broke else "stopped" if run.stopped and self.stopping else "done"
            except Exception as error:
                if getattr(error, "code", "") != "FT057":
                    state = f"failed: {str(error) or repr(error)}"
            finally:
                self._trials[place] = Trial(plan, shorten(state, 200), found)
                self._show()
            self.tell_listeners()

    def _add(self, plan: Plan) -> None:
        self._queue.append(plan)
        self._show()

    def _again(self) -> None:
        """Queue what the controls say with the next seed after those that it was tried with."""
        seeds = [plan.seed for plan in self.value.plans if plan.but(seed=self.plan.seed) == self.plan]
        self._add(self.plan.but(seed=1 + max(seeds, default=self.plan.seed)))

    def _empty(self) -> None:
        self._queue.clear()
        self._show()

    def _turn(self, plan: Plan) -> None:
        """Set the controls to a plan; a value that a list does not hold is added to it."""
        for name, control in self.fields.items():
            value, offered = getattr(plan, name), [*control.options, getattr(plan, name)]
            if value not in control.options:
                control.options = offered if name == "train" else sorted(offered)
            control.value = value
        self._show()

    def _show(self) -> None:
        """Bring what is shown up to date; what did not change is not sent to the page again."""
        trials, plan = self.value, self.plan
        tried = [(f"trial {n}: {trials.differs(p)}, seed {p.seed}", p) for n, p in enumerate(trials.plans, 1)]
        options = [("my own choice", ""), *presets(self._start).items(), *tried]
        if list(self.settings.options) != options:
            self.settings.options = options
        self.settings.index = next((i for i, (_, offered) in enumerate(options) if offered == plan), 0)
        ((caption, frame),) = trials.tables(self.sort_by.value, self.descending.value)
        self._table.value = table_html(frame, caption)
        self.say(trials.summary())
        self.show_code()
