"""The columns panel in JupyterLab: a file is uploaded or named, its columns are chosen, by pointer and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.driving import Keyboard, Lesson, Pointer

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = '<img src=x onerror="window.hostile=1">'
SOURCES = (
    """from panels import ColumnsPanel
PANEL = ColumnsPanel(seed=1)
PANEL""",
    "PANEL.value.summary()",
)


@pytest.fixture(scope="module")
def lesson(open_lesson) -> Iterator[Lesson]:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = new_notebook(cells=[new_code_cell(source) for source in SOURCES], metadata=kernel)
    opened = open_lesson(notebook, "columns.ipynb")
    opened.run(SOURCES[0].splitlines()[0])
    yield opened
    assert opened.problems() == []
    assert opened.page.evaluate("[document.querySelectorAll('img[src=x]').length, typeof window.hostile]") == [
        0,
        "undefined",
    ]
    opened.page.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A spreadsheet with names of its own for its columns, and text that means harm."""
    path = tmp_path_factory.mktemp("mine") / "tickets.csv"
    rows = [f"{word} {n} {HOSTILE};{word};customer {n % 9}" for word in ("late", "broken") for n in range(30)]
    path.write_text("\n".join(["Message;Reason;From", *rows]), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", [Pointer, Keyboard])
def test_from_a_file_to_splits(lesson: Lesson, file: Path, kind: type) -> None:
    from playwright.sync_api import expect

    page, panel, hand = lesson.page, lesson.page.locator(".ftkit-columns"), kind(lesson.page)
    status = panel.get_by_role("status").first
    with page.expect_file_chooser() as chooser:
        hand.press(panel.get_by_role("button", name=re.compile("Upload a file")))
    chooser.value.set_files(file)
    expect(panel.get_by_label("File", exact=True)).to_have_value(re.compile("tickets.csv$"))
    expect(panel.locator("caption", has_text="The first rows of the file")).to_have_count(1)
    hand.choose(panel, "Text", "Message")
    hand.choose(panel, "Label", "Reason")
    expect(status).to_contain_text("Read, checked and split")
    code = panel.locator("code")
    expect(code).to_contain_text("label='Reason'")
    hand.choose(panel, "Group", "From")
    expect(code).to_contain_text("group='From'")
    expect(panel).to_contain_text("no group is in two splits")
    hand.choose(panel, "A label is", "one of several grades")
    expect(status).to_contain_text("FT022")
    hand.write(panel, "Grades", "late, broken")
    expect(status).to_contain_text("Read, checked and split")
    expect(code).to_contain_text("order=('late', 'broken')")
    expect(lesson.run(SOURCES[1])).to_contain_text("in 2 grades; no group is in two splits")
    hand.write(panel, "File", "elsewhere.csv")
    expect(status).to_contain_text("FT001")
    hand.write(panel, "Grades", "")
    hand.choose(panel, "A label is", "one of several")


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_it_is_accessible(lesson: Lesson, file: Path, theme: str) -> None:
    panel: Any = lesson.page.locator(".ftkit-columns")
    Pointer(lesson.page).write(panel, "File", "tickets.csv")
    lesson.wear(theme)
    assert lesson.inaccessible(".ftkit-columns") == []
