"""A search judges plans on valid alone, keeps what it has tried, and says how little a winner proves."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import tiny
import torch

from ftkit import search, tasks, training
from ftkit.data import Rows
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.search import RateRange, Sweep
from ftkit.search.sweeps import draws_of

PLAN = Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=2, batch_size=16)
WHOLE = optuna.pruners.NopPruner()  # ends no trial early
SPACE = {"train": ["head", ("block 2", "head")], "lr": (1e-4, 1e-1), "epochs": (1, 3)}


@pytest.fixture(autouse=True)
def _one_thread():
    """The tiny model is slower with two threads than with one, and much slower where others use them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fits(monkeypatch):
    """Every plan that is tuned, and what came of it: `outcome(plan)` gives accuracies by epoch, or raises."""
    seen = SimpleNamespace(plans=[], outcome=lambda plan: [plan.lr] * plan.epochs, stopped=[])

    def fit(base, data, plan, *, on_event, stop):
        seen.plans.append(plan)
        scores = [0.0, *seen.outcome(plan)]
        history = [{"epoch": e, "accuracy": s, "macro_f1": s / 2, "valid_loss": 1 - s} for e, s in enumerate(scores)]
        on_event(SimpleNamespace(kind="epoch", step=0, n_steps=4 * plan.epochs, values=history[0]))
        for epoch in range(1, len(history)):
            on_event(SimpleNamespace(kind="step", step=4 * epoch, n_steps=4 * plan.epochs, values={"loss": 1.0}))
            on_event(SimpleNamespace(kind="epoch", step=4 * epoch, n_steps=4 * plan.epochs, values=history[epoch]))
            if stop():
                history, _ = history[: epoch + 1], seen.stopped.append(plan)
                break
        best = max(range(len(history)), key=lambda e: history[e]["accuracy"])
        return SimpleNamespace(history=history, best_epoch=best, stopped=None, findings=())

    monkeypatch.setattr(training, "fit", fit)
    return seen


def told(swept):
    """Every trial's plan, score and state."""
    return [(swept.planned(t), t.value, t.state.name) for t in swept.trials]


def plans(swept):
    return [plan for plan, _, _ in told(swept)]


def states(swept):
    return [state for _, _, state in told(swept)]


def trial(space, number, score, state="COMPLETE", plan=PLAN, **fields):
    """A trial as Optuna keeps it; fields that are not given are the plan's."""
    study, state = optuna.create_study(), optuna.trial.TrialState[state]
    with_fields = optuna.trial.FixedTrial({
        name: values.index(fields[name]) if isinstance(values, list) else fields.get(name, getattr(plan, name))
        for name, values in space.items()
    })  # fmt: skip
    for draw in draws_of(space, plan):
        draw(with_fields)
    study.add_trial(optuna.create_trial(
        params=with_fields.params, distributions=with_fields.distributions, value=score, state=state,
        intermediate_values={} if score is None else {1: score, 2: score},
    ))  # fmt: skip
    (made,) = study.trials
    made.number = number
    return made


VARIED = {"lr": (1e-4, 1e-1), "epochs": (1, 3)}


def found(*trials, plan=PLAN, space=VARIED):
    return Sweep(trials=tuple(trial(space, *t[:-1], plan=plan, **t[-1]) for t in trials), plan=plan, space=space)


# The learning-rate range test


def curve(losses, *, diverged=None, plan=PLAN, field="lr"):
    losses = np.asarray(losses, dtype=float)
    rates = np.geomspace(1e-6, 1, 100)[: len(losses)]
    return RateRange(plan=plan, field=field, rates=rates, losses=losses, diverged=diverged)


def falling(at, n=100):
    return 3 - 2 / (1 + np.exp(-3 * (np.log10(np.geomspace(1e-6, 1, 100)[:n]) - math.log10(at))))


@pytest.mark.parametrize(("start", "n"), [("zero", 20), ("probe", 6)])
@pytest.mark.parametrize("train", ["top 1", "all"])
def test_at_an_even_rate_its_steps_are_those_of_fit_across_epochs(base, data, train, start, n):
    plan = PLAN.but(train=train, warmup=0, schedule="constant", start=start, epochs=6)
    steps = training.fit(base, data, plan, on_event=None).losses
    tested = search.rate_range(base, data, plan, low=1e-2, high=1e-2 * (1 + 1e-9), n_steps=20)
    assert np.ptp(steps[:n]) > 0.05
    assert tested.losses[:n] == pytest.approx(steps[:n], rel=1e-4)


