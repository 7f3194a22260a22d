"""Many plans, each tuned and judged on `valid`: a sweep, whose proposals are Optuna's, and successive halving."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import optuna
import psutil
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from ftkit import training
from ftkit.data import Splits
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.search.trials import FIXED, Sweep, Trial, checked

_Turn = contextlib.AbstractContextManager

optuna.logging.set_verbosity(optuna.logging.ERROR)  # a sweep says itself what there is to say


def sweep(
    base: Base,
    data: Splits,
    plan: Plan,
    space: Mapping[str, Any],
    *,
    n_trials: int = 12,
    seeds: int = 1,
    budget_s: float | None = None,
    storage: str | Path | None = None,
    name: str | None = None,
    prune: bool = True,
    on_trial: Callable[[Trial], None] | None = None,
    seed: int = 0,
) -> Sweep:
    """Try plans out of a space, each with a run of its own, and return how they scored on `valid`.

    The first ten are drawn at random, later ones by TPE, where earlier ones scored well. A plan that was drawn before
    is not run again. `test` is not opened. An interrupt (the notebook's stop button) keeps what is there.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
        What is not searched; its `monitor` is the score.
    space : mapping of field to list or tuple
        Fields of a plan: a list of choices, or for numbers the two ends of a range (rates on a logarithmic scale), as
        in `{"train": ["head", "top 1"], "lr": (1e-5, 1e-3), "epochs": (1, 5)}`.
    n_trials : int
        How many in all, those of earlier calls and of other processes included, but not those that were interrupted.
    seeds : int
        Runs a trial, with the plan's seed and those after it; the score is their mean.
    budget_s : float, optional
        Seconds of wall time; the trial that passes it is the last.
    storage : path, optional
        A file to keep the trials in (JSON lines). The same file and name go on where they were left, and several
        processes of one machine may work on it at once; each returns what is over when nothing is left to begin.
    name : str, optional
        Which of several sweeps in that file; `"sweep"` by default.
    prune : bool
        Whether a trial ends after an epoch if its best score so far is worse than the median of at least five complete
        trials at that epoch; only its first seed is asked.
    on_trial : function of a Trial, optional
        Called after each trial of this process.
    seed : int
        Of the proposals: in one process the same seed makes the same trials.

    Raises
    ------
    FtkitError
        FT073 or FT050 if the space does not fit; FT074 if the file holds something else under that name. What goes
        wrong inside a trial is recorded with it, and the next one begins.

    Notes
    -----
    J. Bergstra et al., Algorithms for Hyper-Parameter Optimization (NeurIPS 2011); T. Akiba et al., Optuna (KDD 2019).
    """
    if n_trials < 1 or seeds < 1:
        raise FtkitError("FT073", f"Expected n_trials and seeds of 1 or more; found {n_trials} and {seeds}.")
    found, asked = Sweep(trials=(), plan=plan, space=checked(space, plan), n_train=len(data.train)), None
    began, turn = time.perf_counter(), filelock.FileLock(f"{storage}.turn") if storage else contextlib.nullcontext()
    question = {"base": base.name, "data": data.fingerprint(), "plan": plan.to_dict(), "seeds": seeds}
    pruner = optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner()
    options = {"study_name": name or "sweep", "direction": found.direction, "pruner": pruner}
    study = _study(storage, turn, {**question, "space": repr(found.space)}, options)
    try:
        while asked := _ask(study, turn, found, n_trials, seed):
            tried = found.planned(asked.params)
            if twin := next((t for t in _over(study) if t.plan == tried and t.state == "complete"), None):
                why = f"the same plan as trial {twin.number}, not run again"
                trial = dataclasses.replace(twin, number=asked.number, seconds=0.0, epochs=0, why=why)
            else:
                trial = _attempt(base, data, tried, asked.number, seeds, asked)
            asked.set_user_attr("told", {**vars(trial), "plan": tried.to_dict()})
            state = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}.get(trial.state)
            study.tell(asked, None if state else trial.score, state=state)
            if on_trial:
                on_trial(trial)
            if budget_s is not None and time.perf_counter() - began > budget_s:
                found = dataclasses.replace(found, stopped=f"its {budget_s:g} seconds were used up")
                break
    except KeyboardInterrupt:
        found = dataclasses.replace(found, stopped="interrupted")
    finally:
        if asked:  # what has no answer by now is over, and does not count
            study.tell(asked, state=TrialState.FAIL, skip_if_finished=True)
    return dataclasses.replace(found, trials=_over(study))


def halving(
    base: Base,
    data: Splits,
    plan: Plan,
    space: Mapping[str, Any] | Sequence[Plan],
    *,
    n_plans: int = 9,
    reduction: int = 3,
    min_epochs: int = 1,
    on_trial: Callable[[Trial], None] | None = None,
    seed: int = 0,
) -> Sweep:
    """Run many plans for a few epochs, the best part of them for more, and so on until one is left.

    Each rung is a run of its own from the start, with its own schedule: a run of one epoch ends at a rate of zero, so
    it is no beginning of a run of three. Nothing is carried over but the choice; each rung costs about as many epochs
    as the first; and a plan that is slow to start can be dropped though it would have won. What the frozen blocks make
    of a text is computed once for all of them. `test` is not opened; an interrupt keeps what is there.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
        What is not searched; its `monitor` is the score. Its `epochs` give way to each rung's.
    space : mapping of field to list or tuple, or sequence of Plan
        As for `sweep`, but without `epochs`; or the plans themselves.
    n_plans : int
        Different plans drawn at random from the space (all there are, if there are fewer).
    reduction : int
        One in so many goes on (rounded down, one at least), for so many times the epochs.
    min_epochs : int
        Epochs of the first rung.
    on_trial : function of a Trial, optional
        Called after each run, with what its plan has cost until then.
    seed : int
        Of the draw.

    Returns
    -------
    Sweep
        One trial a plan, with the score and plan of the longest run it got, and the epochs and seconds of all its
        runs; those dropped count as pruned. The summary tells the steps of all rungs together.

    Raises
    ------
    FtkitError
        FT073 or FT050 if the space, the plans or a number do not fit.

    Notes
    -----
    K. Jamieson and A. Talwalkar, Non-stochastic Best Arm Identification and Hyperparameter Optimization (AISTATS
    2016).
    """
    drawn = isinstance(space, Mapping)
    alike = drawn or all(isinstance(p, Plan) and p.monitor == plan.monitor for p in space)
    if n_plans < 1 or reduction < 2 or min_epochs < 1 or not alike:
        least = f"n_plans=1, reduction=2, min_epochs=1, and plans that all have monitor={plan.monitor!r}"
        raise FtkitError("FT073", f"Expected at least {least}; found {n_plans}, {reduction}, {min_epochs}, {space!r}.")
    fitting = checked(space, plan, (*FIXED, "epochs")) if drawn else {}
    found, told = Sweep(trials=(), plan=plan, space=fitting, n_train=len(data.train)), {}
    if drawn:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        space = dict.fromkeys(found.planned(study.ask(found.asks).params) for _ in range(20 * n_plans))
    plans, epochs, stopped = list(space)[: n_plans if drawn else None], min_epochs, None
    left = list(range(len(plans)))
    try:
        while left:
            for i in left:
                ran = _attempt(base, data, plans[i].but(epochs=epochs), i)
                spent = {n: getattr(ran, n) + getattr(told[i], n) for n in ("seconds", "epochs") if i in told}
                told[i] = dataclasses.replace(ran, **spent)
                if on_trial:
                    on_trial(told[i])
            rung = dataclasses.replace(found, trials=tuple(told[i] for i in left)).ranked
            n_kept = max(1, len(left) // reduction) if len(left) > 1 else 0
            left, epochs = [t.number for t in rung if t.state == "complete"][:n_kept], epochs * reduction
    except KeyboardInterrupt:
        stopped = "interrupted"
    longest = max((t.plan.epochs for t in told.values() if t.state == "complete"), default=0)
    for i, t in told.items():
        if t.state == "complete" and t.plan.epochs < longest:
            told[i] = dataclasses.replace(t, state="pruned", why=f"others went on after epoch {t.plan.epochs}")
    return dataclasses.replace(found, trials=tuple(told.values()), stopped=stopped)


def _attempt(
    base: Base, data: Splits, plan: Plan, number: int, seeds: int = 1, asked: optuna.Trial | None = None
) -> Trial:
    """Tune as a plan says, once for each seed, and return the score; the tuned model is let go.

    The first seed's epochs are reported to `asked`, which may end the run there.
    """
    key, doomed = "valid_loss" if plan.monitor == "loss" else plan.monitor, False
    began, epochs, scores, state, why = time.perf_counter(), 0, [], "complete", ""

    def watch(event: training.Event) -> None:
        nonlocal doomed
        if asked and event.kind == "epoch" and event.step and not scores:
            asked.report(event.values[key], int(event.values["epoch"]))
            doomed = event.step < event.n_steps and asked.should_prune()

    try:
        for seed in range(plan.seed, plan.seed + seeds):
            run = training.fit(base, data, plan.but(seed=seed), on_event=watch, stop=lambda: doomed)
            epochs += len(run.history) - 1
            if run.stopped == "interrupted":
                raise KeyboardInterrupt
            for finding in run.findings:
                if finding.code == "FT055":  # the run kept an earlier epoch; a plan that breaks is no candidate
                    raise FtkitError("FT055", finding.message)
            scores.append(run.history[run.best_epoch][key])
            del run  # before the next one is made
            if doomed:
                state, why = "pruned", f"after epoch {epochs} it was below the median of complete trials"
                break
    except FtkitError as error:
        state, why, scores = "failed", f"{error.code} {error.message}", []
    score, took = float(np.mean(scores)) if scores else None, time.perf_counter() - began
    return Trial(number=number, plan=plan, score=score, seconds=took, epochs=epochs, state=state, why=why)


def _study(storage: str | Path | None, turn: _Turn, question: Mapping, options: dict[str, Any]) -> optuna.Study:
    """Return a study, new or as it was left; what it was begun with has to be the same."""
    try:
        with turn:
            if storage:
                if Path(storage).exists() and Path(storage).read_bytes()[:10] not in (b"", b'{"op_code"'):
                    raise ValueError("it holds something else")
                journal = JournalFileBackend(str(storage), JournalFileOpenLock(str(storage)))
                options["storage"] = optuna.storages.JournalStorage(journal)
            study = optuna.create_study(load_if_exists=True, **options)
            before = study.user_attrs.get("question")
            if not before:
                study.set_user_attr("question", question)
    except (OSError, ValueError, KeyError) as error:
        raise FtkitError("FT074", f"{storage} cannot be used as a sweep's file: {error}.") from None
    if differ := [part for part in question if before and before[part] != question[part]]:
        raise FtkitError("FT074", f"What {storage} holds was begun with another {' and another '.join(differ)}.")
    return study


def _ask(study: optuna.Study, turn: _Turn, found: Sweep, n_trials: int, seed: int) -> optuna.Trial | None:
    """Return the next trial, or None if there are as many as wanted; one whose process has ended is given up."""
    with turn:
        trials, n = study.get_trials(deepcopy=False), 0
        for t in trials:
            process = t.user_attrs.get("process")
            # This process's own number is one that an earlier process bore: this one is asking, and runs nothing.
            alive = process and process != os.getpid() and psutil.pid_exists(process)
            if t.state == TrialState.RUNNING and not alive:
                study.tell(t.number, state=TrialState.FAIL)
            n += "told" in t.user_attrs or (t.state == TrialState.RUNNING and alive)
        if n >= n_trials:
            return None
        # Seeded by the trial's number: a sweep that goes on later draws what it would have drawn at once.
        own = np.random.SeedSequence([seed, len(trials)]).generate_state(1)
        study.sampler = optuna.samplers.TPESampler(seed=int(own[0]))
        asked = study.ask(found.asks)
        asked.set_user_attr("process", os.getpid())
        return asked


def _over(study: optuna.Study) -> tuple[Trial, ...]:
    """Return the trials that are over, whoever ran them."""
    told = [t.user_attrs["told"] for t in study.get_trials(deepcopy=False) if "told" in t.user_attrs]
    return tuple(Trial(**{**values, "plan": Plan(**values["plan"])}) for values in told)
