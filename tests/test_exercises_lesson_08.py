"""Lesson 08's exercise asks for verdicts, not for percentages."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny

from ftkit import training
from ftkit.exercises import module
from ftkit.plan import Plan
from ftkit.report import Comparison

lesson = module("08")


@pytest.fixture(scope="module")
def run():
    return training.fit(tiny.base(), tiny.splits(), Plan(train="top 1", lr=1e-2, epochs=2), on_event=None)


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    monkeypatch.setattr(lesson, "load_data", lambda name, **how: tiny.splits(n_test=60))


def answering(monkeypatch, before, after, n=30):
    """Let every comparison be one of two predictors that have so many of `n` rows right."""
    rows = tiny.yes_no(np.zeros(n, dtype=int))
    pair = [tiny.answered(str(k), rows, np.arange(n) < k) for k in (before, after)]
    monkeypatch.setattr(lesson, "compare", lambda one, other: Comparison(before=pair[0], after=pair[1]))


@pytest.mark.parametrize(("before", "after", "met"), [(5, 25, True), (20, 21, False), (25, 5, False)])
def test_better_is_a_verdict_and_not_a_difference(run, monkeypatch, before, after, met):
    answering(monkeypatch, before, after)
    found = lesson.better_than_counting_words(run)
    assert found.met is met and "Verdict" in found.found


@pytest.mark.parametrize(("said", "right", "met"), [(0.92, 27, True), (0.92, 15, False), (0.6, 27, False)])
def test_confidence_is_held_against_what_is_right(run, monkeypatch, said, right, met):
    rows = tiny.yes_no(np.zeros(30, dtype=int))
    zeros = np.where(np.arange(30) < right, said, 1 - said)
    answers = type("Answers", (), {"predict_proba": lambda self, texts: np.stack([zeros, 1 - zeros], axis=1)})()
    monkeypatch.setattr(lesson, "load_data", lambda name: type("Data", (), {"valid": rows}))
    found = lesson.as_sure_as_it_should_be(answers)
    assert found.met is met and ("too modest" in found.found) is (said == 0.6)


@pytest.mark.parametrize(("before", "after", "met"), [(25, 5, False), (21, 20, True), (5, 25, True)])
def test_only_what_is_known_to_be_lost_counts_as_lost(run, monkeypatch, before, after, met):
    answering(monkeypatch, before, after)
    assert lesson.nothing_known_to_be_lost(run).met is met


def test_what_is_kept_is_read_off_the_tuned_encoder(run, monkeypatch):
    seen = []
    monkeypatch.setattr(lesson, "probe", lambda base, data: seen.append(base.encoder) or lesson_probe(base, data))
    lesson_probe = module("08").probe
    lesson.nothing_known_to_be_lost(run)
    assert seen == [run.base.encoder, run.model.encoder]


def test_two_equal_encoders_have_lost_nothing(run):
    still = dataclasses.replace(run, model=type(run.model)(run.base, 3))
    found = lesson.nothing_known_to_be_lost(still)
    assert found.met and "+0.0 points" in found.found
