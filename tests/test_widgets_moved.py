"""The what-moved panel shows what was measured: exact zeros where a group was frozen, and how far the others went."""

from __future__ import annotations

import html
import re
import statistics
import threading
import time

import pytest

from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.training import fit
from ftkit.widgets import TrainingPanel, WhatMovedPanel
from ftkit.widgets import moved as module
from ftkit.widgets.moved import MEASURES, stack

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


def text(markup: str) -> str:
    """What a reader sees of it."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def lines(markup: str) -> dict[str, str]:
    """The rows of a table by their first cell."""
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', markup)
    return {text(name): text(rest) for name, rest in rows}


def bars(markup: str) -> dict[str, float]:
    """The length of each row's bar in percent, 0 where there is none."""
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', markup)
    found = {text(name): re.search(r'<div style="width:([\d.]+)%">', rest) for name, rest in rows}
    return {name: float(width[1]) if width else 0.0 for name, width in found.items()}


def test_nothing_is_measured_before_it_is_seen(runs, monkeypatch):
    monkeypatch.setattr(module, "what_moved", lambda *given: pytest.fail("nothing was asked for yet"))
    panel = WhatMovedPanel(runs, key="at once")
    panel.measure.value = "attention"
    assert panel._stack.value == panel._layers.value == "" and panel.group.disabled


def test_its_value_is_the_drift_and_what_it_shows_is_that(measured, runs):
    drift = measured.value
    assert drift is measured.run_blocking(), "measured once, then kept"
    order = ["head", "block 2", "block 1", "block 0", "embeddings"]
    assert list(lines(measured._stack.value)) == order, "a stack: the input is at the bottom"
    assert text(measured.status.value) == drift.summary()
    rows = {row.group: row for row in drift.groups.itertuples()}
    for measure, shown in (
        ("weights", lambda row: f"{100 * row.weights_moved:.3g} %"),
        ("representations", lambda row: f"{1 - row.cka:.3g}"),
        ("attention", lambda row: f"{100 * row.attention_shift:.3g} %"),
    ):
        measured.measure.value = measure
        seen = lines(measured._stack.value)
        assert seen["block 2"].startswith(shown(rows["block 2"])), measure
        assert seen["block 1"].startswith("exactly 0 (frozen)"), measure
        assert f"The longest bar is {shown(rows['block 2'])}." in text(measured._stack.value)
        drawn = bars(measured._stack.value)
        assert drawn["block 2"] == 100 and drawn["block 1"] == drawn["head"] == 0
    measured.measure.value = "weights"


def test_frozen_and_back_at_the_start_are_two_things(base, data):
    back = fit(base, data, Plan(train="blocks", lr=0.5, head_lr=1.0, epochs=1, monitor="loss"), on_event=None)
    assert back.best_epoch == 0, "no epoch was better than the start, so the start is kept"
    panel = WhatMovedPanel(back, key="back")
    panel.run_blocking()
    seen = lines(panel._stack.value)
    assert seen["block 2"] == "exactly 0 moves" and seen["embeddings"] == "exactly 0 (frozen) frozen"


def test_a_new_head_has_no_bar_beside_what_was_there_before(measured):
    measured.measure.value, measured.run.value = "weights", 0
    assert lines(measured._stack.value)["head"] == "new, from zeros moves"
    measured.run.value = 1
    measured.wait(30)
    head = lines(measured._stack.value)["head"]
    assert re.fullmatch(r"[\d.e+]+ % from the probe it started as moves", head)
    assert set(bars(measured._stack.value).values()) == {0.0}
    measured.run.value = 0


def test_representations_stand_beside_what_chance_gives(measured):
    measured.measure.value = "representations"
    drift = measured.value.groups.set_index("group")
    assert "By chance" in measured._stack.value
    assert lines(measured._stack.value)["block 2"].endswith(f"moves {1 - drift.loc['block 2', 'cka_chance']:.3g}")
    measured.measure.value = "weights"
    assert "By chance" not in measured._stack.value


def test_what_cannot_be_measured_says_so(measured):
    measured.measure.value = "attention"
    seen = lines(measured._stack.value)
    assert seen["head"].startswith("nothing to measure here")
    assert seen["embeddings"].startswith("nothing to measure here")
    measured.measure.value = "weights"


def test_the_layers_of_a_chosen_group(measured):
    for group in ("block 2", "block 0"):
        measured.group.value = group
        expected = measured.value.layers_of(group)
        seen = lines(measured._layers.value)
        assert list(seen) == list(expected["layer"])
        for row in expected.itertuples():
            told = f"{100 * row.weights_moved:.3g} %" if row.weights_moved else "exactly 0 (frozen)"
            assert seen[row.layer] == f"{told} {row.n_weights:,}"
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
    assert [looked.run for looked in panel._looked] == [None, runs[1]]
    WhatMovedPanel(runs, key="light")
    assert [looked.run for looked in panel._looked] == [None], "its place was taken: it lets go of the others"
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
    assert all(looked.run is None for looked in panel._looked)


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
    for measure in MEASURES:
        shown = stack(groups, measure, from_zeros=True)
        assert "<img" not in shown and HOSTILE in html.unescape(shown)


@pytest.mark.parametrize("source", [None, [], "run", [1, 2], {}])
def test_anything_that_is_no_run_is_refused(source):
    with pytest.raises(TypeError, match="expected a Run, a list of runs or a TrainingPanel"):
        WhatMovedPanel(source)


def test_a_change_is_quick(measured):
    times = []
    changes = [(measured.measure, m) for m in (*MEASURES, *MEASURES)]
    for control, value in changes + [(measured.group, g) for g in measured.group.options]:
        began = time.perf_counter()
        control.value = value
        times.append(time.perf_counter() - began)
    measured.measure.value, measured.group.value = "weights", "block 2"
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