@pytest.mark.parametrize(("train", "field", "ratio"), [("top 1", "lr", 10), ("head", "head_lr", 1)])
def test_all_rates_grow_together_by_the_same_factor(base, data, train, field, ratio, monkeypatch):
    made, seen = training.make_optimizer, []

    def watched(*given):
        optimizer = made(*given)
        step = optimizer.step
        optimizer.step = lambda: (seen.append([s["lr"] for s in optimizer.param_groups]), step())
        return optimizer

    monkeypatch.setattr("ftkit.training.loop.make_optimizer", watched)
    tested = search.rate_range(base, data, PLAN.but(train=train, lr=1e-3), low=1e-5, high=1e-2, n_steps=40)
    assert tested.field == field
    seen = np.array(seen)
    assert seen.min(axis=1) == pytest.approx(np.geomspace(1e-5, 1e-2, 40))
    assert seen.max(axis=1) == pytest.approx(ratio * np.geomspace(1e-5, 1e-2, 40))


def test_a_range_test_changes_nothing_it_was_given(base):
    data = tiny.splits()
    weights = {n: t.clone() for n, t in base.encoder.state_dict().items()}
    state, fingerprint = torch.get_rng_state(), data.fingerprint()
    search.rate_range(base, data, PLAN.but(train="all"), n_steps=20)
    assert all(torch.equal(weights[n], t) for n, t in base.encoder.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in base.encoder.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert data.fingerprint() == fingerprint
    assert (data.valid.opened, data.test.opened) == (0, 0)


def test_a_range_test_reads_train_alone(base, data, monkeypatch):
    closed = {id(data.valid), id(data.test)}
    read = Rows.__getattribute__

    def watched(self, name):
        assert id(self) not in closed or name.startswith("_"), f"{name} of a closed split was read"
        return read(self, name)

    monkeypatch.setattr(Rows, "__getattribute__", watched)
    assert len(search.rate_range(base, data, PLAN, high=1e-2, n_steps=20).losses) == 20


def test_what_is_frozen_is_computed_once_for_the_test_and_the_run_after_it(base, data):
    search.rate_range(base, data, PLAN, n_steps=20)
    assert training.fit(base, data, PLAN, on_event=None).cache["n_built"] == len(data.valid)


def test_on_the_tiny_model_the_loss_falls_and_is_lost(base, data):
    tested = search.rate_range(base, data, PLAN)
    assert 1e-3 < tested.suggestion < 0.1 < tested.diverged <= 1
    assert len(tested.rates) == len(tested.losses) < 100


def test_the_suggestion_is_where_the_loss_falls_fastest_or_a_tenth_of_where_it_is_lost():
    assert curve(falling(1e-3)).steepest == pytest.approx(1e-3, rel=0.1)
    assert curve(falling(1e-3)).suggestion == pytest.approx(1e-3, rel=0.2)
    assert curve(falling(1e-3), diverged=5e-3).suggestion == 5e-4
    assert curve(falling(1e-3), diverged=0.5).suggestion == pytest.approx(1e-3, rel=0.2)


def test_noise_alone_suggests_nothing():
    rng = np.random.default_rng(0)
    told = [curve(3 + rng.normal(0, 0.1, 100)).suggestion is not None for _ in range(100)]
    assert sum(told) <= 5
    noisy = [curve(falling(1e-3) + rng.normal(0, 0.2, 100)).suggestion for _ in range(20)]
    assert all(1e-4 < rate < 1e-2 for rate in noisy)


def test_where_nothing_is_learned_nothing_is_suggested(base, data):
    tested = search.rate_range(base, data, PLAN, low=1e-12, high=1e-11, n_steps=20)
    assert tested.suggestion is None and tested.summary().startswith("No suggestion")
    with pytest.raises(FtkitError, match="FT076"):
        tested.suggested  # noqa: B018
    assert "suggested" not in tested.picture()[1]


def test_a_plan_that_could_not_run_is_not_tested(base, data):
    with pytest.raises(FtkitError, match="FT054"):
        search.rate_range(base, data, PLAN.but(train="block 2"), n_steps=20)  # the head is frozen at zero


def test_the_suggested_plan_keeps_the_ratios_and_can_be_copied():
    plan = PLAN.but(lr=1e-4, head_lr=5e-4, rates={"block 2": 2e-4})
    tested = curve(falling(1e-3), diverged=5e-3, plan=plan)
    assert tested.suggested == plan.but(lr=5e-4, head_lr=2.5e-3, rates={"block 2": 1e-3})
    call = tested.summary()[: tested.summary().index(": with lr from")]
    assert eval(call, {"Plan": Plan}) == tested.suggested
    assert curve(falling(0.1), plan=PLAN.but(lr=1e-4)).suggested.head_lr == 1.0
    alone = curve(falling(1e-3), plan=PLAN.but(train="head"), field="head_lr", diverged=5e-3)
    assert alone.suggested == PLAN.but(train="head", head_lr=5e-4)


def test_its_summary_warns_that_the_test_suggests_too_much():
    assert "tends to suggest too much" in curve(falling(1e-3)).summary()


def test_it_shows_some_steps_and_gives_them_all():
    tested = curve(falling(1e-3), diverged=0.5)
    assert 10 <= len(tested.tables()[0][1]) <= 14 and len(tested.frame()) == 100
    figure, alt = tested.picture()
    assert figure.axes[0].get_xscale() == "log"
    assert "lost: 0.5" in alt and "falls fastest: 0.001" in alt


def test_a_loss_that_is_lost_at_once_asks_to_begin_lower(base, data):
    with pytest.raises(FtkitError, match=r"FT076.*begin lower"):
        search.rate_range(base, data, PLAN, low=1e30, high=1e36)


@pytest.mark.parametrize(
    "given", [{"low": 0}, {"low": 1e-2, "high": 1e-3}, {"high": math.inf}, {"n_steps": 5}], ids=str
)
def test_a_range_that_is_none_is_refused(base, data, given):
    with pytest.raises(FtkitError, match="FT073"):
        search.rate_range(base, data, PLAN, **given)


def test_classes_are_weighed_as_in_a_run(base, data):
    uneven = dataclasses.replace(data, train=data.train.take([0, 1, 2, *range(3, 60, 3)]))
    plan = PLAN.but(lr=1e-3, head_lr=1e-3, warmup=0, schedule="constant", class_weight="balanced", epochs=10)
    steps = training.fit(base, uneven, plan, on_event=None).losses[:20]
    tested = search.rate_range(base, uneven, plan, low=1e-3, high=1e-3 * (1 + 1e-9), n_steps=20)
    assert tested.losses == pytest.approx(steps, rel=1e-4)


# What may be searched


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"learning_rate": (1e-5, 1e-3)}, "'learning_rate'.*lr, head_lr, rates"),
        ({"epoch": (1, 3)}, "'epoch'.*epochs"),
        ({"seed": [0, 1]}, "'seed'.*for one of train"),
        ({"monitor": ["loss"]}, "'monitor'.*for one of train"),
        ({"train": ("head", "top 1")}, "'train': expected a list"),
        ({"train": []}, "'train': expected a list"),
        ({"lr": (1e-3, 1e-5)}, "'lr': expected"),
        ({"lr": (1e-3,)}, "'lr': expected"),
        ({"clip": (1.0, math.inf)}, "'clip': expected"),
        ({"lr": 1e-3}, "'lr': expected"),
        ({}, "expected a list of choices, or .low, high., for one of train"),
    ],
    ids=str,
)
def test_a_space_that_fits_no_plan_is_refused_with_the_field(base, data, space, words):
    with pytest.raises(FtkitError, match=f"FT073.*{words}"):
        search.sweep(base, data, PLAN, space)


