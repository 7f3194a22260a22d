"""The applications: panels without code, in Voila, on this machine only; one tunes and judges, the other answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from lessons import NOTEBOOKS, lessons, normalised, read, with_parameters
from tests.browser.driving import Pointer, Server, Watched

APPS = NOTEBOOKS / "apps"
TUNE, ANSWER = APPS / "tune.ipynb", APPS / "answer.ipynb"
LAUNCHER = NOTEBOOKS.parent / "tools" / "app.py"
PANELS = ("freeze", "training", "moved")


def browser_test(function: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs a browser, the model and the data; the first one below does not."""
    for mark in (pytest.mark.browser, pytest.mark.slow, pytest.mark.needs_assets("minilm", "icd10cm")):
        function = mark(function)
    return function


class App(Server):
    """What `make app` starts, with few rows; or another application."""

    def __init__(self, home: Path, path: Path = TUNE) -> None:
        super().__init__(home)
        notebook = read(path)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", ()):
                cell.source = with_parameters(cell.source, notebook.metadata["ftkit"]["small"])
        nbformat.write(notebook, self.folder / path.name)
        cull = (f"--MappingKernelManager.cull_{name}={n_s}" for name, n_s in (("idle_timeout", 10), ("interval", 2)))
        options = ("--no-browser", f"--port={self.port}", "--Voila.port_retries=0", *cull)
        self.command = [str(LAUNCHER), str(self.folder / path.name), *options]
        self.sign = "login"

    @property
    def address(self) -> str:
        """The address that it prints."""
        return re.search(r"http://\S+", self.log().split("is running at")[-1])[0]


def test_an_app_is_no_lesson_and_is_stored_clean() -> None:
    apps = sorted(APPS.glob("*.ipynb"))
    assert apps == [ANSWER, TUNE] and not set(apps) & set(lessons())
    for app in apps:
        notebook = read(app)
        assert normalised(notebook) == notebook
        assert not any(cell.get("outputs") for cell in notebook.cells), "it is for use, not for reading"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The running application."""
    with App(tmp_path_factory.mktemp("app")) as running:
        yield running


@pytest.fixture(scope="module")
def visit(app: App, browser: Any) -> Iterator[Watched]:
    """A visit to the application, when its three panels are there."""
    from playwright.sync_api import expect

    opened = Watched(browser.new_page())
    opened.page.goto(app.address, timeout=60_000)
    for name in PANELS:
        expect(opened.page.locator(f".ftkit-{name}")).to_be_visible(timeout=90_000)
    yield opened
    assert opened.problems() == []
    opened.page.close()


@browser_test
def test_it_listens_on_this_machine_alone_and_asks_for_its_token(app: App, browser: Any) -> None:
    assert app.address.startswith(f"http://127.0.0.1:{app.port}/?token=")
    process = psutil.Process(app.pid)
    found = [c for p in (process, *process.children(recursive=True)) for c in p.net_connections("inet")]
    assert {c.laddr.ip for c in found if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{app.port}/")
    assert "/login" in page.url and page.locator(".ftkit-panel").count() == 0
    page.close()


@browser_test
def test_its_panels_are_accessible_in_the_light_and_in_the_dark(visit: Watched, app: App, browser: Any) -> None:
    from playwright.sync_api import expect

    assert [visit.inaccessible(f".ftkit-{name}") for name in PANELS] == [[], [], []]
    dark = Watched(browser.new_page())
    dark.page.goto(f"{app.address}&theme=dark", timeout=60_000)
    expect(dark.page.locator(".ftkit-freeze")).to_be_visible(timeout=90_000)
    assert dark.page.evaluate("document.body.dataset.jpThemeName") == "JupyterLab Dark"
    assert dark.inaccessible(".ftkit-freeze") == []
    assert dark.problems() == []
    dark.page.close()


@browser_test
def test_a_plan_is_changed_trained_and_judged(visit: Watched) -> None:
    from playwright.sync_api import expect

    hand = Pointer(visit.page)
    freeze, training, moved = (visit.page.locator(f".ftkit-{name}") for name in PANELS)
    assert visit.page.get_by_text("load_pretrained").count() == 0, "the notebook's code is not shown"
    hand.choose(freeze, "What may move", "the head and the top 1 of 6 blocks")
    hand.choose(freeze, "Learning rate", "0.0005")
    hand.write(freeze, "Epochs", "1")
    for words in ("train='top 1'", "lr=0.0005", "epochs=1"):
        expect(training.locator("code")).to_contain_text(words)
    hand.press(training.get_by_role("button", name="Start training"))
    expect(training.get_by_role("status").first).to_contain_text("Finished run 1", timeout=90_000)
    expect(training.get_by_role("status").nth(1)).to_contain_text("run 1")
    # With so few rows the start may be the best epoch; then nothing has moved, and the panel says so.
    told = re.compile("block 5 moved most|below the head no weight moved")
    expect(moved.get_by_role("status")).to_contain_text(told, timeout=60_000)
    expect(moved.locator(".stack").first).to_contain_text("0 (exactly)")


@browser_test
def test_a_closed_page_takes_its_kernel_with_it(app: App, visit: Watched) -> None:
    end = time.monotonic() + 30
    while len(kernels := psutil.Process(app.pid).children()) > 1 and time.monotonic() < end:
        time.sleep(1)  # the page in the dark was closed above; this visit goes on
    assert len(kernels) == 1


@browser_test
def test_a_page_answers_texts_by_a_saved_run(tmp_path: Path, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from playwright.sync_api import expect

    import ftkit as ft
    from ftkit import record

    base, data = ft.load_pretrained("minilm"), ft.load_data("health/diagnoses", per_class=4)
    run = ft.fit(base, data, ft.Plan(start="probe", epochs=1), on_event=None)
    monkeypatch.setenv("FTKIT_RUN", str(record.save(run, tmp_path / "run")))
    harm = "<img src=x onerror='window.hostile=1'> of the left wrist"
    texts = ["Fracture of the left wrist", harm]
    with App(tmp_path, ANSWER) as app:
        visit = Watched(browser.new_page())
        visit.page.goto(app.address, timeout=60_000)
        box, button = visit.page.get_by_label("Texts"), visit.page.get_by_role("button", name="Answer")
        expect(visit.page.locator("body")).to_contain_text("21 labels; it holds no training rows", timeout=90_000)
        button.click()
        expect(visit.page.locator(".ftkit-answer [role=status]")).to_contain_text("no text to answer")
        box.fill("\n\n".join(texts))
        button.focus()
        visit.page.keyboard.press("Enter")
        rows = visit.page.locator(".ftkit-answer tbody tr")
        expect(rows).to_have_count(2, timeout=30_000)
        for row, text, label in zip((0, 1), texts, run.predict(texts).labels, strict=True):
            expect(rows.nth(row)).to_contain_text(text)
            expect(rows.nth(row)).to_contain_text(label)
        assert visit.page.evaluate("[document.querySelectorAll('img[src=x]').length, typeof window.hostile]") == [
            0,
            "undefined",
        ]
        assert visit.inaccessible(".ftkit-answer") == [] and visit.problems() == []
        visit.page.close()
