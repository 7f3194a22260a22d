"""The error browser shows the mistakes it was asked for, all of what was said of one, and why, if somebody asks."""

from __future__ import annotations

import html
import re
import statistics
import threading
import time

import numpy as np
import pytest
import tiny
from watching import text

import ftkit as ft
from ftkit.data import Rows
from ftkit.evaluation import Evaluation
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.report.mistakes import VIEWS, Mistakes
from ftkit.training import fit
from ftkit.widgets.rows import ROWS_A_PAGE
from panels import ErrorsPanel
from panels import errors as module

HOSTILE = "<img src=x onerror='document.title=1'>"


def answered(rows: Rows, seed: int, name: str, repeats: int = 1) -> Evaluation:
    """Random answers, of which about half are right."""
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet([1] * len(rows.label_names), (repeats, len(rows)))
    return Evaluation(name=name, proba=proba, rows=rows)


@pytest.fixture(scope="module")
def both(data) -> tuple[Evaluation, Evaluation]:
    return answered(data.valid, 1, "now"), answered(data.valid, 2, "was")


@pytest.fixture(scope="module")
def run(base, data):
    return fit(base, data, Plan(train="head", start="probe", epochs=1, keep="last"), on_event=None)


def shown(panel: ErrorsPanel) -> str:
    """All HTML in a panel."""
    return "\n".join(w.value for w in panel.box.children if isinstance(w, module.HTML) and w is not panel.style)


def table_rows(panel: ErrorsPanel) -> list[str]:
    """The body of the table of rows, a string a row."""
    return [text(row) for row in re.findall(r"<tr.*?</tr>", panel._table.value)][1:]


def test_it_starts_with_the_surest_mistakes(both):
    panel = ErrorsPanel(*both)
    found = Mistakes(after=both[0]).frame()
    wrong = found[~found["right"]].sort_values("sure", ascending=False)
    assert panel.value.ids == tuple(wrong["row"]) and 8 < len(wrong) < 30
    first = table_rows(panel)[0]
    row = wrong.iloc[0]
    assert first.startswith(f"1 {both[0].rows.texts[row.name]} {row['label']} {row['answer']} (wrong)")
    assert f" {100 * row['sure']:.1f} % " in first and len(table_rows(panel)) == ROWS_A_PAGE
    assert text(panel.status.value).startswith(f"{len(wrong)} of 30 valid rows; rows 1 to 8, page 1 of ")
    assert panel.mistakes.summary() in text(shown(panel)) and "is a wrong label, an ambiguous text" in shown(panel)
    assert "What was taken for what" in shown(panel)


def test_each_view_gives_the_rows_of_its_query_and_two_need_answers_from_before(both):
    panel = ErrorsPanel(*both)
    assert panel.view.options == tuple(VIEWS)
    found, seen = panel.mistakes.frame(), {}
    for view, (query, by, rising) in VIEWS.items():
        panel.view.value = view
        wanted = found.query(query).sort_values(by, ascending=rising, kind="stable")
        assert panel.value.ids == tuple(wanted["row"]) and len(wanted) > 0, view
        seen[view] = panel.value.ids
    assert len(set(seen.values())) == len(VIEWS)
    alone = ErrorsPanel(both[0])
    assert list(alone.view.options) == [view for view in VIEWS if "before" not in view]
    assert "Before" not in alone._table.value and "before" not in text(alone._detail.value)


def test_label_answer_and_text_filter_together(both):
    panel = ErrorsPanel(*both)
    panel.label.value, panel.answer.value = "heart", "lung"
    found = panel.mistakes.frame().query("label == 'heart' and answer == 'lung'").sort_values("sure", ascending=False)
    assert panel.value.ids == tuple(found["row"]) and len(found) > 1
    word = panel.value.texts[-1].split()[-1]
    panel.contains.value = word.upper()
    assert panel.value.texts == (both[0].rows.where(contains=word).texts[0],)
    assert f"<mark>{word}</mark>" in panel._table.value
    panel.answer.value = "heart"
    assert len(panel.value) == 0 and table_rows(panel) == [] and panel._detail.value == "" and panel.row.disabled
    panel.contains.value = panel.label.value = panel.answer.value = ""
    assert len(table_rows(panel)) == ROWS_A_PAGE


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("answer", ["", "bone"])
def test_the_code_it_shows_gives_its_rows(both, run, view, answer):
    panel = ErrorsPanel(*both, run)
    panel.view.value, panel.answer.value, panel.contains.value = view, answer, "valid1"
    assert html.unescape(re.search(r"<code>(.*)</code>", panel.shown_code.value, re.DOTALL)[1]) == panel.code
    names = {"after": both[0], "before": both[1], "run": run}
    *lines, last = panel.code.splitlines()
    assert last.startswith("attributions(") == (len(panel.value) > 0)
    exec("\n".join(lines if len(panel.value) else panel.code.splitlines()), names)
    assert names["rows"].ids == panel.value.ids
    if len(panel.value):
        assert eval(last, names).label == panel._found["answer"][panel._at]


