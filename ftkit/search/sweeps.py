"""Many plans, each tuned and judged on `valid`, the poor ones not to their end: a thin skin over Optuna."""

import contextlib
import math
import operator
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import optuna
import pandas as pd
import psutil
from optuna.storages import journal
from optuna.trial import FrozenTrial, TrialState

from ftkit import plots, training
from ftkit.data import Splits
from ftkit.display import Picture, Record
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base

#: How a trial can have ended, in the order in which they are ranked.
OVER = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
HALVING = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)

optuna.logging.set_verbosity(optuna.logging.ERROR)  # a sweep says itself what there is to say


class Sweep(Record):
    """The trials of a search; no weights are kept.

    Parameters
    ----------
    plan : Plan
        The plan that was varied; its `monitor` is the score.
    space : mapping of field to list or tuple
        What was varied: choices, or the two ends of a range.
    trials : tuple of optuna.trial.FrozenTrial
        Those that are over, in the order of asking. `planned(trial)` is what was tried; `user_attrs` say, of one that
        could not run, `why`.

    Examples
    --------
    >>> Sweep(plan=Plan(), space={"head_lr": (1e-4, 1e-2)}, trials=()).summary()
    'No trial was completed: none was begun.'
    """

    plan: Plan
    space: Mapping[str, list | tuple]
    trials: tuple[FrozenTrial, ...]

    @property
    def direction(self) -> str:
        """Whether a good score is low or high: `"minimize"` or `"maximize"`."""
        return "minimize" if self.plan.monitor == "loss" else "maximize"

    @property
    def ranked(self) -> list[FrozenTrial]:
        """The trials, best first; pruned ones come after all complete ones, and failed ones last."""
        sign = 1 if self.direction == "minimize" else -1
        return sorted(self.trials, key=lambda t: (list(OVER).index(t.state), sign * (t.value or 0), t.number))

    def planned(self, trial: optuna.Trial | FrozenTrial) -> Plan:
        """Return what a trial tries: its choices, drawn by their place in the list, and its numbers to three digits."""
        short = {n: float(f"{v:.3g}") if isinstance(v, float) else v for n, v in trial.params.items()}
        drawn = {n: self.space[n][v] if isinstance(self.space[n], list) else v for n, v in short.items()}
        return self.plan.but(**drawn)

    @property
    def best(self) -> Plan:
        """The plan with the best score on `valid`, of those that were run to their end.

        Raises
        ------
        FtkitError
            FT075 if there is none.
        """
        if not self.trials or self.ranked[0].state != TrialState.COMPLETE:
            raise FtkitError("FT075", self.summary())
        return self.planned(self.ranked[0])

    def importance(self) -> dict[str, float] | str:
        """Return each field's share in being among the best third, or `"cannot tell"`.

        Fewer than 15 complete plans cannot tell, nor can scores that are too much alike. A share says nothing about
        the direction, and belongs to this space: a narrow range makes any field look unimportant.

        Notes
        -----
        S. Watanabe, A. Bansal and F. Hutter, PED-ANOVA (IJCAI 2023).
        """
        study = optuna.create_study(direction=self.direction)
        study.add_trials(t for t in self.trials if t.state == TrialState.COMPLETE)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=1 / 3)
        with warnings.catch_warnings(record=True, action="always") as doubts:  # of scores that are too much alike
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
        # PED-ANOVA looks at the best third, and wants five there.
        return shares if len(study.trials) >= 15 and not doubts else "cannot tell"

    def summary(self) -> str:
        n_run, states = sum(t.value is not None for t in self.trials), self.frame()["state"].value_counts(sort=False)
        did = ", ".join(f"{n} {state}" for state, n in states.items()) or "none was begun"
        if "complete" not in states:
            return f"No trial was completed: {did}. {'; '.join(self.frame()['why'][:1])}".rstrip()
        chosen = f"chosen for it out of {n_run} plans, so that it looks better on valid than it is"
        score = f"{self.plan.monitor} {self.ranked[0].value:.3f}, {chosen if n_run > 1 else 'alone'}"
        return f"Best on valid: {self.best.code()}, {score}. Trials: {did}."

    def frame(self) -> pd.DataFrame:
        """Return one row a trial, best first: the fields searched, the score, seconds, epochs run, state, and why."""
        rows = []
        for t in self.ranked:
            why = t.user_attrs.get("why", "interrupted or killed" if t.state == TrialState.FAIL else "")
            ran = (t.value, t.duration.total_seconds(), t.last_step or 0, OVER[t.state], why)
            rows.append((t.number, *(getattr(self.planned(t), name) for name in self.space), *ran))
        columns = ["trial", *self.space, "score", "seconds", "epochs run", "state", "why"]
        return pd.DataFrame(rows, columns=columns, dtype=object)

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        shown = self.frame().map(lambda v: f"{v:.3g}" if isinstance(v, float) else v)
        return [(f"Trials, best first ({self.plan.monitor} on valid)", shown)]

    def picture(self) -> Picture | None:
        scored = self.frame().dropna(subset="score")
        if len(scored) < 2:
            return None
        ax = plots.parallel(scored[[*self.space, "score"]].to_dict("list"), dashed=list(scored["state"] == "pruned"))
        told = f"Each line is a trial, the thick one the best ({scored['score'].iloc[0]:.3f}), dashed ones were pruned."
        return ax.figure, f"{told} The upright scales are fields of the plan, and {self.plan.monitor} on valid."


