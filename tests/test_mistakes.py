"""Silent mistakes of published tutorials, each made on purpose: here none of them is silent.

Each test is one of them. What it was elsewhere stands in its name; what ftkit says or refuses, in its lines.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch

import ftkit as ft
from ftkit import bundle, methods, record, tasks
from ftkit.checks import check_baselines, check_comparison
from ftkit.drift import prove
from ftkit.evaluation import Evaluation
from ftkit.exercises import Criterion, Exercise
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.training import set_modes

FAST = Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=2, batch_size=16, keep="last")


@pytest.fixture(scope="module")
def base():
    return tiny.base()


@pytest.fixture(scope="module")
def data():
    return tiny.splits()


def fit(base, data, plan=FAST, **how):
    return ft.fit(base, data, plan, on_event=None, **how)


def by_hand(base, data, plan, *, late=False, everything_moves=False, everything_awake=False):
    """Train three steps in a loop of one's own, with a mistake, and return what the proof says."""
    model = tasks.Classifier(base, data.n_labels)
    methods.attach(model.encoder, plan)
    groups = tasks.classifier_groups(model)
    plan.apply(model, groups)
    if everything_moves:
        model.requires_grad_(True)
    if late:
        plan.but(train="head").apply(model, groups)
    moving = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=1e-2)
    if late:
        plan.apply(model, groups)
    model.train() if everything_awake else set_modes(model, groups, plan)
    batch, labels = base.batch(base.tokenize(data.train.texts[:16])), torch.tensor(data.train.labels[:16])
    for _ in range(3):
        tasks.loss(model(batch), labels, "single").backward()
        optimizer.step()
        optimizer.zero_grad()
    return {finding.code for finding in prove(plan, base, model, optimizer).findings}


def test_an_adapter_without_effect_because_the_rest_was_tuned_as_well(base, data):
    lora = FAST.but(method="lora", rank=2)
    assert by_hand(base, data, lora) == set()
    assert {"FT052", "FT053"} & by_hand(base, data, lora, everything_moves=True)
    with pytest.raises(FtkitError, match="FT050"):
        lora.but(tensors="bias")


def test_class_weights_computed_printed_and_never_passed_on(base, data):
    rows = data.train.take(np.flatnonzero((data.train.labels == 0) | (np.arange(len(data.train)) % 5 == 0)))
    unequal = dataclasses.replace(data, train=rows)
    plain, balanced = (fit(base, unequal, FAST.but(class_weight=w)) for w in (None, "balanced"))
    assert plain.losses[1:] != balanced.losses[1:] and plain.weights_sha256 != balanced.weights_sha256


def test_an_instance_where_a_factory_is_needed(base, data):
    from ftkit.report import score_curve
    from ftkit.report.seeds import over_seeds

    run = fit(base, data)
    for call in (
        lambda: over_seeds(run, data.valid),
        lambda: score_curve(run, (1,), data.valid, x_label="rows"),
        lambda: ft.cross_validate({"tuned": run}, data, k=2, repeats=1),
    ):
        with pytest.raises(TypeError, match="not callable"):
            call()


def test_frozen_parts_whose_dropout_goes_on(base, data):
    assert by_hand(base, data, FAST) == set()
    assert by_hand(base, data, FAST, everything_awake=True) == {"FT059"}


def test_weights_unfrozen_after_the_optimizer_was_built(base, data):
    assert by_hand(base, data, FAST, late=True) == {"FT058"}


def test_a_new_head_left_frozen(base, data):
    with pytest.raises(FtkitError, match="FT054"):
        fit(base, data, FAST.but(train="block 2"))


def test_the_epoch_chosen_on_test(base, data):
    fit(base, data, FAST.but(keep="best"))
    assert data.test.opened == 0, "training never looks at it"
    rows = dataclasses.replace(data.test)
    looked = [ft.evaluate(ft.majority(data), rows) for _ in range(12)]
    assert [e.opened for e in looked] == list(range(1, 13))
    assert "FT072" in {f.code for f in check_baselines(looked[0], looked[-1]).findings}


def test_methods_compared_after_different_numbers_of_steps_or_at_one_rate(data):
    lora = FAST.but(method="lora")
    assert {f.code for f in check_comparison([FAST, lora], data).findings} == {"FT078"}
    assert {f.code for f in check_comparison([FAST, lora.but(lr=1e-3, epochs=3)], data).findings} == {"FT077"}


def test_trained_on_one_form_of_text_and_scored_on_another(base, data, tmp_path):
    folder = record.save(fit(base, data), tmp_path / "run")
    for other in (dataclasses.replace(base, max_tokens=8), dataclasses.replace(base, pooling="cls")):
        with pytest.raises(FtkitError, match="FT081"):
            bundle.load(folder, other)


def test_the_adapter_saved_and_its_head_not(base, data, tmp_path):
    folder = record.save(fit(base, data, FAST.but(method="lora", rank=2)), tmp_path / "run")
    tensors, header = record.read_tensors(folder / "weights.safetensors")
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    record.write_tensors(folder / "weights.safetensors", without, header)
    with pytest.raises(FtkitError, match=r"FT081.*head"):
        bundle.load(folder, base)


def test_a_winner_chosen_by_training_loss():
    with pytest.raises(FtkitError, match=r"FT050 Plan\.monitor"):
        Plan(monitor="train_loss")


def test_a_check_that_passes_on_a_smoke_run(base, data):
    yes = Criterion(what="anything", met=True, found="something")
    asked = {"lesson": "99", "question": "Tune.", "hints": (), "solution_code": "", "criteria": (lambda run: yes,)}
    run, pretrained = fit(base, data), {"parameters in its encoder": 1_000_000}
    assert not Exercise(**asked, least=pretrained).check(run).passed, "a few thousand weights are no pretrained model"
    assert "training rows" in Exercise(**asked, least={"training rows": len(data.train) + 1}).check(run).refused
    assert Exercise(**asked, least={"training rows": len(data.train)}).check(run).passed


def test_a_verdict_out_of_its_own_prose(data):
    """The name of a method does not decide how it is judged: the rows do."""
    proba = np.eye(3)[data.test.labels] * 0.8 + 0.05
    good = Evaluation(name="worse, lost, cannot tell", proba=proba[None], rows=data.test)
    poor = Evaluation(name="better, won, improved", proba=np.roll(proba, 1, axis=1)[None], rows=data.test)
    assert (ft.compare(poor, good).verdict, ft.compare(good, poor).verdict) == ("better", "worse")


def test_a_renamed_argument_that_is_silently_ignored(base, data):
    for call in (
        lambda: Plan(warm_up=0.1),
        lambda: FAST.but(learning_rate=1e-3),
        lambda: ft.fit(base, data, FAST, epochs=9),
        lambda: ft.load_data([("a", "b")], labels="b"),
    ):
        with pytest.raises(TypeError, match="unexpected keyword"):
            call()
