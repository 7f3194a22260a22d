"""The architecture, as a list and as tests: what may import what, how large things are, what importing costs."""

from __future__ import annotations

import ast
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ftkit
from lessons import lessons, read

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ftkit"

#: A module imports only from modules above it. A name without a module yet keeps that module's place.
ORDER = [
    "display",
    "plots",
    "findings",
    "sources",
    "doctor",
    "data",
    "pretrained",
    "cache",
    "tasks",
    "evaluation",
    "baseline",
    "methods",
    "plan",
    "record",
    "forecast",
    "training",
    "search",
    "drift",
    "report",
    "checks",
    "bundle",
    "exercises",
    "widgets",
    "cli",
    "__main__",
]

MAX_MODULE_LINES = 300
MAX_PACKAGE_LINES = 6000  # docstrings, comments and blank lines not counted
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc"}
#: Modules without a test file of their own stem, each with the reason.
TESTED_ELSEWHERE = {"__main__": "three lines that call cli.main; test_cli runs it"}

SOURCES = sorted(PACKAGE.rglob("*.py"))
BESIDE = sorted((ROOT / "notebooks" / "panels").glob("*.py"))  # panels that belong to one lesson


def room(path: Path) -> str:
    """The name in ORDER that a file belongs to: its module, or the folder it is in."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every room that a file imports from, wherever in the file, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are written in full"
            names = [f"ftkit.{alias.name}" for alias in node.names] if node.module == "ftkit" else [node.module]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "ftkit" and rest != "__version__":
                yield ftkit._HOME.get(rest, rest.split(".")[0]), node.lineno


def code_lines(path: Path) -> int:
    """Lines that hold code: no docstrings, comments or blank lines."""
    text = path.read_text(encoding="utf-8")
    lines = {i for i, line in enumerate(text.splitlines(), 1) if line.strip() and not line.strip().startswith("#")}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not list(imported(path)), "the package itself imports its modules by name, when they are first used"
        return
    own = room(path)
    assert own in ORDER, f"{own} has no place in ORDER yet: decide what it may import, and what may import it"
    for other, line in imported(path):
        assert other in ORDER, f"{path.name}:{line} imports {other or 'the whole package'}: name a module"
        if other != own:
            assert ORDER.index(other) < ORDER.index(own), f"{path.name}:{line}: {own} stands above {other}"


@pytest.mark.parametrize("path", [*SOURCES, *BESIDE], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_short_and_has_a_telling_name(path: Path) -> None:
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= MAX_MODULE_LINES, f"{n_lines} lines: which part of it is a room of its own?"
    assert not VAGUE & set(path.stem.split("_")), "a name that says what is in it"


def test_the_package_stays_small() -> None:
    assert sum(map(code_lines, SOURCES)) < MAX_PACKAGE_LINES


def test_each_panel_of_a_lesson_has_a_test_file_of_its_stem() -> None:
    assert BESIDE
    names = {path.stem for path in BESIDE} - {"__init__", "views"}  # views: what errors and labels share
    assert [n for n in sorted(names) if not (ROOT / "tests" / f"test_panels_{n}.py").is_file()] == []


@pytest.mark.parametrize("name", sorted({room(path) for path in SOURCES} - {"__init__"}))
def test_each_module_has_a_test_file_of_its_stem(name: str) -> None:
    has_own = (ROOT / "tests" / f"test_{name}.py").is_file()
    assert has_own != (name in TESTED_ELSEWHERE), f"tests/test_{name}.py, or a reason in TESTED_ELSEWHERE; not both"


def test_importing_is_quick_and_brings_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import ftkit; took = time.perf_counter() - start; import json;"
        "print(json.dumps([took, [m for m in ('torch', 'transformers', 'pandas', 'numpy') if m in sys.modules]]))"
    )
    runs = [json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)) for _ in range(5)]
    assert all(heavy == [] for _, heavy in runs)
    assert statistics.median(took for took, _ in runs) < 0.3


def test_dir_shows_exactly_the_public_names() -> None:
    assert dir(ftkit) == sorted(ftkit.__all__)
    assert len(ftkit.__all__) <= 22


@pytest.mark.parametrize("name", ftkit.__all__)
def test_each_public_name_is_there_and_is_documented(name: str) -> None:
    assert getattr(ftkit, name).__doc__


def test_a_misspelt_public_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="load_data"):
        ftkit.load_dta  # noqa: B018


@pytest.mark.parametrize("path", lessons(), ids=lambda p: p.stem)
def test_a_lesson_names_the_modules_it_teaches(path: Path) -> None:
    taught = read(path).metadata["ftkit"]["modules"]
    assert taught and set(taught) <= {room(source) for source in SOURCES}
