"""What a search may try, and what came of it: every plan with its score, the best, and what mattered."""

from __future__ import annotations

import dataclasses
import difflib
import math
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ftkit import plots
from ftkit.display import Record, count, percent, record, seconds
from ftkit.findings import FtkitError
from ftkit.plan import Plan

STATES = ("complete", "pruned", "failed")
#: Plans below which no share is told: PED-ANOVA looks at the best third, and wants five there.
ENOUGH = 15
#: With another score or seed than the plan's, trials would not compare, or luck would be searched for.
FIXED = ("monitor", "seed")

Space = Mapping[str, list | tuple]


def checked(space: Mapping[str, Any], plan: Plan, fixed: tuple[str, ...] = FIXED) -> Space:
    """Return a space with its values as a plan holds them: lists are choices, tuples the two ends of a range.

    Raises
    ------
    FtkitError
        FT073, naming the field, if it is none that can be searched (with the nearest), or its values are neither;
        FT050 if a value is out of the field's range.

    Examples
    --------
    >>> checked({"train": ["head", "top 1"], "lr": (1e-5, 1e-3)}, Plan())
    {'train': ['head', 'top 1'], 'lr': (1e-05, 0.001)}
    """
    fields = [f.name for f in dataclasses.fields(Plan) if f.name not in fixed]
    for name, values in (space or {"": ()}).items():
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1, cutoff=0)[0]
            never = f"{', '.join(fixed)} stay as planned"
            raise FtkitError("FT073", f"{name!r} is no field to search; the nearest is {near!r} ({never}).")
        ends = isinstance(values, tuple) and [type(v) in (int, float) and math.isfinite(v) for v in values]
        if not (values[0] < values[1] if ends == [True, True] else values and isinstance(values, list)):
            raise FtkitError("FT073", f"{name!r}: expected a list of choices, or (low, high); found {values!r}.")
    return {n: type(values)(getattr(plan.but(**{n: v}), n) for v in values) for n, values in space.items()}


@record
class Trial(Record):
    """One plan that was tried.

    Parameters
    ----------
    number : int
        Its place in the order of asking, from 0; numbers of trials that were interrupted are missing.
    plan : Plan
    score : float or None
        What the plan monitors, on `valid`, as a mean over the seeds; of a pruned trial the best until then. None where
        it failed.
    seconds : float
        Wall time.
    epochs : int
        Whole epochs that were run, over all seeds.
    state : str
        `"complete"`, `"pruned"` (ended early, as it looked poor) or `"failed"`.
    why : str
        Why it is not complete, or was not run.
    """

    number: int
    plan: Plan
    score: float | None
    seconds: float
    epochs: int
    state: str
    why: str

    @property
    def told(self) -> str:
        """The score as it is shown."""
        shown = percent if self.plan.monitor != "loss" else "{:.3f}".format
        return "" if self.score is None else shown(self.score)

    def summary(self) -> str:
        took = f"{self.state}{f' ({self.why})' if self.why else ''}, {seconds(self.seconds)}"
        return f"Trial {self.number}, {self.plan.code()}: {self.told or 'no score'}, {took}."


