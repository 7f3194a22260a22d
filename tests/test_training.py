"""What is frozen stays frozen to the bit, the same plan gives the same weights, and a run can be stopped."""

from __future__ import annotations

import copy
import dataclasses
import gc
import itertools
import math
import shutil
import weakref

import numpy as np
import pytest
import tiny
import torch

from ftkit import baseline, tasks, training
from ftkit.evaluation import evaluate
from ftkit.findings import FtkitError
from ftkit.plan import Plan

#: Nothing is kept here, so that each batch is one forward pass; test_cache has runs that keep what is frozen.
FAST = Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=2, batch_size=16, cache=False)


def fit(base, data, plan, **options):
    return training.fit(base, data, plan, **{"on_event": None, **options})


def _model(base, plan, n_classes: int = 3):
    """Return a classifier to which the plan has been applied, and its groups."""
    model, groups = tasks.Classifier(base, n_classes), tasks.classifier_groups(base)
    plan.apply(model, groups)
    return model, groups


# The same again, and nothing else touched


@pytest.mark.parametrize("plan", [FAST, FAST.but(train="all", start="probe"), FAST.but(dtype="bfloat16")])
def test_the_same_plan_gives_the_same_weights_bit_for_bit(base, data, plan):
    one, two = fit(base, data, plan), fit(base, data, plan)
    assert one.weights_sha256 == two.weights_sha256
    assert str(one.history) == str(two.history)


def test_another_seed_gives_other_weights(base, data):
    assert fit(base, data, FAST).weights_sha256 != fit(base, data, FAST.but(seed=1)).weights_sha256


def test_half_precision_is_used_where_it_is_planned(base, data):
    half = fit(base, data, FAST.but(dtype="bfloat16", keep="last"))
    assert half.weights_sha256 != fit(base, data, FAST.but(keep="last")).weights_sha256
    assert half.environment["dtype"] == "bfloat16"
    assert {p.dtype for p in half.model.parameters()} == {torch.float32}


def test_a_dtype_left_open_is_settled_before_the_run_and_told_by_it(base, data, monkeypatch):
    monkeypatch.setattr("ftkit.doctor.fastest_dtype", lambda: "bfloat16")
    run = fit(base, data, FAST.but(dtype="auto"))
    assert run.plan == FAST.but(dtype="bfloat16")
    assert run.weights_sha256 == fit(base, data, FAST.but(dtype="bfloat16")).weights_sha256


def test_neither_base_nor_data_nor_the_state_of_chance_is_changed(base):
    data = tiny.splits()
    weights = {n: t.clone() for n, t in base.encoder.state_dict().items()}
    fingerprint, state, numpy_state = data.fingerprint(), torch.get_rng_state(), str(np.random.get_state())
    fit(base, data, FAST.but(train="all", start="probe"))
    assert all(torch.equal(weights[n], t) for n, t in base.encoder.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in base.encoder.parameters())
    assert data.fingerprint() == fingerprint
    assert torch.equal(torch.get_rng_state(), state)
    assert str(np.random.get_state()) == numpy_state


def test_the_state_of_chance_outside_does_not_matter(base, data):
    torch.manual_seed(1)
    one = fit(base, data, FAST)
    torch.manual_seed(2)
    assert fit(base, data, FAST).weights_sha256 == one.weights_sha256


def test_the_test_split_stays_closed(base):
    data = tiny.splits()
    fit(base, data, FAST.but(start="probe"))
    assert data.test.opened == 0


def test_the_test_split_changes_nothing(base, data):
    other = dataclasses.replace(data, test=tiny.rows("other", 9, seed=9))
    assert fit(base, other, FAST).weights_sha256 == fit(base, data, FAST).weights_sha256


# What is frozen, and what moves


