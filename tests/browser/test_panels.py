"""The panels as a reader meets them, in JupyterLab: by pointer and by keyboard alone, with text that means harm."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.driving import Keyboard, Lesson, Pointer

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.needs_assets("minilm")]

FOLLOWS_MS = 150  # from a control's change to the text that follows it, through the kernel and back
STOPS_MS = 1_000  # from the click to the sentence that says it has stopped
THEMES = ("JupyterLab Light", "JupyterLab Dark")
PANELS = ("data", "freeze", "training", "moved")
HOSTILE = '<img src=x onerror="window.hostile=1">'
INJECTED = "[document.querySelectorAll('img[src=x]').length, typeof window.hostile]"
SOURCES = (
    """import csv, itertools, sys
import ftkit as ft
from ftkit.widgets import DataPanel, FreezePanel, TrainingPanel, WhatMovedPanel

base = ft.load_pretrained("minilm", max_tokens=32)""",
    f"""# A file whose name, labels and texts hold markup; each label has words of its own.
labels = {{"kitchen": "soup pan oven knife plate".split(), "garden": "rose soil hedge spade lawn".split(),
          {HOSTILE!r}: "engine wheel brake road fuel".split()}}
frames = ("where is the {{}} near the {{}}", "my {{}} and an old {{}}", "the {{}}, or a new {{}}",
          "no {{}} without a {{}}", "a {{}} for the {{}}", {HOSTILE!r} + " {{}} {{}}")
rows = [(frame.format(*pair), label) for label, words in labels.items()
        for frame in frames for pair in itertools.permutations(words, 2)]
rows += [(f"overlong number {{i}} " + "soup and salt and more salt in a pan " * 8, "kitchen") for i in range(12)]
file = {HOSTILE!r} + ".csv"
with open(file, "w", newline="") as out:
    csv.writer(out).writerows([("text", "label"), *rows])
data = ft.load_data(file)
data""",
    "DataPanel(data, base)",
    "FREEZE = FreezePanel(base, data, ft.Plan(train='top 1'))\nFREEZE",
    "baseline = ft.evaluate(ft.probe(base, data), data.valid)\n"
    "TRAINING = TrainingPanel(base, data, FREEZE, baseline=baseline)\nTRAINING",
    "WhatMovedPanel(TRAINING)",
    """RUN = TRAINING.value  # what the kernel holds, for the test to read
right = [round(epoch["accuracy"], 9) for epoch in RUN.history]
print(f"stopped: {RUN.stopped}; the best of {len(right)} epochs was kept:",
      round(ft.evaluate(RUN, data.valid).accuracy, 9) == max(right) == right[RUN.best_epoch])""",
)


@pytest.fixture(scope="module")
def lesson(open_lesson) -> Iterator[Lesson]:
    """A notebook with every panel in it; its cells have run, but for the last."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = new_notebook(cells=[new_code_cell(source) for source in SOURCES], metadata=kernel)
    opened = open_lesson(notebook, "panels.ipynb")
    for source in SOURCES[:-1]:
        opened.run(source.splitlines()[0])
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


def freeze_three(hand: Any, freeze: Any, rate: str, epochs: int) -> None:
    """Set a plan in which blocks 0, 2 and 3 stand still, and see that the panel says so."""
    from playwright.sync_api import expect

    hand.choose(freeze, "What may move", "the head and all 6 blocks")
    expect(freeze.locator("code")).to_contain_text("train='blocks'")
    for i in (0, 2, 3):
        hand.press(freeze.get_by_role("checkbox", name=f"block {i} may move"))
    hand.choose(freeze, "Learning rate", rate)
    hand.write(freeze, "Epochs", str(epochs))
    for words in ("'block 1', 'block 4', 'block 5', 'head'", f"lr={float(rate)!r}", f"epochs={epochs}"):
        expect(freeze.locator("code")).to_contain_text(words)


def test_a_plan_is_set_group_by_group(lesson, hand):
    from playwright.sync_api import expect

    freeze = panel(lesson, "freeze")
    freeze_three(hand, freeze, "0.0005", 7)
    code = freeze.locator("code")
    expect(code).not_to_contain_text("block 2")
    expect(freeze.get_by_role("status")).to_contain_text("5,324,547 of 22,566,531 weights may move")
    hand.choose(freeze, "Rate of block 4", "2e-05")
    expect(code).to_contain_text("rates={'block 4': 2e-05}")
    hand.choose(freeze, "Rate of block 4", "as above")
    expect(code).not_to_contain_text("rates=")
    hand.press(freeze.get_by_role("checkbox", name="Gradual unfreezing"))
    expect(code).to_contain_text("gradual=True")
    hand.press(freeze.get_by_role("checkbox", name="Gradual unfreezing"))
    expect(code).not_to_contain_text("gradual")


