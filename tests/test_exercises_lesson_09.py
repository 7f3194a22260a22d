"""Lesson 09's exercise weighs the folder, and reads it back."""

from __future__ import annotations

import pytest
import tiny
import torch

from ftkit import training
from ftkit.exercises import module
from ftkit.plan import Plan

lesson = module("09")


@pytest.fixture(scope="module")
def run():
    return training.fit(tiny.base(), tiny.splits(), Plan(train="top 1", lr=1e-2, epochs=2), on_event=None)


def test_the_folder_is_weighed(run, monkeypatch):
    assert lesson.small_when_saved(run).met
    monkeypatch.setattr(lesson, "MOST_BYTES", 100)
    heavy = lesson.small_when_saved(run)
    assert not heavy.met and "kB" in heavy.found


def test_what_comes_back_has_to_be_the_same_in_every_bit(run, monkeypatch):
    assert lesson.the_same_when_read_back(run).met
    load = lesson.bundle.load

    def nearly(folder, base):
        again = load(folder, base)
        with torch.no_grad():
            again.model.head.bias[0] += 1e-3
        return again

    monkeypatch.setattr(lesson.bundle, "load", nearly)
    assert not lesson.the_same_when_read_back(run).met