@pytest.mark.parametrize("space", [{"lr": (1e-3, 2.0)}, {"epochs": (1.0, 2.5)}, {"schedule": ["sine"]}], ids=str)
def test_a_value_that_no_plan_can_hold_is_refused_before_anything_runs(base, data, space, fits):
    with pytest.raises(FtkitError, match=f"FT050.*{next(iter(space))}"):
        search.sweep(base, data, PLAN, space)
    assert not fits.plans


def test_values_are_drawn_from_the_space_and_stay_what_they_are(base, data, fits):
    space = {**SPACE, "warmup": (0, 1), "patience": [None, 2], "batch_size": (8, 32)}
    fits.outcome = lambda plan: [0.5] * plan.epochs  # none is better, so that TPE leans to no side
    tried = plans(search.sweep(base, data, PLAN, space, n_trials=30, pruner=WHOLE))
    assert {p.train for p in tried} == {"head", ("block 2", "head")}
    assert {p.epochs for p in tried} == {1, 2, 3} and {p.patience for p in tried} == {None, 2}
    assert all(1e-4 <= p.lr <= 1e-1 and 0 <= p.warmup <= 1 and 8 <= p.batch_size <= 32 for p in tried)
    assert sum(p.lr < 3e-3 for p in tried) > 5  # a third of a linear scale's draws would be fewer than one
    assert all(
        p.but(train=PLAN.train, lr=PLAN.lr, epochs=2, warmup=0.1, patience=None, batch_size=16) == PLAN for p in tried
    )
    assert all(float(f"{p.lr:.3g}") == p.lr for p in tried)
    assert tried == fits.plans, "what is told is what was tuned"


