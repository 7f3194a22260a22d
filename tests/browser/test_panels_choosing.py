"""The hyperparameter panel and the crossover panel in JupyterLab: by pointer and by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.driving import Keyboard, Lesson, Pointer

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.needs_assets("minilm")]

THEMES = ("JupyterLab Light", "JupyterLab Dark")
HOSTILE = '<img src=x onerror="window.hostile=1">'
INJECTED = "[document.querySelectorAll('img[src=x]').length, typeof window.hostile]"
SOURCES = (
    """import csv, itertools
import ftkit as ft
from panels import CrossoverPanel, HyperparameterPanel

base = ft.load_pretrained("minilm", max_tokens=32)""",
    f"""# Each label has words of its own.
labels = {{"kitchen": "soup pan oven knife plate".split(), "garden": "rose soil hedge spade lawn".split(),
          {HOSTILE!r}: "engine wheel brake road fuel".split()}}
frames = ("where is the {{}} near the {{}}", "my {{}} and an old {{}}", "the {{}}, or a new {{}}")
rows = [(frame.format(*pair), label) for label, words in labels.items()
        for frame in frames for pair in itertools.permutations(words, 2)]
with open("rows.csv", "w", newline="") as out:
    csv.writer(out).writerows([("text", "label"), *rows])
data = ft.load_data("rows.csv")
data""",
    "TRIALS = HyperparameterPanel(base, data, ft.Plan(train='top 1', lr=3e-4, epochs=1))\nTRIALS",
    f"""strategies = {{
    "words": lambda n, seed: ft.tfidf(data.limit(n, seed)),
    {HOSTILE!r}: lambda n, seed: ft.probe(base, data.limit(n, seed)),
    "tuned": lambda n, seed: ft.fit(base, data.limit(n, seed), ft.Plan(epochs=1, seed=seed), on_event=None),
}}
MEASURED = CrossoverPanel(strategies, (2, 8), data.valid, seeds=(0, 1))
MEASURED""",
    "print(TRIALS.value.summary()); print(len(MEASURED.value.frame()), data.test.opened)",
)


@pytest.fixture(scope="module")
def lesson(open_lesson) -> Iterator[Lesson]:
    """A notebook with both panels in it; its cells have run, but for the last."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = new_notebook(cells=[new_code_cell(source) for source in SOURCES], metadata=kernel)
    opened = open_lesson(notebook, "choosing.ipynb")
    for source in SOURCES[:-1]:
        opened.run(source.splitlines()[0])
    yield opened
    assert opened.problems() == [] and opened.errors() == []
    assert opened.page.evaluate(INJECTED) == [0, "undefined"]
    opened.page.close()


@pytest.fixture(params=[Pointer, Keyboard])
def hand(request, lesson) -> Any:
    """A reader's hand: a pointer, or a keyboard alone."""
    return request.param(lesson.page)


def test_plans_are_queued_run_sorted_and_run_again(lesson, hand):
    from playwright.sync_api import expect

    panel = lesson.page.locator(".ftkit-hyperparameters")
    status, table = panel.get_by_role("status").first, panel.locator("table", has_text="Trials by")

    def press(name: str) -> None:
        hand.press(panel.get_by_role("button", name=name, exact=True))

    hand.choose(panel, "Settings", "as given")
    before = table.locator("tbody tr").count()
    hand.choose(panel, "Settings", "bold")
    expect(panel.locator("code")).to_contain_text("lr=0.0009")
    press("Add to the queue")
    hand.choose(panel, "Batch size", "16")
    hand.choose(panel, "Epochs", "2")
    expect(panel.locator("code")).to_contain_text("epochs=2, batch_size=16")
    press("Add to the queue")
    press("Add with the next seed")
    rows = table.locator("tbody tr")
    expect(rows).to_have_count(before + 3)
    press("Empty the queue")
    expect(rows).to_have_count(before)
    press("Add to the queue")
    press("Add with the next seed")
    press("Run the queue")
    expect(panel.locator(".live")).to_contain_text("16 steps in", timeout=60_000)  # of either: they are quick
    expect(status).to_contain_text(f"Trials: {before + 2} done.", timeout=60_000)
    expect(status).to_contain_text("looks better on valid than it is. Test was not opened.")
    expect(panel.locator("svg[role=img]")).to_have_count(2)

    for column, descending in (("seconds", True), ("accuracy", False)):
        hand.choose(panel, "Sort by", column)
        box = panel.get_by_role("checkbox", name="Descending")
        if box.is_checked() != descending:
            hand.press(box)
        expect(table.locator("caption")).to_contain_text(f"by {column}, {'de' if descending else 'a'}scending")
        place = table.locator("thead th").all_inner_texts().index(column)
        shown = [float(row.locator("td").nth(place).inner_text()) for row in rows.all()]
        assert shown == sorted(shown, reverse=descending)
    hand.choose(panel, "Settings", f"trial {before + 1}:")
    expect(panel.locator("code")).to_contain_text("epochs=2, batch_size=16")


def test_a_trial_is_stopped_and_the_queue_waits(lesson):
    from playwright.sync_api import expect

    panel, hand = lesson.page.locator(".ftkit-hyperparameters"), Keyboard(lesson.page)
    hand.choose(panel, "Settings", "as given")
    hand.choose(panel, "Epochs", "16")
    for name in ("Add to the queue", "Add with the next seed", "Run the queue"):
        hand.press(panel.get_by_role("button", name=name, exact=True))
    expect(panel.locator(".live")).to_contain_text(re.compile("Epoch [2-9] of 16"), timeout=60_000)
    hand.press(panel.get_by_role("button", name="Stop this trial"))
    expect(panel.get_by_role("status").first).to_contain_text("1 stopped, 1 queued")
    hand.press(panel.get_by_role("button", name="Empty the queue"))
    expect(panel.get_by_role("status").first).not_to_contain_text("queued")


def test_strategies_are_measured_and_the_answer_follows_the_question(lesson, hand):
    from playwright.sync_api import expect

    panel = lesson.page.locator(".ftkit-crossover")
    status, answer = (panel.get_by_role("status").nth(i) for i in (0, 1))
    hand.press(panel.get_by_role("button", name="Measure what is missing"))
    expect(status).to_contain_text("Highest mean by rows of a class:", timeout=120_000)
    expect(panel.get_by_role("button", name="Measure what is missing")).to_be_enabled(timeout=120_000)
    expect(panel.locator("img[alt^='A line is the mean']")).to_have_count(1)
    expect(panel.locator("table tbody tr")).to_have_count(6)
    hand.write(panel, "Rows of a class that you have", "3")
    expect(answer).to_contain_text("With 2 rows of a class, the nearest to 3 that was measured")
    hand.write(panel, "Rows of a class that you have", "8")
    expect(answer).to_contain_text("With 8 rows of a class:")
    for name in ("tuned", "words"):
        hand.choose(panel, "Compare with", name)
        expect(panel.locator("code")).to_contain_text(f"found.answer(8, against='{name}')")
    expect(panel.locator("table")).to_contain_text(HOSTILE)
    assert "12 0" in lesson.run("print(TRIALS").inner_text(), "every cell, and test was not opened"


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["hyperparameters", "crossover"])
def test_each_panel_is_accessible(lesson, name, theme):
    lesson.wear(theme)
    assert lesson.inaccessible(f".ftkit-{name}") == []
