"""A recipe says in a file what a cell says in code, and starts the same run wherever it is carried out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from ftkit import cli, training
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.record import Recipe, folder

ROOT = Path(__file__).resolve().parent.parent
PLAN = Plan(train=("head", "block 2"), rates={"block 2": 3e-4}, epochs=2, patience=3, class_weight="balanced", seed=7)


@pytest.fixture
def tiny_loads(monkeypatch):
    """Stands in for loading by name: the names are told, and what comes is tiny."""
    asked = {}
    monkeypatch.setattr(folder, "load_pretrained", lambda name="minilm", **how: asked.update(base=name) or tiny.base())
    monkeypatch.setattr(folder, "load_data", lambda source, *, text=None: asked.update(data=source) or tiny.splits())
    return asked


def test_what_is_written_is_read_again(tmp_path):
    written = Recipe(data={"source": "legal/licenses", "draw": 2, "split": (0.5, 0.25, 0.25)}, plan=PLAN)
    found = Recipe.read(written.save(tmp_path / "recipe.toml"))
    assert found.plan == PLAN
    assert found.base == {"name": "minilm"}
    assert found.data == {"source": "legal/licenses", "draw": 2, "split": [0.5, 0.25, 0.25]}


@pytest.mark.parametrize("plan", [Plan(), Plan(train="all", method="lora", rank=4), PLAN.but(patience=None)])
def test_any_plan_survives_the_file(tmp_path, plan):
    assert Recipe.read(Recipe(data={"source": "x"}, plan=plan).save(tmp_path / "r.toml")).plan == plan


def test_a_file_that_lies_beside_the_recipe_is_found_from_anywhere(tmp_path):
    (tmp_path / "mine.csv").write_text("text,label\n")
    found = Recipe.read(Recipe(data={"source": "mine.csv"}, plan=Plan()).save(tmp_path / "r.toml"))
    assert found.data["source"] == str(tmp_path / "mine.csv")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("format = 1\n[base]\nname = \n", "line 3"),
        ("format = 2\n[data]\nsource = 'x'\n[plan]\n", "format 1"),
        ("[data]\nsource = 'x'\n[plan]\n", "'format' is missing"),
        ("format = 1\n[data]\nsource = 'x'\n", "'plan' is missing"),
        ("format = 1\n[data]\n[plan]\n", "'source' is missing"),
        ("format = 1\n[data]\nsource = 'x'\n[plan]\nlearning_rate = 1.0\n", "learning_rate"),
        ("format = 1\n[data]\nsource = 'x'\n[plan]\n[model]\nname = 'minilm'\n", "model"),
        ("format = 1\n[data]\nsource = 'x'\n[plan]\nlr = 7.0\n", r"Plan\.lr is 7\.0|lr.*7\.0"),
    ],
)
def test_what_is_no_recipe_is_told_by_line_or_field(tmp_path, text, told):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises((FtkitError, ValueError), match=told):
        Recipe.read(path)


def test_a_missing_recipe_is_told_by_name(tmp_path):
    with pytest.raises(FtkitError, match=r"FT001.*nowhere\.toml"):
        Recipe.read(tmp_path / "nowhere.toml")


def test_a_field_that_no_loader_knows_is_told(tiny_loads):
    with pytest.raises(FtkitError, match=r"FT085.*per_klass"):
        Recipe(data={"source": "x", "per_klass": 3}, plan=Plan()).load()


def test_the_command_line_carries_it_out_as_a_cell_would(tmp_path, tiny_loads, capsys):
    plan = Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=2)
    path = Recipe(data={"source": "legal/licenses"}, plan=plan).save(tmp_path / "r.toml")
    assert cli.main(["run", str(path), "--out", str(tmp_path / "run")]) == 0
    run = training.fit(tiny.base(), tiny.splits(), plan, on_event=None)
    assert tiny_loads == {"base": "minilm", "data": "legal/licenses"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["losses"] == list(run.losses)
    assert run.summary().split(" took ")[0] in capsys.readouterr().out
    assert cli.main(["run", str(path), "--out", str(tmp_path / "run")]) == 1, "it holds a run already"
    assert "FT084" in capsys.readouterr().err
    assert cli.main(["run", str(path), "--out", str(tmp_path / "run"), "--resume"]) == 0


def test_it_shows_what_is_loaded_and_what_is_set():
    shown = repr(Recipe(data={"source": "legal/licenses"}, plan=PLAN))
    assert "minilm on legal/licenses" in shown and "Loaded from" in shown and "block 2" in shown


@pytest.mark.slow
@pytest.mark.needs_assets
def test_two_processes_carry_out_a_recipe_of_a_real_model(tmp_path):
    plan = Plan(train="top 1", epochs=1, batch_size=16, keep="last")
    path = Recipe(data={"source": "health/diagnoses", "per_class": 4}, plan=plan).save(tmp_path / "r.toml")
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *start, "-m", "ftkit", "run", str(path), "--out", str(tmp_path / "run")]
    told = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert told.returncode == 0, told.stderr[-3000:]
    kept = json.loads((tmp_path / "run" / "run.json").read_text())
    assert kept["environment"]["n_processes"] == 2
    assert kept["n_steps"] == len(kept["losses"]) > 0
    assert told.stdout.count("kept epoch") == 1, "one process speaks for all"