# Sweeps


def test_the_same_seed_makes_the_same_trials(base, data, fits):
    one, two, other = (search.sweep(base, data, PLAN, SPACE, n_trials=20, seed=s, pruner=WHOLE) for s in (0, 0, 1))
    assert told(one) == told(two)
    assert not {p.lr for p in plans(one)} & {p.lr for p in plans(other)}
    late = [p.lr for p in plans(one)[10:]]  # TPE has seen that high rates score well
    assert np.median(late) > 2 * np.median([p.lr for p in plans(one)[:10]])


def test_the_first_ten_are_drawn_by_their_number_whatever_came_before(base, data, fits):
    one = search.sweep(base, data, PLAN, SPACE, n_trials=10)
    fits.outcome = lambda plan: [1 - plan.lr] * plan.epochs  # other scores, as if others had been over by then
    assert plans(search.sweep(base, data, PLAN, SPACE, n_trials=10)) == plans(one)


def test_the_same_seed_gives_the_same_scores(base, data):
    one, two = (search.sweep(base, data, PLAN, SPACE, n_trials=3) for _ in range(2))
    assert told(one) == told(two)


@pytest.mark.parametrize("monitor", ["accuracy", "macro_f1", "loss"])
def test_the_score_is_the_monitored_one_on_valid_and_the_best_is_the_best_of_it(base, monitor):
    data = tiny.splits()
    swept = search.sweep(base, data, PLAN.but(monitor=monitor), SPACE, n_trials=4, pruner=WHOLE)
    key = "valid_loss" if monitor == "loss" else monitor
    runs = [training.fit(base, data, plan, on_event=None) for plan in plans(swept)]
    scores = [run.history[run.best_epoch][key] for run in runs]
    assert [score for _, score, _ in told(swept)] == pytest.approx(scores, rel=1e-6)
    best = min(scores) if monitor == "loss" else max(scores)
    assert plans(swept)[scores.index(best)] == swept.best
    assert (data.valid.opened, data.test.opened) == (0, 0)


def test_test_changes_nothing(base, data):
    other = dataclasses.replace(data, test=tiny.rows("other", 9, seed=9))
    one, two = (search.sweep(base, d, PLAN, SPACE, n_trials=3) for d in (data, other))
    assert [t.value for t in one.trials] == [t.value for t in two.trials]


def test_a_plan_that_cannot_run_is_recorded_with_its_reason_and_the_sweep_goes_on(base, data):
    swept = search.sweep(base, data, PLAN, {"train": ["head", "top 9"], "lr": (1e-3, 1e-1)}, n_trials=4)
    assert len(swept.trials) == 4
    failed = [t for t in swept.trials if swept.planned(t).train == "top 9"]
    assert failed and all(t.state.name == "FAIL" and t.value is None for t in failed)
    assert all("FT051" in t.user_attrs["why"] for t in failed)
    assert swept.best.train == "head"
    assert "top 9" in repr(swept) and "FT051" in repr(swept)


def test_a_run_whose_loss_was_not_finite_has_failed_whatever_it_kept(base, data, monkeypatch):
    original = tasks.loss
    monkeypatch.setattr(
        tasks, "loss", lambda logits, *rest: original(logits, *rest) * (math.nan if logits.requires_grad else 1)
    )
    swept = search.sweep(base, data, PLAN, {"lr": (1e-4, 1e-2)}, n_trials=2)
    assert states(swept) == ["FAIL", "FAIL"]
    assert "FT055" in swept.trials[0].user_attrs["why"] and "FT055" in swept.summary()
    with pytest.raises(FtkitError, match=r"FT075.*2 failed"):
        swept.best  # noqa: B018


