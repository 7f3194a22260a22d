"""Exercise 01 looks at the weights: one block moved, from the pretrained start, and it paid."""

from __future__ import annotations

import dataclasses
import functools

import pytest
import tiny

from ftkit.exercises import module
from ftkit.plan import Plan
from ftkit.training import fit

lesson_01 = module("01")


@functools.cache
def run(*groups: str):
    return fit(tiny.base(), tiny.splits(), Plan(train=groups, lr=1e-2, epochs=1, keep="last"), on_event=None)


@pytest.mark.parametrize(
    ("groups", "met"),
    [
        (("head", "block 1"), True),
        (("head", "block 0"), True),
        (("block 2", "head"), False),  # the last of three
        (("head",), False),
        (("head", "embeddings"), False),
        (("head", "block 1", "block 2"), False),
        (("all",), False),
    ],
)
def test_one_block_and_no_other_group_has_moved(groups, met):
    found = lesson_01.one_lower_block_moved(run(*groups))
    assert found.met == met
    assert all((g in found.found) == (g in run(*groups).trained) for g in ("embeddings", "block 0", "block 1"))


def test_what_a_run_says_about_itself_is_not_what_is_judged():
    told = dataclasses.replace(run("all"), moved={g: 0.1 * (g in ("head", "block 1")) for g in run("all").moved})
    assert not lesson_01.one_lower_block_moved(told).met


def test_standing_level_with_the_probe_is_not_beating_it():
    still = fit(tiny.base(), tiny.splits(), Plan(train="head", epochs=1, start="probe", head_lr=1e-9), on_event=None)
    found = lesson_01.beats_the_frozen_probe(still)
    assert not found.met and "cannot tell" in found.found


def test_the_test_split_stays_closed():
    data = tiny.splits()
    made = fit(tiny.base(), data, Plan(train=("head", "block 1"), epochs=1), on_event=None)
    for criterion in (lesson_01.one_lower_block_moved, lesson_01.beats_the_frozen_probe):
        criterion(made)
    assert data.test.opened == 0


@pytest.mark.needs_assets("minilm")
def test_another_start_is_told_from_the_pretrained_one():
    assert not lesson_01.starts_from_minilm(run("head", "block 1")).met


@pytest.mark.slow
@pytest.mark.needs_assets("minilm")
def test_the_pinned_weights_are_known_again_and_random_ones_of_their_shape_are_not():
    from types import SimpleNamespace

    from ftkit.pretrained import from_scratch, load_pretrained

    base = load_pretrained("minilm", max_tokens=32)
    assert lesson_01.starts_from_minilm(SimpleNamespace(base=base)).met
    disguised = dataclasses.replace(from_scratch(base), name=base.name, origin=base.origin)
    assert not lesson_01.starts_from_minilm(SimpleNamespace(base=disguised)).met