def test_pages_and_the_chosen_row_are_shown(both):
    panel = ErrorsPanel(*both)
    panel.later_button.click()
    panel.row.value = ROWS_A_PAGE + 1
    (row,) = panel.value.take([ROWS_A_PAGE + 1]).texts
    assert row in text(panel._detail.value) and table_rows(panel)[0].startswith("9 ")
    assert text(re.search(r'<tr class="chosen">.*?</tr>', panel._table.value)[0]).startswith("10 ")


def test_the_most_probable_labels_stand_beside_those_from_before():
    names = tuple("abcdefgh")
    rows = Rows(name="valid", texts=["one text"], labels=[7], label_names=names, groups=["g1"])
    now = np.array([[[0.3, 0.2, 0.15, 0.12, 0.1, 0.07, 0.05, 0.01]]])
    panel = ErrorsPanel(*(Evaluation(name=n, proba=p, rows=rows) for n, p in (("now", now), ("was", now[..., ::-1]))))
    lines = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', panel._detail.value)
    told = [[text(name), *re.findall(r"[\d.]+ %", text(cells))] for name, cells in lines]
    assert told[:2] == [["a", "30.0 %", "1.0 %"], ["b", "20.0 %", "5.0 %"]]
    assert [name for name, *_ in told] == [*"abcde", "h (its label)"], "five, and the label that it has"
    assert re.findall(r'style="width:([\d.]+)%"', lines[0][1]) == ["30.0", "1.0"]
    assert "group g1" in text(panel._detail.value)
    alone = ErrorsPanel(panel.mistakes.after)
    assert "How probable now" in alone._detail.value and "How probable before" not in alone._detail.value


def test_test_rows_are_to_be_read_with_care_and_looking_opens_nothing(data):
    assert "decide nothing by them" in ErrorsPanel(answered(data.test, 0, "x")).status.value
    assert "decide nothing by them" not in ErrorsPanel(answered(data.valid, 0, "x")).status.value
    assert [part.opened for part in data.parts] == [0, 0, 0]


def test_of_several_repeats_the_mean_is_shown_and_said(data):
    several = answered(data.valid, 3, "x", repeats=3)
    panel = ErrorsPanel(several)
    assert "Probabilities are the mean of 3 repeats." in text(shown(panel))
    at = panel._at
    top = several.proba.mean(axis=0)[at].max()
    assert f"{100 * top:.1f} %" in text(panel._detail.value)
    assert panel.answer.options[0] == ("every answer", "")


def test_several_labels_work_and_what_sure_means_is_said():
    rows = tiny.rows("valid", 12, seed=0, kind="multiple")
    proba = np.random.default_rng(0).random((1, 12, 3))
    panel = ErrorsPanel(Evaluation(name="x", proba=proba, rows=rows))
    assert "How sure: of the label that is least sure." in text(shown(panel))
    found = panel.mistakes.frame()
    assert [value for _, value in panel.answer.options] == ["", *sorted(set(found["answer"]))]
    panel.answer.value = found["answer"][0]
    assert set(panel.value.ids) == set(found.query("not right")["row"][found["answer"] == found["answer"][0]])
    panel.answer.value, panel.label.value = "", "lung"
    assert set(panel.value.named_labels()) == {"lung"}


def test_ordered_labels_work():
    rows = tiny.rows("valid", 12, seed=0, kind="ordered")
    panel = ErrorsPanel(answered(rows, 0, "x"), answered(rows, 1, "y"))
    panel.view.value = "close calls, the closest first"
    assert len(panel.value) == 12 and len(table_rows(panel)) == ROWS_A_PAGE


def test_why_is_asked_by_a_button_and_told_in_numbers(both, run):
    panel = ErrorsPanel(*both, run)
    assert panel.why is None and "pushes" not in panel._detail.value
    panel.why_button.click()
    panel.wait(30)
    why, answer = panel.why, panel._found["answer"][panel._at]
    assert (why.text, why.label) == (panel.value.texts[0], answer)
    assert why.boxes() in panel._detail.value and text(why.summary()) in text(panel._detail.value)
    assert "rows 1 to 8" in panel.status.value, "the sentence is there again"
    panel.row.value = 1
    assert "pushes" not in panel._detail.value, "it is of another row"
    panel.row.value = 0
    assert why.boxes() in panel._detail.value


