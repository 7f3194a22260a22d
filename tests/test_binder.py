"""What Binder will build: the same versions as were tested, from a configuration that its own tool accepts."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent


def pins(path: Path) -> dict[str, str]:
    """Versions by normalised name, local labels such as `+cpu` left out."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#-"]
    return {normal(name): version.partition("+")[0] for name, version in (line.split("==") for line in lines)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_binder_pins_what_was_tested() -> None:
    tested, binder = pins(ROOT / "constraints.txt"), pins(ROOT / "binder" / "requirements.txt")
    assert binder.items() <= tested.items()


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {normal(re.match(r"[\w.-]+", line)[0]) for line in project["dependencies"]}
    assert needed <= set(pins(ROOT / "binder" / "requirements.txt"))
    tested, compared = (set(pins(ROOT / path)) for path in ("constraints.txt", "benchmarks/constraints.txt"))
    for extra, lines in project["optional-dependencies"].items():
        named = {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}
        assert named - {"ftkit"} <= (tested | compared if extra == "bench" else tested), extra


def brought(lines: Sequence[str], own: dict[str, list[str]]) -> set[str]:
    """Names of all packages that these requirements bring with them here; ftkit's `own` extras are looked up."""
    seen, left = set(), [Requirement(line) for line in lines]
    while left:
        requirement = left.pop()
        for extra in ("", *requirement.extras):
            if (place := (normal(requirement.name), extra)) in seen:
                continue
            seen.add(place)
            inner = own.get(extra, []) if place[0] == "ftkit" else requires(requirement.name) or []
            found = map(Requirement, inner)
            left += [r for r in found if r.marker is None or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen} - {"ftkit"}


@pytest.mark.skipif(sys.platform != "linux", reason="the pins are those of Linux")
def test_nothing_comes_along_unpinned_and_nothing_is_pinned_in_vain() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras, core = project["optional-dependencies"], project["dependencies"]
    # What is only compared with stands in an environment of its own, which tests do without.
    everything = [*core, *(f"ftkit[{extra}]" for extra in extras if extra != "bench")]
    assert brought(everything, extras) == set(pins(ROOT / "constraints.txt"))
    assert brought(core, extras) == set(pins(ROOT / "binder" / "requirements.txt"))


def test_binder_takes_the_build_of_torch_without_cuda() -> None:
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("torch==") and line.endswith("+cpu")]
    assert not [line for line in lines if line.startswith(("-e", "-r", "-c"))], "such a line undoes image caching"


def test_repo2docker_accepts_the_folder() -> None:
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    dockerfile = done.stdout + done.stderr
    assert "binder/requirements.txt" in dockerfile
    assert "postBuild" in dockerfile
    assert "3.11" in dockerfile, "the Python of runtime.txt"
