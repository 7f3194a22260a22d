"""Findings have one catalogue; what is raised is in it, and what is in it can happen."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from pathlib import Path

import pytest

import ftkit
from ftkit import findings
from ftkit.findings import Finding, FtkitError, catalogue, explain

PACKAGE = Path(ftkit.__file__).parent


def _raised() -> set[str]:
    """Codes that stand in the package as values of their own (prose and docstrings are longer strings)."""
    trees = (ast.parse(p.read_text(encoding="utf-8")) for p in PACKAGE.rglob("*.py"))
    values = {n.value for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    return {v for v in values if isinstance(v, str) and re.fullmatch(r"FT\d{3}", v)}


def _taught() -> set[str]:
    lessons = (PACKAGE.parent / "notebooks").rglob("*.ipynb")
    return {code for p in lessons for code in re.findall(r"\bFT\d{3}\b", p.read_text(encoding="utf-8"))}


def test_every_code_that_is_raised_is_in_the_catalogue():
    assert _raised() - set(catalogue()) == set()


def test_every_entry_of_the_catalogue_is_raised_or_taught():
    assert set(catalogue()) - _raised() - _taught() == set()


@pytest.mark.parametrize("code", sorted(catalogue()))
def test_an_entry_tells_title_cause_consequence_and_fix(code):
    entry = catalogue()[code]
    assert re.fullmatch(r"FT\d{3}", code)
    assert set(entry) == {"title", "cause", "consequence", "fix"}
    assert entry["title"] == entry["title"].strip() and not entry["title"].endswith(".")
    for part in ("cause", "consequence", "fix"):
        assert re.search(r"[.!?]\)?$", entry[part]), f"{part} is not a whole sentence"
        assert entry[part][0].isupper() or entry[part].startswith(("`", "ftkit"))


def test_codes_stand_in_order():
    assert list(catalogue()) == sorted(catalogue())


def test_explain_does_not_care_about_case():
    assert explain("ft050").code == explain("FT050").code == "FT050"
    assert explain("FT050").fix in repr(explain("ft050"))


def test_an_unknown_code_names_near_ones():
    with pytest.raises(KeyError, match="FT05"):
        explain("FT05X")
    with pytest.raises(KeyError, match=min(catalogue())):
        explain("nonsense")


def test_an_unknown_code_can_neither_be_found_nor_raised():
    with pytest.raises(KeyError):
        Finding(code="FT999", message="")
    with pytest.raises(KeyError):
        FtkitError("FT999", "")


def test_an_error_says_what_happened_and_where_to_read_more():
    error = FtkitError("FT061", "Row 3 holds no words.")
    assert str(error) == "FT061 Row 3 holds no words. (More: ft.explain('FT061'))"


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])  # noqa: S301
def test_an_error_survives_the_way_between_processes(again):
    error = again(FtkitError("FT061", "Row 3 holds no words."))
    assert type(error) is FtkitError
    assert (error.code, error.message) == ("FT061", "Row 3 holds no words.")
    assert str(error).count("ft.explain") == 1


def test_a_finding_tells_code_title_and_what_was_found():
    finding = Finding(code="FT061", message="Row 3 holds no words.")
    assert finding.summary() == f"FT061 {findings.catalogue()['FT061']['title']}: Row 3 holds no words."
