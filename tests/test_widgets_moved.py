"""The what-moved panel shows what was measured: exact zeros where a group was frozen, and how far the others went."""

from __future__ import annotations

import dataclasses
import html
import re
import statistics
import threading
import time

import pytest
from watching import text

from ftkit.drift import Drift
from ftkit.drift.moved import ATTENTION, VECTORS, WEIGHTS
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.training import fit
from ftkit.widgets import TrainingPanel, WhatMovedPanel
from ftkit.widgets import moved as module
from ftkit.widgets.moved import stack

HOSTILE = "<img src=x onerror='document.title=1'>"
TWO = Plan(train=("block 2", "head"), epochs=3, lr=5e-3)
PROBE = Plan(train="head", epochs=1, start="probe", head_lr=0.1, keep="last")


@pytest.fixture(scope="module")
def runs(base, data):
    return [fit(base, data, plan.but(keep="last"), on_event=None) for plan in (TWO, PROBE)]


@pytest.fixture(scope="module")
def measured(runs):
    """A panel whose first run has been measured."""
    panel = WhatMovedPanel(runs, key="measured")
    panel.run_blocking()
    return panel


def lines(markup: str) -> dict[str, dict[str, str]]:
    """The rows of a table by their first cell: each other cell by its heading."""
    headings = [text(heading) for heading in re.findall(r'<th scope="col"[^>]*>(.*?)</th>', markup)]
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', markup)
    cells = {text(name): map(text, re.findall(r"<td[^>]*>(.*?)</td>", rest)) for name, rest in rows}
    return {name: dict(zip(headings[1:], told, strict=True)) for name, told in cells.items()}


def bars(markup: str) -> dict[str, float]:
    """The length of each row's bar in percent, 0 where there is none."""
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', markup)
    found = {text(name): re.search(r'<div style="width:([\d.]+)%">', rest) for name, rest in rows}
    return {name: float(width[1]) if width else 0.0 for name, width in found.items()}


def test_nothing_is_measured_before_it_is_seen(runs, monkeypatch):
    monkeypatch.setattr(module, "what_moved", lambda *given: pytest.fail("nothing was asked for yet"))
    panel = WhatMovedPanel(runs, key="at once")
    panel.measure.value = ATTENTION
    assert panel._stack.value == panel._layers.value == "" and panel.group.disabled


def test_its_value_is_the_drift_and_what_it_shows_is_that(measured, runs):
    drift = measured.value
    assert drift is measured.run_blocking(), "measured once, then kept"
    order = ["head", "block 2", "block 1", "block 0", "embeddings"]
    assert list(lines(measured._stack.value)) == order, "a stack: the input is at the bottom"
    assert text(measured.status.value) == drift.summary()
    moved = drift.groups.set_index("group").loc["block 2"]
    in_numbers = {
        WEIGHTS: {"weights moved": f"{100 * moved['weights_moved']:.3g} %"},
        VECTORS: {"CKA with the base": f"{moved['cka']:.3f}", "CKA by chance": f"{moved['cka_chance']:.3f}"},
        ATTENTION: {"attention shift": f"{moved['attention_shift']:.3f}"},
    }
    for measure, numbers in in_numbers.items():
        measured.measure.value = measure
        seen, drawn = lines(measured._stack.value), bars(measured._stack.value)
        assert seen["block 2"] == {measure: "", "planned": "moves"} | numbers, "no words in the place of the bar"
        assert drawn["block 2"] == 100 and drawn["block 1"] == drawn["head"] == 0
        assert seen["block 1"]["planned"] == "frozen"
        assert seen["block 1"][next(iter(numbers))] == ("1 (exactly)" if measure == VECTORS else "0 (exactly)")
    measured.measure.value = WEIGHTS


def test_bars_are_as_long_as_what_they_measure(measured):
    groups = measured.value.groups.assign(
        weights_moved=[0.01, 0.0, 0.04, 0.02, 9.0], cka=[1, 0.9, 0.8, 0.6, float("nan")]
    )
    drift = dataclasses.replace(measured.value, groups=groups)
    drawn = bars(stack(drift, WEIGHTS))
    assert drawn == {"embeddings": 25, "block 0": 0, "block 1": 100, "block 2": 50, "head": 0}
    drawn = bars(stack(drift, VECTORS))
    assert drawn == {"embeddings": 0, "block 0": 25, "block 1": 50, "block 2": 100, "head": 0}


