"""The installer does nothing twice, never hangs, and chooses the smaller torch only where that is right."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest

import install


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The installer, at home in an empty folder, with a `run` that only takes notes."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("torch==1.2.3\ntorchother==4\n")
    home = tmp_path / ".venv"
    for name, value in {"ROOT": tmp_path, "VENV": home, "PYTHON": home / "python", "STAMP": home / "stamp"}.items():
        monkeypatch.setattr(install, name, value)
    monkeypatch.setattr(install, "PINS", install.PINS)  # what main changes is put back afterwards
    monkeypatch.setattr(install, "commands", [], raising=False)
    monkeypatch.setattr(install, "run", lambda command, quiet=False: install.commands.append(list(command)) or 0)
    monkeypatch.setattr(install, "make_venv", lambda: home.mkdir(exist_ok=True) or (home / "python").touch() or ["pip"])
    monkeypatch.setattr(install, "answers", lambda url: False)
    monkeypatch.setattr(install, "install_browser", lambda: None)
    return install


def test_a_second_run_installs_nothing(tool: ModuleType) -> None:
    tool.main(["lab"])
    n_commands = len(tool.commands)
    assert n_commands == 1 and tool.commands[0][-1].endswith("[lab]")
    tool.main(["lab"])
    tool.main([])
    assert len(tool.commands) == n_commands


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_pins_are_installed(tool: ModuleType, name: str) -> None:
    tool.main([])
    with (tool.ROOT / name).open("a") as file:
        file.write("# changed\n")
    assert not tool.done([])


def test_another_extra_is_added_and_the_first_is_kept(tool: ModuleType) -> None:
    tool.main(["lab"])
    tool.install(["test"])
    assert json.loads(tool.STAMP.read_text())["extras"] == ["lab", "test"]


def test_a_failed_installation_leaves_no_stamp(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    tool.main([])
    monkeypatch.setattr(tool, "run", lambda command, quiet=False: 1)
    with pytest.raises(SystemExit, match="failed"):
        tool.install(["lab"])
    assert not tool.done([])


@pytest.mark.parametrize(("on_linux_without_gpu", "reachable", "n_pip"), [(1, 1, 2), (1, 0, 1), (0, 1, 1)])
def test_torch_without_cuda_is_tried_first_only_where_it_helps(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, on_linux_without_gpu: int, reachable: int, n_pip: int
) -> None:
    monkeypatch.setattr(tool, "prefers_cpu_index", lambda: bool(on_linux_without_gpu))
    monkeypatch.setattr(tool, "answers", lambda url: bool(reachable))
    tool.main([])
    assert len(tool.commands) == n_pip
    if n_pip == 2:
        assert tool.commands[0][-3:] == ["--index-url", tool.CPU_INDEX, "torch==1.2.3"]


def test_an_index_that_never_answers_is_given_up_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.perf_counter()
        assert not install.answers(f"http://127.0.0.1:{silent.getsockname()[1]}/", within_s=0.3)
        assert time.perf_counter() - start < 2

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert install.answers(f"http://127.0.0.1:{server.server_port}/", within_s=5)


def test_an_unknown_word_is_refused(tool: ModuleType) -> None:
    with pytest.raises(SystemExit, match="unknown: labs; known: app, bench, lab, test"):
        tool.main(["labs"])


def test_it_needs_nothing_but_the_standard_library() -> None:
    text = Path(install.__file__).read_text(encoding="utf-8")
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= set(sys.stdlib_module_names)


def test_what_benchmarks_compare_with_has_an_environment_of_its_own(tool: ModuleType) -> None:
    (tool.ROOT / "benchmarks").mkdir()
    (tool.ROOT / "benchmarks" / "constraints.txt").write_text("fastai==3.2.1\n")
    tool.make_venv = lambda: tool.VENV.mkdir() or ["pip"]
    before = tool.PINS
    tool.main(["bench"])
    assert tool.VENV.name == ".venv-bench" and tool.STAMP.parent == tool.VENV != tool.ROOT / ".venv"
    assert tool.PINS[: len(before)] == before and str(tool.ROOT / "benchmarks/constraints.txt") in tool.commands[0]
    assert tool.commands[-1][-2:] == ["--no-deps", "fastai==3.2.1"]
