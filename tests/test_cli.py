"""The command line enters by the same front door as a notebook does."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ftkit import cli, sources
from ftkit.findings import FtkitError


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(sources, "fetch_all", names.extend)
    return names


def test_fetch_without_names_brings_what_the_first_lesson_needs(fetched: list[str]) -> None:
    assert cli.main(["fetch"]) == 0
    assert fetched == ["minilm", "icd10cm"]
    assert set(fetched) <= set(sources.catalog()["files"])


def test_fetch_brings_what_was_named(fetched: list[str]) -> None:
    assert cli.main(["fetch", "merchants"]) == 0
    assert fetched == ["merchants"]


def test_fetch_all_brings_every_pinned_set(fetched: list[str]) -> None:
    assert cli.main(["fetch", "--all"]) == 0
    assert fetched == list(sources.catalog()["files"])


def test_an_error_that_can_be_explained_is_one_sentence_not_a_traceback(monkeypatch, capsys) -> None:
    def fail(names: object) -> None:
        raise FtkitError("FT001", "There is no file here.")

    monkeypatch.setattr(sources, "fetch_all", fail)
    assert cli.main(["fetch"]) == 1
    assert capsys.readouterr().err.startswith("FT001 There is no file here.")


def test_an_unknown_verb_is_refused(capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["fnord"])
    assert stop.value.code == 2
    assert "tour" in capsys.readouterr().err


def test_python_m_ftkit_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "ftkit", "--help"], capture_output=True, text=True, check=True)
    for verb in ("tour", "doctor", "fetch"):
        assert verb in done.stdout


def test_tour_runs_what_lies_beside_the_package(monkeypatch) -> None:
    import lessons

    ran = []
    monkeypatch.setattr(lessons, "tour", lambda: ran.append(True))
    assert cli.main(["tour"]) == 0
    assert ran == [True]


def test_outside_a_clone_tour_says_that_it_needs_one(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "ftkit" / "cli.py"))
    assert cli.main(["tour"]) == 1
    assert "in a clone of ftkit" in capsys.readouterr().err