@pytest.mark.parametrize(
    "train", ["head", "top 1", ("block 0", "head"), "blocks", "all", ("embeddings", "head")], ids=str
)
def test_frozen_groups_are_bit_identical_and_the_others_move(base, data, train):
    run = fit(base, data, FAST.but(train=train, keep="last"))
    before = {f"encoder.{n}": t for n, t in base.encoder.named_parameters()}
    after = dict(run.model.named_parameters())
    for group, names in tasks.classifier_groups(base).items():
        if group not in run.trained:
            assert all(torch.equal(before[n], after[n]) for n in names), group
            assert run.moved[group] == 0.0
        else:
            assert run.moved[group] > 0.001, group


@pytest.mark.parametrize("tensors", ["bias", "norm"])
def test_inside_a_group_only_the_planned_tensors_move(base, data, tensors):
    run = fit(base, data, FAST.but(train="all", tensors=tensors, keep="last"))
    movable = run.plan.movable(tasks.classifier_groups(base))
    before = {f"encoder.{n}": t for n, t in base.encoder.named_parameters()}
    moved = {n for n, t in run.model.named_parameters() if n not in before or not torch.equal(before[n], t)}
    assert moved == movable
    assert run.optimized == run.plan.preview(base, 3).moving


def test_gradual_unfreezing_lets_one_more_group_move_each_epoch(base, data):
    plan = FAST.but(train="blocks", gradual=True, epochs=4, keep="last")
    names = {
        g: groups
        for g, groups in tasks.classifier_groups(base).items()
        if g in plan.resolve(list(tasks.classifier_groups(base)))
    }
    for epochs in range(1, 5):
        # As long as the plan is the same, the first epochs of a run are those of any other.
        seen = []

        def stop(n=epochs, seen=seen):
            return sum(e.kind == "epoch" for e in seen) > n

        run = fit(base, data, plan, on_event=seen.append, stop=stop)
        still = [g for g, change in run.moved.items() if not change]
        assert run.best_epoch == epochs
        assert set(names) - set(still) == set(plan.stage(list(run.moved), epochs))


def test_a_part_whose_turn_has_not_come_has_no_dropout(base):
    plan = FAST.but(train="blocks", gradual=True, epochs=4)
    model, groups = _model(base, plan)
    for epoch in range(1, 5):
        training.set_modes(model, groups, plan, epoch)
        blocks = [block.training for block in model.encoder.encoder.layer]
        assert blocks == [f"block {i}" in plan.stage(list(groups), epoch) for i in range(3)]


def test_the_run_says_what_the_optimizer_held(base, data):
    run = fit(base, data, FAST)
    assert run.optimized == {g: n if g in run.trained else 0 for g, n in run.plan.preview(base, 3).sizes.items()}


def test_the_answers_on_valid_are_those_of_the_kept_weights(base, data):
    run = fit(base, data, FAST.but(epochs=3))
    assert np.allclose(run.valid_proba, run.predict_proba(data.valid.texts), atol=1e-6)
    assert run.on_valid.accuracy == run.history[run.best_epoch]["accuracy"]


def test_every_step_left_its_loss(base, data):
    run = fit(base, data, FAST)
    assert len(run.losses) == run.n_steps == 8
    assert run.history[1]["train_loss"] == pytest.approx(np.mean(run.losses[:4]))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_architecture_trains_where_it_is_told_to(architecture, data):
    run = fit(tiny.base(architecture), data, FAST.but(keep="last", epochs=1))
    assert {g for g, change in run.moved.items() if change} == set(run.trained)
    assert run.predict_proba(data.test.texts).shape == (30, 3)


def test_the_change_of_a_group_is_told_relative_to_its_length(base, data):
    run = fit(base, data, FAST.but(keep="last"))
    names = base.groups["block 2"]
    was, now = (torch.cat([m.get_parameter(n).flatten() for n in names]) for m in (base.encoder, run.model.encoder))
    assert run.moved["block 2"] == pytest.approx(((now - was).norm() / was.norm()).item(), rel=1e-4)


