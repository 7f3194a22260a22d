"""A plan is inert, validated once, names groups in the model's order, and is carried out and verified on a model."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tiny

from ftkit import tasks
from ftkit.findings import FtkitError
from ftkit.plan import Plan, Preview, verify

GROUPS = ["embeddings", "block 0", "block 1", "block 2", "final", "head"]
NAN, INF = float("nan"), float("inf")
WRONG = {
    "train": ["", (), 5, None, (1, 2)],
    "tensors": ["weights", None, ""],
    "method": ["Lora", None, "", True],
    "rank": [0, -1, 4.0, "8", True, None],
    "alpha": [0, -1, INF, NAN, "16", True],
    "lr": [0, -1e-4, 1.5, NAN, INF, "1e-4", None, True],
    "head_lr": [0, -1, 2, NAN, "fast"],
    "rates": [{"head": 0}, {"head": 2.0}, {"head": "x"}],
    "layer_decay": [0, -1, 1.1, NAN, "0.5"],
    "gradual": [1, "yes", None],
    "start": ["warm", None, ""],
    "epochs": [0, -1, 1.5, "4", True, None],
    "batch_size": [0, -8, 16.0, "32"],
    "weight_decay": [-0.1, 1.1, NAN, "0"],
    "warmup": [-0.1, 1.1, NAN, "0.1"],
    "schedule": ["step", None],
    "patience": [0, -1, 1.5, "2"],
    "keep": ["first", None],
    "monitor": ["f1", None],
    "class_weight": ["even", 1.0],
    "clip": [0, -1, NAN, "1"],
    "accumulate": [0, -8, 16.0, "32"],
    "dtype": ["float16", "bf16", None],
    "compile": [1, "yes", None],
    "cache": [1, "yes", None],
    "seed": [-1, 2**63, 0.5, "0", None],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_a_value_out_of_range_is_refused_by_field_and_value(name, value):
    with pytest.raises(FtkitError) as refused:
        Plan(**{name: value})
    assert refused.value.code == "FT050"
    assert f"Plan.{name}" in refused.value.message
    assert repr(next(iter(value.values())) if isinstance(value, dict) else value) in refused.value.message


def test_every_field_of_a_plan_has_a_range():
    assert list(WRONG) == [f.name for f in dataclasses.fields(Plan)]


def test_values_at_the_ends_of_their_ranges_are_taken():
    Plan(lr=1, head_lr=1e-12, epochs=1, batch_size=1, warmup=0, weight_decay=0, patience=1, clip=INF, seed=2**63 - 1)
    Plan(warmup=1, weight_decay=1, class_weight=None, patience=None)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("head", ["head"]),
        ("top 0", ["head"]),  # no block, and nothing below the head
        ("top 1", ["block 2", "final", "head"]),
        ("top 3", GROUPS[1:]),
        ("blocks", GROUPS[1:]),
        ("all", GROUPS),
        ("embeddings", ["embeddings"]),
        (("head", "block 0"), ["block 0", "head"]),
        (["head", "top 1", "embeddings"], ["embeddings", "block 2", "final", "head"]),
        (("head", "head"), ["head"]),
    ],
)
def test_words_for_groups_stand_for_groups_in_the_models_order(train, expected):
    assert Plan(train=train).resolve(GROUPS) == tuple(expected)


@pytest.mark.parametrize(
    ("train", "hint"),
    [
        ("heads", "'head'"),
        ("blok 2", "'block 2'"),
        ("block 7", "'block"),
        ("top 4", "'top 1' to 'top 3'"),
        ("nonsense", "embeddings"),
    ],
)
def test_an_unknown_group_is_refused_with_what_was_probably_meant(train, hint):
    with pytest.raises(FtkitError, match="FT051") as refused:
        Plan(train=train).resolve(GROUPS)
    assert repr(train) in refused.value.message and hint in refused.value.message


def test_a_rate_for_an_unknown_group_is_refused_not_ignored():
    with pytest.raises(FtkitError, match=r"FT051 Plan\.rates.*'hed'"):
        Plan(rates={"hed": 1e-3}).resolve(GROUPS)


def test_a_group_learns_at_its_own_rate_or_at_that_of_its_kind():
    plan = Plan(train=("block 0", "block 1", "head"), lr=1e-5, head_lr=1e-3, rates={"block 1": 1e-4})
    assert plan.rates_for(GROUPS) == {"block 0": 1e-5, "block 1": 1e-4, "head": 1e-3}
    assert plan.but(rates={"head": 0.5}).rates_for(GROUPS)["head"] == 0.5


def test_each_group_learns_slower_than_the_one_above_it():
    rates = Plan(train="all", lr=1e-3, head_lr=1e-2, layer_decay=0.5, rates={"block 0": 0.2}).rates_for(GROUPS)
    assert rates == {
        "embeddings": 1e-3 / 16, "block 0": 0.2, "block 1": 1e-3 / 4, "block 2": 1e-3 / 2, "final": 1e-3, "head": 1e-2
    }  # fmt: skip


def test_a_rate_for_a_frozen_group_is_refused_not_ignored():
    with pytest.raises(FtkitError, match=r"FT056.*'block 0'"):
        Plan(train="top 1", rates={"block 0": 1e-3}).resolve(GROUPS)


@pytest.mark.parametrize(
    ("epochs", "counts"), [(4, [2, 3, 4, 5]), (5, [1, 2, 3, 4, 5]), (7, [1, 2, 3, 4, 5, 5, 5]), (1, [5]), (2, [3, 5])]
)
def test_gradual_unfreezing_goes_down_from_the_top_and_comes_to_an_end(epochs, counts):
    plan = Plan(train="blocks", gradual=True, epochs=epochs)
    stages = [plan.stage(GROUPS, epoch) for epoch in range(1, epochs + 1)]
    assert [len(s) for s in stages] == counts
    assert all(s == tuple(GROUPS[-len(s) :]) for s in stages)


def test_all_at_once_is_one_stage():
    assert Plan(train="top 1", epochs=3).stage(GROUPS, 1) == Plan(train="top 1").resolve(GROUPS)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("tensors", ["bias", "norm"])
def test_only_biases_or_only_norms_move_below_the_head(architecture, tensors):
    base = tiny.base(architecture)
    groups = tasks.classifier_groups(base)
    plan = Plan(train="all", tensors=tensors)
    movable = plan.movable(groups)
    norms = {
        f"encoder.{m}.{n}"
        for m, module in base.encoder.named_modules()
        if "Norm" in type(module).__name__
        for n, _ in module.named_parameters()
    }
    biases = {n for names in groups.values() for n in names if n.endswith("bias")}
    assert movable == {"head.weight", "head.bias"} | (norms if tensors == "norm" else biases)
    preview = plan.preview(base, 3)
    assert 0 < preview.n_trained < 0.2 * preview.n_total + preview.sizes["head"]
    assert preview.moving["head"] == preview.sizes["head"]


def test_numbers_out_of_numpy_become_plain_ones():
    import json

    plan = Plan(lr=np.float32(0.5), epochs=np.int64(3), seed=np.uint8(7), rates={"head": np.float64(0.25)})
    assert json.loads(json.dumps(plan.to_dict()))["epochs"] == 3
    assert plan.code() == "Plan(train='head', lr=0.5, rates={'head': 0.25}, epochs=3, seed=7)"


def test_a_plan_can_be_copied_and_sent_to_another_process():
    plan = Plan(train=("head", "block 1"), rates={"head": 0.1}, gradual=True)
    assert copy.deepcopy(plan) == plan == pickle.loads(pickle.dumps(plan))  # noqa: S301


def test_a_plan_cannot_be_changed_only_made_anew():
    plan = Plan(train=["head"], rates={"head": 0.1})
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.lr = 1.0
    with pytest.raises(TypeError):
        plan.rates["head"] = 1.0
    assert isinstance(plan.train, tuple)


def test_a_plan_keeps_no_hold_on_what_it_was_made_from():
    rates, train = {"head": 0.1}, ["head"]
    plan = Plan(train=train, rates=rates)
    rates["head"], train[0] = 0.9, "all"
    assert (plan.rates["head"], plan.train) == (0.1, ("head",))


def test_but_changes_only_what_it_is_told_and_checks_it():
    plan = Plan(train="top 2", lr=5e-5, seed=3)
    other = plan.but(lr=1e-4)
    assert (other.lr, other.train, other.seed, plan.lr) == (1e-4, "top 2", 3, 5e-5)
    with pytest.raises(FtkitError, match="FT050"):
        plan.but(epochs=0)
    with pytest.raises(TypeError, match="learning_rate"):
        plan.but(learning_rate=1e-4)


PLANS = [
    Plan(),
    Plan(train="all"),
    Plan(train=("block 0", "head"), lr=3e-5, rates={"head": 1e-2}, start="probe", patience=2),
    Plan(epochs=7, class_weight="balanced", dtype="bfloat16", clip=INF, warmup=0, seed=9).but(clip=2.0),
]


@pytest.mark.parametrize("plan", PLANS)
def test_the_code_of_a_plan_makes_that_plan_again(plan):
    again = eval(plan.code(), {"Plan": Plan})  # our own string; only here
    assert again == plan and hash(again) == hash(plan)
    assert repr(plan) == plan.code()


@pytest.mark.parametrize("plan", PLANS)
def test_the_plain_values_of_a_plan_survive_json(plan):
    import json

    assert Plan(**json.loads(json.dumps(plan.to_dict()))) == plan


def test_equal_plans_are_one_key_and_different_ones_are_two():
    assert len({Plan(), Plan(train="head"), Plan(lr=1e-4), Plan(seed=1)}) == 2
    assert hash(Plan(lr=1)) == hash(Plan(lr=1.0)) and Plan(lr=1) == Plan(lr=1.0)
    one, other = ({"head": 0.1, "block 0": 0.2}, {"block 0": 0.2, "head": 0.1})
    assert Plan(rates=one) == Plan(rates=other) and hash(Plan(rates=one)) == hash(Plan(rates=other))


def test_the_code_tells_only_what_differs_from_the_defaults():
    assert Plan().code() == "Plan(train='head')"
    assert Plan(train="head", lr=1e-4, epochs=2).code() == "Plan(train='head', epochs=2)"


def test_a_table_lists_what_was_set_before_the_defaults():
    frame = Plan(epochs=9, seed=5).frame()
    assert frame["field"].tolist()[:2] == ["epochs", "seed"]
    assert (frame["differs"] == "set").sum() == 2


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("train", ["head", "top 1", "blocks", "all", ("block 0", "head")])
def test_a_preview_counts_what_will_move(architecture, train):
    base, plan = tiny.base(architecture), Plan(train=train)
    preview = plan.preview(base, 3)
    model = tasks.Classifier(base, 3)
    plan.apply(model, tasks.classifier_groups(base))
    assert preview.n_trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert preview.n_total == sum(p.numel() for p in model.parameters())
    assert preview.trained == plan.resolve(list(tasks.classifier_groups(base)))


def test_a_preview_shows_a_rate_only_for_what_trains():
    frame = Plan(train="head", head_lr=0.25).preview(tiny.base(), 3).frame()
    assert frame["state"].tolist() == ["frozen"] * 4 + ["trains"]
    assert frame["learning rate"].tolist() == [""] * 4 + ["0.25"]


def test_applying_a_plan_undoes_the_one_before():
    base = tiny.base()
    model, groups = tasks.Classifier(base, 3), tasks.classifier_groups(base)
    Plan(train="all").apply(model, groups)
    Plan(train="head").apply(model, groups)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", ["head.bias", "encoder.embeddings.word_embeddings.weight"])
def test_the_model_itself_is_asked_who_may_move(name):
    base, plan = tiny.base(), Plan(train="top 1")
    model, groups = tasks.Classifier(base, 3), tasks.classifier_groups(base)
    plan.apply(model, groups)
    parameter = model.get_parameter(name)
    parameter.requires_grad_(not parameter.requires_grad)
    group = "head" if name.startswith("head") else "embeddings"
    with pytest.raises(FtkitError, match=f"FT052 In '{group}'"):
        verify(model, groups, plan.movable(groups))


def test_a_parameter_that_no_group_holds_is_noticed():
    import torch

    base = tiny.base()
    model, groups = tasks.Classifier(base, 3), tasks.classifier_groups(base)
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(FtkitError, match="FT052"):
        Plan().apply(model, groups)


def test_making_a_plan_loads_nothing_heavy():
    code = (
        "import sys; import ftkit as ft\n"
        "plan = ft.Plan(train='top 2', lr=1e-4).but(epochs=2); repr(plan); hash(plan)\n"
        "print([m for m in ('torch', 'transformers', 'pandas', 'numpy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_plan_that_trains_everything_is_told_as_100_percent():
    sizes = {"embeddings": 30, "head": 70}
    preview = Preview(plan=Plan(train="all"), sizes=sizes, moving=sizes, rates={"embeddings": 1e-4, "head": 1e-3})
    assert preview.summary() == "100 of 100 weights may move (100 %): embeddings, head."
