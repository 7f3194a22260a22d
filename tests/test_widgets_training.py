"""The training panel trains as `fit` does, can be watched and stopped, keeps one model, and compares fairly."""

from __future__ import annotations

import dataclasses
import gc
import html
import re
import time
import weakref
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import tiny
from watching import slow, text, until

from ftkit import evaluation, report, training
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.widgets import FreezePanel, TrainingPanel
from ftkit.widgets.live import chart, thin
from ftkit.widgets.panel import _PLACES
from ftkit.widgets.training import _REMEMBERED

HOSTILE = "<img src=x onerror='document.title=1'>"
PLAN = Plan(train="top 1", lr=1e-3, epochs=2)
ENDLESS = PLAN.but(epochs=100_000)


@pytest.fixture(autouse=True)
def _a_new_session():
    _REMEMBERED.clear()
    yield
    for panel in list(_PLACES.values()):
        panel.stop()
        panel.wait(10)


@pytest.fixture(scope="module")
def base():
    return tiny.base()


@pytest.fixture
def data():
    return tiny.splits()


def stop(panel: TrainingPanel) -> None:
    panel.stop_button.click()
    panel.wait(10)
    assert not panel.busy


def test_on_the_button_and_in_a_cell_it_trains_what_fit_trains(base, data):
    expected = training.fit(base, data, PLAN, on_event=None).weights_sha256
    panel = TrainingPanel(base, data, PLAN)
    assert panel.value is None and not panel.busy, "nothing is trained before it is asked for"
    assert panel.run_blocking().weights_sha256 == expected
    blocking = panel.value
    panel.start_button.click()
    panel.wait(30)
    assert panel.value is not blocking and panel.value.weights_sha256 == expected
    assert data.test.opened == 0


def test_the_code_it_shows_is_what_it_does(base, data):
    panel = TrainingPanel(base, data, PLAN)
    assert panel.code == f"run = ft.fit(base, data, ft.{PLAN.code()})\nft.compare(baseline, run.on_valid)"
    assert html.escape(panel.code) in panel.shown_code.value


def test_a_freeze_panel_is_read_when_the_training_starts(base, data):
    freeze = FreezePanel(base, data, PLAN)
    panel = TrainingPanel(base, data, freeze)
    freeze.depth.value = "head"
    assert "train='head'" in text(panel.shown_code.value), "the code follows"
    freeze.epochs.value = 50
    panel.start_button.click()
    freeze.depth.value = "all"
    panel.wait(60)
    assert panel.value.plan == PLAN.but(train="head", epochs=50)
    assert panel.plan.train == "all"


def test_stop_keeps_the_best_within_a_second(data):
    panel = TrainingPanel(slow(0.02), data, ENDLESS)
    panel.start_button.click()
    assert (panel.start_button.disabled, panel.stop_button.disabled) == (True, False)
    until(lambda: re.search(r"Epoch ([3-9]|\d\d+) of", panel._live.value))
    began = time.monotonic()
    stop(panel)
    assert time.monotonic() - began < 1
    run = panel.value
    assert run.stopped == "stopped on request" and run.history[run.best_epoch]["accuracy"] == max(
        h["accuracy"] for h in run.history
    )
    assert "ended early: stopped on request. Kept epoch" in text(panel.status.value)
    assert (panel.start_button.disabled, panel.stop_button.disabled) == (False, True)
    np.testing.assert_allclose(evaluation.evaluate(run, data.valid).accuracy, run.on_valid.accuracy)


def test_stopped_before_there_is_anything_it_says_so_calmly(data):
    panel = TrainingPanel(slow(0.3), data, PLAN)
    panel.start_button.click()
    began = time.monotonic()
    stop(panel)
    assert time.monotonic() - began < 1
    assert panel.value is None and "FT057" in panel.status.value and "did not work" not in panel.status.value
    assert not panel.start_button.disabled


def test_what_fails_is_shown_and_one_can_start_again(base, data, monkeypatch):
    plans = iter([Plan(train="block 9"), PLAN])
    panel = TrainingPanel(base, data, PLAN)
    monkeypatch.setattr(type(panel), "plan", property(lambda self: next(plans)))
    panel._start_clicked()
    panel.wait(20)
    assert "FT051" in panel.status.value and panel.value is None
    monkeypatch.undo()
    panel.start_button.click()
    panel.wait(20)
    assert panel.value.plan == PLAN


def test_in_a_cell_a_failure_is_the_cells(base, data):
    with pytest.raises(FtkitError, match="FT051"):
        TrainingPanel(base, data, Plan(train="block 9")).run_blocking()