def test_a_frozen_weight_that_moves_all_the_same_is_noticed(base, data, monkeypatch):
    model = []
    monkeypatch.setattr(training.loop, "set_modes", lambda m, groups, plan, epoch: model.append(m) or m.train())

    def meddle(event):
        if event.kind == "step":
            with torch.no_grad():
                model[0].encoder.embeddings.word_embeddings.weight[5, 0] += 1e-3

    with pytest.raises(FtkitError, match=r"FT053.*word_embeddings"):
        fit(base, data, FAST, on_event=meddle)


@pytest.mark.parametrize("train", ["block 0", ("embeddings", "block 2")], ids=str)
def test_a_head_frozen_at_zero_is_refused(base, data, train):
    with pytest.raises(FtkitError, match="FT054"):
        fit(base, data, FAST.but(train=train))


def test_a_head_frozen_at_the_probe_can_teach_the_blocks(base, data):
    run = fit(base, data, FAST.but(train="block 2", start="probe", keep="last"))
    weight, bias = baseline.probe_weights(baseline.fit_probe(base, data)[0], data)
    assert np.allclose(run.model.head.weight.numpy(), weight, atol=1e-6)
    assert np.allclose(run.model.head.bias.numpy(), bias, atol=1e-6)
    assert run.moved["head"] == 0.0 < run.moved["block 2"]


def test_an_unknown_group_is_refused_before_anything_is_trained(base, data):
    events = []
    with pytest.raises(FtkitError, match="FT051"):
        fit(base, data, FAST.but(train="block 7"), on_event=events.append)
    assert not events