def test_a_run_is_started_stopped_finished_and_judged(lesson, hand):
    from playwright.sync_api import expect

    freeze, training = panel(lesson, "freeze"), panel(lesson, "training")
    start, stop = (training.get_by_role("button", name=name) for name in ("Start training", "Stop and keep the best"))
    status, verdict = (training.get_by_role("status").nth(i) for i in (0, 1))
    expect(stop).to_be_disabled()

    freeze_three(hand, freeze, "0.0005", 40)
    expect(training.locator("code")).to_contain_text("epochs=40")
    hand.press(start)
    expect(training.locator(".live")).to_contain_text(re.compile("Epoch [3-9] of 40"), timeout=60_000)
    expect(training.locator("svg[role=img]")).to_have_count(2)
    note_how_long(stop, "stopped on request")
    hand.press(stop)
    expect(status).to_contain_text("stopped on request. Kept epoch")
    took_ms = lesson.page.evaluate("() => window.took")
    print(f"from click to stopped: {took_ms:.0f} ms")
    assert took_ms < STOPS_MS
    earlier = re.search("run [0-9]+", status.inner_text())[0]
    expect(lesson.run("RUN = TRAINING.value")).to_contain_text(
        re.compile("stopped: stopped on request; the best of .* epochs was kept: True")
    )

    hand.write(freeze, "Epochs", "1")
    expect(training.locator("code")).to_contain_text("epochs=1")
    expect(start).to_be_enabled()
    hand.press(start)
    expect(status).to_contain_text(re.compile(r"Finished run [0-9]+\. Kept epoch"), timeout=60_000)
    last = re.search("run [0-9]+", status.inner_text())[0]
    assert last != earlier
    expect(verdict).to_contain_text(last)
    for option, name in (("frozen probe", "frozen probe"), (f"{earlier}: ", earlier)):
        hand.choose(training, "Compare with", option)
        expect(verdict).to_contain_text(re.compile(f"Verdict: .*({last}.*{name}|{name}.*{last})"))
    runs = training.locator("table", has_text="Runs of this session").locator("tbody tr")
    for row, name in enumerate((last, earlier)):
        expect(runs.nth(row).locator("td").first).to_have_text(name.removeprefix("run "))
    expect(lesson.run("RUN = TRAINING.value")).to_contain_text("stopped: None; the best of 2 epochs was kept: True")


def note_how_long(button: Any, words: str) -> None:
    """Note in `window.took` how many milliseconds after its click the button's effect shows."""
    button.evaluate(
        """(button, words) => {
            window.took = undefined;
            button.addEventListener('click', () => {
                const start = performance.now(), panel = button.closest('.ftkit-panel');
                new MutationObserver((_, observer) => {
                    if (!panel.querySelector('[role=status]').textContent.includes(words)) return;
                    observer.disconnect();
                    window.took = performance.now() - start;
                }).observe(panel, { subtree: true, childList: true, characterData: true });
            }, { once: true, capture: true });
        }""",
        words,
    )


@pytest.fixture(scope="module")
def moved(lesson) -> Any:
    """The panel of what moved, after a run in which blocks 0, 2 and 3 stood still."""
    from playwright.sync_api import expect

    hand, freeze, training = Pointer(lesson.page), panel(lesson, "freeze"), panel(lesson, "training")
    freeze_three(hand, freeze, "0.0005", 1)
    hand.press(training.get_by_role("button", name="Start training"))
    found = panel(lesson, "moved")
    expect(found.get_by_role("status")).to_contain_text("CKA", timeout=60_000)
    return found


def test_what_was_frozen_is_at_exactly_zero(moved, hand):
    from playwright.sync_api import expect

    hand.choose(moved, "Look at", "weights")
    stack = moved.locator(".stack").first
    rows = stack.locator("tbody tr")
    for group in ("embeddings", "block 0", "block 2", "block 3"):
        row = rows.filter(has=moved.page.get_by_role("rowheader", name=group))
        expect(row).to_contain_text(re.compile(r"0 \(exactly\)\s*frozen"))
    for group in ("block 1", "block 4", "block 5"):
        row = rows.filter(has=moved.page.get_by_role("rowheader", name=group))
        expect(row).not_to_contain_text("exactly")
        assert float(re.search(r"([0-9.e-]+) %", row.inner_text())[1]) > 0, group
    for measure in ("representation", "attention"):
        before = stack.inner_text()
        hand.choose(moved, "Look at", measure)
        expect(stack).not_to_have_text(before)
        expect(stack).not_to_contain_text("not compared yet")
    hand.choose(moved, "Layers of", "block 4")
    expect(moved).to_contain_text("feed-forward")