def test_an_error_that_is_no_finding_ends_the_sweep_and_its_trial(base, data, fits, tmp_path):
    def outcome(plan):
        raise RuntimeError("broken")

    fits.outcome = outcome
    with pytest.raises(RuntimeError, match="broken"):
        search.sweep(base, data, PLAN, SPACE, n_trials=4, storage=tmp_path / "sweep")
    assert journal(tmp_path / "sweep") == ["FAIL"], "another process would wait for it"


def test_a_trial_that_is_not_among_the_best_third_is_ended_after_its_epoch(base, data, fits):
    good = {"head": [0.8, 0.9, 0.9], ("block 2", "head"): [0.3, 0.5, 0.9]}
    fits.outcome = lambda plan: good[plan.train]
    space = {"train": ["head", ("block 2", "head")], "warmup": (0.0, 1.0)}
    swept = search.sweep(base, data, PLAN.but(epochs=3), space, n_trials=20)
    pruned = [t for t in swept.trials if t.state.name == "PRUNED"]
    assert [swept.planned(t) for t in pruned] == fits.stopped and len(pruned) >= 2
    assert all(swept.planned(t).train != "head" for t in pruned)
    assert {(t.last_step, t.value) for t in pruned} == {(1, 0.3)}
    ended = [t.state.name for t in swept.ranked]
    assert ended == sorted(ended), "pruned trials stand after all complete ones"
    fits.stopped.clear()
    whole = search.sweep(base, data, PLAN.but(epochs=3), space, n_trials=20, pruner=WHOLE)
    assert not fits.stopped and set(states(whole)) == {"COMPLETE"}


def test_only_a_third_goes_on_after_each_rung(base, data, fits):
    swept = search.sweep(base, data, PLAN.but(epochs=9), {"lr": (1e-4, 1e-1)}, n_trials=30)
    epochs = [t.last_step for t in swept.trials]
    assert set(epochs) == {1, 3, 9}, "a run is ended after epoch 1 or 3, and nowhere else"
    assert epochs.count(1) >= 15 and epochs.count(9) <= 10
    assert swept.best.lr == max(p.lr for p in plans(swept))  # here the score is the rate


def test_a_loss_is_pruned_where_it_is_high(base, data, fits):
    fits.outcome = lambda plan: [0.9 if plan.train == "head" else 0.1] * plan.epochs
    space = {"train": ["head", ("block 2", "head")], "warmup": (0.0, 1.0)}
    swept = search.sweep(base, data, PLAN.but(monitor="loss"), space, n_trials=20)
    pruned = {swept.planned(t).train for t in swept.trials if t.state.name == "PRUNED"}
    assert pruned == {("block 2", "head")}
    assert swept.best.train == "head"


def test_a_run_is_really_ended_by_its_pruner(base, data, monkeypatch):
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: True)
    swept = search.sweep(base, data, PLAN.but(epochs=4), {"lr": (1e-4, 1e-2)}, n_trials=1)
    (only,) = swept.trials
    assert (only.state.name, only.last_step) == ("PRUNED", 1) and only.value is not None
    swept = search.sweep(base, data, PLAN.but(epochs=1), {"lr": (1e-4, 1e-2)}, n_trials=1)
    assert states(swept) == ["COMPLETE"]  # after the last epoch there is nothing to save


def test_frozen_blocks_are_computed_once_for_all_trials(base, data, monkeypatch):
    fit, runs = training.fit, []
    monkeypatch.setattr(training, "fit", lambda *a, **k: runs.append(fit(*a, **k)) or runs[-1])
    search.sweep(base, data, PLAN, {"lr": (1e-4, 1e-1)}, n_trials=3)
    assert [run.cache["n_built"] for run in runs] == [len(data.train) + len(data.valid), 0, 0]


def test_a_plan_drawn_again_is_not_run_again(base, data, fits):
    swept = search.sweep(base, data, PLAN, {"train": ["head", "top 1"]}, n_trials=6, pruner=WHOLE)
    assert len(fits.plans) == 2 and len(swept.trials) == 6
    again = [t for t in swept.trials if "not run again" in t.user_attrs.get("why", "")]
    assert len(again) == 4 and all(t.last_step is None and t.state.name == "PRUNED" for t in again)
    assert "out of 2 plans" in swept.summary()


def test_a_budget_ends_the_sweep(base, data, fits):
    assert not search.sweep(base, data, PLAN, SPACE, budget_s=0).trials
    fits.outcome = lambda plan: time.sleep(0.2) or [plan.lr] * plan.epochs
    assert 1 <= len(search.sweep(base, data, PLAN, SPACE, n_trials=99, budget_s=0.5).trials) <= 4
    assert len(search.sweep(base, data, PLAN, SPACE, n_trials=3, budget_s=600).trials) == 3