def sweep(
    base: Base,
    data: Splits,
    plan: Plan,
    space: Mapping[str, list | tuple],
    *,
    n_trials: int = 12,
    budget_s: float | None = None,
    seed: int = 0,
    storage: str | Path | None = None,
    pruner: optuna.pruners.BasePruner = HALVING,
    callbacks: Sequence[Callable[[optuna.Study, FrozenTrial], None]] = (),
) -> Sweep:
    """Try plans out of a space, each with a run of its own, and return how they scored on `valid`.

    The first ten are drawn at random, later ones by TPE, where earlier ones scored well. By successive halving a run
    goes on after epoch 1, 3, 9 and so on only if its score then is among the best third of those that came so far (the
    first ones: if it is the best); so a plan that is slow to start can be dropped though it would have won. A plan
    that was drawn before is not run again, and what frozen blocks make of a text is computed once for all. `test` is
    not opened. An interrupt (the notebook's stop button) keeps what is there.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
        What is not searched; its `monitor` is the score: of a pruned trial the last, of others that of the epoch kept.
    space : mapping of field to list or tuple
        Fields of a plan: a list of choices, or for numbers the two ends of a range (rates on a logarithmic scale), as
        in `{"train": ["head", "top 1"], "lr": (1e-5, 1e-3), "epochs": (1, 5)}`.
    n_trials : int
        How many in all, those of earlier calls and of other processes included, whatever became of them.
    budget_s : float, optional
        Seconds of wall time, after which this process begins no more trials.
    seed : int
        Of the proposals. In one process the same seed makes the same trials, resumed or not. Of several processes
        each of the first ten is still drawn by its number alone; TPE sees what is over by then, whoever was faster.
    storage : path, optional
        A file to keep the trials in (JSON lines, Optuna's journal). The same base, data, plan and space go on in it
        where they were left; others begin anew beside them. Several processes of one machine may work on it at once;
        each returns what is over when nothing is left to begin. What a killed process left is told as failed.
    pruner : optuna.pruners.BasePruner, optional
        Decides after each epoch; by default `SuccessiveHalvingPruner`, and `optuna.pruners.NopPruner()` ends none.
    callbacks : sequence of function of a study and a trial
        Optuna's own, called after each trial of this process, such as `optuna.terminator.TerminatorCallback()`.

    Raises
    ------
    FtkitError
        FT073 or FT050 if the space does not fit; FT074 if the file holds something else. What goes wrong inside a
        trial is recorded with it, and the next one begins.

    Notes
    -----
    J. Bergstra et al., Algorithms for Hyper-Parameter Optimization (NeurIPS 2011); L. Li et al., A System for
    Massively Parallel Hyperparameter Tuning (MLSys 2020); T. Akiba et al., Optuna (KDD 2019).

    Examples
    --------
    >>> swept = sweep(base, data, Plan(), {"train": ["head", "top 1"], "lr": (1e-5, 1e-3)})  # doctest: +SKIP
    >>> run = ft.fit(base, data, swept.best)  # doctest: +SKIP
    """
    draws, found = draws_of(space, plan), Sweep(plan=plan, space=space, trials=())
    question = f"{base.name}, {data.fingerprint()}, {plan.to_dict()}, {space}"
    study = _study(storage, study_name=question, direction=found.direction, pruner=pruner)

    def attempt(trial: optuna.Trial) -> float:
        if trial.number >= n_trials:  # another process was faster
            raise optuna.TrialPruned
        trial.set_user_attr("process", os.getpid())
        # Seeded by its number: a sweep that goes on later draws what it would have drawn at once.
        study.sampler = optuna.samplers.TPESampler(seed=(seed * 100_003 + trial.number) % 2**32)
        for draw in draws:
            draw(trial)
        for twin in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if twin.params == trial.params:
                trial.set_user_attr("why", f"the same plan as trial {twin.number}, not run again")
                raise optuna.TrialPruned
        try:
            return _score(base, data, found.planned(trial), trial)
        except FtkitError as error:
            trial.set_user_attr("why", f"{error.code} {error.message}")
            return math.nan  # to Optuna, a trial that failed

    if len(study.get_trials(deepcopy=False)) < n_trials:
        with contextlib.suppress(KeyboardInterrupt):
            last = optuna.study.MaxTrialsCallback(n_trials, states=None)
            study.optimize(attempt, timeout=budget_s, callbacks=[*callbacks, last])
    return Sweep(plan=plan, space=space, trials=tuple(t for t in study.get_trials(states=tuple(OVER)) if t.params))