def test_rows_are_filtered_and_leafed_through(lesson, hand):
    from playwright.sync_api import expect

    rows = panel(lesson, "data")
    status, table = rows.get_by_role("status"), rows.locator("table").first
    filter_rows(hand, rows, split="valid", label="garden")
    expect(status).to_contain_text(re.compile("[0-9]+ of [0-9]+ valid rows; rows 1 to"))
    expect(rows.locator("code")).to_contain_text("data.valid.where(label='garden')")
    filter_rows(hand, rows, contains="hedge")
    expect(status).to_contain_text("train rows; rows 1 to 8, page 1 of")
    expect(table.locator("tbody tr")).to_have_count(8)
    expect(table.locator("tbody mark")).to_have_text(["hedge"] * 8)
    first = table.inner_text()
    hand.press(rows.get_by_role("button", name="Next page"))
    expect(status).to_contain_text("page 2 of")
    expect(table.locator("tbody th").first).to_have_text("9")
    hand.press(rows.get_by_role("button", name="Previous page"))
    expect(status).to_contain_text("page 1 of")
    assert table.inner_text() == first
    hand.write(rows, "Text contains", "overlong")
    expect(rows.locator("code")).to_contain_text("where(contains='overlong')")
    hand.choose(rows, "Look at row", "2: overlong")
    expect(rows).to_contain_text("reads up to 32, so")
    expect(rows).to_contain_text("are cut")
    assert rows.locator(".pieces").inner_text().count("salt") > 3
    filter_rows(hand, rows)
    expect(status).to_contain_text("All ")


def filter_rows(hand: Any, rows: Any, *, split: str = "train", label: str = "every label", contains: str = "") -> None:
    """Set all three filters of the data panel."""
    hand.choose(rows, "Split", split)
    hand.choose(rows, "Label", label)
    hand.write(rows, "Text contains", contains)


def test_near_copies_are_found(lesson):
    from playwright.sync_api import expect

    rows, hand = panel(lesson, "data"), Keyboard(lesson.page)
    filter_rows(hand, rows, contains="overlong")
    hand.press(rows.get_by_role("button", name="Find near-duplicates"))
    expect(rows.locator("caption", has_text="Near-duplicates of this row")).to_have_count(1, timeout=30_000)
    expect(rows.locator("table", has_text="Near-duplicates of this row").locator("tbody tr").first).to_contain_text(
        "overlong number"
    )
    expect(rows.locator("table", has_text="The splits")).to_contain_text("with a near-duplicate in another split")


def test_hostile_text_is_shown_as_text(lesson):
    from playwright.sync_api import expect

    rows, hand = panel(lesson, "data"), Pointer(lesson.page)
    expect(lesson.cell("# A file").locator(".jp-OutputArea")).to_contain_text(HOSTILE)
    expect(rows.locator("caption").first).to_contain_text(HOSTILE)
    filter_rows(hand, rows, label=HOSTILE, contains="<IMG src=x")
    expect(rows.locator("code")).to_contain_text(HOSTILE)
    table = rows.locator("table").first
    expect(table.locator("tbody mark").first).to_have_text("<img src=x")
    expect(table.locator("tbody tr").first.locator("td").nth(1)).to_have_text(HOSTILE)
    expect(rows.locator("blockquote")).to_contain_text(HOSTILE)
    expect(rows.locator(".pieces")).to_contain_text("<")
    filter_rows(hand, rows)
    assert lesson.page.evaluate(INJECTED) == [0, "undefined"]


def test_what_a_control_changes_shows_at_once(lesson):
    freeze = panel(lesson, "freeze")
    took = []
    for i in range(12):
        label, option = [("What may move", i % 5), ("Learning rate", i % 7)][i // 6]
        took.append(
            freeze.evaluate(
                """(panel, [label, option]) => new Promise(resolve => {
                    const list = [...panel.querySelectorAll('.widget-dropdown')]
                        .find(box => box.querySelector('label').textContent === label).querySelector('select');
                    const code = () => panel.querySelector('code').textContent, before = code();
                    const start = performance.now();
                    new MutationObserver((_, observer) => {
                        if (code() === before) return;
                        observer.disconnect();
                        resolve(performance.now() - start);
                    }).observe(panel, { subtree: true, childList: true, characterData: true });
                    list.selectedIndex = option;
                    list.dispatchEvent(new Event('change', { bubbles: true }));
                })""",
                [label, option],
            )
        )
    print(f"from change to text: median {statistics.median(took):.0f} ms, longest {max(took):.0f} ms")
    assert statistics.median(took) < FOLLOWS_MS


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PANELS)
def test_each_panel_is_accessible(lesson, name, theme):
    lesson.wear(theme)
    assert lesson.inaccessible(f".ftkit-{name}") == []
