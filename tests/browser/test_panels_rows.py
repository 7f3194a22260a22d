"""The error browser and the label panel as a reader meets them, in JupyterLab, by pointer and by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.driving import READY, Keyboard, Lesson, Pointer

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.needs_assets("minilm")]

THEMES = ("JupyterLab Light", "JupyterLab Dark")
HOSTILE = '<img src=x onerror="window.hostile=1">'
INJECTED = "[document.querySelectorAll('img[src=x]').length, typeof window.hostile]"
SOURCES = (
    """import itertools
import ftkit as ft
from ftkit.checks import flip_labels, label_issues
from panels import ErrorsPanel, LabelsPanel

base = ft.load_pretrained("minilm", max_tokens=32)""",
    f"""# Texts and labels that hold markup; each label has words of its own, and some labels are wrong.
labels = {{"kitchen": "soup pan oven knife plate".split(), "garden": "rose soil hedge spade lawn".split(),
          {HOSTILE!r}: "engine wheel brake road fuel".split()}}
frames = ("where is the {{}} near the {{}}", "my {{}} and an old {{}}", "the {{}}, or a new {{}}",
          "no {{}} without a {{}}", {HOSTILE!r} + " {{}} {{}}")
rows = [(frame.format(*pair), label) for label, words in labels.items()
        for frame in frames for pair in itertools.permutations(words, 2)]
data, wrong = flip_labels(ft.load_data(rows, name={HOSTILE!r}), 0.08, seed=1)
run = ft.fit(base, data, ft.Plan(train="head", start="probe", epochs=1, keep="last"), on_event=None)
before, after = ft.evaluate(ft.majority(data), data.valid), ft.evaluate(run, data.valid)
issues = label_issues(base, data)""",
    "ErrorsPanel(after, before, run)",
    "LABELS = LabelsPanel(data, issues, 'marks.csv')\nLABELS",
    """# what the kernel holds, for the test to read
dropped = len(LABELS.value.mended(data).train) - len(data.train)
print(LABELS.value.frame()["decision"].value_counts().to_dict(), dropped)""",
)


@pytest.fixture(scope="module")
def lesson(open_lesson) -> Iterator[Lesson]:
    """A notebook with both panels in it; its cells have run, but for the last."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = new_notebook(cells=[new_code_cell(source) for source in SOURCES], metadata=kernel)
    opened = open_lesson(notebook, "rows.ipynb")
    for source in SOURCES[:-1]:
        opened.run(source.splitlines()[0])
    assert opened.errors() == []
    yield opened
    assert opened.problems() == []
    assert opened.page.evaluate(INJECTED) == [0, "undefined"]
    opened.page.close()


@pytest.fixture(params=[Pointer, Keyboard])
def hand(request, lesson) -> Any:
    """A reader's hand: a pointer, or a keyboard alone."""
    return request.param(lesson.page)


def panel(lesson: Lesson, name: str) -> Any:
    """The one panel of that name."""
    from playwright.sync_api import expect

    found = lesson.page.locator(f".ftkit-{name}")
    expect(found).to_have_count(1)
    return found


def test_mistakes_are_read_and_explained(lesson, hand):
    from playwright.sync_api import expect

    errors = panel(lesson, "errors")
    status, table = errors.get_by_role("status").first, errors.locator("table").first
    hand.choose(errors, "Show", "everything, highest loss first")
    expect(status).to_contain_text(re.compile("All [0-9]+ valid rows; rows 1 to 8"))
    hand.choose(errors, "Answer", HOSTILE)
    hand.write(errors, "Text contains", "fuel")
    expect(table.locator("tbody mark").first).to_have_text("fuel")
    expect(errors.locator("code")).to_contain_text(".where(contains='fuel')")
    hand.choose(errors, "Look at row", "2: ")
    expect(errors.locator("blockquote")).to_contain_text("fuel")
    probable = errors.locator("table", has_text="The most probable labels")
    expect(probable.get_by_role("columnheader")).to_have_text(["Label", "How probable now", "How probable before"])
    expect(probable.locator("tbody tr")).to_have_count(3)
    hand.press(errors.get_by_role("button", name="Why this answer?"))
    expect(errors).to_contain_text("A hint, not a proof.", timeout=30_000)
    expect(errors.locator("span", has_text="fuel")).to_have_text(re.compile(r"fuel [+-][0-9]\.[0-9]{2}"))
    hand.write(errors, "Text contains", "")
    hand.choose(errors, "Answer", "every answer")
    hand.choose(errors, "Show", "wrong now, right before")
    expect(status).to_contain_text(re.compile("of [0-9]+ valid rows"))


def test_labels_are_worked_through_and_the_hand_stays_where_it_is(lesson, hand):
    from playwright.sync_api import expect

    labels = panel(lesson, "labels")
    hand.choose(labels, "Show", "undecided")
    keep, take, drop = (
        labels.get_by_role("button", name=name, exact=True) for name in ("Keep", "Take the suggestion", "Drop")
    )
    status, detail = labels.get_by_role("status").first, labels.locator("blockquote")
    decided = int(re.search("([0-9]+) of [0-9]+ doubtful", status.inner_text())[1])
    for n, button in enumerate((take, take, keep, drop), decided + 1):
        before = detail.inner_text()
        hand.press(button)
        expect(status).to_contain_text(f"{n} of ")
        expect(detail).not_to_have_text(before)
        expect(button).to_be_focused()
    hand.choose(labels, "Decision", "garden")
    expect(status).to_contain_text(f"{decided + 5} of ")
    hand.choose(labels, "Show", "decided")
    expect(labels.locator("table").first.locator("tbody tr")).to_have_count(min(8, decided + 5))
    seen = lesson.run("# what the kernel holds")
    expect(seen).to_contain_text(f"'(drop)': {decided // 5 + 1}")
    expect(seen).to_contain_text(f"}} -{decided // 5 + 1}")


def test_after_a_restart_of_the_kernel_the_decisions_are_there(lesson):
    from playwright.sync_api import expect

    told = panel(lesson, "labels").get_by_role("status").first.inner_text()
    decided = re.search("[0-9]+ of [0-9]+ doubtful rows are decided", told)[0]
    assert not decided.startswith("0 ")
    lesson.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    lesson.page.evaluate(READY)
    lesson.run_all()
    assert lesson.errors() == []
    labels = panel(lesson, "labels")
    expect(labels.get_by_role("status").first).to_contain_text(decided)
    hand = Keyboard(lesson.page)
    hand.choose(labels, "Show", "undecided")
    hand.press(labels.get_by_role("button", name="Keep", exact=True))
    expect(labels.get_by_role("status").first).to_contain_text(f"{int(decided.split()[0]) + 1} of ")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["errors", "labels"])
@pytest.mark.parametrize("width", [1280, 700])
def test_each_panel_is_accessible_and_keeps_within_its_cell(lesson, name, theme, width):
    lesson.wear(theme)
    lesson.page.set_viewport_size({"width": width, "height": 900})
    assert lesson.inaccessible(f".ftkit-{name}") == []
    assert panel(lesson, name).evaluate("node => node.scrollWidth - node.clientWidth") <= 1, "nothing is cut off"
