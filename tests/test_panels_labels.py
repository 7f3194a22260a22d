"""The label panel keeps what somebody decides: through filters and pages, another cell run, and another kernel."""

from __future__ import annotations

import html
import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from ipywidgets import HTML
from watching import text

import ftkit as ft
from ftkit.checks.labels import DROP, KEEP, Decisions, LabelIssues, label_issues
from ftkit.data import Splits
from ftkit.findings import FtkitError
from ftkit.widgets.rows import ROWS_A_PAGE
from panels import LabelsPanel

HOSTILE = "<img src=x onerror='document.title=1'>"
UNDECIDED, DECIDED, EVERY = "undecided", "decided", "every train row by quality"
DOUBTFUL = 12


def issues_of(data: Splits) -> LabelIssues:
    """Issues in which every fifth row is doubtful, and the next label is suggested; the first row is the worst."""
    n = len(data.train)
    quality, doubtful = np.linspace(0.5, 0.99, n), np.arange(0, n, max(1, n // DOUBTFUL))[:DOUBTFUL]
    quality[doubtful] = np.linspace(0.01, 0.3, len(doubtful))
    suggested = data.train.labels.copy()
    suggested[doubtful] = (suggested[doubtful] + 1) % data.n_labels
    return LabelIssues(rows=data.train, order=doubtful, suggested=suggested, quality=quality)


@pytest.fixture
def data(request) -> Splits:
    """Splits with a name of their own, so that no test finds the decisions of another one."""
    return replace(tiny.splits(), name=request.node.name)


@pytest.fixture
def panel(data) -> LabelsPanel:
    return LabelsPanel(data, issues_of(data))


def shown(panel: LabelsPanel) -> str:
    """All HTML in a panel."""
    return "\n".join(w.value for w in panel.box.children if isinstance(w, HTML) and w is not panel.style)


def table_rows(panel: LabelsPanel) -> list[str]:
    """The body of the table of rows, a string a row."""
    return [text(row) for row in re.findall(r"<tr.*?</tr>", panel._table.value)][1:]


def told(decisions: Decisions) -> dict[str, str]:
    """What was decided about each row."""
    return dict(zip(decisions.frame()["row"], decisions.frame()["decision"], strict=True))


def doubtful(data: Splits) -> list[str]:
    return list(issues_of(data).ids)


def test_it_starts_with_the_most_doubtful_row_and_nothing_decided(panel, data):
    assert panel.rows.ids == issues_of(data).ids and told(panel.value) == {}
    status = text(panel.status.value)
    assert status.startswith("12 of 60 train rows; rows 1 to 8, page 1 of 2. 0 of 12 doubtful rows are decided.")
    first = data.train.texts[0]
    assert table_rows(panel)[0] == f"1 {first} heart lung 1.0 % undecided" and len(table_rows(panel)) == ROWS_A_PAGE
    seen = text(panel._detail.value)
    assert first in seen and "label heart , suggested lung , quality 1.0 % , decision undecided" in seen
    assert issues_of(data).summary() in text(shown(panel)) and "Quality is how probable" in shown(panel)


def test_each_button_notes_a_decision_and_goes_on(panel, data):
    ids = doubtful(data)
    for button, n in ((panel.keep_button, 1), (panel.take_button, 2), (panel.drop_button, 3)):
        button.click()
        assert panel.rows.ids[panel.row.value] == ids[n]
        assert f"{n} of 12 doubtful rows are decided" in panel.status.value
    suggested = data.label_names[issues_of(data).suggested[5]]
    assert told(panel.value) == {ids[0]: KEEP, ids[1]: suggested, ids[2]: DROP}
    assert [row.split(" % ")[1] for row in table_rows(panel)[:4]] == [KEEP, suggested, DROP, "undecided"]
    assert text(panel._detail.value).startswith(f"The chosen row: id {ids[3]}")


def test_all_can_be_worked_through_by_one_button_to_the_end(panel, data):
    for n in range(DOUBTFUL):
        assert panel.rows.ids[panel.row.value] == doubtful(data)[n], "in their order, over the end of a page"
        panel.keep_button.click()
    assert "12 of 12 doubtful rows are decided" in panel.status.value and "page 2 of 2" in panel.status.value
    assert told(panel.value) == dict.fromkeys(doubtful(data), KEEP)
    panel.drop_button.click()
    assert told(panel.value)[doubtful(data)[-1]] == DROP, "it stays, where nothing is undecided"


def test_going_on_begins_at_the_chosen_row_and_comes_back_to_those_left_out(panel, data):
    ids = doubtful(data)
    panel.later_button.click()
    panel.row.value = 10
    panel.keep_button.click()
    assert panel.row.value == 11
    panel.keep_button.click()
    assert panel.row.value == 0 and "page 1 of 2" in panel.status.value
    assert told(panel.value) == {ids[10]: KEEP, ids[11]: KEEP}


def test_the_undecided_view_empties(panel, data):
    panel.view.value = UNDECIDED
    for left in range(DOUBTFUL, 0, -1):
        assert len(panel.rows) == left
        panel.take_button.click()
    assert len(panel.rows) == 0 and panel.row.disabled and panel._detail.value == ""
    assert told(panel.value).keys() == set(doubtful(data))
    before = panel.value
    for button in (panel.keep_button, panel.take_button, panel.drop_button):
        button.click()
    assert panel.value is before and "wrong" not in panel.status.value


def test_a_row_in_the_middle_of_the_undecided_view_gives_way_to_the_next(panel, data):
    panel.view.value = UNDECIDED
    panel.row.value = 4
    panel.drop_button.click()
    ids = doubtful(data)
    assert panel.rows.ids[panel.row.value] == ids[5] and ids[4] not in panel.rows.ids


def test_the_list_offers_the_suggestion_first_and_shows_what_was_decided(panel, data):
    ids = doubtful(data)
    assert panel.decision.options == (
        ("undecided", ""),
        ("keep: heart", KEEP),
        ("drop the row", DROP),
        *((name, name) for name in ("lung", "heart", "bone")),
    )
    assert panel.decision.value == ""
    panel.decision.value = "bone"
    assert told(panel.value) == {ids[0]: "bone"} and panel.rows.ids[panel.row.value] == ids[1]
    panel.row.value = 0
    assert panel.decision.value == "bone" and told(panel.value) == {ids[0]: "bone"}, "looking decides nothing"
    panel.decision.value = "heart"
    assert told(panel.value) == {ids[0]: KEEP}, "the label that it has"


def test_a_decision_can_be_taken_back(panel, data):
    panel.drop_button.click()
    panel.keep_button.click()
    panel.view.value = DECIDED
    assert panel.rows.ids == tuple(doubtful(data)[:2]) and panel.decision.value == DROP
    panel.row.value = 1
    panel.decision.value = ""
    assert told(panel.value) == {doubtful(data)[0]: DROP} and panel.rows.ids == (doubtful(data)[0],)
    assert panel.row.value == 0 and panel.decision.value == DROP and "of 12 doubtful" in panel.status.value
    panel.view.value = "all doubtful rows"
    panel.decision.value = ""
    assert told(panel.value) == {} and panel.row.value == 0, "it is here to be decided again"


def test_every_row_can_be_decided_not_only_the_doubtful(panel, data):
    panel.view.value = EVERY
    assert len(panel.rows) == 60 and panel.rows.ids[:DOUBTFUL] == tuple(doubtful(data))
    panel.contains.value, panel.label.value = "train7", "lung"
    assert panel.rows.ids == ("train-7",)
    panel.decision.value = DROP
    assert told(panel.value) == {"train-7": DROP} and "0 of 12 doubtful" in panel.status.value
    panel.contains.value, panel.label.value, panel.view.value = "", "", DECIDED
    assert panel.rows.ids == ("train-7",)


def test_decisions_survive_filters_pages_and_views(panel, data):
    panel.drop_button.click()
    for view in panel.view.options:
        panel.view.value = view
    panel.label.value = "lung"
    assert {row.split(" % ")[0].split()[-2] for row in table_rows(panel)} <= {"lung", "heart", "bone"}
    panel.label.value, panel.view.value = "", "all doubtful rows"
    panel.later_button.click()
    assert told(panel.value) == {doubtful(data)[0]: DROP}


def test_without_a_file_they_outlive_the_cell(panel, data):
    panel.drop_button.click()
    again = LabelsPanel(data, issues_of(data))
    assert told(again.value) == {doubtful(data)[0]: DROP} and "1 of 12" in again.status.value
    other = LabelsPanel(replace(data, name="other data"), issues_of(data))
    assert told(other.value) == {}


def test_each_mark_is_in_the_file_at_once(data, tmp_path):
    panel = LabelsPanel(data, issues_of(data), marks=tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists(), "nothing was decided"
    for n, button in enumerate((panel.keep_button, panel.take_button, panel.drop_button), 1):
        button.click()
        assert told(Decisions.read(tmp_path / "m.csv")) == told(panel.value) and len(panel.value.frame()) == n
    assert [p.name for p in tmp_path.iterdir()] == ["m.csv"]


HERE = Path(__file__).parent
ANOTHER_KERNEL = """
import sys, dataclasses
sys.path[:0] = {paths!r}
import tiny
from test_panels_labels import issues_of, told
from panels import LabelsPanel

data = tiny.splits()
ids = tuple(f"other {{i}}" for i in range(60))
data = dataclasses.replace(data, train=dataclasses.replace(data.train, ids=ids))
panel = LabelsPanel(data, issues_of(data), marks=sys.argv[1])
print(len(panel.value.frame()), panel.status.value)
panel.view.value = "undecided"
print(len(panel.rows), panel.rows.ids[0])
panel.contains.value = "train15"
panel.take_button.click()
print(told(panel.value)["other 15"])
"""


def test_a_kernel_that_begins_anew_and_another_filter_find_them_again(data, tmp_path):
    marks = tmp_path / "m.csv"
    panel = LabelsPanel(data, issues_of(data), marks=marks)
    panel.drop_button.click()
    panel.keep_button.click()
    code = ANOTHER_KERNEL.format(paths=[str(HERE), str(HERE.parent / "notebooks"), str(HERE.parent)])
    seen = subprocess.check_output([sys.executable, "-c", code, marks], text=True).splitlines()
    assert seen[0].startswith("2 ") and "2 of 12 doubtful rows are decided" in seen[0]
    assert seen[1] == "10 other 10" and seen[2] == "lung", "by their texts: the ids are others there"
    again = LabelsPanel(data, issues_of(data), marks=marks)
    again.contains.value = "heart"
    again.view.value = DECIDED
    assert set(told(again.value).values()) == {DROP, KEEP, "lung"} and len(again.value.frame()) == 3
    panel.keep_button.click()
    assert len(panel.value.frame()) == 4, "the earlier panel does not write over what came later"


def test_what_somebody_writes_into_the_file_meanwhile_is_taken_up(data, tmp_path):
    marks = tmp_path / "m.csv"
    panel = LabelsPanel(data, issues_of(data), marks=marks)
    panel.drop_button.click()
    marks.write_text(marks.read_text(encoding="utf-8-sig").replace(DROP, "bone"), encoding="utf-8")
    panel.keep_button.click()
    ids = doubtful(data)
    assert told(panel.value) == {ids[0]: "bone", ids[1]: KEEP} == told(Decisions.read(marks))


def test_a_damaged_file_is_told_and_kept(data, tmp_path):
    marks = tmp_path / "m.csv"
    panel = LabelsPanel(data, issues_of(data), marks=marks)
    panel.drop_button.click()
    broken = marks.read_bytes()[:-9]
    marks.write_bytes(broken)
    panel.keep_button.click()
    assert "FT007" in panel.status.value and marks.read_bytes() == broken
    assert told(panel.value) == {doubtful(data)[0]: DROP}, "what could not be kept is not shown as kept"
    with pytest.raises(FtkitError, match="FT007"):
        LabelsPanel(data, issues_of(data), marks=marks)
    assert marks.read_bytes() == broken


def test_an_unknown_label_in_the_file_names_its_row(data, tmp_path):
    marks = tmp_path / "m.csv"
    LabelsPanel(data, issues_of(data), marks=marks).take_button.click()
    marks.write_text(marks.read_text(encoding="utf-8-sig").replace(",lung,", ",lnug,"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"row 'train-0' .*did you mean 'lung'"):
        LabelsPanel(data, issues_of(data), marks=marks)


def test_the_code_it_shows_mends_the_labels_as_decided(data, tmp_path):
    fewer = partial(ft.cross_validate, k=2, repeats=1)
    small = SimpleNamespace(probe=ft.probe, compare=ft.compare, cross_validate=fewer)
    for marks in (None, tmp_path / "it's.csv"):
        panel = LabelsPanel(data, issues_of(data), marks)
        for _ in range(2 if marks else 0):
            panel.take_button.click()
        panel.view.value = EVERY
        for button in (panel.drop_button, panel.take_button, panel.keep_button):
            button.click()
        assert html.unescape(re.search(r"<code>(.*)</code>", panel.shown_code.value, re.DOTALL)[1]) == panel.code
        assert ("Decisions.read(" in panel.code) == (marks is not None)
        names = {"data": data, "base": tiny.base(), "ft": small}
        *lines, last = panel.code.splitlines()
        exec("\n".join(lines), names)
        expected = panel.value.mended(data)
        assert names["mended"].fingerprint() == expected.fingerprint() != data.fingerprint()
        assert names["mended"].valid is data.valid and names["mended"].test is data.test
        assert last == "ft.compare(*ft.cross_validate(makers, data).values())"
    judged = eval(last, names)
    assert judged.before.name == "labels as they are" and len(judged.after.rows) == 120


def test_before_anything_is_decided_the_code_runs_too(panel, data, tmp_path):
    for fresh in (panel, LabelsPanel(data, issues_of(data), marks=tmp_path / "none.csv")):
        names = {"data": data}
        exec("\n".join(fresh.code.splitlines()[:3]), names)
        assert names["mended"].fingerprint() == data.fingerprint()


def test_several_labels_a_row_are_refused_by_the_same_error(data):
    several = tiny.splits(kind="multiple")
    with pytest.raises(ValueError, match="several labels a row") as own:
        LabelsPanel(several, None)
    with pytest.raises(ValueError, match="several labels a row") as theirs:
        label_issues(tiny.base(), several)
    assert str(own.value).split(";")[0] == str(theirs.value).split(";")[0]


def test_issues_of_other_rows_are_refused(data):
    with pytest.raises(ValueError, match="that of other rows"):
        LabelsPanel(data.limit(5), issues_of(data))


def test_ordered_labels_work(data):
    graded = tiny.splits(kind="ordered")
    panel = LabelsPanel(replace(graded, name=data.name), issues_of(graded))
    panel.take_button.click()
    assert list(told(panel.value).values()) == ["lung"]


def test_a_refused_panel_does_not_take_the_place_of_one_that_works(panel, data, tmp_path):
    (tmp_path / "m.csv").write_text("text,label\n")
    retired = []
    panel.retire = lambda: retired.append(1)
    with pytest.raises(FtkitError):
        LabelsPanel(data, issues_of(data), marks=tmp_path / "m.csv")
    assert retired == []
    LabelsPanel(data, issues_of(data))
    assert retired == [1]


def test_hostile_text_is_text(tmp_path):
    pairs = [(f"{word} {HOSTILE} {i}", word) for word in ("good", HOSTILE) for i in range(20)]
    data = ft.load_data(pairs, name=HOSTILE)
    panel = LabelsPanel(data, issues_of(data), marks=tmp_path / "<img src=x>.csv")
    panel.take_button.click()
    panel.contains.value, panel.view.value = HOSTILE, EVERY
    assert len(panel.rows) > 0 and "<img" not in shown(panel) and HOSTILE in html.unescape(panel._table.value)
    assert "<img" not in panel._repr_mimebundle_()["text/html"]


def test_a_change_is_quick(tmp_path):
    data = replace(tiny.splits(n_train=5_000), name="quick")
    panel = LabelsPanel(data, issues_of(data), marks=tmp_path / "m.csv")
    panel.view.value = EVERY
    panel.contains.value = "warm"  # the first search prepares the texts
    panel.contains.value = ""
    times = []
    for act in [panel.keep_button.click, panel.drop_button.click, panel.later_button.click] * 4:
        began = time.perf_counter()
        act()
        times.append(time.perf_counter() - began)
    assert statistics.median(times) < 0.1 and len(panel.value.frame()) == 8


def test_every_control_has_a_label_and_every_table_a_caption(panel):
    controls = (panel.view, panel.label, panel.contains, panel.row, panel.decision)
    assert [c.description for c in controls] == ["Show", "Label", "Text contains", "Look at row", "Decision"]
    buttons = (panel.keep_button, panel.take_button, panel.drop_button)
    assert [b.description for b in buttons] == ["Keep", "Take the suggestion", "Drop"]
    assert {"ftkit-labels", "ftkit-rows"} <= set(panel.box._dom_classes)
    assert shown(panel).count("<caption>") == shown(panel).count("<table>") == 1
    assert 'role="status"' in panel._detail.value, "whoever stays on a button hears the next row"
    panel.keep_button.click()
    assert not any(b.disabled for b in buttons), "a disabled button would lose the focus"


def test_without_a_front_end_it_is_what_was_decided(panel):
    panel.drop_button.click()
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == repr(panel.value) and "Decided: 0 to keep, 1 to drop" in bundle["text/html"]
    assert panel.run_blocking() is panel.value


def test_who_asked_is_told_of_each_decision(panel):
    heard = []
    panel.on_value(heard.append)
    panel.drop_button.click()
    panel.decision.value = "bone"
    assert [len(decisions.frame()) for decisions in heard] == [1, 2]