def test_a_cell_waits_for_the_run_that_is_under_way(data):
    panel = TrainingPanel(slow(0.01), data, PLAN)
    panel.start_button.click()
    run = panel.run_blocking()
    assert run is panel.value and len(panel._entries) == 1


def test_it_shows_the_course_of_the_run(base, data):
    panel = TrainingPanel(base, data, PLAN)
    run = panel.run_blocking()
    live = panel._live.value
    assert f"{run.n_steps} steps in" in text(live)
    charts = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", live)]
    assert [c.get("role") for c in charts] == ["img", "img"]
    told = [c.get("aria-label") for c in charts]
    assert f"{run.history[-1]['valid_loss']:.3f}" in told[0] and "majority" in told[1].lower()
    dots = [path.get("d").count("M") for c in charts for path in c.iter("path") if path.get("class") == "dots"]
    assert dots == [len(run.history)] * 2, "a dot an epoch"
    for label in ("training, each step", "valid, each epoch", "this run"):
        assert re.search(f'<div class="key">.*?<span class="(fine|marked)">{label}</span>', live)
    bar = re.search(r'<progress aria-label="[^"]+" max="(\d+)" value="(\d+)">', live)
    assert bar.groups() == (str(run.n_steps),) * 2


def test_while_it_runs_it_says_how_fast_and_how_long(data):
    panel, updates = TrainingPanel(slow(0.005), data, ENDLESS), []
    panel._live.observe(lambda change: updates.append(time.monotonic()), "value")
    panel.start_button.click()
    until(lambda: len(updates) > 4)
    told = text(panel._live.value)
    stop(panel)
    pattern = r"Epoch \d+ of 100000, step [\d,]+ of 200,000: about .+ to go. [\d,]+ rows a second, [\d.]+ .B of memory"
    assert re.match(pattern, told)
    between = np.diff(updates[1:-1])  # the first says that it prepares, the last that it has ended
    assert (between > 0.45).all(), "twice a second, at most"


def test_the_result_stands_beside_the_baseline(base, data):
    probe = evaluation.evaluate(tiny.Fixed("all wrong", dict.fromkeys(data.valid.texts, np.eye(3)[0])), data.valid)
    panel = TrainingPanel(base, data, PLAN, baseline=probe)
    run = panel.run_blocking()
    shown = text(panel._result.value)
    before, after = panel._baseline, panel._entries[-1].answers
    assert report.compare(before, after).summary() in shown
    assert f"run 1 {100 * run.on_valid.accuracy:.1f}" in shown and "all wrong 33.3" in shown
    assert 'aria-live="polite"' in panel._result.value


def test_a_baseline_may_be_a_predictor_but_must_answer_valid(base, data):
    zeros = tiny.Fixed("zeros", dict.fromkeys(data.valid.texts, np.eye(3)[0]))
    panel = TrainingPanel(base, data, PLAN, baseline=zeros)
    assert panel._baseline.name == "zeros"
    elsewhere = evaluation.evaluate(tiny.Fixed("zeros", dict.fromkeys(data.test.texts, np.eye(3)[0])), data.test)
    with pytest.raises(FtkitError, match="FT070"):
        TrainingPanel(base, data, PLAN, baseline=elsewhere)


def test_every_run_can_be_compared_with_every_earlier_one(base, data):
    panel, runs = TrainingPanel(base, data, PLAN), []
    for _ in range(3):
        runs.append(panel.run_blocking().on_valid.accuracy)
    words = [label for label, _ in panel.compare_with.options]
    assert [w.split(":")[0] for w in words[1:]] == ["run 2", "run 1"] and PLAN.code() in words[1]
    panel.compare_with.index = 2
    assert "run 3 from run 1" in text(panel._result.value), "equal runs cannot be told apart"
    panel.run_blocking()
    assert panel.compare_with.label.startswith("run 1"), "what was chosen stays chosen"
    assert "run 4 from run 1" in text(panel._result.value)
    assert [row[0] for row in re.findall(r'<tr><td class="n">(\d+)</td>', panel._table.value)] == ["4", "3", "2", "1"]


def test_one_model_is_kept_not_those_of_earlier_runs(base, data):
    panel = TrainingPanel(base, data, PLAN)
    models = [weakref.ref(panel.run_blocking().model) for _ in range(3)]
    gc.collect()
    assert [model() is not None for model in models] == [False, False, True]
    assert panel.value.model is models[-1]()


