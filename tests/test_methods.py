"""New tensors move and pretrained ones do not: what each method adds, that it starts as nothing, and what comes out."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import tiny
import torch

from ftkit import methods, tasks, training
from ftkit.drift import freeze_proof, prove, what_moved
from ftkit.evaluation import evaluate
from ftkit.findings import FtkitError
from ftkit.plan import Plan, verify
from ftkit.pretrained import group_parameters
from ftkit.training import make_optimizer, set_modes
from ftkit.training.steps import frozen_prefix, how_far

NEW = ("lora", "rslora", "dora", "ia3", "adapter", "prefix")
#: Hidden size 16, inside the feed-forward 24. ModernBERT has one matrix of 3 × 16 rows for query, key and value.
LORA = {"modernbert": 4 * (16 + 48), **dict.fromkeys(("bert", "roberta", "electra", "distilbert"), 2 * 4 * (16 + 16))}
A_BLOCK = {
    "lora": LORA,
    "rslora": LORA,
    "dora": {a: n + (48 if a == "modernbert" else 2 * 16) for a, n in LORA.items()},
    "ia3": {"modernbert": 48 + 24, "distilbert": 2 * 16 + 24, "bert": 3 * 16 + 24, "roberta": 3 * 16 + 24,
            "electra": 2 * 16 + 16 + 24},
    "adapter": dict.fromkeys(LORA, 2 * (2 * 4 * 16 + 4 + 16)),
    "prefix": dict.fromkeys(("bert", "roberta", "electra"), 4 * 2 * 16),
}  # fmt: skip
#: Each method in each architecture that has a place for it.
PLACES = [(method, architecture) for method in NEW for architecture in A_BLOCK[method]]


def plan(method="lora", **changes):
    start = Plan(train="top 2", method=method, lr=3e-2, head_lr=1e-2, epochs=2, batch_size=16, keep="last")
    return start.but(**({"rank": 4} if "rank" in methods.METHODS[method].uses else {}) | changes)


def fit(base, data, plan):
    return training.fit(base, data, plan, on_event=None)


@functools.cache
def base_of(architecture):
    return tiny.base(architecture)


@functools.cache
def run_of(method, architecture="bert"):
    return fit(base_of(architecture), tiny.splits(), plan(method))


def attached(method, architecture="bert", **changes):
    """Return an untrained classifier whose head is no longer zero, with its groups; the plan has been applied."""
    model = tasks.Classifier(base_of(architecture), 3)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    methods.attach(model.encoder, plan(method, **changes))
    plan(method, **changes).apply(model, groups := tasks.classifier_groups(model))
    return model.eval(), groups


def logits(model, architecture="bert"):
    base = base_of(architecture)
    with torch.inference_mode():
        return model(base.batch(base.tokenize(tiny.splits().valid.texts)))


def bent(model):
    """Give every new tensor other values, so that an equality is no equality of nothings."""
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if methods.is_new(name):
                tensor.add_(torch.randn(tensor.shape, generator=chance) * 0.2)
    return model


# What is new, and where


@pytest.mark.parametrize(("method", "architecture"), PLACES)
def test_each_tensor_is_in_one_group_and_the_new_ones_are_in_blocks_that_train(method, architecture):
    model, groups = attached(method, architecture)
    names = [n for group in groups.values() for n in group]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters())
    assert list(groups) == list(tasks.classifier_groups(base_of(architecture)))
    new = {g: [n for n in group if methods.is_new(n)] for g, group in groups.items()}
    assert {g for g, added in new.items() if added} == {"block 1", "block 2"}
    pretrained = {g: sorted(methods.plain(n) for n in group if n not in new[g]) for g, group in groups.items()}
    assert pretrained == {g: sorted(group) for g, group in tasks.classifier_groups(base_of(architecture)).items()}


@pytest.mark.parametrize(("method", "architecture"), PLACES)
def test_the_preview_counts_what_will_move_and_touches_no_base(method, architecture):
    base = base_of(architecture)
    modules, bits = (
        [n for n, _ in base.encoder.named_modules()],
        {n: p.clone() for n, p in base.encoder.state_dict().items()},
    )
    preview = plan(method).preview(base, 3)
    n = A_BLOCK[method][architecture]
    assert {g: m for g, m in preview.moving.items() if m} == {"block 1": n, "block 2": n, "head": 3 * 17}
    assert preview.moving == run_of(method, architecture).optimized
    assert preview.n_total == base.n_parameters + 2 * n + 3 * 17
    assert [n for n, _ in base.encoder.named_modules()] == modules
    assert all(p.requires_grad for p in base.encoder.parameters())
    assert all(torch.equal(bits[n], p) for n, p in base.encoder.state_dict().items())


def test_looking_ahead_copies_no_pretrained_tensor():
    base = base_of("bert")
    begun = dict(methods.start(base.encoder, plan("dora")).named_parameters())
    old = {n: p.data_ptr() for n, p in base.encoder.named_parameters()}
    assert {methods.plain(n): p.data_ptr() for n, p in begun.items() if not methods.is_new(n)} == old


@pytest.mark.parametrize(("method", "architecture"), [place for place in PLACES if place[0] != "prefix"])
def test_before_the_first_step_answers_are_those_of_the_base(method, architecture):
    model, _ = attached(method, architecture)
    plain, _ = attached("lora", architecture)
    plain.encoder = base_of(architecture).encoder
    assert torch.allclose(logits(model, architecture), logits(plain, architecture), atol=1e-6, rtol=0)
    changed = logits(bent(model), architecture) - logits(plain, architecture)
    assert changed.abs().max() > 1e-3, "the new tensors are on the way from text to answer"


@pytest.mark.parametrize("architecture", A_BLOCK["prefix"])
def test_a_prefix_is_keys_and_values_of_no_token_before_those_of_the_text(architecture):
    base, (model, _) = base_of(architecture), attached("prefix", architecture)
    attention = model.encoder.encoder.layer[2].attention.self
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])[:, None, None, :].expand(2, 1, 5, 5)
    made = attention.prefix_of(torch.arange(4)).view(4, 2, 16)
    plain = attention.base_layer
    query, keys, values = plain.query(hidden), plain.key(hidden), plain.value(hidden)
    keys, values = (torch.cat([made[:, i].expand(2, 4, 16), own], dim=1) for i, own in enumerate((keys, values)))
    heads = [t.view(2, -1, 2, 8).transpose(1, 2) for t in (query, keys, values)]
    seen = torch.cat([torch.ones(2, 1, 5, 4, dtype=torch.bool), mask], dim=-1)
    expected = torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=seen)
    with torch.inference_mode():
        for given in (mask, torch.where(mask, 0.0, torch.finfo(torch.float32).min)):
            found = attention(hidden, given)[0]
            assert torch.allclose(found, expected.transpose(1, 2).reshape(2, 5, 16), atol=1e-6)
        everything = attention(hidden, None)[0]
    assert torch.allclose(everything[0], found[0], atol=1e-6), "where nothing is padded there is no mask"
    assert (logits(model, architecture)[0] - base_logits(model, base)[0]).abs().max() > 1e-4


def base_logits(model, base):
    """Return what the model would answer if its encoder were the base's."""
    pooled = torch.tensor(base.encode(tiny.splits().valid.texts))
    with torch.inference_mode():
        return model.head(pooled)


