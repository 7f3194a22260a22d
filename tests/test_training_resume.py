"""Nothing is lost: a killed run goes on to the same bits, and whatever fails leaves the best weights behind."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny
import torch

from ftkit import record, tasks, training
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.training import state

PLAN = Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=3, batch_size=16, monitor="loss")


class Killed(BaseException):
    """Ends a run as a kill does: nothing of it is tidied up."""


def fit(base, data, plan=PLAN, **options):
    return training.fit(base, data, plan, **{"on_event": None, **options})


def killed_at(step: int):
    def kill(event):
        if event.kind == "step" and event.step == step:
            raise Killed

    return kill


@pytest.fixture(autouse=True)
def _trusts_the_system(monkeypatch):
    """Waiting for the disk itself guards against a loss of power; a killed process loses nothing without it."""
    monkeypatch.setattr("ftkit.record.folder.os.fsync", lambda file: None)


@pytest.fixture(params=[0.0, 1e9], ids=["checkpoint each step", "checkpoint each epoch"])
def every_s(request, monkeypatch):
    """How often a checkpoint is written within an epoch."""
    monkeypatch.setattr(state, "EVERY_S", request.param)


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        PLAN.but(dtype="bfloat16", start="probe"),
        PLAN.but(train="blocks", gradual=True, accumulate=2),
        PLAN.but(train="all", keep="last", cache=False),
    ],
    ids=["cached", "bfloat16 from a probe", "gradual in parts", "all"],
)
def test_killed_after_any_step_it_goes_on_to_the_same_bits(base, data, plan, every_s, tmp_path):
    whole = fit(base, data, plan)
    for step in (1, 4, 5, 11, 12):  # an epoch has four steps
        out = tmp_path / str(step)
        with pytest.raises(Killed):
            fit(base, data, plan, out=out, on_event=killed_at(step))
        again = fit(base, data, plan, out=out, resume=True)
        assert again.weights_sha256 == whole.weights_sha256, step
        assert (again.losses, again.best_epoch, again.moved) == (whole.losses, whole.best_epoch, whole.moved)
        assert str(again.history) == str(whole.history)
        assert np.array_equal(again.valid_proba, whole.valid_proba)


def test_killed_twice_and_with_patience_it_ends_where_it_would_have(base, data, tmp_path, every_s):
    plan = PLAN.but(train="all", lr=0.3, epochs=12, patience=2)
    whole = fit(base, data, plan)
    assert whole.stopped and len(whole.losses) < 48
    for step in (3, 7):
        with pytest.raises(Killed):
            fit(base, data, plan, out=tmp_path, resume=True, on_event=killed_at(step))
    again = fit(base, data, plan, out=tmp_path, resume=True)
    assert (again.weights_sha256, again.stopped) == (whole.weights_sha256, whole.stopped)


def test_stopped_on_request_it_is_a_run_and_can_go_on(base, data, tmp_path):
    asked = itertools.count(1)
    half = fit(base, data, out=tmp_path, stop=lambda: next(asked) > 9)
    assert half.stopped == "stopped on request" and half.n_steps < 12
    assert record.load(tmp_path, base, data).weights_sha256 == half.weights_sha256
    assert fit(base, data, out=tmp_path, resume=True).weights_sha256 == fit(base, data).weights_sha256


def test_a_resumed_run_says_so_and_counts_its_time_on(base, data, tmp_path, every_s, capsys):
    with pytest.raises(Killed):
        fit(base, data, out=tmp_path, on_event=killed_at(6))
    events = []
    fit(base, data, out=tmp_path, resume=True, on_event=lambda e: (events.append(e), training.say_epochs(e)))
    assert events[0].kind == "resumed" and events[0].step in (4, 5)
    assert f"Going on after step {events[0].step} of 12." in capsys.readouterr().out
    assert [e.step for e in events if e.kind == "step"] == list(range(events[0].step + 1, 13))
    assert [e.elapsed_s for e in events] == sorted(e.elapsed_s for e in events)


def test_an_ended_run_is_read_not_trained_again(base, data, tmp_path):
    run = fit(base, data, out=tmp_path)
    assert not (tmp_path / state.NAME).exists(), "a run that has ended needs no checkpoint"
    events = []
    again = fit(base, data, out=tmp_path, resume=True, on_event=events.append)
    assert not events and again.weights_sha256 == run.weights_sha256


def test_a_folder_that_holds_a_run_is_not_written_over(base, data, tmp_path):
    fit(base, data, out=tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(FtkitError, match="FT084"):
        fit(base, data, PLAN.but(seed=1), out=tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("other", ["plan", "data", "base"])
def test_the_checkpoint_of_another_run_is_refused(base, data, tmp_path, other, every_s):
    with pytest.raises(Killed):
        fit(base, data, out=tmp_path, on_event=killed_at(6))
    given = {"base": base, "data": data, "plan": PLAN}
    changed = {
        "plan": PLAN.but(seed=1),
        "data": dataclasses.replace(data, train=data.train.take(range(48))),
        "base": dataclasses.replace(base, encoder=tiny.encoder(n_blocks=3), max_tokens=20),
    }
    with pytest.raises(FtkitError, match=f"FT081.*{other}"):
        fit(**given | {other: changed[other]}, out=tmp_path, resume=True)


@pytest.mark.parametrize("harm", ["cut", "garbage", "header"])
def test_a_damaged_checkpoint_is_refused(base, data, tmp_path, harm, every_s):
    with pytest.raises(Killed):
        fit(base, data, out=tmp_path, on_event=killed_at(6))
    path = tmp_path / state.NAME
    content = path.read_bytes()
    if harm == "header":
        record.write_tensors(path, {"now/x": torch.zeros(1)}, {"ftkit": json.dumps({"format": 1, "run": {}})})
    else:
        path.write_bytes(content[: len(content) // 2] if harm == "cut" else os.urandom(1000))
    with pytest.raises(FtkitError, match="FT081"):
        fit(base, data, out=tmp_path, resume=True)


def test_a_checkpoint_holds_tensors_and_json_alone(base, data, tmp_path, monkeypatch):
    monkeypatch.setattr(state, "EVERY_S", 0.0)
    with pytest.raises(Killed):
        fit(base, data, out=tmp_path, on_event=killed_at(6))
    assert [p.name for p in tmp_path.iterdir()] == [state.NAME]
    tensors, header = record.read_tensors(tmp_path / state.NAME)
    assert json.loads(header["ftkit"])["state"]["done"] in (1, 2)
    assert {name.split("/")[0] for name in tensors} >= {"now", "best", "exp_avg", "exp_avg_sq", "step", "chances"}


# What fails leaves the best weights behind


@pytest.mark.parametrize("kind", ["epoch", "step"])
def test_an_error_in_a_callback_carries_the_run(base, data, kind):
    def fail(event):
        if event.kind == kind and event.step == 8:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        fit(base, data, on_event=fail)
    run = caught.value.run
    assert run.stopped == "ZeroDivisionError: mine" and run.best_epoch >= 1
    assert np.allclose(run.predict_proba(data.valid.texts), run.valid_proba, atol=1e-6)
    assert any(".run" in note for note in caught.value.__notes__)


def test_a_full_disk_ends_the_run_with_the_best_weights_in_hand(base, data, tmp_path, monkeypatch):
    monkeypatch.setattr(state, "EVERY_S", 0.0)

    def fill(event):
        if event.kind == "step" and event.step == 6:  # from here on no file may grow beyond this
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(FtkitError, match="FT080") as caught:
            fit(base, data, out=tmp_path, on_event=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert np.isfinite(caught.value.run.predict_proba(data.valid.texts)).all()
    assert caught.value.run.n_steps == 6 and "FT080" in caught.value.run.stopped
    assert fit(base, data, out=tmp_path, resume=True).weights_sha256 == fit(base, data).weights_sha256


def test_a_disk_that_fills_up_at_the_very_end_leaves_the_run_in_hand(base, data, tmp_path, monkeypatch):
    def full(*args):
        raise FtkitError("FT080", "no room")

    monkeypatch.setattr("ftkit.training.state.record.save", full)
    with pytest.raises(FtkitError, match="FT080") as caught:
        fit(base, data, out=tmp_path)
    assert caught.value.run.weights_sha256 == fit(base, data).weights_sha256


def test_a_disk_that_is_full_when_a_stop_is_asked_for_leaves_the_run_in_hand(base, data, tmp_path):
    before, taken = resource.getrlimit(resource.RLIMIT_FSIZE), []

    def stop():
        if len(taken) >= 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        return len(taken) >= 6

    try:
        with pytest.raises(FtkitError, match="FT080") as caught:
            fit(base, data, out=tmp_path, on_event=lambda e: taken.append(e) if e.kind == "step" else None, stop=stop)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.run.n_steps == 6
    assert np.isfinite(caught.value.run.predict_proba(data.valid.texts)).all()


def test_a_folder_that_cannot_be_written_is_found_out_before_the_first_step(base, data, tmp_path):
    (tmp_path / "file").write_text("")
    events = []
    with pytest.raises(FtkitError, match="FT080"):
        fit(base, data, out=tmp_path / "file" / "run", on_event=events.append)
    assert not events


def test_a_loss_that_is_not_finite_is_named_with_its_rows_and_its_cause(base, data, monkeypatch):
    for plan, cause in ((PLAN.but(cache=False), "learning rate"), (PLAN.but(cache=False, train="all"), "before had")):
        original, steps = tasks.loss, itertools.count(1)

        def poisoned(logits, *rest, original=original, steps=steps, spoil=cause == "before had"):
            value = original(logits, *rest)
            if logits.requires_grad and next(steps) == 6:
                if spoil:
                    raise AssertionError("the loss itself has to go wrong first")
                return value * torch.nan
            if spoil and logits.requires_grad:
                logits.register_hook(lambda gradient: gradient * torch.nan)
            return value

        monkeypatch.setattr(tasks, "loss", poisoned)
        run = fit(base, data, plan)
        monkeypatch.undo()
        (finding,) = run.findings
        assert "step" in finding.message and cause in finding.message
        named = finding.message.partition("Rows of the batch: ")[2].partition(". ")[0].split(", ")
        assert len(named) == 16 and set(named) <= set(data.train.ids)


# Real weights, a real kill


SCRIPT = """
import os, signal, sys
import ftkit as ft
from ftkit.training import state
state.EVERY_S = 0.0
what, out, dtype = sys.argv[1:]
base, data = ft.load_pretrained("minilm", max_tokens=32), ft.load_data("health/diagnoses", per_class=8)
def watch(event):
    if what == "killed" and event.kind == "step" and event.step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    if event.kind == "resumed":
        print("resumed", event.step)