@pytest.mark.parametrize("train", ["head", "top 1", ("block 0", "head"), "all"], ids=str)
def test_the_optimizer_holds_exactly_what_may_move(base, train):
    plan = FAST.but(train=train)
    model, groups = _model(base, plan)
    held = [id(p) for g in training.make_optimizer(model, groups, plan).param_groups for p in g["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters() if p.requires_grad}


def test_each_group_has_its_rate_and_only_matrices_decay(base):
    plan = Plan(train="all", lr=1e-5, head_lr=1e-3, rates={"block 1": 1e-4}, weight_decay=0.1)
    model, groups = _model(base, plan)
    name_of = {id(p): n for n, p in model.named_parameters()}
    group_of = {n: g for g, names in groups.items() for n in names}
    seen = set()
    for setting in training.make_optimizer(model, groups, plan).param_groups:
        for parameter in setting["params"]:
            name = name_of[id(parameter)]
            seen.add(name)
            assert setting["lr"] == {"head": 1e-3, "block 1": 1e-4}.get(group_of[name], 1e-5), name
            exempt = name.endswith("bias") or "LayerNorm" in name
            assert setting["weight_decay"] == (0.0 if exempt else 0.1), name
    assert seen == set(group_of)


def test_a_group_with_a_rate_of_its_own_goes_further(base, data):
    slow = fit(base, data, Plan(train="top 2", lr=1e-5, epochs=1, keep="last"))
    fast = fit(base, data, Plan(train="top 2", lr=1e-5, rates={"block 1": 1e-2}, epochs=1, keep="last"))
    assert fast.moved["block 1"] > 50 * slow.moved["block 1"]
    assert fast.moved["block 2"] < 5 * slow.moved["block 2"]


# Frozen means no dropout either


@pytest.mark.parametrize(
    ("train", "training_parts"),
    [
        ("head", {"head", "dropout"}),
        ("top 1", {"head", "dropout", "block 2"}),
        (("block 0", "head"), {"head", "dropout", "block 0"}),
        ("block 1", {"block 1"}),
        ("blocks", {"head", "dropout", "block 0", "block 1", "block 2"}),
        ("all", {"head", "dropout", "block 0", "block 1", "block 2", "embeddings"}),
    ],
    ids=str,
)
def test_only_what_trains_is_in_training_mode(base, train, training_parts):
    plan = Plan(train=train)
    model, groups = _model(base, plan)
    model.train()
    training.set_modes(model, groups, plan)
    parts = {"head": model.head, "dropout": model.dropout, "embeddings": model.encoder.embeddings}
    parts |= {f"block {i}": block for i, block in enumerate(model.encoder.encoder.layer)}
    for name, part in parts.items():
        assert {m.training for m in part.modules()} == {name in training_parts}, name


def test_what_is_frozen_gives_the_same_features_each_time(base):
    plan = Plan(train="head")
    model, groups = _model(base, plan)
    batch = base.batch(base.tokenize(["heart of the left", "bone"]))
    model.train()
    assert not torch.equal(model.encoder(**batch)[0], model.encoder(**batch)[0])  # dropout in what should be frozen
    training.set_modes(model, groups, plan)
    assert torch.equal(model.encoder(**batch)[0], model.encoder(**batch)[0])


def test_the_modes_are_set_anew_after_each_validation(base, data, monkeypatch):
    model, seen, original = [], [], training.set_modes
    monkeypatch.setattr(training.loop, "set_modes", lambda *a: model.append(a[0]) or original(*a))

    def look(event):
        if event.kind == "step":
            layers = model[0].encoder.encoder.layer
            seen.append((model[0].head.training, layers[2].training, layers[1].training))

    fit(base, data, FAST, on_event=look)
    assert set(seen) == {(True, True, False)} and len(seen) == 8


def test_a_finished_model_is_in_evaluation_mode_and_frozen(base, data):
    run = fit(base, data, FAST)
    assert not any(m.training for m in run.model.modules())
    assert not any(p.requires_grad for p in run.model.parameters())


# The schedule


def _factors(n_steps: int = 100, **fields) -> list[float]:
    return [training.rate_factor(s, n_steps, Plan(**fields)) for s in range(n_steps + 1)]


def test_the_rate_climbs_from_zero_to_its_peak_in_the_planned_share_of_steps():
    for schedule in ("linear", "cosine", "constant"):
        climb = _factors(warmup=0.2, schedule=schedule)[:21]
        assert climb[:20] == pytest.approx([(s + 1) / 20 for s in range(20)])
        assert climb[20] == 1.0


def test_after_the_climb_the_rate_falls_as_planned():
    linear, cosine, constant = (_factors(warmup=0.2, schedule=s)[20:] for s in ("linear", "cosine", "constant"))
    assert linear == pytest.approx([1 - s / 80 for s in range(81)])
    assert cosine == pytest.approx([(1 + math.cos(math.pi * s / 80)) / 2 for s in range(81)])
    assert set(constant) == {1.0}


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
def test_no_factor_leaves_the_range_from_zero_to_one(schedule, warmup):
    assert all(0 <= f <= 1 for f in _factors(n_steps=7, warmup=warmup, schedule=schedule))
    assert all(0 <= f <= 1 for f in _factors(n_steps=1, warmup=warmup, schedule=schedule))


# Learning


@pytest.mark.parametrize(
    ("kind", "epochs"), [("single", 8), ("ordered", 10), pytest.param("multiple", 30, marks=pytest.mark.slow)]
)
def test_every_kind_of_label_is_learned(base, kind, epochs):
    data = tiny.splits(n_train=120, kind=kind)
    run = fit(base, data, Plan(train="all", lr=1e-2, head_lr=1e-2, epochs=epochs, batch_size=16))
    assert run.history[0]["accuracy"] <= 0.34
    assert evaluate(run, data.test).accuracy >= 0.9
    assert run.history[run.best_epoch]["valid_loss"] < run.history[0]["valid_loss"]


def test_a_class_with_few_rows_is_found_more_often_when_classes_count_the_same(base):
    data = tiny.splits(n_train=150, n_valid=60, n_test=60)
    few = np.flatnonzero(data.train.labels == 2)[8:]
    data = dataclasses.replace(data, train=data.train.take(np.delete(np.arange(150), few)))
    assert data.train.counts.tolist() == [50, 50, 8]
    plan = Plan(train="all", lr=1e-2, head_lr=1e-2, epochs=8, batch_size=16, keep="last")
    plain, balanced = (evaluate(fit(base, data, plan.but(class_weight=w)), data.test) for w in (None, "balanced"))
    assert balanced.per_class["recall"][2] > plain.per_class["recall"][2] + 0.2


@pytest.mark.parametrize("kind", ["single", "multiple"])
def test_class_weights_reach_the_training_loss_and_only_that(base, kind, monkeypatch):
    data, given, original = tiny.splits(kind=kind), [], tasks.loss

    def watched(logits, labels, kind, weights=None):
        given.append((logits.requires_grad, weights))
        return original(logits, labels, kind, weights)

    monkeypatch.setattr(tasks, "loss", watched)
    fit(base, data, FAST.but(class_weight="balanced"))
    expected = torch.tensor(tasks.class_weights(data.train.labels, 3, kind), dtype=torch.float32)
    assert {t for t, _ in given} == {True, False}
    assert all(torch.equal(w, expected) if training_ else w is None for training_, w in given)


def test_tuning_from_a_probe_starts_where_the_probe_is(base, data):
    probe = baseline.probe(base, data)
    run = fit(base, data, FAST.but(start="probe", epochs=1))
    assert run.history[0]["accuracy"] == evaluate(probe, data.valid).accuracy
    assert run.history[0]["accuracy"] != fit(base, data, FAST.but(epochs=1)).history[0]["accuracy"]


# Which weights are kept


@pytest.mark.parametrize("monitor", ["accuracy", "macro_f1", "loss"])
def test_the_best_epoch_is_kept_and_its_weights_give_its_score_again(base, data, monitor):
    run = fit(base, data, FAST.but(train="all", lr=0.05, epochs=8, monitor=monitor, schedule="constant"))
    entry = {"loss": "valid_loss"}.get(monitor, monitor)
    values = [(-1 if monitor == "loss" else 1) * h[entry] for h in run.history]
    assert run.best_epoch == values.index(max(values))
    assert run.best_epoch < 8, "a plan whose last epoch is its best proves nothing here"
    again = evaluate(run, data.valid)
    best = run.history[run.best_epoch]
    assert again.accuracy == best["accuracy"]
    assert again.macro_f1 == pytest.approx(best["macro_f1"])


def test_the_last_epoch_is_kept_where_that_is_planned(base, data):
    run = fit(base, data, FAST.but(train="all", lr=0.03, epochs=8, keep="last"))
    assert run.best_epoch == 8
    assert evaluate(run, data.valid).accuracy == run.history[8]["accuracy"]


def test_patience_ends_a_run_that_gets_no_better(base, data):
    plan = FAST.but(train="all", epochs=20, patience=3)
    run = fit(base, tiny.splits(n_train=120), plan)
    assert len(run.history) - 1 == run.best_epoch + 3 < 20
    assert run.stopped == "no better score on valid for 3 epochs"
    assert run.history[run.best_epoch]["accuracy"] == max(h["accuracy"] for h in run.history)


# Events, stopping, accidents


def test_there_is_one_event_a_step_and_one_an_epoch(base, data):
    events = []
    run = fit(base, data, FAST, on_event=events.append)
    kinds = [e.kind for e in events]
    assert kinds == ["epoch", *["step"] * 4, "epoch", *["step"] * 4, "epoch"]  # 60 rows in batches of 16
    assert [e.step for e in events if e.kind == "step"] == list(range(1, 9))
    assert {e.n_steps for e in events} == {8} and run.n_steps == 8
    assert [dict(e.values) for e in events if e.kind == "epoch"][1:] == [dict(h) for h in run.history[1:]]
    assert [e.elapsed_s for e in events] == sorted(e.elapsed_s for e in events)


def test_watching_a_run_does_not_change_it(base, data):
    assert fit(base, data, FAST, on_event=print).weights_sha256 == fit(base, data, FAST).weights_sha256


def test_the_training_loss_of_an_epoch_is_the_mean_over_its_steps(base, data):
    events = []
    run = fit(base, data, FAST.but(epochs=1), on_event=events.append)
    assert run.history[1]["train_loss"] == pytest.approx(
        np.mean([e.values["loss"] for e in events if e.kind == "step"])
    )


def test_every_row_is_visited_once_an_epoch_in_a_new_order():
    order, lengths = torch.Generator().manual_seed(0), [5 + i % 3 for i in range(150)]
    first, second = (training.batches(lengths, 4, order) for _ in range(2))
    for epoch in (first, second):
        assert sorted(itertools.chain(*epoch)) == list(range(150))
        assert sorted(map(len, epoch)) == [2] + [4] * 37
    assert first != second


def test_a_batch_holds_texts_of_like_length_and_no_epoch_goes_from_short_to_long():
    lengths = np.random.default_rng(0).integers(3, 60, 640).tolist()
    cut = training.batches(lengths, 32, torch.Generator().manual_seed(0))
    longest = [max(lengths[i] for i in batch) for batch in cut]
    spread = np.mean([max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in cut])
    assert spread < 10  # against 50 and more in batches drawn at random
    assert longest != sorted(longest)


def _after(n: int):
    """Return a `stop` that is True from the n-th time it is asked.

    Here that is once for the start, four times in an epoch's steps, and once for its validation; a probe asks ten
    times before all that.
    """
    asked = itertools.count(1)
    return lambda: next(asked) >= n


def _usable(run, data) -> bool:
    return bool(np.isfinite(run.predict_proba(data.test.texts)).all() and repr(run) and run.weights_sha256)


def test_a_run_can_be_stopped_after_any_step(base, data):
    run = fit(base, data, FAST, stop=_after(9))
    assert (run.n_steps, run.stopped, len(run.history)) == (6, "stopped on request", 2)
    assert run.best_epoch <= 1  # the second epoch was not finished
    assert _usable(run, data)


@pytest.mark.parametrize("start", ["zero", "probe"])
def test_stopped_before_the_start_was_scored_there_is_nothing_to_keep(base, data, start):
    with pytest.raises(FtkitError, match="FT057"):
        fit(dataclasses.replace(base), data, FAST.but(start=start), stop=lambda: True)


def test_a_stop_takes_effect_before_the_next_batch_of_what_is_kept(base):
    asked, told = [], []

    def stop():
        asked.append(1)
        return len(asked) > 1

    with pytest.raises(FtkitError, match="FT057"):
        fit(base, tiny.splits(n_train=90), FAST.but(cache=True), stop=stop, on_event=told.append)
    assert len(asked) == 2 and [event.kind for event in told] == ["cache"]


def test_a_stop_takes_effect_before_the_next_batch_of_a_validation(base):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 8  # two for the start, four steps, and into the first validation

    run = fit(base, tiny.splits(n_valid=120), FAST, stop=stop)
    assert (run.stopped, run.n_steps, run.best_epoch, len(asked)) == ("stopped on request", 4, 0, 9)


def test_an_interrupt_ends_a_run_and_keeps_the_best_so_far(base, data):
    def interrupt(event):
        if event.step == 6:
            raise KeyboardInterrupt

    run = fit(base, data, FAST, on_event=interrupt)
    assert (run.n_steps, run.stopped, len(run.history)) == (6, "interrupted", 2)
    assert run.weights_sha256 == fit(base, data, FAST, stop=_after(9)).weights_sha256
    assert _usable(run, data)


def test_a_run_stopped_in_its_first_epoch_has_the_weights_it_started_with(base, data):
    run = fit(dataclasses.replace(base), data, FAST.but(start="probe"), stop=_after(13))  # with nothing encoded yet
    assert (run.n_steps, run.best_epoch) == (1, 0)
    assert set(run.moved.values()) == {0.0}
    assert evaluate(run, data.valid).accuracy == evaluate(baseline.probe(base, data), data.valid).accuracy


def test_an_error_in_a_callback_is_not_swallowed(base, data):
    def fail(event):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(base, data, FAST, on_event=fail)


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_with_a_finding_and_sound_weights(base, data, keep, bad, monkeypatch):
    original, steps = tasks.loss, itertools.count(1)

    def poisoned(logits, *rest):
        value = original(logits, *rest)
        return value * bad if logits.requires_grad and next(steps) == 6 else value

    monkeypatch.setattr(tasks, "loss", poisoned)
    run = fit(base, data, FAST.but(keep=keep))
    assert (run.n_steps, run.stopped) == (6, "the loss was not finite")
    assert [f.code for f in run.findings] == ["FT055"]
    assert "step 6" in run.findings[0].message and "FT055" in repr(run)
    assert _usable(run, data)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_weights_spoilt_by_the_last_step_of_an_epoch_are_not_kept(base, data, keep, monkeypatch):
    original, steps = tasks.loss, itertools.count(1)

    def poisoned(logits, *rest):
        value = original(logits, *rest)
        if logits.requires_grad and next(steps) == 4:  # the loss is finite, its gradient is not
            logits.register_hook(lambda gradient: gradient * math.nan)
        return value

    monkeypatch.setattr(tasks, "loss", poisoned)
    run = fit(base, data, FAST.but(keep=keep, epochs=1))
    assert all(torch.isfinite(p).all() for p in run.model.parameters())
    assert [f.code for f in run.findings] == ["FT055"]


def test_a_rate_far_too_high_leaves_a_usable_run(base, data):
    run = fit(base, data, Plan(train="all", lr=1.0, head_lr=1.0, epochs=3, clip=1e6, warmup=0, schedule="constant"))
    assert _usable(run, data)


# What is said


def test_one_line_an_epoch_is_printed(base, data, capsys):
    run = training.fit(base, data, FAST)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, start=1):
        entry = run.history[number]
        assert line.startswith(
            f"epoch {number}: training loss {entry['train_loss']:.3f}, valid loss {entry['valid_loss']:.3f}"
        )
        assert f"valid accuracy {entry['accuracy']:.3f}" in line


def test_the_time_to_go_is_told_where_it_is_worth_waiting_for(capsys):
    values = {"epoch": 1, "train_loss": 1.0, "valid_loss": 0.9, "accuracy": 0.5}
    training.say_epochs(training.Event(kind="epoch", step=10, n_steps=40, elapsed_s=20.0, values=values))
    assert capsys.readouterr().out == (
        "epoch 1: training loss 1.000, valid loss 0.900, valid accuracy 0.500 (20 s, about 60 s to go)\n"
    )
    training.say_epochs(training.Event(kind="step", step=11, n_steps=40, elapsed_s=22.0, values={"loss": 1.0}))
    training.say_epochs(training.Event(kind="epoch", step=0, n_steps=40, elapsed_s=0.0, values=values))
    assert capsys.readouterr().out == ""


def test_nothing_is_printed_when_nobody_listens(base, data, capsys):
    fit(base, data, FAST)
    assert capsys.readouterr().out == ""


def test_memory_is_given_back_where_the_system_takes_it_and_nothing_fails_elsewhere(monkeypatch):
    training.give_back_memory()
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # a C library without that function
    training.give_back_memory()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")  # torch's compiler, of torch itself
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_learn_what_plain_ones_learn_and_leave_a_model_that_can_be_copied():
    plan = Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=2, seed=3)
    plain, compiled = (fit(tiny.base(), tiny.splits(), plan.but(compile=c), on_event=None) for c in (False, True))
    assert len(torch._dynamo.utils.compilation_time_metrics), "something was compiled"
    copy.deepcopy(compiled.model)
    assert np.allclose(compiled.valid_proba, plain.valid_proba, atol=0.05)
    assert not any(b._compiled_call_impl for b in compiled.model.encoder.modules())


@pytest.mark.parametrize("plan", [FAST, FAST.but(cache=True), FAST.but(train="all", gradual=True, cache=True)])
def test_a_model_goes_when_its_run_does_and_does_not_wait_for_the_garbage_collector(base, data, plan):
    gc.collect()
    gc.disable()  # twelve plans of a sweep, one after the other, would otherwise hold twelve models
    try:
        run = fit(base, data, plan)
        encoder = weakref.ref(run.model.encoder)
        del run
        assert encoder() is None
    finally:
        gc.enable()
