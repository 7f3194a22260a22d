"""The first lesson as a reader meets it: in JupyterLab, by Run All, with its panel used by pointer and by keyboard."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lessons import FIRST, NOTEBOOKS, read, with_parameters

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.needs_assets("minilm", "icd10cm")]

ANSWER_MS = 5_000  # for the way to the kernel and back; what the panel itself takes is in test_widgets
TOP_2 = "the head and the top 2 of 6 blocks"


@pytest.fixture(scope="module")
def lesson(open_lesson) -> Iterator:
    """The first lesson after Run All with small parameters."""
    notebook = read(NOTEBOOKS / FIRST)
    small = notebook.metadata["ftkit"]["small"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = with_parameters(cell.source, small)
    opened = open_lesson(notebook, FIRST)
    opened.run_all()
    yield opened
    assert opened.problems() == []
    opened.page.close()


@pytest.fixture
def panel(lesson):
    """The freeze panel of the first lesson, set to a known plan."""
    from playwright.sync_api import expect

    found = lesson.page.locator(".ftkit-freeze")
    expect(found).to_have_count(1)
    found.get_by_label("What may move").select_option("the head and all 6 blocks")
    found.get_by_label("Learning rate").select_option("0.0005")
    found.get_by_label("Epochs").fill("1")
    found.get_by_label("Epochs").press("Tab")
    expect_plan(found, "10,654,869", "train='blocks'", "lr=0.0005", "epochs=1")
    return found


def expect_plan(panel, n_trained: str, *fields: str) -> None:
    """The panel says so in its sentence and in its code, soon."""
    from playwright.sync_api import expect

    expect(panel.get_by_role("status")).to_contain_text(
        f"{n_trained} of 22,573,461 weights may move", timeout=ANSWER_MS
    )
    for field in fields:
        expect(panel.locator("code")).to_contain_text(field, timeout=ANSWER_MS)


def test_run_all_has_no_errors(lesson):
    assert lesson.errors() == []
    assert lesson.problems() == []
    assert len(lesson.outputs()) >= 12


def test_the_panel_by_pointer(panel):
    before = panel.get_by_role("status").inner_text()
    panel.get_by_label("What may move").select_option(TOP_2)
    expect_plan(panel, "3,557,013", "train='top 2'", "lr=0.0005", "epochs=1")
    panel.get_by_label("Learning rate").select_option("0.0002")
    expect_plan(panel, "3,557,013", "train='top 2'", "lr=0.0002", "epochs=1")
    panel.get_by_label("Epochs").click(click_count=3)
    panel.page.keyboard.type("9")
    panel.get_by_role("status").click()
    expect_plan(panel, "3,557,013", "train='top 2'", "lr=0.0002", "epochs=9")
    times = [re.search("About (.*) and", told)[1] for told in (before, panel.get_by_role("status").inner_text())]
    assert times[0] != times[1], "nine epochs take longer"


def test_the_panel_by_keyboard_alone(panel):
    panel.get_by_label("What may move").focus()
    for keys, fields in (
        (["Space", *["ArrowUp"] * 4, "Enter"], ("train='top 2'", "lr=0.0005", "epochs=1")),
        (["Tab", "Space", "ArrowDown", "Enter"], ("train='top 2'", "lr=0.001", "epochs=1")),
        (["Tab", "ArrowUp", "Enter"], ("train='top 2'", "lr=0.001", "epochs=2")),
    ):
        for key in keys:
            panel.page.keyboard.press(key)
        expect_plan(panel, "3,557,013", *fields)


def test_the_cells_below_use_what_the_panel_shows(lesson, panel):
    from playwright.sync_api import expect

    panel.get_by_label("What may move").select_option(TOP_2)
    expect_plan(panel, "3,557,013", "train='top 2'")
    expect(lesson.run("plan = panel.value")).to_contain_text("Plan(train='top 2', lr=0.0005")
    expect(lesson.run("run = ft.fit(base, data, plan)")).to_contain_text("Plan(train='top 2', lr=0.0005")
    assert lesson.errors() == []


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_the_panel_is_accessible(lesson, panel, theme):
    lesson.wear(theme)
    assert lesson.inaccessible(".ftkit-freeze") == []


def test_a_hostile_name_is_shown_as_text(open_lesson):
    from playwright.sync_api import expect

    hostile = '<img src=x onerror="window.hostile=1">'
    sources = (
        "import sys; sys.executable",
        f"""import ftkit as ft
from ftkit import tasks
from ftkit.pretrained import base as bases
from ftkit.widgets import FreezePanel, TrainingPanel, WhatMovedPanel

plain = bases.group_parameters

def odd(encoder):
    return {{{hostile!r} if g == "embeddings" else g: names for g, names in plain(encoder).items()}}

bases.group_parameters = tasks.group_parameters = odd
base = ft.load_pretrained("minilm")
pairs = [(f"{{word}} {{i}}", word) for word in ("good", {hostile!r}) for i in range(10)]
data = ft.load_data(pairs, name={hostile!r})
freeze = FreezePanel(base, data, ft.Plan(train=("head", {hostile!r}), epochs=1))
freeze""",
        "training = TrainingPanel(base, data, freeze)\ntraining.run_blocking()\ntraining",
        "WhatMovedPanel(training)",
        "data",
        "data.train.head(20)",
        "base",
        "ft.evaluate(ft.majority(data), data.test)",
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    odd = open_lesson(new_notebook(cells=[new_code_cell(s) for s in sources], metadata=kernel), "odd.ipynb")
    odd.run_all()
    assert odd.errors() == []
    expect(odd.cell("sys.executable")).to_contain_text(sys.executable)
    panel = odd.page.locator(".ftkit-freeze")
    expect(panel.get_by_role("checkbox", name=f"{hostile} may move")).to_be_checked()
    expect(panel.get_by_label("What may move").locator("option").last).to_have_text(f"as given: head, {hostile}")
    expect(panel.locator("code")).to_contain_text(hostile)
    expect(odd.page.locator(".ftkit-training").get_by_role("status").nth(1)).to_contain_text("run 1")
    expect(odd.page.locator(".ftkit-moved").get_by_role("rowheader", name=hostile)).to_have_count(1)
    expect(odd.page.locator(".ftkit-moved").get_by_role("status")).to_contain_text("CKA", timeout=30_000)
    for i, source in enumerate(sources[1:], 1):
        expect(odd.page.locator(".jp-Notebook .jp-Cell").nth(i).locator(".jp-OutputArea"), source).to_contain_text(
            hostile
        )
    assert odd.page.evaluate("[document.querySelectorAll('img[src=x]').length, typeof window.hostile]") == [
        0,
        "undefined",
    ]
    assert odd.problems() == []