def test_callbacks_are_told_of_each_trial_and_can_end_the_sweep(base, data, fits):
    seen = []
    swept = search.sweep(base, data, PLAN, SPACE, n_trials=3, callbacks=[lambda study, trial: seen.append(trial)])
    assert [(t.number, t.value) for t in seen] == [(t.number, t.value) for t in swept.trials]
    ended = search.sweep(base, data, PLAN, SPACE, n_trials=9, callbacks=[lambda study, trial: study.stop()])
    assert len(ended.trials) == 1


@pytest.mark.parametrize("inside", [True, False])
def test_an_interrupt_keeps_what_is_there_and_is_told(base, data, fits, inside, tmp_path, monkeypatch):
    fit, space, file = training.fit, {"lr": (1e-4, 1e-2)}, tmp_path / "sweep"

    def interrupted(*given, **options):
        if len(fits.plans) == 2:
            if not inside:
                raise KeyboardInterrupt
            return SimpleNamespace(**{**vars(fit(*given, **options)), "stopped": "interrupted"})
        return fit(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", interrupted)
        swept = search.sweep(base, data, PLAN, space, n_trials=4, storage=file, pruner=WHOLE)
    assert states(swept) == ["COMPLETE", "COMPLETE", "FAIL"] and "1 failed" in swept.summary()
    assert swept.frame()["why"].tolist() == ["", "", "interrupted or killed"]
    assert journal(file) == ["COMPLETE", "COMPLETE", "FAIL"], "another process would wait for it"
    on = search.sweep(base, data, PLAN, space, n_trials=4, storage=file, pruner=WHOLE)
    assert states(on) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]


def test_no_model_outlives_its_trial(base, data, monkeypatch):
    fit, models = training.fit, []

    def watched(*given, **options):
        assert all(model() is None for model in models), "the one before was kept"
        run = fit(*given, **options)
        models.append(weakref.ref(run.model))
        return run

    monkeypatch.setattr(training, "fit", watched)
    swept = search.sweep(base, data, PLAN, SPACE, n_trials=3)
    gc.collect()
    assert len(models) == 3 and all(model() is None for model in models) and len(swept.trials) == 3


def test_optuna_says_nothing(base, data, fits, capfd, tmp_path):
    search.sweep(base, data, PLAN, SPACE, n_trials=12, storage=tmp_path / "sweep")
    search.sweep(base, data, PLAN, SPACE, n_trials=12, storage=tmp_path / "sweep").importance()
    assert capfd.readouterr() == ("", "")


# Going on, and working together


def journal(file):
    """The states of all trials in a file, as Optuna itself reads it."""
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    (study,) = storage.get_all_studies()
    return [t.state.name for t in storage.get_all_trials(study._study_id)]


def test_a_sweep_goes_on_as_if_it_had_never_stopped(base, data, fits, tmp_path):
    whole = search.sweep(base, data, PLAN, SPACE, n_trials=14)
    search.sweep(base, data, PLAN, SPACE, n_trials=5, storage=tmp_path / "sweep")
    n_run = len(fits.plans)
    again = search.sweep(base, data, PLAN, SPACE, n_trials=14, storage=str(tmp_path / "sweep"))
    assert len(fits.plans) == n_run + 9
    assert told(again) == told(whole) and [t.number for t in again.trials] == list(range(14))
    assert told(search.sweep(base, data, PLAN, SPACE, n_trials=3, storage=tmp_path / "sweep")) == told(whole)
    assert len(fits.plans) == n_run + 9, "there are enough already"


def test_what_is_kept_is_lines_of_json(base, data, fits, tmp_path):
    file = tmp_path / "sweep"
    swept = search.sweep(base, data, PLAN, SPACE, n_trials=2, storage=file, pruner=WHOLE)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert [t["values"] for t in lines if t.get("values")] == [[t.value] for t in swept.trials]
    assert {p.name for p in tmp_path.iterdir()} == {"sweep"}
    assert not any(str(Path.home()) in line or os.uname().nodename in line for line in file.read_text().splitlines())


