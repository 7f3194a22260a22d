"""The data panel shows the rows it was asked for, all of them as text, and what a model reads of each."""

from __future__ import annotations

import html
import re
import statistics
import time

import pytest
import tiny
from watching import text

from ftkit.data import Rows, Splits, load_data
from ftkit.findings import FtkitError
from ftkit.pretrained import tokens
from ftkit.widgets import DataPanel
from ftkit.widgets import data as module
from ftkit.widgets.data import MOST_CHARACTERS, ROWS_A_PAGE, excerpt, n_tokens, told_tokens

HOSTILE = "<img src=x onerror='document.title=1'>"


@pytest.fixture(scope="module")
def copied():
    """Splits in which a train row and a test row are nearly the same, with different labels, and nothing else is."""
    near = "the left heart valve was found to be open at night"
    texts = {"train": (near, "lung of a bird"), "valid": ("airway and breath",), "test": (near + "s", "broken bone")}
    parts = {
        name: Rows(name=name, texts=t, labels=[(name == "test") + 0, *[1] * (len(t) - 1)], label_names=("no", "yes"))
        for name, t in texts.items()
    }
    return Splits(name="copied", **parts)


def shown(panel: DataPanel) -> str:
    """All that the panel shows besides its controls."""
    parts = (panel.status, panel._table, panel._detail, panel._splits, panel.shown_code)
    return "\n".join(part.value for part in parts)


def table_rows(panel: DataPanel) -> list[str]:
    """The body of the table of rows, a string a row."""
    return [text(row) for row in re.findall(r"<tr.*?</tr>", panel._table.value)][1:]


def test_it_starts_with_all_of_train(data):
    panel = DataPanel(data)
    assert panel.value is data.train and panel.code == "rows = data.train"
    assert [c.label for c in (panel.label, panel.twin_in)] == ["every label", "any split, or none"], "not left blank"
    assert text(panel.status.value) == f"All 60 train rows; rows 1 to {ROWS_A_PAGE}, page 1 of 8."
    assert [row.split()[0] for row in table_rows(panel)] == [str(i + 1) for i in range(ROWS_A_PAGE)]


def test_its_value_is_what_the_filter_lets_pass(data):
    panel = DataPanel(data)
    panel.split.value, panel.label.value, panel.contains.value = "valid", "lung", "BREATH"
    expected = data.valid.where(label="lung", contains="breath")
    assert 0 < len(expected) < len(data.valid.where(label="lung"))
    assert (panel.value.name, panel.value.ids) == ("valid", expected.ids)
    assert text(panel.status.value).startswith(f"{len(expected)} of 30 valid rows; rows 1 to ")
    for row, written, label in zip(table_rows(panel), expected.texts, expected.named_labels(), strict=False):
        assert written in " ".join(row.split()) and label in row
    sizes = {n: len(getattr(data, n).where(label="lung", contains="breath")) for n in ("train", "valid", "test")}
    assert f"rows that pass the filter {sizes['train']} {sizes['valid']} {sizes['test']}" in text(panel._splits.value)


def test_who_asked_is_told_of_each_new_value(data):
    panel, heard = DataPanel(data), []
    panel.on_value(heard.append)
    panel.label.value = "lung"
    assert [rows.ids for rows in heard] == [panel.value.ids]


@pytest.mark.parametrize("contains", ["", "heart", "it's <b>", "no such words"])
@pytest.mark.parametrize("label", ["", "bone"])
def test_the_code_it_shows_gives_its_rows(data, base, contains, label):
    panel = DataPanel(data, base)
    panel.label.value, panel.contains.value = label, contains
    assert html.unescape(re.search(r"<code>(.*)</code>", panel.shown_code.value, re.DOTALL)[1]) == panel.code
    names = {"data": data, "base": base}
    exec(panel.code, names)
    assert names["rows"].ids == panel.value.ids


def test_the_code_finds_the_same_near_duplicates(copied):
    panel = DataPanel(copied)
    panel.run_blocking()
    names = {"data": copied}
    *lines, last = panel.code.splitlines()
    exec("\n".join(lines), names)
    assert (names["found"].pairs == panel.duplicates.pairs).all()
    assert list(eval(last, names)["Text"]) == [copied.test.texts[0]]


