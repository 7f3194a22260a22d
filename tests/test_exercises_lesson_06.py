"""Lesson 06's exercise takes a rate that was tried and not believed, and a test split that was left alone."""

from __future__ import annotations

import dataclasses

import pytest
import tiny

from ftkit import training
from ftkit.exercises import module
from ftkit.plan import Plan

lesson = module("06")
PLAN = Plan(train="top 1", lr=1e-3, head_lr=1e-2, epochs=4, batch_size=16, keep="last")


@pytest.fixture(scope="module")
def run():
    return training.fit(tiny.base(), tiny.splits(), PLAN, on_event=None)


def test_a_rate_is_held_against_a_range_test_of_its_own_plan(run):
    slow, fast = (dataclasses.replace(run, plan=PLAN.but(train="head", head_lr=rate)) for rate in (1e-7, 1.0))
    assert lesson.rate_below_the_suggestion(slow).met, repr(lesson.rate_below_the_suggestion(slow))
    assert not lesson.rate_below_the_suggestion(fast).met
    assert "head_lr is 1; the test suggests" in lesson.rate_below_the_suggestion(fast).found


def test_where_the_test_suggests_nothing_no_rate_is_below_it(run, monkeypatch):
    nothing = type("Found", (), {"field": "lr", "suggestion": None})
    monkeypatch.setattr(lesson, "rate_range", lambda *given: nothing)
    assert not lesson.rate_below_the_suggestion(run).met
    assert "suggests nothing" in lesson.rate_below_the_suggestion(run).found


def test_curves_that_are_not_healthy_are_named(run):
    still = dict.fromkeys(("accuracy", "macro_f1"), 0.3) | {"train_loss": 1.0, "valid_loss": 1.0}
    flat = tuple({"epoch": epoch, **still} for epoch in range(5))
    sick = dataclasses.replace(run, history=flat, losses=(1.0,) * 40)
    assert not lesson.curves_are_healthy(sick).met
    assert lesson.curves_are_healthy(sick).found != "They are healthy."


def test_two_looks_at_test_are_the_lessons_own_and_a_third_is_one_too_many(run):
    for looks, met in ((0, True), (2, True), (3, False)):
        data = tiny.splits()
        for _ in range(looks):
            data.test.open()
        found = lesson.test_was_left_alone(dataclasses.replace(run, data=data))
        assert found.met is met and f"opened {looks} times" in found.found