def test_a_prefix_is_nothing_for_encoders_without_a_place_for_it():
    for architecture in ("distilbert", "modernbert"):
        with pytest.raises(FtkitError, match=rf"FT067.*'prefix'.*{architecture}"):
            plan("prefix").preview(base_of(architecture), 3)


def test_the_scale_of_lora_falls_with_the_rank_and_of_rslora_with_its_root():
    scale = {
        m: attached(m)[0].encoder.encoder.layer[2].attention.self.query.scaling["default"] for m in ("lora", "rslora")
    }
    assert scale == {"lora": 16 / 4, "rslora": 16 / 2}
    assert "use_dora" not in vars(attached("lora")[0].encoder)


def test_only_the_seed_of_the_plan_decides_the_new_tensors():
    torch.manual_seed(1)
    one = attached("adapter")[0]
    torch.rand(3)
    again, other = attached("adapter")[0], attached("adapter", seed=1)[0]
    name = "encoder.encoder.layer.2.output.dense.bottleneck_down.weight"
    assert torch.equal(one.get_parameter(name), again.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))
    encoder, state = tiny.encoder(), torch.get_rng_state()
    methods.attach(encoder, plan("adapter"))
    assert torch.equal(torch.get_rng_state(), state), "the state of chance outside is left alone"


# A run


