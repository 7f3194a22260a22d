"""The columns panel: a file and its columns become splits, by the same call that it shows."""

from __future__ import annotations

import datetime

import pandas as pd
import pytest

import ftkit as ft
from ftkit.data import load_data
from panels import ColumnsPanel

HOSTILE = "<img src=x onerror='document.title=1'>"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A spreadsheet whose columns have no usual names, and one of them a blank too many."""
    monkeypatch.chdir(tmp_path)
    rows = [(f"{word} thing {i}", word, f"p{i % 10}", i % 3) for word in ("good", HOSTILE) for i in range(30)]
    frame = pd.DataFrame(rows, columns=["Words", "Said ", "who", "how"])
    frame.to_csv("mine.csv", sep=";", index=False, encoding="utf-8-sig")
    return "mine.csv"


def run(code: str):
    """Run what the panel shows, and return the splits that it makes."""
    scope = {"ft": ft}
    exec(code, scope)
    return scope["data"]


def uploaded(name: str, content: bytes) -> list[dict]:
    now = datetime.datetime.now(tz=datetime.UTC)
    return [
        {"name": name, "type": "text/csv", "size": len(content), "content": memoryview(content), "last_modified": now}
    ]


def test_without_a_file_it_asks_for_one() -> None:
    panel = ColumnsPanel()
    assert panel.value is None and "upload one" in panel.status.value
    with pytest.raises(ft.FtkitError, match="FT003"):
        panel.run_blocking()
    assert "No rows" in panel.static.summary() and panel._read.value == ""


def test_columns_are_offered_by_their_tidy_names_and_become_splits(file) -> None:
    panel, heard = ColumnsPanel(file), []
    panel.on_value(heard.append)
    assert panel.value is None and "FT008" in panel.status.value, "no column is named like a text"
    assert [name for name, _ in panel.columns["text"].options[1:]] == ["Words", "Said", "who", "how"]
    panel.columns["text"].value = "Words"
    assert panel.value is None and "FT008" in panel.status.value and heard == []
    panel.columns["label"].value = "Said"
    assert panel.value.label_names == (HOSTILE, "good") and heard == [panel.value]
    assert panel.code == "file = 'mine.csv'\ndata = ft.load_data(file, text='Words', label='Said')"
    assert run(panel.code).fingerprint() == panel.value.fingerprint()
    assert "FT006" in panel._read.value, "what was mended is told"
    panel.columns["group"].value = "who"
    assert panel.value.train.groups and "group='who'" in panel.code
    assert run(panel.code).fingerprint() == panel.value.fingerprint()


def test_a_file_that_cannot_be_read_leaves_nothing_from_before(file) -> None:
    panel = ColumnsPanel(file, text="Words", label="Said")
    assert panel.value is not None
    assert panel.run_blocking() is panel.value
    panel.path.value = "mime.csv"
    with pytest.raises(ft.FtkitError, match=r"FT001.*mine\.csv"):
        panel.run_blocking()
    assert panel.value is None and panel._read.value == panel._rows.value == ""
    assert "FT001" in panel.status.value and "mine.csv" in panel.status.value
    panel.path.value = file
    assert panel.value is not None and panel.columns["text"].value == "Words", "where the controls started"


def test_kinds_of_labels(file) -> None:
    panel = ColumnsPanel(file, text="Words", label="how")
    assert panel.order.disabled
    panel.kind.value = "ordered"
    assert (panel.value.kind, panel.value.label_names) == ("ordered", ("0", "1", "2")) and not panel.order.disabled
    panel.order.value = "2, 0 ,1"
    assert panel.value.label_names == ("2", "0", "1")
    assert run(panel.code).fingerprint() == panel.value.fingerprint()
    panel.order.value = "2, 0"
    assert panel.value is None and "FT022" in panel.status.value
    panel.kind.value = "multiple"
    assert panel.value.kind == "multiple" and "order" not in panel.code
    again = ColumnsPanel(file, text="Words", label="how", kind="ordered", order=("2", "0", "1"))
    assert again.value.label_names == ("2", "0", "1")


def test_what_is_in_the_file_is_shown_as_text(file) -> None:
    panel = ColumnsPanel(file, text="Words", label="Said")
    shown = panel._rows.value + panel._read.value + panel.shown_code.value
    assert "<img" not in shown and "&lt;img" in shown
    assert "Words (text)" in panel._rows.value and "Said (label)" in panel._rows.value


def test_many_columns_are_not_all_shown(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    columns = {"text": [f"t{i}" for i in range(20)], "label": list("ab") * 10}
    pd.DataFrame(columns | {f"c{i}": range(20) for i in range(9)}).to_csv("wide.csv", index=False)
    panel = ColumnsPanel("wide.csv")
    assert panel.value is not None and "; 5 more columns" in panel._rows.value
    assert "c8" in dict(panel.columns["group"].options), "but all are offered"


def test_a_table_and_settings_without_a_control_are_kept(file) -> None:
    table = pd.read_csv(file, sep=";")
    panel = ColumnsPanel(table, text="Words", label="who", name="mine", seed=3)
    expected = load_data(table, text="Words", label="who", name="mine", seed=3)
    assert panel.value.fingerprint() == expected.fingerprint() and panel.value.name == "mine"
    assert "seed=3" in panel.code and "..." in panel.code
    panel.path.value = file
    assert panel.source == file and panel.value is not None
    panel.path.value = ""
    assert panel.source is table


@pytest.mark.parametrize("name", ["mine.csv", "../mine.csv", "..\\..\\mine.csv", "/etc/mine.csv", "...mine.csv"])
def test_an_upload_stays_in_its_folder_and_replaces_nothing(file, tmp_path, name) -> None:
    before = (tmp_path / file).read_bytes()
    content = b"text,label\n" + b"".join(b"a %d,x\nb %d,y\n" % (i, i) for i in range(20))
    (tmp_path / "inside").mkdir()
    panel = ColumnsPanel(folder=tmp_path / "inside")
    panel.upload.value = uploaded(name, content)
    assert panel.value.label_names == ("x", "y") and panel.path.value.endswith("mine.csv")
    panel.upload.value = uploaded(name, content.replace(b",x", b",z"))
    assert panel.value.label_names == ("y", "z") and panel.path.value.endswith("mine-2.csv")
    assert sorted(p.name for p in (tmp_path / "inside").iterdir()) == ["mine-2.csv", "mine.csv"]
    assert (tmp_path / file).read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_an_upload_without_a_name_and_one_that_is_no_table(tmp_path) -> None:
    panel = ColumnsPanel(folder=tmp_path)
    panel.upload.value = uploaded("..", b"")
    assert panel.value is None and "FT002" in panel.status.value
    assert [p.name for p in tmp_path.iterdir()] == ["uploaded.csv"]


def test_filling_the_lists_reads_the_file_once(file, monkeypatch) -> None:
    from panels import columns

    calls = []
    monkeypatch.setattr(columns, "load_data", lambda *a, **k: calls.append(k) or load_data(*a, **k))
    panel = ColumnsPanel(file, text="Words", label="Said")
    assert len(calls) == 1
    panel.columns["group"].value = "who"
    assert len(calls) == 2
