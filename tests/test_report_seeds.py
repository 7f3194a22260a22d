"""Several seeds are scored as repeats of one way, each trained once, and only the answers are kept."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import tiny

from ftkit.evaluation import evaluate
from ftkit.report import compare
from ftkit.report.seeds import over_seeds


class Guess:
    """Guesses as its seed says."""

    name = "guess"

    def __init__(self, seed):
        self.seed = seed

    def predict_proba(self, texts):
        return np.random.default_rng(self.seed).dirichlet([1, 1], size=len(texts))


def test_each_seed_is_a_repeat_as_if_all_models_had_been_kept():
    rows = tiny.yes_no([0, 1] * 20)
    (scored,) = over_seeds(Guess, rows, seeds=(0, 1, 2))
    expected = evaluate([Guess(s) for s in (0, 1, 2)], rows)
    assert np.array_equal(scored.proba, expected.proba)
    assert scored.name == "guess"
    assert compare(scored, expected).difference() == 0


def test_each_is_trained_once_and_each_set_of_rows_is_opened_once():
    made, (one, two) = [], (tiny.yes_no([0, 1] * n) for n in (5, 8))
    scored = over_seeds(lambda seed: made.append(seed) or Guess(seed), one, two, seeds=(3, 4), name="both")
    assert made == [3, 4]
    assert [e.proba.shape for e in scored] == [(2, 10, 2), (2, 16, 2)]
    assert [e.name for e in scored] == ["both", "both"]
    assert (one.opened, two.opened) == (1, 1)


def test_no_more_than_one_model_is_alive():
    alive = []

    def make(seed):
        gc.collect()
        assert not any(ref() for ref in alive), "the earlier model should have gone"
        alive.append(weakref.ref(guess := Guess(seed)))
        return guess

    over_seeds(make, tiny.yes_no([0, 1]))
    assert len(alive) == 3


def test_no_seed_is_refused():
    with pytest.raises(ValueError, match="seeds"):
        over_seeds(Guess, tiny.yes_no([0, 1]), seeds=())