def test_rows_with_a_twin_elsewhere_can_be_asked_for(copied):
    panel = DataPanel(copied)
    assert panel.twin_in.disabled, "there is nothing to ask for yet"
    panel.run_blocking()
    assert not panel.twin_in.disabled and len(panel.value) == 2
    panel.twin_in.value = "test"
    assert panel.value.ids == ("train-0",) and "1 of 2 train rows" in text(panel.status.value)
    assert "rows that pass the filter 1 0 0" in text(panel._splits.value)
    names = {"data": copied}
    exec(panel.code, names)
    assert names["rows"].ids == panel.value.ids
    panel.contains.value = "lung"
    assert len(panel.value) == 0


def test_pages_go_forth_and_back_and_end_where_the_rows_end(data):
    panel = DataPanel(data)
    assert panel.earlier_button.disabled and not panel.later_button.disabled
    seen = []
    while True:
        seen += [row.split()[0] for row in table_rows(panel)]
        if panel.later_button.disabled:
            break
        panel.later_button.click()
    assert seen == [str(i + 1) for i in range(60)], "every row once"
    assert "rows 57 to 60, page 8 of 8" in panel.status.value
    panel.earlier_button.click()
    assert "page 7 of 8" in panel.status.value and table_rows(panel)[0].startswith("49 ")
    panel.contains.value = "heart"
    assert "page 1 of" in panel.status.value, "another filter starts from its first page"


def test_no_row_is_told_and_a_later_filter_finds_rows_again(data, base):
    panel = DataPanel(data, base)
    panel.contains.value = "not in any text"
    assert len(panel.value) == 0 and table_rows(panel) == [] and panel._detail.value == ""
    assert text(panel.status.value) == "0 of 60 train rows."
    assert panel.row.disabled and panel.earlier_button.disabled and panel.later_button.disabled
    panel.contains.value = ""
    assert len(table_rows(panel)) == ROWS_A_PAGE and not panel.row.disabled
    assert data.train.texts[0] in text(panel._detail.value)


def test_a_chosen_row_is_shown_whole(data):
    panel = DataPanel(data)
    panel.later_button.click()
    panel.row.value = ROWS_A_PAGE + 2
    seen = text(panel._detail.value)
    assert data.train.texts[ROWS_A_PAGE + 2] in seen and data.train.ids[ROWS_A_PAGE + 2] in seen
    assert len(re.findall(r'<tr class="chosen">', panel._table.value)) == 1
    assert table_rows(panel)[2] == text(re.search(r'<tr class="chosen">.*?</tr>', panel._table.value)[0])


def test_a_group_is_named():
    panel = DataPanel(tiny.splits(grouped=True))
    assert "group train-0" in text(panel._detail.value)


def test_multiple_labels_are_all_shown_and_each_can_be_asked_for():
    labels = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    parts = {
        n: Rows(name=n, texts=[f"{n} {i}" for i in range(3)], labels=labels, label_names="abc", kind="multiple")
        for n in ("train", "valid", "test")
    }
    panel = DataPanel(Splits(name="several", **parts))
    panel.label.value = "b"
    assert panel.value.texts == ("train 0", "train 1")
    assert "a; b" in table_rows(panel)[0]


def test_tokens_are_those_of_the_model_and_the_cut_ones_are_said_in_words(base):
    long = " ".join(["heart"] * 40)
    data = load_data([(f"{long} {i}" if i % 2 else f"lung {i}", "ab"[i % 2]) for i in range(40)], name="long")
    panel = DataPanel(data, base)
    panel.label.value = "b"
    (pieces,) = tokens(base, panel.value.texts[:1]).pieces
    n_cut = sum(p.cut for p in pieces)
    assert n_cut == len(pieces) - base.max_tokens > 0
    seen = text(panel._detail.value)
    assert f"{len(pieces)} tokens; bert reads up to 32, so {n_cut} of them" in seen and "are cut" in seen
    assert panel._detail.value.count("line-through") == n_cut
    assert table_rows(panel)[0].endswith(f"{len(pieces)}, cut")
    panel.label.value = "a"
    assert "so all of it" in text(panel._detail.value) and not table_rows(panel)[0].endswith("cut")


def test_a_very_long_text_does_not_hold_up_the_panel(base):
    huge = "heart lung " * 50_000
    assert n_tokens(base, huge) == f"{len(tokens(base, [huge[:MOST_CHARACTERS]]).pieces[0]):,} or more, cut"
    assert len(told_tokens(base, huge)) < 60_000
    assert len(excerpt(huge, "lung")) < 300


