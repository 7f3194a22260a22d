"""The exercise of lesson 02 judges the data of a run: a shuffle, twins and small classes each fail their criterion."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from ftkit.data import Splits
from ftkit.exercises import module

lesson_02 = module("02")


def run_on(data: Splits):
    """Stand for a run whose data alone are looked at."""
    return SimpleNamespace(data=data)


def by_hand(*places: str) -> Splits:
    """Return splits of a few long texts each, with the given group for the first row of each split."""
    data = tiny.splits(n_train=90, n_valid=30, n_test=30)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    parts = {}
    for seed, (part, group) in enumerate(zip(data.parts, places, strict=True)):
        rng = np.random.default_rng(seed)
        texts = tuple(" ".join("".join(rng.choice(letters, 6)) for _ in range(8)) for _ in part.texts)
        groups = (group, *(f"{part.name}-{i}" for i in range(len(texts) - 1)))
        parts[part.name] = replace(part, texts=texts, groups=groups)
    return replace(data, **parts)


def test_whole_groups_pass() -> None:
    assert lesson_02.groups_are_whole(run_on(by_hand("a", "b", "c"))).met


def test_groups_are_looked_up_in_the_set_so_that_forgetting_them_does_not_help(monkeypatch) -> None:
    data = by_hand("a", "b", "c")
    groups = {i: g for p in data.parts for i, g in zip(p.ids, ["same", *p.groups[1:]], strict=True)}
    every = replace(data.joined(), groups=tuple(groups[i] for i in data.joined().ids))
    monkeypatch.setattr(lesson_02, "data_sets", lambda: {"tiny": None})
    monkeypatch.setattr(lesson_02, "load_data", lambda name: SimpleNamespace(joined=lambda: every))
    forgotten = replace(data, **{p.name: replace(p, groups=None) for p in data.parts})
    found = lesson_02.groups_are_whole(run_on(forgotten))
    assert not found.met and found.found.startswith("1 of ")


def test_twins_across_splits_fail_and_without_them_it_passes() -> None:
    data = by_hand("a", "b", "c")
    assert lesson_02.few_twins(run_on(data)).met
    copied = tuple(f"{t}." for t in data.train.texts[:3])
    leaky = replace(data, test=replace(data.test, texts=(*copied, *data.test.texts[3:])))
    found = lesson_02.few_twins(run_on(leaky))
    assert not found.met and found.found == "3 of 60 have one (5.0 %)."


@pytest.mark.parametrize(("n_train", "met"), [(60, True), (57, False)])
def test_every_class_needs_enough_rows(n_train: int, met: bool) -> None:
    assert lesson_02.enough_rows(run_on(tiny.splits(n_train=n_train))).met is met


def test_a_class_that_valid_lacks_is_named() -> None:
    data = tiny.splits(n_train=90)
    lacking = replace(data, valid=data.valid.take(data.valid.labels != 0))
    found = lesson_02.enough_rows(run_on(lacking))
    assert not found.met and "valid lacks a class" in found.found


@pytest.mark.needs_assets("minilm", "licensedcode")
@pytest.mark.slow
def test_the_solution_passes_and_the_run_of_the_lesson_does_not() -> None:
    task, names = lesson_02.EXERCISE, {}
    exec(task.solution().code, names)
    grade = task.check(names["run"])
    assert grade.passed, repr(grade)
    ft, leaky = names["ft"], names["data"].shuffled()
    grade = task.check(ft.fit(names["base"], leaky, names["plan"], on_event=None))
    assert not grade.passed and not grade.refused
    assert [c.met for c in grade.criteria[:2]] == [False, False]
