"""What was frozen shows exactly zero, what moved shows how far, and a plan that did not happen raises an alarm."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from ftkit import tasks, training
from ftkit.drift import attention_shift, freeze_proof, linear_cka, prove, what_moved
from ftkit.drift.moved import layer_of
from ftkit.plan import Plan
from ftkit.training import make_optimizer, set_modes

FAST = Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=2, batch_size=16, keep="last")


def fit(base, data, plan):
    return training.fit(base, data, plan, on_event=None)


@pytest.fixture(scope="module")
def run(base, data):
    return fit(base, data, FAST)


def of(frame, group):
    return frame.set_index("group").loc[group]


# Alike, and how alike


def test_a_representation_turned_scaled_or_moved_is_the_same_to_cka():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert linear_cka(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert linear_cka(x, x @ rng.normal(size=(6, 6))) < 0.99


def test_unrelated_representations_are_near_zero_only_with_many_texts():
    rng = np.random.default_rng(0)
    few, many = (linear_cka(rng.normal(size=(n, 20)), rng.normal(size=(n, 20))) for n in (10, 5000))
    assert many < 0.01 < 0.5 < few


def test_cka_agrees_with_the_formula_on_similarities_of_texts():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 5))
    centre = np.eye(12) - 1 / 12
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    assert linear_cka(x, y) == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))


def test_cka_of_texts_that_are_all_alike_is_zero_not_nan():
    assert linear_cka(np.ones((4, 2)), np.random.default_rng(0).normal(size=(4, 2))) == 0
    with pytest.raises(ValueError, match="3 and 4"):
        linear_cka(np.ones((3, 2)), np.ones((4, 2)))


def test_attention_that_looks_elsewhere_has_shifted_by_one():
    here, there = torch.eye(4).expand(1, 2, 4, 4), torch.eye(4).roll(1, dims=1).expand(1, 2, 4, 4)
    assert attention_shift(here, here).eq(0).all()
    assert attention_shift(here, there).eq(1).all()
    assert attention_shift(here, (here + there) / 2).eq(0.5).all()
    half_the_heads = torch.cat([here[:, :1], there[:, :1]], dim=1)
    assert attention_shift(here, half_the_heads).eq(0.5).all()


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_each_parameter_of_each_architecture_has_a_layer(architecture):
    layers = {n: layer_of(n) for n, _ in tiny.encoder(architecture).named_parameters()}
    blocks = {layer for n, layer in layers.items() if ".0." in n}
    assert blocks == {"attention", "feed-forward", "norms"}
    assert all(layer == "norms" for n, layer in layers.items() if "norm" in n.lower())
    assert "word pieces" in layers.values()


# What moved


def test_what_was_frozen_shows_exactly_zero_and_what_was_not_does_not(run):
    drift = what_moved(run)
    groups = drift.frame().set_index("group")
    below = ["embeddings", "block 0", "block 1"]
    assert (groups.loc[below, "planned"] == "frozen").all()
    assert (groups.loc[below, "weights_moved"] == 0).all()
    assert (groups.loc[below, "cka"] == 1).all()
    assert (groups.loc[below[1:], "attention_shift"] == 0).all()
    top = groups.loc["block 2"]
    assert top["planned"] == "moves"
    assert top["weights_moved"] == pytest.approx(run.moved["block 2"], rel=1e-5)
    assert 0 < top["cka"] < 1
    assert 0 < top["attention_shift"] < 1


def test_a_frozen_block_above_a_moved_one_keeps_its_weights_and_sees_other_things(base, data):
    groups = what_moved(fit(base, data, FAST.but(train=("head", "block 0")))).frame().set_index("group")
    assert groups.loc["block 1", "weights_moved"] == 0
    assert groups.loc["block 1", "cka"] < 1
    assert groups.loc["block 1", "attention_shift"] > 0


def test_layers_tell_which_part_of_a_block_moved(base, data):
    drift = what_moved(fit(base, data, FAST.but(tensors="norm")))
    layers = drift.layers_of("block 2").set_index("layer")["weights_moved"]
    assert layers["norms"] > 0
    assert layers["attention"] == layers["feed-forward"] == 0
    assert of(drift.groups, "block 2")["planned"] == "moves in part"
    assert (drift.layers_of("block 1")["weights_moved"] == 0).all()


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_architecture_can_be_looked_into(architecture, data):
    base = tiny.base(architecture)
    implementation = base.encoder.config._attn_implementation
    groups = what_moved(fit(base, data, FAST.but(epochs=1))).frame().set_index("group")
    assert list(groups.index) == [*base.groups, "head"]
    assert groups.loc["block 1", "cka"] == 1
    assert groups.loc["block 1", "attention_shift"] == 0
    assert groups.loc["block 2", "attention_shift"] > 0
    assert base.encoder.config._attn_implementation == implementation


def test_looking_changes_neither_run_nor_base_and_needs_no_label(run):
    before = run.weights_sha256
    shape = {n: p.data_ptr() for n, p in run.base.encoder.named_parameters()}
    opened = run.data.valid.opened
    what_moved(run, ["heart of the left", "lung and bone", "a b c d e f"])
    assert dataclasses.replace(run).weights_sha256 == before
    assert {n: p.data_ptr() for n, p in run.base.encoder.named_parameters()} == shape
    assert run.data.valid.opened == opened
    assert not run.base.encoder.training


def test_padding_does_not_count(run):
    long = " ".join(["heart"] * 25)
    alone, beside = (what_moved(run, texts).frame() for texts in (["lung", "bone"], ["lung", "bone", long]))
    both = what_moved(run, ["lung", "bone", long, long]).frame()
    shift = of(alone, "block 2")["attention_shift"]
    # 3 tokens a short text, 27 the long one: the mean is over tokens, wherever they stand
    once = (of(beside, "block 2")["attention_shift"] * 33 - shift * 6) / 27
    twice = (of(both, "block 2")["attention_shift"] * 60 - shift * 6) / 54
    assert once == pytest.approx(twice, rel=1e-3)


def test_a_drift_shows_itself(run):
    drift = what_moved(run)
    figure, alt = drift.picture()
    assert "block 2 moved most" in alt
    assert "exactly 0 in embeddings, block 0, block 1" in drift.summary()
    assert "exactly 0" in repr(drift)
    assert of(drift.tables()[0][1], "head")["weights moved"] == "new, from zeros"
    assert len(figure.axes) == 4
    assert "<table>" in drift._repr_html_()


def test_a_run_of_the_head_alone_says_that_nothing_below_it_moved(base, data):
    assert "no weight moved" in what_moved(fit(base, data, FAST.but(train="head"))).summary()


# The proof


@pytest.mark.parametrize(
    "plan",
    [
        FAST,
        FAST.but(train="all"),
        FAST.but(tensors="bias"),
        FAST.but(train="blocks", tensors="norm"),
        FAST.but(train="all", gradual=True, epochs=5),
        FAST.but(start="probe", train="block 1"),
    ],
    ids=lambda p: p.words,
)
def test_the_proof_holds_for_what_fit_made(base, data, plan):
    proof = freeze_proof(fit(base, data, plan))
    assert proof.holds, proof.summary()
    assert proof.frame()["agrees"].all()
    frozen = proof.groups[proof.groups["planned"] == "frozen"]
    assert (frozen["weights_moved"] == 0).all()
    assert (frozen["n_optimizer"] == 0).all()
    assert (proof.groups["n_optimizer"] == proof.groups["n_planned"]).all()


def test_weights_that_went_back_to_the_start_are_no_alarm(base, data):
    run = fit(base, data, FAST.but(start="probe", lr=1.0, head_lr=1.0, keep="best"))
    assert run.best_epoch == 0
    assert freeze_proof(run).holds


def test_a_group_whose_turn_had_not_come_is_no_alarm(base, data):
    run = fit(base, data, FAST.but(train="blocks", gradual=True, epochs=4))
    model = tasks.Classifier(base, 3)
    model.head.load_state_dict(run.model.head.state_dict())
    early = dataclasses.replace(run, model=model, best_epoch=1)
    assert freeze_proof(early).holds
    late = freeze_proof(dataclasses.replace(early, best_epoch=4))
    assert [f.code for f in late.findings] == ["FT058"] * 3


def test_a_frozen_weight_changed_by_one_bit_is_found(base, data, run):
    model = tasks.Classifier(base, 3)
    model.load_state_dict(run.model.state_dict())
    with torch.no_grad():
        weight = model.get_parameter(f"encoder.{base.groups['block 0'][0]}").view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    proof = freeze_proof(dataclasses.replace(run, model=model))
    assert [f.code for f in proof.findings] == ["FT053"]
    assert not of(proof.groups, "block 0")["agrees"]
    assert of(proof.groups, "block 0")["weights_moved"] > 0


def _loop(base, data, plan, *, unfreeze_late=False, all_in_training_mode=False, everything=False):
    """Take three steps by hand, with one of the mistakes that hands make."""
    model, groups = tasks.Classifier(base, 3), tasks.classifier_groups(base)
    plan.apply(model, groups)
    if unfreeze_late:
        plan.but(train="head").apply(model, groups)
    moving = [p for p in model.parameters() if p.requires_grad or everything]
    optimizer = torch.optim.AdamW(moving, lr=1e-2)
    plan.apply(model, groups)
    model.train() if all_in_training_mode else set_modes(model, groups, plan)
    batch, labels = base.batch(base.tokenize(data.train.texts[:16])), torch.tensor(data.train.labels[:16])
    for _ in range(3):
        tasks.loss(model(batch), labels, "single").backward()
        optimizer.step()
        optimizer.zero_grad()
    return prove(plan, base, model, optimizer)


def test_a_loop_of_ones_own_can_be_proven(base, data):
    proof = _loop(base, data, FAST)
    assert proof.holds, proof.summary()
    assert "Moved: block 2, head." in proof.summary()


def test_an_optimizer_built_before_unfreezing_raises_the_alarm(base, data):
    proof = _loop(base, data, FAST, unfreeze_late=True)
    assert not proof.holds
    assert {f.code for f in proof.findings} == {"FT058"}
    row = of(proof.groups, "block 2")
    assert (row["n_optimizer"], row["weights_moved"], row["agrees"]) == (0, 0.0, False)
    assert of(proof.groups, "head")["agrees"]
    assert proof.summary().startswith("ALARM")
    assert "FT058" in repr(proof)


def test_an_optimizer_of_another_copy_of_the_model_raises_the_alarm(base):
    one, other, groups = tasks.Classifier(base, 3), tasks.Classifier(base, 3), tasks.classifier_groups(base)
    proof = prove(FAST, base, one, make_optimizer(other, groups, FAST))
    assert {f.code for f in proof.findings} == {"FT058"}


def test_an_optimizer_that_holds_frozen_weights_is_told(base, data):
    assert {f.code for f in _loop(base, data, FAST, everything=True).findings} == {"FT052"}


def test_dropout_in_a_frozen_part_is_found_and_in_a_moving_part_is_not(base, data):
    proof = _loop(base, data, FAST, all_in_training_mode=True)
    assert {f.code for f in proof.findings} == {"FT059"}
    assert [f.message.split(":")[0] for f in proof.findings] == ["embeddings", "block 0", "block 1"]
    assert _loop(base, data, FAST.but(train="all"), all_in_training_mode=True).holds
    assert _loop(base, data, FAST.but(train="all", tensors="bias"), all_in_training_mode=True).holds


def test_a_batch_norm_in_a_frozen_part_counts_too(base):
    model, groups = tasks.Classifier(base, 3), tasks.classifier_groups(base)
    plan = FAST.but(train="head")
    plan.apply(model, groups)
    model.encoder.embeddings.LayerNorm.track_running_stats = True  # as a BatchNorm has it
    model.eval()
    assert "FT059" not in {f.code for f in prove(plan, base, model, make_optimizer(model, groups, plan)).findings}
    model.encoder.embeddings.LayerNorm.train()
    assert "FT059" in {f.code for f in prove(plan, base, model, make_optimizer(model, groups, plan)).findings}


@pytest.mark.slow
@pytest.mark.needs_assets("minilm", "icd10cm")
def test_on_the_real_model_the_top_moves_and_the_bottom_does_not():
    import ftkit as ft

    base = ft.load_pretrained("minilm", max_tokens=32)
    run = fit(base, ft.load_data("health/diagnoses", per_class=8), Plan(train="top 2", epochs=1, keep="last"))
    groups = what_moved(run).frame().set_index("group")
    below = ["embeddings", "block 0", "block 1", "block 2", "block 3"]
    assert (groups.loc[below, ["weights_moved"]] == 0).all(axis=None)
    assert (groups.loc[below, ["cka"]] == 1).all(axis=None)
    assert (groups.loc[["block 4", "block 5"], "weights_moved"] > 0).all()
    assert freeze_proof(run).holds