def test_frozen_and_back_at_the_start_are_two_things(base, data):
    back = fit(base, data, Plan(train="blocks", lr=0.5, head_lr=1.0, epochs=1, monitor="loss"), on_event=None)
    assert back.best_epoch == 0, "no epoch was better than the start, so the start is kept"
    panel = WhatMovedPanel(back, key="back")
    panel.run_blocking()
    seen = lines(panel._stack.value)
    assert {seen[group]["weights moved"] for group in ("block 2", "embeddings")} == {"0 (exactly)"}
    assert (seen["block 2"]["planned"], seen["embeddings"]["planned"]) == ("moves", "frozen")


def test_a_new_head_has_no_bar_beside_what_was_there_before(measured):
    measured.measure.value, measured.run.value = WEIGHTS, 0
    assert lines(measured._stack.value)["head"]["weights moved"] == "new, from zeros"
    measured.run.value = 1
    measured.wait(30)
    assert re.fullmatch(r"[\d.e+]+ %", lines(measured._stack.value)["head"]["weights moved"]), "from the probe"
    assert set(bars(measured._stack.value).values()) == {0.0}
    measured.run.value = 0


def test_each_measure_says_what_it_means(measured):
    for measure, words in ((VECTORS, "By chance: what the same texts give"), (ATTENTION, "share of attention")):
        measured.measure.value = measure
        assert words in text(measured._stack.value)
    measured.measure.value = WEIGHTS
    assert "relative to their own length" in text(measured._stack.value)


def test_what_cannot_be_measured_says_so(measured):
    measured.measure.value = ATTENTION
    seen = lines(measured._stack.value)
    assert seen["head"]["attention shift"] == seen["embeddings"]["attention shift"] == "not measured"
    measured.measure.value = VECTORS
    seen = lines(measured._stack.value)
    assert seen["head"]["CKA with the base"] == seen["head"]["CKA by chance"] == "not measured"
    measured.measure.value = WEIGHTS


def test_the_layers_of_a_chosen_group(measured):
    for group in ("block 2", "block 0"):
        measured.group.value = group
        expected = measured.value.layers_of(group)
        seen = lines(measured._layers.value)
        assert list(seen) == list(expected["layer"])
        for row in expected.itertuples():
            told = f"{100 * row.weights_moved:.3g} %" if row.weights_moved else "0 (exactly)"
            assert seen[row.layer] == {"how far": "", "weights moved": told, "weights": f"{row.n_weights:,}"}
        assert max(bars(measured._layers.value).values()) == (100 if group == "block 2" else 0)
        assert re.search(rf'<tr class="chosen"><th scope="row">{group}<', measured._stack.value)
    assert "head" not in measured.group.options, "a head has no layers"
    measured.group.value = "block 2"


def test_shown_is_measured_in_a_thread_and_a_run_chosen_meanwhile_comes_next(runs, monkeypatch):
    go, asked = threading.Event(), []

    def slowly(run, measure=module.what_moved):
        asked.append(run.plan)
        assert go.wait(30)
        return measure(run)

    monkeypatch.setattr(module, "what_moved", slowly)
    panel = WhatMovedPanel(runs, key="thread")
    assert asked == []
    panel._repr_mimebundle_()
    assert panel.busy and "a few seconds, once" in panel.status.value
    panel.run.value = 1
    go.set()
    drift = panel.value
    assert asked == [run.plan for run in runs]
    assert drift.name == runs[1].name and drift.summary() == text(panel.status.value)
    panel.run.value = 0
    panel.wait(30)
    assert len(asked) == 2 and panel.value.name == runs[0].name


def test_it_keeps_no_model_that_it_has_measured(runs):
    panel = WhatMovedPanel(runs, key="light")
    panel.run_blocking()
    assert panel._looked == [panel.value, runs[1]]
    WhatMovedPanel(runs, key="light")
    assert panel._looked == [panel.value], "its place was taken: it lets go of the others"
    assert panel.value.name == runs[0].name


