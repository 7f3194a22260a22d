"""A lesson runs whole, in this Python, and leaves a page that any machine can show."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import lessons
from ftkit.findings import FtkitError

#: What the first lesson leaves in its kernel, as small as it can be.
STAND_INS = """
from types import SimpleNamespace as Thing
class Score(Thing):
    def interval(self, metric): return (self.accuracy - 0.1, self.accuracy + 0.1)
def score(name, accuracy): return Score(name=name, accuracy=accuracy, macro_f1=accuracy / 2)
zero, tfidf, probe, tuned = score("Zero-shot", 0.25), score("TF-IDF", 0.5), score("Probe", 0.625), score("Tuned", 0.75)
data = Thing(train=range(80), test=range(40))
plan, run = Thing(seed=3), Thing(train_s=1.5)
verdict = Thing(summary=lambda: "Tuning helped.")
"""


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    parameters = new_code_cell("n = 5  # rows\nname = 'five'", metadata={"tags": ["parameters"]})
    math = new_markdown_cell("# Begin $x^2$\n\n```mermaid\ngraph TD; A-->B\n```")
    shown = new_code_cell("import sys\nfrom pathlib import Path\nprint(n, name, sys.executable, Path.cwd())")
    path = tmp_path / "course" / "00_toy.ipynb"
    lessons.write(new_notebook(cells=[math, parameters, shown]), path)
    return path


def printed(notebook: dict) -> str:
    return "".join(o.text for c in notebook.cells if c.cell_type == "code" for o in c.outputs if o.name == "stdout")


def test_a_lesson_runs_in_this_python_and_in_its_folder_with_other_parameters(lesson: Path) -> None:
    given = lessons.read(lesson)
    ran = lessons.execute(given, folder=lesson.parent, parameters={"n": 2}, then="print('unseen', n)")
    assert printed(ran).split() == ["2", "five", sys.executable, str(lesson.parent)]
    assert given == lessons.read(lesson), "what was given is not changed"


def test_a_failing_cell_stops_the_lesson_and_shows_its_traceback(lesson: Path) -> None:
    notebook = lessons.read(lesson)
    notebook.cells.append(new_code_cell("1 / 0"))
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        lessons.execute(notebook, folder=lesson.parent)


@pytest.mark.parametrize(
    ("source", "values", "expected"),
    [
        ("a = 1\nb = 2  # two", {"b": 0.5}, {"a": 1, "b": 0.5}),
        ("a = (\n    1,\n    2,\n)  # sizes\nb = 3", {"a": (1,), "b": "é"}, {"a": (1,), "b": "é"}),
        ("é = 'ü'; a = 1  # both", {"a": 2}, {"é": "ü", "a": 2}),
        ("a, b = 1, 2", {}, {"a": 1, "b": 2}),
    ],
)
def test_parameters_are_replaced_and_what_was_written_stays(source: str, values: dict, expected: dict) -> None:
    changed, found = lessons.with_parameters(source, values), {}
    exec(changed, {}, found)
    assert found == expected
    assert changed.startswith(source)


def test_an_unknown_parameter_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"assigns \['a'\], not \['b'\]"):
        lessons.with_parameters("a = 1", {"b": 2})


def test_normalised_keeps_what_a_reader_sees_and_nothing_else() -> None:
    shown = {"text/plain": "a slider", lessons._WIDGET: {"model_id": "x"}}
    cell = new_code_cell("panel", execution_count=7, metadata={"execution": {"iopub.status.busy": "now"}})
    cell.outputs = [new_output("execute_result", shown, execution_count=7), new_output("stream", text="hello")]
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}, "ftkit": {"modules": ["plan"]}})
    clean = lessons.normalised(notebook)
    assert clean.metadata == {"ftkit": {"modules": ["plan"]}}
    assert clean.cells[0].id == cell.id
    assert clean.cells[0].execution_count is None and not clean.cells[0].metadata
    assert clean.cells[0].outputs[0] == {
        "output_type": "execute_result",
        "data": {"text/plain": "a slider"},
        "metadata": {},
        "execution_count": None,
    }
    assert clean.cells[0].outputs[1].text == "hello"
    assert lessons.normalised(clean) == clean
    assert cell.execution_count == 7, "what was given is not changed"


def test_a_page_loads_nothing_from_anywhere(lesson: Path, tmp_path: Path) -> None:
    lessons.page(lessons.read(lesson), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Begin" in text
    loads = re.findall(r"""<script|(?:src|href)\s*=\s*["']?(?:https?:)?//|url\(["']?(?:https?:)?//|@import""", text)
    assert loads == []


def test_a_tour_writes_what_happened_and_tells_it(lesson: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    notebook = lessons.read(lesson)
    notebook.cells.append(new_code_cell(STAND_INS))
    lessons.write(notebook, lesson)
    build = tmp_path / "build"
    lessons.tour(lesson, build)
    figures = json.loads((build / "tour.json").read_text(encoding="utf-8"))
    expected = {"accuracy_before": 0.25, "accuracy_tfidf": 0.5, "accuracy_probe": 0.625, "accuracy_after": 0.75}
    expected |= {"macro_f1_before": 0.125, "macro_f1_after": 0.375, "n_train": 80, "n_test": 40, "seed": 3}
    expected |= {"train_s": 1.5, "verdict": "Tuning helped."}
    assert expected.items() <= figures.items()
    assert figures["peak_rss_bytes"] > 50e6 and figures["wall_s"] > 0.5 and figures["threads"] >= 1
    assert figures["versions"]["python"] and figures["versions"]["torch"]
    told = capsys.readouterr().out
    for words in (
        "Begin",
        "Zero-shot",
        "25.0 %",
        "65.0 % to 85.0 %",
        "0.375",
        "Tuning helped.",
        "00_toy.html",
        "40 test rows",
    ):
        assert words in told
    assert "Begin" in (build / "00_toy.html").read_text(encoding="utf-8")
    stored = lessons.read(build / "00_toy.ipynb")
    assert len(stored.cells) == 4, "the code that reads the figures leaves no trace"


def test_a_missing_lesson_is_named(tmp_path: Path) -> None:
    with pytest.raises(FtkitError, match=r"00_toy\.ipynb"):
        lessons.read(tmp_path / "00_toy.ipynb")
