"""The crossover panel measures what is missing and nothing twice, and answers from what there is."""

from __future__ import annotations

import dataclasses
import html
import re
import threading
import time

import ipywidgets
import numpy as np
import pytest
import tiny
from watching import text, until

from ftkit import baseline, training
from ftkit.plan import Plan
from ftkit.widgets import TrainingPanel
from ftkit.widgets.panel import _PLACES
from panels import crossover as module
from panels.crossover import CrossoverPanel, crossover

HOSTILE = "<img src=x onerror='document.title=1'>"


@pytest.fixture(autouse=True)
def _a_new_session():
    module._MEASURED.clear()
    yield
    for panel in list(_PLACES.values()):
        panel.stop()
        panel.wait(10)


@pytest.fixture
def data():
    return tiny.splits()


class Makers:
    """Strategies that note what they are asked for: from `simple` to `better`, each with more of the rows right."""

    def __init__(self, rows, names=("simple", "middle", "better"), delay_s=0.0):
        self.rows, self.names, self.delay_s, self.asked = rows, names, delay_s, []

    def of(self, place):
        def make(n, seed):
            self.asked.append((self.names[place], n, seed))
            time.sleep(self.delay_s)
            right = np.arange(len(self.rows)) % 10 < min(9, place * 3 + n // 4 + seed % 2)
            answers = np.where(right, self.rows.labels, (self.rows.labels + 1) % 3)
            return tiny.Fixed("fixed", dict(zip(self.rows.texts, np.eye(3)[answers], strict=True)))

        return make

    def strategies(self):
        return {name: self.of(place) for place, name in enumerate(self.names)}


def within(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    return [w for child in getattr(widget, "children", ()) for w in (child, *within(child))]


def test_nothing_is_measured_before_it_is_asked_for(data):
    makers = Makers(data.valid)
    panel = CrossoverPanel(makers.strategies(), (2, 8), data.valid)
    panel.n.value, panel.against.value = 5, "better"
    assert makers.asked == [] and panel.value.curves == {} and data.valid.opened == 0
    assert "Nothing was measured yet" in panel.status.value and "Nothing can be compared yet" in panel._answer.value


def test_on_the_button_and_in_a_cell_it_measures_what_the_function_measures(data):
    expected = crossover(Makers(data.valid).strategies(), (2, 8), data.valid, (0, 1)).frame()
    panel = CrossoverPanel(Makers(data.valid).strategies(), (8, 2), data.valid, (0, 1))
    panel.start_button.click()
    panel.wait(20)
    columns = ["rows of a class", "value", "seed", "score"]
    assert panel.value.frame()[columns].equals(expected[columns])
    module._MEASURED.clear()
    blocking = CrossoverPanel(Makers(data.valid).strategies(), (2, 8), data.valid, (0, 1)).run_blocking()
    assert blocking.frame()[columns].equals(expected[columns])


def test_each_cell_is_measured_once_one_seed_after_another_and_opens_the_rows_once(data):
    makers = Makers(data.valid)
    panel = CrossoverPanel(makers.strategies(), (2, 8), data.valid, (3, 4))
    panel.run_blocking()
    panel.run_blocking()
    assert makers.asked == [(name, n, seed) for seed in (3, 4) for n in (2, 8) for name in makers.names]
    assert data.valid.opened == 12 and data.test.opened == 0


def test_what_was_measured_stays_when_the_cell_is_run_with_more(data):
    makers = Makers(data.valid)
    first = CrossoverPanel(makers.strategies(), (2, 8), data.valid, (0,))
    first.run_blocking()
    makers.asked.clear()
    panel = CrossoverPanel(makers.strategies(), (2, 8, 12), data.valid, (0, 1))
    assert list(panel.value.curves) == [2, 8], "shown at once"
    assert first.start_button.disabled and "newer panel" in first.status.value
    panel.run_blocking()
    expected = [(name, 12, 0) for name in makers.names] + [(m, n, 1) for n in (2, 8, 12) for m in makers.names]
    assert makers.asked == expected
    assert [curve.seeds for curve in panel.value.curves.values()] == [(0, 1)] * 3
    fewer = CrossoverPanel(makers.strategies(), (8,), data.valid, (1,))
    assert list(fewer.value.curves) == [8] and fewer.value.curves[8].seeds == (1,)


def test_other_rows_are_measured_anew(data):
    CrossoverPanel(Makers(data.valid).strategies(), (2,), data.valid, (0,)).run_blocking()
    other = tiny.splits(n_valid=24).valid
    assert CrossoverPanel(Makers(other).strategies(), (2,), other, (0,)).value.curves == {}


def test_stop_ends_after_the_cell_and_what_is_there_stays(data):
    makers = Makers(data.valid, delay_s=0.1)
    panel = CrossoverPanel(makers.strategies(), (2, 8, 12), data.valid)
    panel.start_button.click()
    assert panel.start_button.disabled and not panel.stop_button.disabled
    until(lambda: len(makers.asked) == 4)
    panel.stop_button.click()
    panel.wait(5)
    assert len(makers.asked) == 4 and not panel.busy and list(panel.value.curves) == [2]
    assert not panel.start_button.disabled and "did not work" not in panel.status.value
    panel.run_blocking()
    assert len(makers.asked) == 27


def test_the_picture_and_the_tables_grow_while_it_measures(data):
    panel = CrossoverPanel(Makers(data.valid, delay_s=0.02).strategies(), (2, 8), data.valid, (0, 1))
    alts = []
    panel._found.observe(lambda change: alts.append(re.search('alt="([^"]*)"', change.new)[1]), "value")
    panel.run_blocking()
    assert len(alts) >= 4 and "with 8" not in alts[0] and "with 8" in alts[-1]
    assert panel._found.value.count("<caption>") == 1 and panel._found.value.count('<img alt="A line is') == 1
    assert panel.value.tables()[0][1]["each seed"].tolist()[0] in text(panel._found.value)


def test_it_says_which_cell_is_measured(data):
    panel = CrossoverPanel(Makers(data.valid, delay_s=0.2).strategies(), (2,), data.valid, (5,))
    panel.start_button.click()
    until(lambda: "Measuring middle with 2 rows of a class, seed 5." in panel.status.value)
    panel.wait(5)
    assert "Highest mean by rows of a class: better with 2" in panel.status.value


def test_the_answer_follows_the_controls_and_is_announced(data):
    panel = CrossoverPanel(Makers(data.valid).strategies(), (2, 12), data.valid)
    panel.run_blocking()
    assert panel.n.value == 12 and panel.against.value == "simple", "the simplest comes first"
    for n, against in ((2, "middle"), (3, "simple"), (100, "better")):
        panel.n.value, panel.against.value = n, against
        assert text(panel._answer.value) == panel.value.answer(n, against)
        assert panel.code.endswith(f"found.answer({n}, against={against!r})")
    assert 'role="status" aria-live="polite"' in panel._answer.value


def test_the_code_it_shows_measures_the_same(data):
    strategies, rows = Makers(data.valid).strategies(), data.valid
    panel = CrossoverPanel(strategies, (2, 8), rows, (0, 1))
    panel.run_blocking()
    assert html.escape(panel.code) in panel.shown_code.value
    *lines, last = panel.code.splitlines()
    here = {"strategies": strategies, "rows": rows}
    exec("\n".join(lines), here)
    assert eval(last, here).partition("on the")[0] == panel.value.answer(8).partition("on the")[0]


@pytest.mark.parametrize(("name", "warned"), [("valid", False), ("test", True)])
def test_it_says_if_these_are_test_rows_before_any_is_opened(data, name, warned):
    rows = getattr(data, name)
    panel = CrossoverPanel(Makers(rows).strategies(), (2,), rows, (0,))
    told = " ".join(text(w.value) for w in within(panel.box) if isinstance(w, ipywidgets.HTML))
    assert ("These are test rows" in told) == warned
    assert f"opens the 30 {name} rows once" in told and rows.opened == 0


def test_what_goes_wrong_in_a_strategy_is_shown_and_what_was_measured_stays(data):
    makers = Makers(data.valid)

    def broken(n, seed):
        raise ValueError(HOSTILE)

    panel = CrossoverPanel(makers.strategies() | {"broken": broken}, (2,), data.valid, (0,))
    panel.start_button.click()
    panel.wait(10)
    assert "did not work" in panel.status.value and "<img" not in panel.status.value
    assert not panel.start_button.disabled and len(panel._cells) == 3
    with pytest.raises(ValueError, match="img"):
        panel.run_blocking()


def test_an_interrupted_run_is_no_measurement(base, data, monkeypatch):
    class Interrupted(tiny.Fixed):
        stopped = "interrupted"

    makers = Makers(data.valid)
    strategies = makers.strategies() | {"tuned": lambda n, seed: Interrupted("half", {})}
    panel = CrossoverPanel(strategies, (2,), data.valid, (0,))
    with pytest.raises(KeyboardInterrupt):
        panel.run_blocking()
    assert set(panel._cells) == {(name, 2, 0) for name in makers.names}
    assert not panel.start_button.disabled


def test_one_panel_trains_at_a_time(base, data):
    running = TrainingPanel(base, data, Plan(train="top 1", epochs=100_000))
    running.start_button.click()
    until(lambda: "Epoch " in running._live.value)
    makers = Makers(data.valid)
    panel = CrossoverPanel(makers.strategies(), (2,), data.valid, (0,))
    panel.start_button.click()
    until(lambda: "Waiting" in panel.status.value)
    assert makers.asked == []
    running.stop_button.click()
    panel.wait(20)
    assert len(makers.asked) == 3


def test_real_strategies_are_measured_in_the_thread(base, data):
    strategies = {
        "TF-IDF": lambda n, seed: baseline.tfidf(data.limit(n, seed)),
        "tuned": lambda n, seed: training.fit(base, data.limit(n, seed), Plan(epochs=1, seed=seed), on_event=None),
    }
    where = []
    panel = CrossoverPanel(strategies, (2, 4), data.valid, (0, 1))
    panel.on_value(lambda found: where.append(threading.current_thread().name))
    panel.start_button.click()
    panel.wait(60)
    assert set(where) == {"ftkit-crossover"} and len(where) == 8
    assert [curve.scores.shape for curve in panel.value.curves.values()] == [(2, 2)] * 2
    assert panel.value.seconds > 0


def test_names_are_text_whatever_they_say(data):
    rows = dataclasses.replace(data.valid, source=HOSTILE)
    panel = CrossoverPanel(Makers(rows, (HOSTILE, "a", "b")).strategies(), (2, 8), rows, (0, 1))
    panel.run_blocking()
    for widget in within(panel.box):
        if isinstance(widget, ipywidgets.HTML) and widget is not panel.style:
            assert "<img src=x" not in widget.value
    assert html.escape(HOSTILE) in panel._found.value and HOSTILE in text(panel._answer.value)


def test_every_control_has_a_label(data):
    panel = CrossoverPanel(Makers(data.valid).strategies(), (2,), data.valid)
    kinds = (ipywidgets.Dropdown, ipywidgets.BoundedIntText, ipywidgets.Button)
    assert [w.description for w in within(panel.box) if isinstance(w, kinds)] == [
        "Measure what is missing",
        "Stop after this one",
        "Rows of a class that you have",
        "Compare with",
    ]


def test_without_a_front_end_it_is_the_record(data):
    panel = CrossoverPanel(Makers(data.valid).strategies(), (2, 8), data.valid)
    assert panel._repr_mimebundle_()["text/plain"] == "Nothing was measured yet."
    panel.run_blocking()
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == repr(panel.value) and '<img alt="A line' in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle
