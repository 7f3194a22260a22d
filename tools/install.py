"""Make .venv with ftkit in it, on a bare machine, with nothing but this Python's standard library.

    python tools/install.py             what the first lesson needs
    python tools/install.py lab         and JupyterLab
    python tools/install.py app         and Voila, which shows a notebook as an application
    python tools/install.py lab test    and what the tests need, Chromium included where it can be had
    python tools/install.py bench       in .venv-bench, the tools that benchmarks compare ftkit with

A second run does nothing: a stamp in .venv remembers what was installed, and from which pins.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import urllib.request
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "ftkit-installed.json"
PINS = ("constraints.txt",)
EXTRAS = ("app", "bench", "lab", "test")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
#: fastai asks for torchvision, whose registry build does not fit a torch without CUDA: where it is installed, torch's
#: operators for images are missing, and transformers cannot be imported. What is compared here needs no images.
ALONE = ("fastai",)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def main(words: Sequence[str]) -> None:
    """Install what the words ask for, unless it is there."""
    if unknown := set(words) - set(EXTRAS):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(EXTRAS)}")
    if sys.version_info < (3, 11):  # noqa: UP036 - a learner's Python may be any
        sys.exit(f"ftkit needs Python 3.11 or newer; this is {platform.python_version()} ({sys.executable}).")
    if "bench" in words:
        move_to_bench()
    if not done(words):
        install(words)
    if "test" in words and not any(map(shutil.which, BROWSERS)):
        install_browser()


def move_to_bench() -> None:
    """Work on an environment of its own: what is only compared with must not decide what learners get."""
    global VENV, PYTHON, STAMP, PINS
    before, VENV = VENV, VENV.with_name(".venv-bench")
    PYTHON, STAMP = (VENV / path.relative_to(before) for path in (PYTHON, STAMP))
    PINS = (*PINS, "benchmarks/constraints.txt")


def digest() -> str:
    """Return a hash of everything that decides what is installed: pins, dependencies, and the Python behind .venv."""
    pins = b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", *PINS))
    return hashlib.sha256(pins + sys.version.encode()).hexdigest()


def done(words: Sequence[str]) -> bool:
    """Say whether .venv already holds all of this, at the same pins."""
    if not (STAMP.is_file() and PYTHON.exists()):
        return False
    stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    return stamp["digest"] == digest() and set(words) <= set(stamp["extras"])


def install(words: Sequence[str]) -> None:
    """Make .venv where there is none and install ftkit into it, editable, at the pinned versions."""
    before = json.loads(STAMP.read_text(encoding="utf-8"))["extras"] if STAMP.is_file() else []
    extras = sorted({*before, *words})
    STAMP.unlink(missing_ok=True)
    pip = make_venv()
    if prefers_cpu_index() and answers(CPU_INDEX + "/torch/"):
        # Failing is no harm: the next command then takes torch from pip's own index.
        run([*pip, "install", "--no-deps", "--index-url", CPU_INDEX, pinned("torch")])
    target = str(ROOT) + (f"[{','.join(extras)}]" if extras else "")
    limits = [word for name in PINS for word in ("-c", str(ROOT / name))]
    alone = [pinned(name) for name in ALONE if "bench" in extras]
    if run([*pip, "install", *limits, "-e", target]) or (alone and run([*pip, "install", "--no-deps", *alone])):
        sys.exit("The installation failed; pip says why above. To try again, give the same command.")
    STAMP.write_text(json.dumps({"digest": digest(), "extras": extras}), encoding="utf-8")


def make_venv() -> list[str]:
    """Return the pip command that installs into .venv, which is made first where there is none."""
    own = importlib.util.find_spec("ensurepip") is not None
    if not PYTHON.exists():
        if not own and importlib.util.find_spec("pip") is None:
            sys.exit(
                "This Python can make no virtual environment, and has no pip: its ensurepip module is a package of its "
                "own here.\nOn Debian and Ubuntu: apt-get install python3-venv. Then give the same command again."
            )
        print(f"Making {VENV.name} with Python {platform.python_version()} ...", flush=True)
        try:
            venv.EnvBuilder(with_pip=own, clear=VENV.exists(), symlinks=os.name != "nt").create(VENV)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"{VENV} could not be made: {error}")
    inside = run([str(PYTHON), "-m", "pip", "--version"], quiet=True) == 0
    return [str(PYTHON), "-m", "pip"] if inside else [sys.executable, "-m", "pip", "--python", str(PYTHON)]


def prefers_cpu_index() -> bool:
    """Say whether the default build of torch would bring gigabytes of CUDA that this machine cannot use."""
    driver = Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi")
    return sys.platform == "linux" and not driver


def answers(url: str, within_s: float = 4.0) -> bool:
    """Say whether `url` answers in time; a name look-up can hang for longer than any timeout, so it has a thread."""
    heard = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=within_s):
                heard.set()
        except (OSError, ValueError):
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(within_s)
    return heard.is_set()


def pinned(name: str) -> str:
    """Return the line that pins `name`."""
    lines = [line for pins in PINS for line in (ROOT / pins).read_text(encoding="utf-8").splitlines()]
    return next(line for line in lines if line.startswith(f"{name}=="))


def install_browser() -> None:
    """Install Chromium where that needs no questions: Debian's package, as root. Elsewhere, say how."""
    apt = shutil.which("apt-get")
    if not (apt and hasattr(os, "geteuid") and os.geteuid() == 0):
        print("No Chromium here, so the browser tests will be skipped. Any Chromium or Chrome on the path will do.")
        return
    quick = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=30", "-qq"]
    packages = ["chromium", "fonts-dejavu-core"]
    failed = run([apt, *quick, "update"]) or run(
        [apt, *quick, "install", "-y", "--no-install-recommends", *packages],
    )
    if failed:
        print("Chromium could not be installed; apt-get says why above.")


def run(command: Sequence[str], *, quiet: bool = False) -> int:
    """Run a command and return its exit status."""
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "DEBIAN_FRONTEND": "noninteractive"}
    silent = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, check=False, env=environment, stdout=silent, stderr=silent).returncode


if __name__ == "__main__":
    main(sys.argv[1:])