def draws_of(space: Mapping[str, list | tuple], plan: Plan) -> list[Callable[[optuna.Trial], object]]:
    """Return what draws each field for a trial: choices by their place in the list, rates on a logarithmic scale.

    Raises
    ------
    FtkitError
        FT073, naming the field, if it is none that can be searched, or its values are neither choices nor two ends;
        FT050 if a value is none that the plan can hold.

    Examples
    --------
    >>> draws_of({"epochs": (1, 5)}, Plan())
    [operator.methodcaller('suggest_int', 'epochs', 1, 5, log=False)]
    """
    # With another score or seed than the plan's, trials would not compare, or luck would be searched for.
    draws, fields = [], [name for name in vars(plan) if name not in ("monitor", "seed")]
    for name, values in (space or {"": []}).items():
        ends = isinstance(values, tuple) and [type(v) in (int, float) and math.isfinite(v) for v in values]
        fits = values[0] < values[1] if ends == [True, True] else values and isinstance(values, list)
        if name not in fields or not fits:
            told = f"expected a list of choices, or (low, high), for one of {', '.join(fields)}; found {values!r}."
            raise FtkitError("FT073", f"{name!r}: {told}")
        held = [getattr(plan.but(**{name: v}), name) for v in values]
        draw = operator.methodcaller("suggest_categorical", name, range(len(held)))
        if ends:
            number = "suggest_int" if isinstance(held[0], int) else "suggest_float"
            draw = operator.methodcaller(number, name, *held, log=name in ("lr", "head_lr"))
        draws.append(draw)
    return draws


def _study(storage: str | Path | None, **options: object) -> optuna.Study:
    """Return a study, new or as it was left; trials whose process has ended are told as failed."""
    try:
        if storage:
            if Path(storage).exists() and Path(storage).read_bytes()[:10] not in (b"", b'{"op_code"'):
                raise ValueError("it holds something else")
            backend = journal.JournalFileBackend(str(storage), journal.JournalFileOpenLock(str(storage)))
            options["storage"] = journal.JournalStorage(backend)
        study = optuna.create_study(load_if_exists=True, **options)
    except (OSError, ValueError, KeyError) as error:
        raise FtkitError("FT074", f"{storage} cannot be used as a sweep's file: {error}.") from None
    for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        process = t.user_attrs.get("process", os.getppid())  # not told yet: it has just been asked for
        # This process's own number is one that an earlier process bore: this one has not begun.
        if process == os.getpid() or not psutil.pid_exists(process):
            study.tell(t.number, state=TrialState.FAIL, skip_if_finished=True)
    return study


def _score(base: Base, data: Splits, plan: Plan, trial: optuna.Trial) -> float:
    """Tune as a plan says, each epoch reported to its trial, and return the score; the model is let go."""
    key, doomed = "valid_loss" if plan.monitor == "loss" else plan.monitor, False

    def watch(event: training.Event) -> None:
        nonlocal doomed
        if event.kind == "epoch" and event.step:
            trial.report(event.values[key], int(event.values["epoch"]))
            doomed = trial.should_prune() and event.step < event.n_steps

    run = training.fit(base, data, plan, on_event=watch, stop=lambda: doomed)
    if run.stopped == "interrupted":
        raise KeyboardInterrupt
    if broke := [f for f in run.findings if f.code == "FT055"]:  # it kept an earlier epoch, but is no candidate
        raise FtkitError("FT055", broke[0].message)
    if doomed:
        raise optuna.TrialPruned
    return run.history[run.best_epoch][key]