@pytest.mark.parametrize(("method", "architecture"), PLACES)
def test_a_run_moves_the_new_tensors_and_the_head_and_nothing_else(method, architecture):
    base, run = base_of(architecture), run_of(method, architecture)
    before = {f"encoder.{n}": p for n, p in methods.start(base.encoder, run.plan).named_parameters()}
    still = {n for n, p in run.model.named_parameters() if n in before and torch.equal(before[n], p)}
    moved = {n for n, _ in run.model.named_parameters()} - still
    assert {n for n in moved if not methods.is_new(n)} == {"head.weight", "head.bias"}
    assert {n for n in still if methods.is_new(n)} == set(), "each new tensor learned something"
    pretrained = {f"encoder.{n}": p for n, p in base.encoder.named_parameters()}
    assert all(torch.equal(p, pretrained[methods.plain(n)]) for n, p in run.model.named_parameters() if n in still)
    assert {g for g, change in run.moved.items() if change} == {"block 1", "block 2", "head"} == set(run.trained)
    assert run.losses[-1] < run.losses[0]


@pytest.mark.parametrize("method", NEW)
def test_the_same_plan_gives_the_same_bits(method):
    run = run_of(method)
    assert fit(base_of("bert"), tiny.splits(), run.plan).weights_sha256 == run.weights_sha256
    assert fit(base_of("bert"), tiny.splits(), run.plan.but(seed=1)).weights_sha256 != run.weights_sha256


@pytest.mark.parametrize(("method", "architecture"), PLACES)
def test_below_the_lowest_block_that_trains_all_is_computed_once(method, architecture):
    base, data, run = base_of(architecture), tiny.splits(), run_of(method, architecture)
    groups = tasks.classifier_groups(run.model)
    prefix = frozen_prefix(base, run.plan, groups, epoch=1)
    assert (prefix.depth, prefix.pooled) == (1, False)
    assert run.cache["depth"] == 1
    plain = fit(base, data, run.plan.but(cache=False))
    assert plain.cache is None
    ours, theirs = (dict(r.model.named_parameters()) for r in (run, plain))
    # The last digits differ, and AdamW makes a step of full length out of the sign of a gradient that is almost zero.
    assert abs(run.losses[-1] - plain.losses[-1]) < 0.02
    assert torch.allclose(ours["head.weight"], theirs["head.weight"], atol=1e-2)


@pytest.mark.parametrize(("method", "architecture"), PLACES)
def test_a_model_cut_in_two_answers_as_a_whole_one(method, architecture):
    from ftkit.cache import Prefix, activations

    base, (model, _) = base_of(architecture), attached(method, architecture)
    tokens = base.tokenize(tiny.splits().valid.texts)
    kept = activations(Prefix(base=base, depth=1, pooled=False, dtype="float32"), tokens)
    with torch.inference_mode():
        upper = bent(model)(kept.batch(range(len(tokens))))
    assert torch.allclose(logits(model, architecture), upper, atol=1e-5, rtol=0)


def test_embeddings_and_final_norms_have_no_new_tensors_and_stand_still_awake_or_not():
    run = fit(base_of("modernbert"), tiny.splits(), plan(train=("embeddings", "block 1", "final", "head")))
    assert run.trained == ("block 1", "head")
    assert (run.moved["embeddings"], run.moved["final"]) == (0.0, 0.0)
    assert run.cache["depth"] == 1, "embeddings that stand still are frozen, whatever was asked for"
    told = run.tables()[1][1].set_index("group")["relative change"]
    assert told["embeddings"] == "0 (frozen)"
    set_modes(run.model, groups := tasks.classifier_groups(run.model), run.plan)
    awake = {g for g in groups for n in groups[g] if run.model.get_submodule(n.rpartition(".")[0]).training}
    assert awake == {"block 1", "head"}


def test_gradual_unfreezing_reaches_new_tensors_block_by_block():
    model, groups = attached("lora", gradual=True, epochs=3)
    plan("lora", gradual=True, epochs=3).apply(model, groups, epoch=1)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    plan("lora", gradual=True, epochs=3).apply(model, groups, epoch=2)
    assert sum(p.requires_grad for _, p in model.named_parameters()) == 2 + 4


@pytest.mark.parametrize("method", NEW)
def test_the_optimizer_holds_the_new_tensors_and_the_head(method):
    model, groups = attached(method)
    settings = make_optimizer(model, groups, plan(method)).param_groups
    held = {id(p): s["weight_decay"] for s in settings for p in s["params"]}
    names = {n: held[id(p)] for n, p in model.named_parameters() if id(p) in held}
    assert set(names) == {n for n, _ in model.named_parameters() if methods.is_new(n) or n.startswith("head")}
    undecayed = {n for n, decay in names.items() if decay == 0 and methods.is_new(n)}
    whole = {n for n in names if n.endswith(("bias", "magnitude_vector.default.weight")) or "ia3" in n} - {"head.bias"}
    assert undecayed == whole, "decay draws to zero: not factors that rest at one, nor lengths"


