"""A real JupyterLab and a headless Chromium; a page that fails the test when it errs or calls another machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import pytest

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --no-proxy-server"
).split()
#: Whatever a page asks for elsewhere is recorded below, and is not found.
FLAGS.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # or cells beyond the window are not in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
READY = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.ready }"
CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"
RUN_ALL = "async () => await window.jupyterapp.commands.execute('notebook:run-all-cells')"


class Lab:
    """A JupyterLab that serves `folder`; its settings, kernels and history are in a temporary folder of their own."""

    def __init__(self, home: Path) -> None:
        from ipykernel.kernelspec import write_kernel_spec

        self.folder = home / "lessons"
        self.folder.mkdir()
        for name, values in SETTINGS.items():
            path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), encoding="utf-8")
        write_kernel_spec(str(home / "data" / "kernels" / "python3"))  # runs this very Python
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.token = secrets.token_hex(16)
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": self.folder,
            "ServerApp.allow_root": True,
            "ServerApp.open_browser": False,
            "IdentityProvider.token": self.token,
            "LabApp.expose_app_in_browser": True,
            "LabApp.extension_manager": "readonly",
        }
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        environment = os.environ | {name: str(home / folder) for name, folder in folders.items()}
        environment["JUPYTER_PREFER_ENV_PATH"] = "0"  # the kernel written above comes before any other
        self._log = home / "lab.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())],
                env=environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, within_s: float = 90) -> None:
        """Return once the server answers; fail with the end of its log if it does not."""
        end = time.monotonic() + within_s
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api?token={self.token}", timeout=5).close()
                return
            time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start:\n{self._log.read_text(encoding='utf-8')[-3000:]}")

    def offer(self, notebook: nbformat.NotebookNode, name: str) -> str:
        """Put a notebook into the folder and return where it opens, alone on its page."""
        nbformat.write(notebook, self.folder / name)
        return f"http://127.0.0.1:{self.port}/doc/tree/{name}?token={self.token}"

    def stop(self) -> None:
        """End the server, which ends its kernels."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Lesson:
    """A notebook open in JupyterLab, with what went wrong on its page so far."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self._problems = page, []
        page.on("pageerror", lambda error: self._problems.append(f"error on the page: {error}"))
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda websocket: self._note(websocket.url))
        page.goto(url, timeout=60_000)
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=60_000)
        page.evaluate(READY)

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self._problems.append(f"asked another machine: {url}")

    def run_all(self) -> None:
        """Run every cell and return when the last one has finished."""
        self.page.evaluate(RUN_ALL)

    def cell(self, source: str) -> Any:
        """Return the one code cell that has `source` in its text."""
        found = self.page.evaluate(
            f"source => {CELLS}.flatMap((w, i) => w.model.type === 'code' && "
            "w.model.sharedModel.source.includes(source) ? [i] : [])",
            source,
        )
        assert len(found) == 1, f"{len(found)} code cells have {source!r} in them"
        return self.page.locator(".jp-Notebook .jp-Cell").nth(found[0])

    def run(self, source: str) -> Any:
        """Run a cell as a reader would, with Shift and Enter, and return it when it has finished."""
        cell = self.cell(source)
        counter = cell.locator(".jp-InputPrompt").first
        before = counter.inner_text()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")
        self.page.wait_for_function(
            r"([node, before]) => node.innerText !== before && /\d/.test(node.innerText)",
            arg=[counter.element_handle(), before],
            timeout=60_000,
        )
        return cell

    def outputs(self) -> list[dict[str, Any]]:
        """Return the outputs of all cells, as a saved notebook would hold them."""
        return self.page.evaluate(f"() => {CELLS}.flatMap(w => w.model.toJSON().outputs ?? [])")

    def problems(self) -> list[str]:
        """Return the page's own errors so far, and its requests to other machines."""
        self.page.wait_for_timeout(100)  # what the browser has already reported is delivered only during a call
        return self._problems

    def errors(self) -> list[str]:
        """Return what cells raised."""
        return [f"{o['ename']}: {o['evalue']}" for o in self.outputs() if o["output_type"] == "error"]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running JupyterLab."""
    server = Lab(tmp_path_factory.mktemp("lab"))
    try:
        server.wait()
        yield server
    finally:
        server.stop()


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