def test_each_run_of_a_training_panel_comes_up_by_itself(base, data):
    training = TrainingPanel(base, data, TWO)
    panel = WhatMovedPanel(training, key="follows")
    bundle = panel._repr_mimebundle_()
    assert panel.value is None and "There is no run yet" in panel.status.value and panel.run.disabled
    assert "text/html" in bundle and bundle["text/plain"] == repr(training.static)
    training.run_blocking()
    assert panel.value.name == training.value.name
    training._source = PROBE
    training.run_blocking()
    assert panel.value.name == training.value.name
    assert [label for label, _ in panel.run.options] == [f"1: {TWO.code()}", f"2: {PROBE.code()}"]
    panel.run.value = 0
    assert "block 2 moved most" in panel.value.summary(), "what the earlier run moved is still there"
    assert panel.code.startswith(f"run = ft.fit(base, data, ft.{TWO.code()})")
    assert all(isinstance(looked, Drift) for looked in panel._looked)


def test_a_panel_whose_place_was_taken_no_longer_follows(base, data):
    training = TrainingPanel(base, data, TWO.but(epochs=1))
    old = WhatMovedPanel(training, key="left")
    new = WhatMovedPanel(training, key="left")
    training.run_blocking()
    assert new.value is not None and old._looked == []


def test_the_code_it_shows_measures_its_value(runs, measured):
    import ftkit as ft

    assert html.unescape(re.search(r"<code>(.*)</code>", measured.shown_code.value, re.DOTALL)[1]) == measured.code
    names = {"ft": ft, "runs": runs}
    exec(measured.code, names)
    assert names["drift"].groups.equals(measured.value.groups)
    assert WhatMovedPanel(runs[0], key="single").code == "drift = ft.what_moved(run)"


def test_what_goes_wrong_is_shown(runs, monkeypatch):
    def broken(run):
        raise FtkitError("FT001", f"not this time {HOSTILE}")

    monkeypatch.setattr(module, "what_moved", broken)
    panel = WhatMovedPanel(runs, key="broken")
    panel._repr_mimebundle_()
    panel.wait(30)
    assert "not this time" in text(panel.status.value) and "<img" not in panel.status.value


def test_hostile_names_are_text(measured):
    groups = measured.value.groups.assign(group=HOSTILE, planned=HOSTILE)
    for measure in measured.measure.options:
        shown = stack(dataclasses.replace(measured.value, groups=groups), measure)
        assert "<img" not in shown and html.unescape(shown).count(HOSTILE) == 2 * len(groups)


@pytest.mark.parametrize("source", [None, [], "run", [1, 2], {}])
def test_anything_that_is_no_run_is_refused(source):
    with pytest.raises(TypeError, match="expected a Run, a list of runs or a TrainingPanel"):
        WhatMovedPanel(source)


def test_a_change_is_quick(measured):
    times = []
    changes = [(measured.measure, m) for m in 2 * measured.measure.options]
    for control, value in changes + [(measured.group, g) for g in measured.group.options]:
        began = time.perf_counter()
        control.value = value
        times.append(time.perf_counter() - began)
    measured.measure.value, measured.group.value = WEIGHTS, "block 2"
    assert statistics.median(times) < 0.1


def test_every_control_has_a_label_and_the_sentence_is_announced(measured):
    controls = (measured.run, measured.measure, measured.group)
    assert [c.description for c in controls] == ["Run", "Look at", "Layers of"]
    assert 'role="status" aria-live="polite"' in measured.status.value
    assert "ftkit-moved" in measured.box._dom_classes
    for part in (measured._stack, measured._layers):
        assert part.value.count("<caption>") == part.value.count("<table>") == 1


def test_without_a_front_end_it_is_a_table(runs, measured):
    bundle = measured._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == repr(measured.value) and "exactly 0" in bundle["text/html"]
    fresh = WhatMovedPanel(runs[1], key="fresh")
    assert fresh.static is runs[1], "before it was measured, the run shows itself"