keeping = {} if what == "whole" else {"out": out, "resume": True}
run = ft.fit(base, data, ft.Plan(train="top 2", epochs=2, dtype=dtype), on_event=watch, **keeping)
print(run.weights_sha256, len(run.findings))
"""


@pytest.mark.slow
@pytest.mark.needs_assets("minilm", "icd10cm")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_killed_process_leaves_what_another_needs(tmp_path, dtype):
    def ran(what):
        command = [sys.executable, "-c", SCRIPT, what, str(tmp_path), dtype]
        return subprocess.run(command, check=False, capture_output=True, text=True)

    assert ran("killed").returncode == -signal.SIGKILL
    resumed, whole = ran("resumed").stdout.splitlines(), ran("whole").stdout.splitlines()
    assert resumed == ["resumed 7", *whole]
    assert whole[0].endswith(" 0"), "and without a finding"


def test_resumed_under_other_conditions_it_says_that_the_bits_may_differ(base, data, tmp_path, every_s, monkeypatch):
    with pytest.raises(Killed):
        fit(base, data, out=tmp_path, on_event=killed_at(6))
    n_threads = torch.get_num_threads()
    monkeypatch.setattr("ftkit.record.torch.get_num_threads", lambda: n_threads + 1)
    run = fit(base, data, out=tmp_path, resume=True)
    assert [f.code for f in run.findings] == ["FT087"]
    assert run.cache and run.weights_sha256 == fit(base, data).weights_sha256, "nothing else is done differently"
    assert f"n_threads {n_threads}, now {n_threads + 1}" in run.findings[0].message