def test_running_the_cell_again_ends_the_run_and_remembers_what_was(data):
    base = slow(0.01)
    first = TrainingPanel(base, data, PLAN)
    first.run_blocking()
    model = weakref.ref(first.value.model)
    first._source = ENDLESS
    first.start_button.click()
    until(lambda: "Epoch " in first._live.value)
    second = TrainingPanel(base, data, PLAN)
    assert not first.busy and first.value is None and first.start_button.disabled
    assert "newer panel" in first.status.value
    gc.collect()
    assert model() is None, "what only the replaced panel held is gone"
    assert "Runs of this session" in second._table.value and second.value is None
    second.run_blocking()
    assert [label.split(":")[0] for label, _ in second.compare_with.options][1:] == ["run 1"]


def test_other_data_have_a_place_of_their_own_but_one_training_runs_at_a_time(data):
    two_sets = (dataclasses.replace(data, name=name) for name in ("one", "two"))
    one, two = (TrainingPanel(slow(0.01), each, ENDLESS) for each in two_sets)
    one.start_button.click()
    until(lambda: "Epoch " in one._live.value)
    two.start_button.click()
    until(lambda: "Waiting" in two.status.value)
    assert one.busy, "the other one's place is another"
    stop(two)
    assert two.value is None and "before it began" in two.status.value
    two.start_button.click()
    until(lambda: "Waiting" in two.status.value)
    stop(one)
    until(lambda: "Training." in two.status.value, 5)
    stop(two)
    assert one.value.stopped and "did not work" not in two.status.value


def test_runs_on_other_rows_are_not_compared_with(base, data):
    TrainingPanel(base, data, PLAN).run_blocking()
    other = TrainingPanel(base, tiny.splits(n_valid=24), PLAN)
    other.run_blocking()
    assert len(other.compare_with.options) == 1


def test_listeners_get_the_run(base, data):
    panel, heard = TrainingPanel(base, data, PLAN), []
    panel.on_value(heard.append)
    assert heard == [] and panel.run_blocking() is heard[0]


def test_names_are_text_whatever_they_say(base, data):
    zeros = tiny.Fixed(HOSTILE, dict.fromkeys(data.valid.texts, np.eye(3)[0]))
    panel = TrainingPanel(base, data, PLAN, baseline=zeros)
    panel.run_blocking()
    for part in (panel._live, panel._result, panel._table, panel.status, panel.shown_code):
        assert "<img src=x" not in part.value
    assert HOSTILE in text(panel._result.value) and html.escape(HOSTILE) in panel._live.value
    assert panel.compare_with.options[0][0] == HOSTILE, "an option is text already"


def test_without_a_front_end_it_is_a_sentence_and_then_the_run(base, data):
    panel = TrainingPanel(base, data, PLAN)
    told = f"Nothing has been trained here yet. The plan: {PLAN.code()}"
    assert panel._repr_mimebundle_()["text/plain"] == told, "a preview stands above it already"
    run = panel.run_blocking()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == repr(run) and "application/vnd.jupyter.widget-view+json" in bundle


def test_a_chart_draws_what_is_finite_and_thins_what_is_long():
    nan = float("nan")
    line = (HOSTILE, "fine", [0, 1, 2], [1.0, nan, 3.0])
    figure = chart(HOSTILE, [line], 2, HOSTILE)
    assert "nan" not in figure and "<img" not in figure
    parts = ElementTree.fromstring(figure)
    assert [part.text for part in parts.iter()].count(HOSTILE) == 2
    assert parts.find(".//svg").get("aria-label") == HOSTILE
    assert parts.find(".//polyline").get("points") == "0 -1,2 -3"
    ElementTree.fromstring(chart("empty", [], 0, "nothing yet"))
    long = list(range(10_001))
    assert len(thin(long)) <= 200 and thin(long)[0] == np.mean(long[:51])
    flat = chart("", [("flat", "marked", [0, 1], [0.5, 0.5])], 1, "")
    assert "0.50" in flat


def test_what_a_chart_draws_lies_within_what_it_shows():
    for ys in ([3.1, 2.7, 2.95], [-4e-7, 2e-7, 0.0], [41.0, 41.0, 41.0]):
        parts = ElementTree.fromstring(chart("", [("y", "marked", [0, 7, 14], ys)], 14, ""))
        left, top, width, height = map(float, parts.find(".//svg").get("viewBox").split())
        points = [tuple(map(float, p.split())) for p in parts.find(".//polyline").get("points").split(",")]
        assert (left, width) == (0, 14) and all(top <= y <= top + height for _, y in points)
        assert [-y for _, y in points] == pytest.approx(ys)
        ticks = [float(span.text.replace(",", "")) for span in parts.findall(".//div[@class='plot']/span")]
        assert ticks == sorted(ticks) and ticks[0] == pytest.approx(-top - height) and ticks[-1] == pytest.approx(-top)