@pytest.mark.parametrize("place", [0, 60, 1000, 5000])
def test_an_excerpt_shows_what_was_looked_for_wherever_it_is(place):
    words = ["word"] * 6000
    words[place] = "NEEDLE"
    seen = excerpt(" ".join(words[: place + 300]), "needle")
    assert "<mark>NEEDLE</mark>" in seen and len(text(seen)) < 200
    assert seen.startswith("…") == (place > 30)


def test_near_duplicates_are_found_once_and_say_where_they_stand(copied, monkeypatch):
    panel = DataPanel(copied)
    calls = []
    monkeypatch.setattr(
        module, "near_duplicates", lambda data, find=module.near_duplicates: calls.append(1) or find(data)
    )
    assert panel.duplicates is None
    panel.duplicates_button.click()
    panel.wait(30)
    assert panel.run_blocking() is panel.value and calls == [1]
    assert panel.duplicates_button.disabled
    assert "1 pairs of texts" in text(panel.status.value)
    seen = text(panel._detail.value)
    assert "Near-duplicates of this row" in seen and copied.test.texts[0] in seen
    assert "yes (another label)" in seen and "test (another split)" in seen
    assert "rows with a near-duplicate in another split 1 0 1" in text(panel._splits.value)
    panel.row.value = 1
    assert "No near-duplicate of this row (similarity 0.8 or more)." in text(panel._detail.value)


def test_what_goes_wrong_in_the_search_is_shown_and_it_can_be_tried_again(data, monkeypatch):
    def broken(data):
        raise FtkitError("FT001", f"not this time {HOSTILE}")

    panel = DataPanel(data)
    monkeypatch.setattr(module, "near_duplicates", broken)
    panel.duplicates_button.click()
    panel.wait(30)
    assert "not this time" in text(panel.status.value) and "<img" not in panel.status.value
    assert not panel.duplicates_button.disabled


def test_hostile_text_is_text(base):
    pairs = [(f"{word} {HOSTILE} {i}", word) for word in ("good", HOSTILE) for i in range(20)]
    panel = DataPanel(load_data(pairs, name=HOSTILE), base)
    panel.contains.value, panel.label.value = HOSTILE, HOSTILE
    panel.run_blocking()
    assert len(panel.value) > 0
    assert "<img" not in shown(panel) and HOSTILE in html.unescape(panel._table.value)
    assert "<img" not in panel._repr_mimebundle_()["text/html"].replace('<img alt="', "")


def test_looking_opens_nothing(data):
    panel = DataPanel(data)
    panel.split.value = "test"
    assert "decide nothing by them" in panel.status.value
    panel.run_blocking()
    assert [part.opened for part in data.parts] == [0, 0, 0]


def test_a_change_is_quick(base):
    data = tiny.splits(n_train=5_000, n_valid=500, n_test=500)
    panel = DataPanel(data, base)
    panel.contains.value = "warm"  # the first search prepares the texts

    times = []
    for word in ("h", "he", "hea", "hear", "heart", None, None, None):
        began = time.perf_counter()
        if word:
            panel.contains.value = word
        else:
            panel.later_button.click()
        times.append(time.perf_counter() - began)
    assert "page 4 of" in panel.status.value
    assert statistics.median(times) < 0.1


def test_every_control_has_a_label_and_the_sentence_is_announced(data, base):
    panel = DataPanel(data, base)
    controls = (panel.split, panel.label, panel.contains, panel.twin_in, panel.row)
    assert [c.description for c in controls] == [
        "Split",
        "Label",
        "Text contains",
        "Near-duplicate in",
        "Look at row",
    ]
    buttons = (panel.earlier_button, panel.later_button, panel.duplicates_button)
    assert [b.description for b in buttons] == ["Previous page", "Next page", "Find near-duplicates"]
    assert 'role="status" aria-live="polite"' in panel.status.value
    assert "ftkit-data" in panel.box._dom_classes
    assert shown(panel).count("<caption>") == shown(panel).count("<table>")


def test_without_a_front_end_it_is_a_table(data):
    panel = DataPanel(data)
    panel.label.value = "heart"
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == repr(panel.value)
    assert panel.value.summary() in text(bundle["text/html"])


@pytest.mark.slow
@pytest.mark.needs_assets("minilm", "icd10cm")
def test_the_diagnoses_with_a_real_model():
    from ftkit.pretrained import load_pretrained

    panel = DataPanel(load_data("health/diagnoses"), load_pretrained("minilm", max_tokens=32))
    panel.contains.value = "leishmaniasis"
    panel.run_blocking()
    assert 0 < len(panel.value) < 200
    assert "##" in text(panel._detail.value), "a medical word breaks into pieces"
