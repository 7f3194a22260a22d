"""Lesson 05's exercise takes a last block that stood still and looks elsewhere, and nothing less."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch

from ftkit import tasks, training
from ftkit.exercises import module
from ftkit.plan import Plan

lesson = module("05")
PLAN = Plan(train=("head", "block 1"), lr=0.1, head_lr=1e-2, epochs=4, batch_size=16, keep="last")


def fit(plan):
    return training.fit(tiny.base(), tiny.splits(), plan, on_event=None)


@pytest.fixture(scope="module")
def run():
    return fit(PLAN)


def test_a_moved_block_below_a_frozen_one_is_what_is_asked_for(run):
    for criterion in (lesson.last_block_stood_still, lesson.last_block_looks_elsewhere, lesson.proof_holds):
        assert criterion(run).met, repr(criterion(run))


def test_a_last_block_that_moved_is_found_in_the_weights_whatever_the_run_says():
    moved = fit(PLAN.but(train="top 1"))
    lied = dataclasses.replace(moved, plan=PLAN, moved=dict.fromkeys(moved.moved, 0.0))
    assert not lesson.last_block_stood_still(lied).met
    assert "1,960 of the 1,960" in lesson.last_block_stood_still(lied).found


def test_one_changed_bit_is_enough(run):
    model = tasks.Classifier(run.base, 3)
    model.load_state_dict(run.model.state_dict())
    with torch.no_grad():
        weight = model.get_parameter(f"encoder.{run.base.groups['block 2'][0]}").view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))
    touched = dataclasses.replace(run, model=model)
    assert lesson.last_block_stood_still(touched).found.startswith("1 of the")
    assert not lesson.proof_holds(touched).met


def test_the_head_alone_leaves_every_look_where_it_was():
    shifted = lesson.last_block_looks_elsewhere(fit(PLAN.but(train="head")))
    assert not shifted.met
    assert shifted.found.startswith("0.0 %")


def test_a_probe_that_was_not_tuned_is_not_better_than_itself():
    start = fit(PLAN.but(train="head", start="probe", lr=1e-9, head_lr=1e-9, epochs=1))
    assert not lesson.gets_more_right_than_the_probe(start).met