# What other rooms make of it


@pytest.mark.parametrize("method", NEW)
def test_the_freeze_proof_holds_and_notices_a_pretrained_tensor_that_moved(method):
    run = run_of(method)
    assert freeze_proof(run).holds
    groups = freeze_proof(run).frame().set_index("group")
    assert list(groups["planned"]) == ["frozen", "frozen", "moves in part", "moves in part", "moves"]
    assert list(groups["n_planned"]) == list(run.optimized.values())
    moved = fit(base_of("bert"), tiny.splits(), run.plan.but(epochs=1))
    name = next(n for n, _ in moved.model.named_parameters() if "base_layer" in n and n.endswith("weight"))
    with torch.no_grad():
        moved.model.get_parameter(name)[0, 0] += 1e-6
    assert [f.code for f in freeze_proof(moved).findings] == ["FT053"]
    before = {"encoder." + n: p for n, p in base_of("bert").encoder.named_parameters()}
    with pytest.raises(FtkitError, match=r"FT053.*base_layer"):
        how_far(moved.model, base_of("bert"), tasks.classifier_groups(moved.model), {
            n: p for n, p in moved.model.named_parameters() if methods.plain(n) not in before})  # fmt: skip


def test_a_loop_of_ones_own_is_proved_and_a_forgotten_attach_is_noticed():
    base, lora = base_of("bert"), plan("lora")
    model, groups = attached("lora")
    torch.nn.init.zeros_(model.head.weight)
    optimizer = make_optimizer(model, groups, lora)
    ids = base.tokenize(tiny.splits().train.texts)
    for _ in range(3):
        tasks.loss(model(base.batch(ids)), torch.tensor(tiny.splits().train.labels), "single").backward()
        optimizer.step()
        optimizer.zero_grad()
    assert prove(lora, base, model, optimizer).holds
    bare = tasks.Classifier(base, 3)
    for call in (lambda: lora.apply(bare, tasks.classifier_groups(bare)), lambda: prove(lora, base, bare, optimizer)):
        with pytest.raises(FtkitError, match="FT069"):
            call()


def test_what_moved_shows_new_tensors_as_a_layer_of_their_own():
    drift = what_moved(run_of("lora"))
    layers = drift.layers_of("block 2").set_index("layer")["weights_moved"]
    assert layers["new"] > 0
    prefixed = what_moved(run_of("prefix"))
    assert prefixed.layers_of("block 2").set_index("layer")["weights_moved"]["new"] > 0
    assert 0.2 < prefixed.frame().set_index("group").loc["block 2", "attention_shift"] <= 1, "what looks at the prefix"
    assert (layers.drop("new") == 0).all() and set(layers.index) == {"attention", "feed-forward", "norms", "new"}
    assert drift.layers_of("block 0").set_index("layer")["weights_moved"].max() == 0
    block = drift.frame().set_index("group").loc["block 2"]
    assert block["cka"] < 1 and block["attention_shift"] > 0, "attention goes elsewhere without a change of its weights"
    assert "new" in repr(drift)


# What comes out


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "ia3"])
def test_folded_into_the_weights_it_answers_the_same_without_any_new_tensor(method, architecture):
    model = bent(attached(method, architecture)[0])
    asked, bits = logits(model, architecture), {n: p.clone() for n, p in model.state_dict().items()}
    merged = methods.merge(model)
    assert all(torch.equal(bits[n], p) for n, p in model.state_dict().items()), "the tuned model is as it was"
    base = base_of(architecture)
    assert [(n, type(m)) for n, m in merged.named_modules()] == [(n, type(m)) for n, m in base.encoder.named_modules()]
    assert group_parameters(merged) == base.groups
    model.encoder = merged
    assert torch.allclose(logits(model, architecture), asked, atol=1e-5, rtol=0)
    model.encoder = base.encoder
    assert (logits(model, architecture) - asked).abs().max() > 1e-3


def test_what_cannot_be_folded_says_so():
    for method, where in (("adapter", r"output\.dense"), ("prefix", "self")):
        with pytest.raises(FtkitError, match=rf"FT068 .*layer\.1\.attention\.{where}"):
            methods.merge(run_of(method).model)
    bare = tasks.Classifier(base_of("bert"), 3)
    for function in (methods.merge, methods.adapter_state):
        with pytest.raises(FtkitError, match="FT069"):
            function(bare)


