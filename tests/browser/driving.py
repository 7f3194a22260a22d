"""What drives a browser test: servers of their own, a page that notes what goes wrong on it, and a reader's hands."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import nbformat

BESIDE = Path(__file__).resolve().parents[2] / "notebooks"
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
#: Whether a control comes before the one that has the focus.
BEFORE_FOCUS = "node => !!(document.activeElement.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_PRECEDING)"
RUN_ALL = "async () => await window.jupyterapp.commands.execute('notebook:run-all-cells')"


class Server:
    """A Jupyter server on this machine; its settings, kernels and history are in a temporary folder of their own.

    A subclass sets `command`, which starts it, and `sign`, a path that answers as soon as it is there.
    """

    command: Sequence[str]
    sign: str

    def __init__(self, home: Path) -> None:
        from ipykernel.kernelspec import write_kernel_spec

        self.home, self.folder = home, home / "lessons"
        self.folder.mkdir()
        write_kernel_spec(str(home / "data" / "kernels" / "python3"))  # runs this very Python
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]

    def __enter__(self) -> Self:
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        environment = os.environ | {name: str(self.home / folder) for name, folder in folders.items()}
        # As a lesson finds what stands beside it.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(BESIDE), os.environ.get("PYTHONPATH")]))
        environment["JUPYTER_PREFER_ENV_PATH"] = "0"  # the kernel written above comes before any other
        self._log = self.home / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self.command],
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()  # which ends its kernels, too
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def log(self) -> str:
        """Return what the server has said so far."""
        return self._log.read_text(encoding="utf-8")

    def _wait(self, within_s: float = 90) -> None:
        end = time.monotonic() + within_s
        while time.monotonic() < end and self._process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{self.sign}", timeout=5).close()
                return
            time.sleep(0.2)
        raise RuntimeError(f"The server did not start:\n{self.log()[-3000:]}")


class Lab(Server):
    """A JupyterLab that serves `folder`."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        for name, values in SETTINGS.items():
            path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values), encoding="utf-8")
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
        self.command = ["-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
        self.sign = f"api?token={self.token}"

    def offer(self, notebook: nbformat.NotebookNode, name: str) -> str:
        """Put a notebook into the folder and return where it opens, alone on its page."""
        nbformat.write(notebook, self.folder / name)
        return f"http://127.0.0.1:{self.port}/doc/tree/{name}?token={self.token}"


class Watched:
    """A page, with what went wrong on it so far: its own errors, and its requests to other machines.

    An error that was raised and passed on in JupyterLab's own code alone is printed, and is not the panels': they
    bring no code of their own, what draws them is an extension, and their text is no code unless something is wrong.
    """

    def __init__(self, page: Any) -> None:
        self.page, self._problems = page, []
        page.on("pageerror", self._note_error)
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda websocket: self._note(websocket.url))

    def _note_error(self, error: Any) -> None:
        told = f"error on the page: {error.stack or error}"
        places = re.findall(r"https?://\S+", error.stack or "")
        if places and all(urlsplit(place).path.startswith("/static/lab/") for place in places):
            print(f"JupyterLab's own {told}")
        else:
            self._problems.append(told)

    def _note(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self._problems.append(f"asked another machine: {url}")

    def problems(self) -> list[str]:
        """Return what went wrong so far."""
        self.page.wait_for_timeout(100)  # what the browser has already reported is delivered only during a call
        return self._problems

    def inaccessible(self, selector: str) -> list[tuple[str, str]]:
        """Return what axe finds serious or critical in one part of the page."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page, context=selector).response
        assert len(found["passes"]) > 5, "it looked at something"
        bad = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
        return [(v["id"], node["html"][:200]) for v in bad for node in v["nodes"]]


class Lesson(Watched):
    """A notebook open in JupyterLab."""

    def __init__(self, page: Any, url: str) -> None:
        super().__init__(page)
        page.goto(url, timeout=60_000)
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=60_000)
        page.evaluate(READY)

    def wear(self, theme: str) -> None:
        """Change JupyterLab's theme, and return when the page wears it."""
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
        self.page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)

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

    def errors(self) -> list[str]:
        """Return what cells raised."""
        return [f"{o['ename']}: {o['evalue']}" for o in self.outputs() if o["output_type"] == "error"]


class Pointer:
    """A reader's hand on a mouse, which types only what has to be typed."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def choose(self, panel: Any, label: str, option: str) -> None:
        """Choose an entry of a list, by its text or by how that begins."""
        box = panel.get_by_label(label, exact=True)
        box.select_option(index=self._place(box, option)[1])

    def write(self, panel: Any, label: str, text: str) -> None:
        """Replace what stands in a field, and leave it."""
        panel.get_by_label(label, exact=True).click(click_count=3)
        self._type(text)
        panel.get_by_role("status").first.click()

    def press(self, control: Any) -> None:
        """Press a button, or tick a box."""
        control.click()

    def _type(self, text: str) -> None:
        self.page.keyboard.press("Delete")
        self.page.keyboard.type(text)

    def _place(self, box: Any, option: str) -> tuple[int, int]:
        """Return which entry of a list is chosen, and which one is `option`."""
        at, texts = box.evaluate("box => [box.selectedIndex, [...box.options].map(entry => entry.text)]")
        texts = [text.replace("\xa0", " ") for text in texts]  # ipywidgets writes spaces that do not break
        found = [i for i, text in enumerate(texts) if text == option] or [
            i for i, text in enumerate(texts) if text.startswith(option)
        ]
        assert len(found) == 1, f"{option!r} should be one of {texts}"
        return at, found[0]


class Keyboard(Pointer):
    """A reader's hands on the keyboard alone: Tab goes from control to control, and nothing else does."""

    def choose(self, panel: Any, label: str, option: str) -> None:
        box = panel.get_by_label(label, exact=True)
        self.reach(box)
        at, wanted = self._place(box, option)
        step = "ArrowDown" if wanted > at else "ArrowUp"
        for key in ["Space", *[step] * abs(wanted - at), "Enter"] if wanted != at else ():
            self.page.keyboard.press(key)

    def write(self, panel: Any, label: str, text: str) -> None:
        self.reach(panel.get_by_label(label, exact=True))
        self.page.keyboard.press("Control+a")
        self._type(text)
        self.page.keyboard.press("Tab")

    def press(self, control: Any) -> None:
        self.reach(control)
        self.page.keyboard.press("Space")

    def reach(self, control: Any) -> None:
        """Press Tab until the control has the focus; a panel is entered at its first control."""
        if not control.evaluate("node => node.closest('.ftkit-panel').contains(document.activeElement)"):
            control.evaluate("node => node.closest('.ftkit-panel').querySelector('select, input, button').focus()")
        order = "Shift+Tab" if control.evaluate(BEFORE_FOCUS) else "Tab"
        for _ in range(60):
            if control.evaluate("node => node === document.activeElement"):
                return
            self.page.keyboard.press(order)
        raise AssertionError(f"Tab does not reach {control}")
