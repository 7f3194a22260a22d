"""Lesson 07's exercise takes a few weights that can be folded back, and leaves the run as it was."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from ftkit import training
from ftkit.exercises import module
from ftkit.plan import Plan

lesson = module("07")
PLAN = Plan(train="top 1", method="lora", rank=2, lr=1e-2, head_lr=1e-2, epochs=2, batch_size=16, keep="last")


def fit(plan):
    return training.fit(tiny.base(), tiny.splits(), plan, on_event=None)


@pytest.fixture(scope="module")
def run():
    return fit(PLAN)


def test_few_weights_below_the_head_are_what_is_asked_for(run, monkeypatch):
    assert lesson.few_weights_moved(run).met
    monkeypatch.setattr(lesson, "MOST_WEIGHTS", 10)
    assert not lesson.few_weights_moved(run).met


def test_the_head_alone_is_too_little():
    found = lesson.few_weights_moved(fit(Plan(train="head", epochs=1)))
    assert not found.met and "nothing moved" in found.found


def test_a_merged_model_is_measured_and_the_run_left_as_it_was(run):
    before = run.weights_sha256
    found = lesson.can_be_folded_back(run)
    assert found.met, repr(found)
    assert run.weights_sha256 == before


def test_a_merge_that_changes_answers_is_noticed(run, monkeypatch):
    merge = lesson.methods.merge

    def wrong(model):
        encoder = merge(model)
        with torch.no_grad():
            list(encoder.parameters())[-2].mul_(3)  # the scale of the last norm
        return encoder

    monkeypatch.setattr(lesson.methods, "merge", wrong)
    assert not lesson.can_be_folded_back(run).met


def test_what_cannot_be_folded_back_is_not_met_and_says_why(run):
    bent = fit(PLAN.but(method="adapter"))
    exercise = dataclasses.replace(lesson.EXERCISE, criteria=(lesson.can_be_folded_back,), least={})
    grade = exercise.check(bent)
    assert not grade.passed and "FT068" in grade.criteria[0].found