def test_it_works_in_a_thread_and_a_row_chosen_meanwhile_comes_next(both, run, monkeypatch):
    go, asked = threading.Event(), []

    def slowly(run, text, label, explain=module.attributions):
        asked.append((text, threading.current_thread() is not threading.main_thread()))
        assert go.wait(30)
        return explain(run, text, label)

    monkeypatch.setattr(module, "attributions", slowly)
    panel = ErrorsPanel(*both, run)
    panel.why_button.click()
    while not asked:
        time.sleep(0.01)
    assert panel.busy and "Working out" in panel.status.value
    panel.row.value = 2
    go.set()
    panel.wait(30)
    assert asked == [(panel.value.texts[0], True), (panel.value.texts[2], True)]
    assert panel.why.text == panel.value.texts[2] and panel.why.boxes() in panel._detail.value


def test_run_blocking_finds_out_once(both, run, monkeypatch):
    calls = []
    find = module.attributions
    monkeypatch.setattr(module, "attributions", lambda *given: calls.append(1) or find(*given))
    panel = ErrorsPanel(*both, run)
    assert panel.run_blocking() is panel.value and panel.run_blocking() is panel.value and calls == [1]
    panel.contains.value = "no such words"
    assert len(panel.run_blocking()) == 0 and calls == [1]
    assert ErrorsPanel(*both).run_blocking().ids, "without a run there is nothing to wait for"


def test_what_goes_wrong_is_shown_and_it_can_be_tried_again(both, run, monkeypatch):
    def broken(*given):
        raise FtkitError("FT001", f"not this time {HOSTILE}")

    panel = ErrorsPanel(*both, run)
    with monkeypatch.context() as patch:
        patch.setattr(module, "attributions", broken)
        panel.why_button.click()
        panel.wait(30)
    assert "not this time" in text(panel.status.value) and "<img" not in panel.status.value
    panel.why_button.click()
    panel.wait(30)
    assert panel.why is not None and "rows 1 to 8" in panel.status.value


def test_without_a_run_nothing_can_be_asked(both):
    panel = ErrorsPanel(*both)
    assert panel.why_button.disabled and "attributions(run" not in panel.code


def test_a_panel_whose_place_was_taken_lets_go_of_the_model(both, run, data):
    old = ErrorsPanel(*both, run)
    other = ErrorsPanel(answered(data.test, 0, "now"), run=run)
    assert old._run is run, "other rows are another place"
    new = ErrorsPanel(*both, run)
    assert old._run is None and old.why_button.disabled and new._run is run is other._run


def test_answers_to_other_rows_are_refused(both, data):
    with pytest.raises(FtkitError, match="FT070"):
        ErrorsPanel(both[0], answered(data.test, 0, "x"))


def test_hostile_text_is_text(base):
    pairs = [(f"{word} {HOSTILE} {i}", word) for word in ("good", HOSTILE) for i in range(20)]
    data = ft.load_data(pairs, name=HOSTILE)
    run = fit(base, data, Plan(train="head", start="probe", epochs=1, keep="last"), on_event=None)
    panel = ErrorsPanel(answered(data.valid, 0, HOSTILE), answered(data.valid, 1, HOSTILE), run)
    panel.view.value = "everything, highest loss first"
    panel.contains.value, panel.label.value = HOSTILE, HOSTILE
    panel.run_blocking()
    assert len(panel.value) > 0 and panel.why is not None
    assert "<img" not in shown(panel) and HOSTILE in html.unescape(panel._table.value)
    assert "<img" not in panel._repr_mimebundle_()["text/html"].replace('<img alt="', "")


def test_a_change_is_quick():
    panel = ErrorsPanel(*(answered(tiny.rows("valid", 5_000, seed=0), seed, "x") for seed in (0, 1)))
    panel.contains.value = "warm"  # the first search prepares the texts
    times = []
    for word in ("h", "he", "hea", "hear", "heart", None, None, None):
        began = time.perf_counter()
        if word:
            panel.contains.value = word
        else:
            panel.later_button.click()
        times.append(time.perf_counter() - began)
    assert "page 4 of" in panel.status.value and statistics.median(times) < 0.1


def test_every_control_has_a_label_and_every_table_a_caption(both, run):
    panel = ErrorsPanel(*both, run)
    controls = (panel.view, panel.label, panel.answer, panel.contains, panel.row, panel.why_button)
    assert [c.description for c in controls] == [
        "Show",
        "Label",
        "Answer",
        "Text contains",
        "Look at row",
        "Why this answer?",
    ]
    assert {"ftkit-errors", "ftkit-rows"} <= set(panel.box._dom_classes)
    assert shown(panel).count("<caption>") == shown(panel).count("<table>") == 3
    assert 'role="status"' in panel.status.value and 'tabindex="0"' in panel._detail.value


def test_without_a_front_end_it_is_what_was_taken_for_what(both):
    bundle = ErrorsPanel(*both)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == repr(Mistakes(after=both[0])) and "What was taken for what" in bundle["text/html"]


def test_who_asked_is_told_of_each_new_value(both):
    panel, heard = ErrorsPanel(*both), []
    panel.on_value(heard.append)
    panel.answer.value = "lung"
    assert [rows.ids for rows in heard] == [panel.value.ids]
