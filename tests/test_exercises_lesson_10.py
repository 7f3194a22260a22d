"""Lesson 10's exercise takes a file of one's own that does not leak, and a verdict that is more than chance."""

from __future__ import annotations

import dataclasses

import pytest
import tiny

from ftkit import training
from ftkit.checks import Checked
from ftkit.data import data_sets
from ftkit.exercises import module
from ftkit.findings import Finding
from ftkit.plan import Plan

lesson = module("10")


@pytest.fixture(scope="module")
def run():
    return training.fit(tiny.base(), tiny.splits(), Plan(train="top 1", lr=1e-2, epochs=2), on_event=None)


def test_rows_of_the_lessons_are_not_ones_own(run):
    assert lesson.a_file_of_ones_own(run).met
    card = data_sets()["health/diagnoses"]
    for change in ({"name": "health/diagnoses"}, {"card": card}):
        named = dataclasses.replace(run, data=dataclasses.replace(run.data, **change))
        assert not lesson.a_file_of_ones_own(named).met


def test_copies_across_splits_are_counted(run):
    train, valid = run.data.train, run.data.valid
    copied = dataclasses.replace(valid, texts=[f"{text} of" for text in train.texts[: len(valid)]])
    leaking = dataclasses.replace(run, data=dataclasses.replace(run.data, valid=copied))
    assert not lesson.no_copies_across(leaking).met
    monkey = dataclasses.replace(valid, texts=[f"{i} quite another text {i * 7919}" for i in range(len(valid))])
    assert lesson.no_copies_across(dataclasses.replace(run, data=dataclasses.replace(run.data, valid=monkey))).met


@pytest.mark.parametrize("codes", [(), ("FT071",)])
def test_a_finding_means_that_it_was_not_worth_it(run, monkeypatch, codes):
    findings = tuple(Finding(code=code, message="Chance alone could do that.") for code in codes)
    checked = Checked(what="both", looked_for=("FT071",), findings=findings)
    monkeypatch.setattr(lesson, "check_baselines", lambda simple, tuned: checked)
    found = lesson.worth_it(run)
    assert found.met is not bool(codes)
    assert ("Chance alone" in found.found) is bool(codes)
