"""A real JupyterLab and a headless Chromium; a page that fails the test when it errs or calls another machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import nbformat
import pytest

from tests.browser.driving import FLAGS, Lab, Lesson


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running JupyterLab."""
    with Lab(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium, with a window of a usual laptop's width."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield running.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
        running.close()


@pytest.fixture(scope="module")
def open_lesson(lab: Lab, browser: Any) -> Callable[[nbformat.NotebookNode, str], Lesson]:
    """Opens a notebook in a page of its own: `open_lesson(notebook, "name.ipynb")`."""
    return lambda notebook, name: Lesson(browser.new_page(), lab.offer(notebook, name))