@pytest.mark.parametrize("method", NEW)
def test_the_moving_tensors_and_the_base_are_the_whole_model(method):
    run, base = run_of(method), base_of("bert")
    state = methods.adapter_state(run.model)
    assert sum(t.numel() for t in state.values()) == sum(run.optimized.values())
    again = tasks.Classifier(base, 3)
    methods.attach(again.encoder, run.plan.but(seed=9))
    missing = again.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert torch.equal(logits(again.eval()), logits(run.model))


# What makes no sense


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"method": "dora", "tensors": "bias"}, r"Plan\.tensors.*'dora'.*'bias'"),
        ({"method": "ia3", "rank": 4}, r"Plan\.rank.*'ia3'.*found 4"),
        ({"method": "adapter", "alpha": 8.0}, r"Plan\.alpha.*'adapter'.*found 8\.0"),
        ({"rank": 4}, r"Plan\.rank.*'full'.*found 4"),
        ({"alpha": 1.0}, r"Plan\.alpha.*'full'.*found 1\.0"),
    ],
)
def test_a_field_that_would_be_ignored_is_refused(fields, told):
    with pytest.raises(FtkitError, match=f"FT050 {told}"):
        Plan(**fields)


@pytest.mark.parametrize("train", ["head", ("embeddings", "head")])
def test_a_method_without_a_block_is_refused(train):
    with pytest.raises(FtkitError, match=r"FT067.*query, value.*no block"):
        plan(train=train).preview(base_of("bert"), 3)
    with pytest.raises(FtkitError, match="FT067"):
        fit(base_of("bert"), tiny.splits(), plan(train=train))


def test_an_architecture_with_unknown_names_is_refused():
    encoder = tiny.encoder()
    for block in encoder.encoder.layer:
        block.attention.self.question = block.attention.self.query
        block.attention.self.answer = block.attention.self.value
        del block.attention.self.query, block.attention.self.value
    with pytest.raises(FtkitError, match=r"FT067.*'lora'.*query, value.*block 1, block 2 of this bert"):
        methods.attach(encoder, plan("lora"))


def test_a_plan_tells_its_method():
    assert plan("lora").words == "top 2, LoRA of rank 4 only"
    assert plan("ia3").words == "top 2, (IA)³ only"
    assert plan("adapter", gradual=True).words == "top 2, adapters of width 4 only, gradually"
    assert "method='lora', rank=4" in plan("lora").code()


def test_a_method_of_ones_own_is_one_entry(monkeypatch):
    def shift(encoder, plan, find):
        for name in find(["output.dense"]):
            encoder.get_submodule(name).shift_by = torch.nn.Parameter(torch.zeros(1))

    monkeypatch.setitem(methods.METHODS, "shift", None)  # and away again after the test
    methods.register("shift", title="shifts", adds="shift_", inject=shift)
    own = Plan(train="blocks", method="shift")
    assert own.preview(base_of("bert"), 3).n_trained == 3 * 2 + 51
    assert own.words == "blocks, shifts only"


def test_full_adds_nothing():
    model = tasks.Classifier(base_of("bert"), 3)
    names = [n for n, _ in model.named_modules()]
    methods.attach(model.encoder, Plan(train="blocks"))
    assert [n for n, _ in model.named_modules()] == names
    assert methods.start(base_of("bert").encoder, Plan()) is base_of("bert").encoder
    verify(model, tasks.classifier_groups(model), {n for n, _ in model.named_parameters()})


@pytest.mark.slow
@pytest.mark.needs_assets("minilm", "icd10cm")
def test_on_a_real_model_lora_raises_the_score_and_folds_into_the_weights():
    from ftkit.data import load_data
    from ftkit.pretrained import load_pretrained

    base, data = load_pretrained("minilm", max_tokens=16), load_data("health/diagnoses", per_class=8)
    run = fit(base, data, Plan(train="blocks", method="lora", lr=2e-3, head_lr=1e-2, epochs=2, batch_size=16))
    accuracy = [epoch["accuracy"] for epoch in run.history]
    assert max(accuracy[1:]) > accuracy[0] + 0.2
    assert freeze_proof(run).holds
    assert sum(run.optimized.values()) - run.optimized["head"] == 6 * 2 * 8 * (384 + 384)
    merged = dataclasses.replace(base, encoder=methods.merge(run.model))
    model = tasks.Classifier(merged, len(data.label_names)).eval()
    model.head.load_state_dict(run.model.head.state_dict())
    ids = base.batch(base.tokenize(data.valid.texts[:32]))
    with torch.inference_mode():
        assert torch.allclose(model(ids), run.model(ids), atol=1e-5, rtol=0)
    assert evaluate(run, data.valid).accuracy == pytest.approx(run.on_valid.accuracy)