@record
class Sweep(Record):
    """The trials of a search; no weights are kept.

    Parameters
    ----------
    trials : tuple of Trial
        In the order of asking.
    plan : Plan
        The plan that was varied; its `monitor` is the score.
    space : mapping of field to list or tuple
        What was varied; empty where the plans were given.
    n_train : int
        Rows in `train`.
    stopped : str or None
        Why the search ended early, if it did.
    """

    trials: tuple[Trial, ...]
    plan: Plan
    space: Space
    n_train: int
    stopped: str | None = None

    @property
    def direction(self) -> str:
        """Whether a good score is high or low."""
        return "minimize" if self.plan.monitor == "loss" else "maximize"

    @property
    def asks(self) -> dict[str, BaseDistribution]:
        """What Optuna draws each field from: choices by their place in the list, rates on a logarithmic scale."""
        asks: dict[str, BaseDistribution] = {}
        for name, values in self.space.items():
            kind = IntDistribution if isinstance(values[0], int) else FloatDistribution
            ends = {"low": values[0], "high": values[-1], "log": name in ("lr", "head_lr")}
            asks[name] = CategoricalDistribution(range(len(values))) if isinstance(values, list) else kind(**ends)
        return asks

    def planned(self, drawn: Mapping[str, Any]) -> Plan:
        """Return the plan that was drawn from `asks`, its numbers short enough to be copied."""
        values = {n: self.space[n][v] for n, v in drawn.items() if isinstance(self.space[n], list)}
        numbers = {n: type(v)(np.clip(float(f"{v:.3g}"), *self.space[n])) for n, v in drawn.items() if n not in values}
        return self.plan.but(**values, **numbers)

    @property
    def ranked(self) -> list[Trial]:
        """The trials, best first; pruned ones come after all complete ones, and failed ones last."""
        sign = 1 if self.direction == "minimize" else -1
        return sorted(self.trials, key=lambda t: (STATES.index(t.state), sign * (t.score or 0), t.number))

    @property
    def best(self) -> Plan:
        """The plan with the best score on `valid`, of those that were run to their end.

        Raises
        ------
        FtkitError
            FT075 if there is none.
        """
        if not self.trials or self.ranked[0].state != "complete":
            raise FtkitError("FT075", self.summary())
        return self.ranked[0].plan

    def importance(self) -> dict[str, float] | str:
        """Return each field's share in being among the best third, or `"cannot tell"`.

        Fewer than 15 complete plans cannot tell, nor can scores that are too much alike. A share says nothing about
        the direction, and belongs to this space: a narrow range makes any field look unimportant.

        Notes
        -----
        S. Watanabe, A. Bansal and F. Hutter, PED-ANOVA (IJCAI 2023).
        """
        study, asks = optuna.create_study(direction=self.direction), self.asks
        for trial in {t.plan: t for t in self.trials if t.state == "complete"}.values():
            held = {n: getattr(trial.plan, n) for n in asks}
            held |= {n: values.index(held[n]) for n, values in self.space.items() if isinstance(values, list)}
            study.add_trial(optuna.create_trial(params=held, distributions=asks, value=trial.score))
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=1 / 3)
        with warnings.catch_warnings(record=True) as doubts:  # its own word for scores that are too much alike
            warnings.simplefilter("always")
            found = optuna.importance.get_param_importances(study, evaluator=evaluator)
        return found if found and len(study.trials) >= ENOUGH and not doubts else "cannot tell"

    def summary(self) -> str:
        states = Counter(t.state for t in self.trials)
        did = ", ".join(f"{states[s]} {s}" for s in STATES if states[s]) or "none was begun"
        n_steps = sum(t.epochs * math.ceil(self.n_train / t.plan.batch_size) for t in self.trials)
        did += f": {count(n_steps)} steps in {seconds(sum(t.seconds for t in self.trials))}."
        did += f" It ended early: {self.stopped}." if self.stopped else ""
        if not states["complete"]:
            return f"No trial was completed{''.join(f'; {t.why}' for t in self.trials[:1])}. {did}"
        best, k = self.ranked[0], len({t.plan for t in self.trials if t.score is not None})
        chosen = f"chosen for that score out of {k} plans, so it looks better on valid than it is" if k > 1 else "alone"
        return f"Best on valid: {best.plan.code()}, {self.plan.monitor} {best.told}, {chosen}. {did}"

    def frame(self) -> pd.DataFrame:
        """Return one row a trial, best first: the fields that differ, score, seconds, epochs run, state, and why."""
        plans = [t.plan.to_dict() for t in self.ranked]
        varied = [n for n in Plan().to_dict() if any(p[n] != plans[0][n] for p in plans)]
        rows = [
            [t.number, *(p[n] for n in varied), t.score, t.seconds, t.epochs, t.state, t.why]
            for t, p in zip(self.ranked, plans, strict=True)
        ]
        return pd.DataFrame(
            rows, columns=["trial", *varied, "score", "seconds", "epochs run", "state", "why"], dtype=object
        )

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        shown = {"score": [t.told for t in self.ranked], "seconds": [seconds(t.seconds) for t in self.ranked]}
        frame = self.frame().assign(**shown).map(lambda v: f"{v:.3g}" if isinstance(v, float) else v)
        return [(f"Trials, best first ({self.plan.monitor} on valid)", frame)]

    def picture(self) -> tuple[Figure, str] | None:
        frame = self.frame().dropna(subset="score")
        columns = frame.drop(columns=["trial", "seconds", "epochs run", "state", "why"]).to_dict("list")
        columns[f"{self.plan.monitor} on valid"] = columns.pop("score")
        if len(frame) < 2 or len(columns) < 2:
            return None
        ax = plots.parallel(columns, dashed=list(frame["state"] == "pruned"))
        told = f"Each line is a trial, the thick one the best ({self.ranked[0].told}), dashed ones were ended early."
        return ax.figure, f"{told} Each upright scale is a field of the plan, the last one the score."