@pytest.mark.parametrize(
    "changed",
    [
        {"plan": PLAN.but(batch_size=8)},
        {"space": {"lr": (1e-4, 1e-2)}},
        {"data": tiny.splits(n_train=54)},
        {"base": tiny.base("roberta")},
    ],
    ids=["plan", "space", "data", "base"],
)
def test_another_sweep_in_the_same_file_begins_anew_beside_the_first(base, data, fits, tmp_path, changed):
    given = {"base": base, "data": data, "plan": PLAN, "space": SPACE, "n_trials": 1, "storage": tmp_path / "sweep"}
    first = search.sweep(**given)
    assert [t.number for t in search.sweep(**{**given, **changed}).trials] == [0] and len(fits.plans) == 2
    assert told(search.sweep(**given)) == told(first) and len(fits.plans) == 2
    assert len(search.sweep(**{**given, "n_trials": 2}).trials) == 2


@pytest.mark.parametrize("content", ["not json\n", "[1]\n", '{"a": 1}\n'])
def test_a_file_that_is_no_sweeps_is_refused_and_left_alone(base, data, fits, tmp_path, content):
    file = tmp_path / "notes.txt"
    file.write_text(content)
    with pytest.raises(FtkitError, match=r"FT074.*notes\.txt"):
        search.sweep(base, data, PLAN, SPACE, storage=file)
    assert file.read_text() == content


def test_a_folder_that_cannot_be_written_to_is_said(base, data, fits, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FtkitError, match="FT074"):
        search.sweep(base, data, PLAN, SPACE, storage=tmp_path / "file" / "sweep")
    with pytest.raises(FtkitError, match="FT074"):
        search.sweep(base, data, PLAN, SPACE, storage=tmp_path)


def test_a_number_beyond_what_was_wanted_is_not_run(base, data, fits, tmp_path, monkeypatch):
    # As if another process had asked for the last trial after this one looked, and before it asked itself.
    monkeypatch.setattr(
        optuna.study.MaxTrialsCallback, "__call__", lambda self, study, trial: trial.params or study.stop()
    )
    swept = search.sweep(base, data, PLAN, SPACE, n_trials=3)
    assert len(fits.plans) == 3 and [t.number for t in swept.trials] == [0, 1, 2]


WORKER = """
import os, sys, time, warnings
from pathlib import Path
warnings.simplefilter("error")
sys.path.insert(0, "tests")
import tiny, torch
from ftkit import search
from test_search import PLAN, SPACE
torch.set_num_threads(1)
base, data, folder = tiny.base(), tiny.splits(), Path(sys.argv[1])
(folder / f"ready-{os.getpid()}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.02)
told = []
search.sweep(base, data, PLAN, SPACE, n_trials=10, storage=folder / "sweep",
             callbacks=[lambda study, trial: trial.params and told.append(trial.number)])
print(*told)
"""


@pytest.mark.slow
def test_two_processes_share_the_trials_of_one_sweep(base, data, tmp_path, fits):
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FTKIT_CACHE": str(tmp_path / "kept")}
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], cwd=root, env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    said = [worker.communicate(timeout=300) for worker in workers]
    assert [(worker.returncode, err) for worker, (_, err) in zip(workers, said, strict=True)] == [(0, "")] * 2
    numbers = [sorted(map(int, out.split())) for out, _ in said]
    assert all(numbers), "both worked"
    assert sorted(numbers[0] + numbers[1]) == list(range(10)), "each trial once, and as many as were wanted"
    swept = search.sweep(base, data, PLAN, SPACE, n_trials=10, storage=tmp_path / "sweep")
    assert not fits.plans and [t.number for t in swept.trials] == list(range(10))
    alone = search.sweep(base, data, PLAN, SPACE, n_trials=10)
    assert plans(swept) == plans(alone), "the first ten are drawn by their number"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by a signal")
