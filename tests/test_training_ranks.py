"""Several processes, started as a cluster starts them, learn what one learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from accelerate.tracking import GeneralTracker

from ftkit import tasks
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.training import fit

ROOT = Path(__file__).resolve().parent.parent
#: Without dropout, and with shares of equal size, several processes add up the same gradient as one.
SCRIPT = """
import json, os, sys
sys.path.insert(0, "tests")
import tiny, torch
from ftkit import training
from ftkit.plan import Plan
from ftkit.training.ranks import Ranks

if "sharded" in sys.argv:  # what Accelerate does on GPUs when it is told to use FSDP; on processors it does not
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def prepare(self, model, optimizer):
        self.sharded = True
        name_of = {id(p): n for n, p in model.named_parameters()}
        fully_shard(model, mesh=init_device_mesh("cpu", (self.n,)))
        dealt = dict(model.named_parameters())
        for settings in optimizer.param_groups:
            settings["params"] = [dealt[name_of[id(p)]] for p in settings["params"]]
        return model, optimizer

    Ranks.prepare = prepare

base = tiny.base()
for module in base.encoder.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = 0.0
base.encoder.config.hidden_dropout_prob = 0.0
data = tiny.splits(n_train=64)
found = []
for settings in json.loads(sys.argv[1]):
    plan = Plan(lr=1e-2, head_lr=1e-2, epochs=2, batch_size=16, keep="last", **settings)
    run = training.fit(base, data, plan, on_event=None)
    found.append([run.environment["n_processes"], run.losses, run.valid_proba.tolist()])
if int(os.environ.get("RANK", 0)) == 0:
    print(json.dumps(found))
"""
PLANS = [
    {"train": "all"},
    {"train": "top 1"},
    {"train": "blocks", "gradual": True, "accumulate": 2},
]


def ran(tmp_path, *options, processes: int):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    environment = os.environ | {"FTKIT_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *start, str(script), json.dumps(PLANS), *options]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert told.returncode == 0, told.stderr[-3000:]
    return json.loads(told.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["sharded"]], ids=["each holds the model", "the model is dealt out"])
def test_two_processes_learn_what_one_learns(tmp_path, options):
    alone, together = ran(tmp_path, processes=1), ran(tmp_path, *options, processes=2)
    for (one, losses, answers), (two, their_losses, their_answers) in zip(alone, together, strict=True):
        assert (one, two) == (1, 2), "the processes found one another"
        assert losses[0] != pytest.approx(losses[-1], abs=1e-3), "a run that learns nothing proves nothing"
        assert np.allclose(losses, their_losses, atol=1e-4, rtol=0)
        assert np.allclose(answers, their_answers, atol=1e-3)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("kind", ["single", "multiple"])
def test_a_step_in_parts_has_the_gradient_of_the_whole(base, kind, class_weight):
    import tiny

    still = tiny.base()
    for module in still.encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    still.encoder.config.hidden_dropout_prob = 0.0
    data = tiny.splits(n_train=50, kind=kind)  # the last batch of 10 does not divide by three
    plan = Plan(train="all", lr=1e-3, epochs=1, batch_size=20, class_weight=class_weight, keep="last")
    whole, parts = (fit(still, data, plan.but(accumulate=n), on_event=None) for n in (1, 3))
    assert np.allclose(whole.losses, parts.losses, atol=1e-5)
    assert np.allclose(whole.valid_proba, parts.valid_proba, atol=1e-4)


def test_parts_count_by_their_rows_or_by_the_weight_of_their_classes():
    labels, weights = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([3.0, 1.0])
    assert tasks.share(labels, [0, 1], range(5), None) == pytest.approx(0.4)
    assert tasks.share(labels, [0, 1], list(range(5)), weights) == pytest.approx(6 / 9)


def test_processes_that_do_not_find_one_another_are_noticed(base, data, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(Exception, match=r"FT086.*3 processes"):
        fit(base, data, Plan(), on_event=None)


class Notes(GeneralTracker):
    """A tracker that only listens."""

    name, requires_logging_directory = "notes", False

    def __init__(self) -> None:
        super().__init__()
        self.settings, self.told, self.closed = {}, [], 0

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.settings |= values

    def log(self, values, step=None, **kwargs):
        self.told.append((step, values))

    def finish(self):
        self.closed += 1


def test_a_tracker_is_told_settings_steps_and_epochs_and_let_go_of():
    notes, plan = Notes(), Plan(train="head", epochs=2, batch_size=16)
    run = fit(tiny.base(), tiny.splits(), plan, on_event=None, track=[notes])
    assert notes.settings["train"] == "head" and notes.settings["epochs"] == 2
    assert [v["loss"] for _, v in notes.told if "loss" in v] == list(run.losses)
    epochs = [v for _, v in notes.told if "valid_loss" in v]
    assert [e["valid_loss"] for e in epochs] == [h["valid_loss"] for h in run.history]
    assert "train_loss" not in epochs[0], "before the first step there is none"
    assert notes.closed == 1


def test_a_tracker_is_let_go_of_when_a_run_fails():
    notes = Notes()

    def fail(event):
        if event.kind == "step":
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fit(tiny.base(), tiny.splits(), Plan(), on_event=fail, track=[notes])
    assert notes.closed == 1


@pytest.mark.parametrize("name", ["wandb", "fnord"])
def test_a_tracker_that_is_not_installed_or_not_known_is_told_before_anything_is_trained(name):
    with pytest.raises(FtkitError, match=rf"FT083.*{name}"):
        fit(tiny.base(), tiny.splits(), Plan(), on_event=None, track=[name])


def test_no_tracker_is_told_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(Notes, "log", lambda *args, **kwargs: pytest.fail("told"))
    fit(tiny.base(), tiny.splits(), Plan(epochs=1), on_event=None)
