"""The benchmark itself: the same model for every tool, honest ratios and verdicts, a page from the results alone."""

from __future__ import annotations

import copy
import doctest
import importlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from benchmarks import bench, experiments, one, page, speed, summary
from benchmarks.experiments import EXPERIMENTS, TRAINER, VARIANTS
from benchmarks.peers import classifier, matrices
from ftkit import tasks
from ftkit.plan import Plan

N_CLASSES, N_TEST = 3, 240


def run(name: str, variant: str, seconds: float, *, warm: bool = False, repeat: int = 0, **more: Any) -> dict[str, Any]:
    """A run as `speed.measure` keeps it; every answer is right but for every fifth."""
    labels = np.arange(N_TEST) % N_CLASSES
    answers = np.where(np.arange(N_TEST) % 5 == 0, (labels + 1) % N_CLASSES, labels)
    figures = {
        "seconds": seconds, "start_s": 3.0, "peak_rss_bytes": 10**9, "rss_before_bytes": 6 * 10**8,
        "peak_anon_bytes": 5 * 10**8, "accuracy_valid": 0.7, "accuracy_test": 0.8, "answers": one.letters(answers),
    }  # fmt: skip
    about = {"experiment": name, "variant": variant, "warm": warm, "repeat": repeat, "epochs": 3, "told": {}}
    return about | {"dtype": "bfloat16" if "bfloat16" in variant else "float32"} | figures | more


def result(runs: list[dict[str, Any]]) -> dict[str, Any]:
    here = {
        "processor": "a processor", "n_threads": 2, "memory_bytes": 24e9, "fastest_dtype": "bfloat16",
        "autocast_speedup": 2.0, "versions": {"python": "3.11", "fastai": None},
    }  # fmt: skip
    truth = {"labels": (np.arange(N_TEST) % N_CLASSES).tolist(), "groups": [f"g{i // 4}" for i in range(N_TEST)]}
    told = {"machine": here, "quick": False, "truth": truth, "runs": runs}
    return told | {"summary": summary.summary(told)}


@pytest.fixture
def measured() -> dict[str, Any]:
    """Two experiments: one won clearly and one lost, with a tool that failed."""
    limit = {"n_matrix_weights": 1000, "n_tokens": 100, "float32": 2e6, "bfloat16": 8e6}
    runs = []
    for repeat, slower in enumerate((1.0, 1.1, 0.9)):
        turn = {"repeat": repeat}
        runs += [
            run("top 2", "ftkit bfloat16", 2.0 * slower, peak_rss_bytes=5 * 10**8, **turn),
            run("top 2", "ftkit bfloat16", 1.0, warm=True, **turn),
            run("top 2", "Trainer", 20.0, peak_rss_bytes=9 * 10**8, **turn),
            run("top 2", "Trainer by length", 12.0, **turn),
            run("everything", "ftkit bfloat16", 9.0, told={"steps_s": 3.0, "optimizer_s": 1.0}, **turn),
            run("everything", "Trainer", 10.0, **turn),
            run("everything", "Trainer by length", 11.0, **turn),
            run("limit", "matrix products", 1.0, told=limit, **turn),
        ]
    runs.append({"experiment": "top 2", "variant": "fastai", "warm": False, "failed": "ImportError: no | such thing"})
    return result(runs)