def test_what_a_killed_process_left_is_told_and_the_sweep_goes_on(base, data, tmp_path, fits):
    root = Path(__file__).resolve().parent.parent
    killed = WORKER.replace("< 2", "< 1").replace(
        "told = []",
        "told = []\nfrom ftkit import training; import signal\n"
        "training.fit = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)",
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-c", killed, str(tmp_path)], cwd=root, env=environment, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert journal(tmp_path / "sweep") == ["RUNNING"]
    swept = search.sweep(base, data, PLAN, SPACE, n_trials=3, storage=tmp_path / "sweep", pruner=WHOLE)
    assert states(swept) == ["FAIL", "COMPLETE", "COMPLETE"] and len(fits.plans) == 2
    assert swept.frame()["why"].tolist() == ["", "", "interrupted or killed"]


# What a sweep tells


def test_its_table_stands_best_first():
    swept = found(
        (0, 0.5, {"lr": 1e-3}), (1, 0.9, "PRUNED", {"lr": 1e-2}), (2, 0.7, {"epochs": 3}), (3, None, "FAIL", {})
    )
    ((_, frame),) = swept.tables()
    assert list(frame) == ["trial", "lr", "epochs", "score", "seconds", "epochs run", "state", "why"]
    assert frame["trial"].tolist() == [2, 0, 1, 3]
    assert frame["score"].tolist()[:3] == ["0.7", "0.5", "0.9"]
    assert swept.frame()["score"].tolist()[:3] == [0.7, 0.5, 0.9]
    assert swept.best == PLAN.but(epochs=3)
    assert swept.frame().sort_values("lr")["trial"].tolist()[0] == 0, "it can be sorted by any column"


def test_a_low_loss_is_the_best_and_is_shown_in_nats():
    plan = PLAN.but(monitor="loss")
    swept = found((0, 1.5, {"lr": 1e-3}), (1, 0.25, {}), plan=plan)
    assert swept.best == plan and "0.250" in swept.summary()


def test_it_names_the_winner_its_score_and_out_of_how_many_it_was_chosen():
    told = found(*((i, 0.5 + i / 100, {"lr": 1e-3 * (i + 1)}) for i in range(7)), (7, None, "FAIL", {})).summary()
    assert "lr=0.007" in told and "0.560" in told
    assert "out of 7 plans" in told and "looks better on valid than it is" in told
    assert "7 complete, 1 failed" in told
    assert "looks better" not in found((0, 0.5, {})).summary()


def test_without_a_complete_trial_there_is_no_best():
    for swept in (found(), found((0, 0.5, "PRUNED", {}))):
        with pytest.raises(FtkitError, match=r"FT075.*No trial was completed"):
            swept.best  # noqa: B018
        assert repr(swept) and swept.picture() is None and swept.importance() == "cannot tell"


def test_a_sweep_is_frozen_and_shows_its_trials():
    swept = found((0, 0.5, {"lr": 1e-3}), (1, 0.6, {}), (2, 0.4, "PRUNED", {"lr": 1e-4}), space={"lr": (1e-4, 1e-1)})
    with pytest.raises(dataclasses.FrozenInstanceError):
        swept.trials = ()
    figure, alt = swept.picture()
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["lr", "score"]
    assert "the best (0.600)" in alt and "accuracy on valid" in alt
    assert [line.get_linestyle() for line in ax.lines[2:]] == ["--", "-", "-"]
    assert swept._repr_html_().count("<img") == 1


def many(n, score):
    rng = np.random.default_rng(0)
    drawn = [{"lr": float(10 ** rng.uniform(-4, -1)), "warmup": float(rng.uniform()), "train": t}
             for t in rng.choice(["head", "top 1"], n).tolist()]  # fmt: skip
    space = {"lr": (1e-4, 1e-1), "warmup": (0.0, 1.0), "train": ["head", "top 1"]}
    return found(*((i, score(d), d) for i, d in enumerate(drawn)), space=space)


def test_what_mattered_is_told_where_there_are_enough_trials():
    shares = many(40, lambda d: -abs(math.log10(d["lr"]) + 2) / 10 + 0.8).importance()
    assert sum(shares.values()) == pytest.approx(1) and set(shares) == {"lr", "warmup", "train"}
    assert max(shares, key=shares.get) == "lr" and shares["lr"] > 0.5
    shares = many(40, lambda d: 0.5 + 0.3 * (d["train"] == "head") + d["warmup"] / 100).importance()
    assert max(shares, key=shares.get) == "train"


@pytest.mark.parametrize(("n", "score"), [(14, lambda d: d["lr"]), (40, lambda d: 0.5)], ids=["few", "alike"])
def test_too_few_trials_or_equal_scores_cannot_tell_what_mattered(n, score):
    assert many(n, score).importance() == "cannot tell"


# With real weights


@pytest.mark.slow
@pytest.mark.needs_assets("minilm", "icd10cm")
def test_on_a_real_model_the_suggestion_is_of_the_order_that_works():
    from ftkit.data import load_data
    from ftkit.pretrained import load_pretrained

    base, data = load_pretrained("minilm", max_tokens=32), load_data("health/diagnoses", per_class=32)
    tested = search.rate_range(base, data, Plan(train="top 1"))
    assert 5e-5 < tested.suggestion < 3e-3 and tested.diverged < 0.2