@pytest.mark.parametrize("module", [bench, experiments, matrices, one, page, speed, summary], ids=lambda m: m.__name__)
def test_examples_in_docstrings_are_true(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


def test_peers_tune_the_very_function_that_ftkit_tunes() -> None:
    base = tiny.base()
    ours = tasks.Classifier(base, N_CLASSES).eval()
    theirs = classifier.Classifier(copy.deepcopy(base.encoder), N_CLASSES).eval()
    for model in (ours, theirs):
        torch.manual_seed(0)
        torch.nn.init.normal_(model.head.weight)
    batch = base.batch([[2, 5, 3], [2, 6, 7, 8, 3]])
    with torch.no_grad():
        assert torch.equal(theirs(**batch)["logits"], ours(batch))
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert theirs.dropout.p == ours.dropout.p


@pytest.mark.parametrize("train", ["head", "top 1", "all"])
def test_peers_optimize_what_the_plan_moves_at_its_rates(train: str) -> None:
    from ftkit.training import make_optimizer

    base, plan = tiny.base(), Plan(train=train, lr=1e-3, head_lr=1e-2)
    ours, groups = tasks.Classifier(base, N_CLASSES), tasks.classifier_groups(base)
    theirs = classifier.Classifier(copy.deepcopy(base.encoder), N_CLASSES)
    moves = sorted(plan.movable(groups))
    classifier.freeze(theirs, moves)
    plan.apply(ours, groups)
    assert {n for n, p in theirs.named_parameters() if p.requires_grad} == set(moves)

    def settings(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
        names = {id(p): n for n, p in model.named_parameters()}
        return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}

    job = {"lr": plan.lr, "head_lr": plan.head_lr, "weight_decay": plan.weight_decay}
    found = settings(theirs, classifier.make_optimizer(theirs, moves, job))
    assert found == settings(ours, make_optimizer(ours, groups, plan))


def test_operations_are_those_of_the_linear_layers() -> None:
    encoder = tiny.encoder(n_blocks=2)
    shapes = matrices.layer_shapes(encoder)
    assert sorted(set(shapes)) == [(16, 16), (16, 24), (24, 16)] and len(shapes) == 12
    weights = sum(p.numel() for n, p in encoder.named_parameters() if p.ndim == 2 and "embedding" not in n)
    assert matrices.n_operations(shapes, [10, 7]) == 6 * weights * 17


def test_a_rate_is_operations_over_seconds() -> None:
    assert matrices.rate([(64, 64)], [50, 60], torch.float32, repeats=2) > 1e6


def test_turns_alternate_and_a_warm_run_follows_its_cold_one() -> None:
    turns = list(speed.turns(["head", "everything"], 2, "float32"))
    for number, (repeat, name, variant, warm) in enumerate(turns):
        if warm:
            assert turns[number - 1] == (repeat, name, variant, False) and variant == "ftkit float32"
    first, second = ([v for r, n, v, w in turns if r == repeat and n == "head" and not w] for repeat in (0, 1))
    assert sorted(first) == sorted(EXPERIMENTS["head"].variants("float32"))
    assert second[0] != first[0] and set(second) == {v for v in first if VARIANTS[v].repeats > 1}
    assert not any(warm for _, name, _, warm in turns if name == "everything")


def test_every_variant_has_an_adapter_and_every_target_an_experiment() -> None:
    peers = Path(classifier.__file__).parent
    assert all((peers / f"{variant.module}.py").is_file() for variant in VARIANTS.values())
    named = {v for experiment in EXPERIMENTS.values() for v in experiment.variants("float32")}
    assert named == set(VARIANTS)
    assert set(experiments.SPEED_TARGETS) <= set(EXPERIMENTS)


def test_every_tool_has_a_chosen_rate() -> None:
    rates = json.loads((speed.RESULTS / "rates.json").read_text(encoding="utf-8"))["rates"]
    for name, experiment in EXPERIMENTS.items():
        for variant in experiment.variants("float32"):
            rate = speed.rate_for(name, VARIANTS[variant].module, rates)
            assert rate is None or 0 < rate < 0.1


def test_ratios_are_against_the_better_setting_of_trainer(measured: dict[str, Any]) -> None:
    ratio = measured["summary"]["ratios"]["top 2"]
    assert ratio["against"] == "Trainer by length" and ratio["times_as_fast"] == pytest.approx(6.0)
    assert ratio["warm"] == pytest.approx(12.0)
    assert ratio["smallest"] == "Trainer" and ratio["peak_memory"] == pytest.approx(5 / 9)
    assert [round(each, 2) for each in ratio["each"]] == [6.0, 5.45, 6.67]
    assert measured["summary"]["ratios"]["everything"]["against"] == "Trainer"


def test_targets_that_were_missed_say_so(measured: dict[str, Any]) -> None:
    told = {t["target"]: t["yes"] for t in measured["summary"]["targets"]}
    assert told["speed, top 2 of 6 blocks, 5 epochs"] is True
    assert told["speed, everything, 3 epochs"] is False
    assert told["speed, head only, 10 epochs"] is None
    assert told["peak memory, top 2 of 6 blocks, 5 epochs"] is True
    assert told["peak memory, everything, 3 epochs"] is False


def test_the_share_leaves_the_optimizer_out(measured: dict[str, Any]) -> None:
    share = measured["summary"]["shares"]["ftkit bfloat16"]
    operations = 6 * 1000 * 100 * 3
    assert share["share"] == pytest.approx(operations / 2.0 / 8e6)
    assert share["optimizer_s"] == 1.0
    assert "ftkit float32" not in measured["summary"]["shares"]


def test_equal_answers_are_no_difference(measured: dict[str, Any]) -> None:
    found = measured["summary"]["accuracies"]["top 2"]
    assert (found["difference"], found["verdict"], found["n_seeds"]) == (0.0, "cannot tell", 3)


@pytest.mark.parametrize(("wrong", "verdict"), [("ftkit bfloat16", "worse"), ("Trainer by length", "better")])
def test_worse_answers_are_called_worse(measured: dict[str, Any], wrong: str, verdict: str) -> None:
    for one_run in measured["runs"]:
        if one_run["variant"] == wrong and one_run["experiment"] == "top 2":
            one_run["answers"] = "A" * N_TEST
    told = summary.summary(measured)["accuracies"]["top 2"]
    assert told["verdict"] == verdict
    low, high = told["interval_95"]
    assert low < told["difference"] < high and (low > 0 or high < 0)


def test_growth_is_measured_from_the_fewest_rows() -> None:
    runs = [
        run(f"rows {n}", "ftkit bfloat16", n / 100, warm=warm, peak_anon_bytes=4 * 10**8 + 900 * n * (1 - warm))
        for n in experiments.SIZES
        for warm in (False, True)
    ]
    told = {t["target"]: (t["reached"], t["yes"]) for t in result(runs)["summary"]["targets"]}
    assert told["anonymous memory at 50,000 rows against 500, cold: change"] == (pytest.approx(0.111, abs=0.001), False)
    assert told["anonymous memory at 50,000 rows against 500, warm: change"] == (0.0, True)
    assert told["time for 50,000 rows against 5,000, cold"] == (10.0, True)


def test_the_page_comes_from_the_file_alone_and_hides_nothing(tmp_path: Path, measured: dict[str, Any]) -> None:
    path = tmp_path / "speed.json"
    path.write_text(json.dumps(measured), encoding="utf-8")
    text = page.write_page(path).read_text(encoding="utf-8")
    assert "| speed, everything, 3 epochs | ≥ 2.00× | 1.11× | **no** |" in text
    assert "| fastai | failed in 1 of 1: ImportError: no / such thing |" in text
    assert "6.00 times as fast as Trainer by length (by repeat: 6.00, 5.45, 6.67)" in text
    assert "fastai (not installed)" in text and "cannot tell" in text
    for name in ("speed_seconds.png", "speed_rows.png"):
        assert 0 < (tmp_path / name).stat().st_size < 200_000 and name in text


def test_a_part_is_not_put_beside_figures_of_another_machine(tmp_path: Path, measured: dict[str, Any]) -> None:
    path = tmp_path / "speed.json"
    assert speed.others(path, ["top 2"], {}) == []
    path.write_text(json.dumps(measured), encoding="utf-8")
    kept = speed.others(path, ["top 2"], measured["machine"])
    assert {one_run["experiment"] for one_run in kept} == {"everything", "limit"}
    with pytest.raises(SystemExit, match="n_threads"):
        speed.others(path, ["top 2"], {**measured["machine"], "n_threads": 8})


def test_memory_is_read_from_outside() -> None:
    assert bench.anon_bytes(os.getpid()) > 10**7
    assert bench.anon_bytes(2**22 + 1) == 0
    assert one.status()["peak_rss_bytes"] >= one.status()["rss_bytes"] > one.status()["anon_bytes"]


@pytest.mark.needs_assets("icd10cm")
def test_nothing_is_chosen_on_what_is_measured() -> None:
    measured, chosen = bench.drawn(4, choosing=False), bench.drawn(4, choosing=True)
    ids = [row_id for rows in chosen.values() for row_id in rows.ids]
    assert len(set(ids)) == len(ids)
    assert not {row_id[:3] for row_id in ids} & set(measured["test"].groups)  # a category is a code's first three
    assert len(chosen["test"]) > 300 and len(measured["test"]) == 1680


@pytest.mark.needs_assets("icd10cm")
def test_fewer_rows_are_part_of_more() -> None:
    few, more = bench.whole(50), bench.whole(80)
    assert few["train"].ids == more["train"].ids[:50]
    assert few["test"].ids == more["test"].ids and not set(few["train"].groups) & set(few["test"].groups)


@pytest.mark.slow
@pytest.mark.needs_assets("minilm", "icd10cm")
def test_a_run_is_measured_and_a_failure_is_told(tmp_path: Path) -> None:
    quick = bench.Bench(tmp_path, quick=True)
    job = quick.job("head", "ftkit float32", seed=0, rate=1e-3, dtype="float32")
    cold = quick.run(job)
    assert cold["told"]["cache"]["n_built"] > 0 and 0 < cold["seconds"] < 100
    assert cold["peak_rss_bytes"] > cold["peak_anon_bytes"] > 10**8
    assert len(cold["answers"]) == 1680 and 0 <= cold["accuracy_test"] <= 1
    assert quick.run(job, keep_cache=True)["told"]["cache"]["n_built"] == 0
    assert "nowhere" in quick.run({**job, "module": "nowhere"})["failed"]


def test_adapters_are_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that differs between the jobs of an experiment is the tool and its options."""
    quick = object.__new__(bench.Bench)
    quick.quick, quick.model, quick.groups = True, "model", tasks.classifier_groups(tiny.base(n_blocks=6))
    monkeypatch.setattr(bench.Bench, "rows", lambda self, n_rows=None: Path(f"rows-{n_rows}"))
    for name in EXPERIMENTS:
        if name != "limit":
            names = EXPERIMENTS[name].variants("float32")
            jobs = [quick.job(name, v, seed=1, rate=1e-3, dtype="float32") for v in names]
            assert all({**job, "module": "", "options": {}} == {**jobs[0], "module": "", "options": {}} for job in jobs)
    gradual = quick.job("gradual", TRAINER[0], seed=0, rate=1e-3, dtype="float32")["moves"]
    assert set(gradual[0]) < set(gradual[-1]) and any("embeddings" in n for n in gradual[-1])


def test_peers_never_import_ftkit() -> None:
    for name in ("classifier", "trainer", "setfit", "sentence_transformers", "fastai", "sklearn", "matrices"):
        source = (Path(classifier.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        assert "import ftkit" not in source and "from ftkit" not in source
    assert importlib.util.find_spec("benchmarks.peers.ftkit")
