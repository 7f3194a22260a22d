"""Scores equal scikit-learn's, intervals cover what they promise, and looking at the test split is counted."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import tiny
from scipy import stats
from sklearn import metrics

from ftkit import baseline, evaluation
from ftkit.data import Rows
from ftkit.evaluation import Evaluation, cross_validate, evaluate


def _random(kind: str, seed: int, *, n: int = 60, n_classes: int = 4, n_repeats: int = 1) -> Evaluation:
    rng = np.random.default_rng(seed)
    if kind == "multiple":
        labels, proba = rng.integers(0, 2, (n, n_classes)), rng.random((n_repeats, n, n_classes))
    else:
        labels, proba = rng.integers(0, n_classes, n), rng.dirichlet(np.ones(n_classes), (n_repeats, n))
    names = tuple("abcdefgh"[:n_classes])
    rows = Rows(name="test", texts=tuple(map(str, range(n))), labels=labels, label_names=names, kind=kind)
    return Evaluation(name="random", proba=proba, rows=rows)


@pytest.mark.parametrize("kind", ["single", "multiple", "ordered"])
@pytest.mark.parametrize("seed", range(5))
def test_accuracy_and_macro_f1_are_those_of_scikit_learn(kind, seed):
    scored = _random(kind, seed)
    labels, predicted = scored.rows.labels, scored.predicted[0]
    assert scored.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert scored.macro_f1 == pytest.approx(
        metrics.f1_score(labels, predicted, average="macro", zero_division=0), abs=1e-6
    )


def test_macro_f1_leaves_out_classes_that_occur_nowhere_as_scikit_learn_does():
    rows = Rows(name="test", texts=("a", "b", "c"), labels=[0, 0, 1], label_names=("x", "y", "never"))
    scored = Evaluation(name="fixed", proba=np.eye(3)[[[0, 1, 1]]], rows=rows)
    assert scored.macro_f1 == pytest.approx(metrics.f1_score([0, 0, 1], [0, 1, 1], average="macro"))


@pytest.mark.parametrize("kind", ["single", "multiple", "ordered"])
def test_scores_of_each_class_are_those_of_scikit_learn(kind):
    scored = _random(kind, 7)
    expected = metrics.precision_recall_fscore_support(scored.rows.labels, scored.predicted[0], zero_division=0)
    for column, values in zip(["precision", "recall", "f1", "rows"], expected, strict=True):
        assert np.allclose(scored.per_class[column], values, atol=1e-6), column


def test_the_error_of_ordered_answers_is_counted_in_ranks():
    scored = _random("ordered", 1)
    expected = metrics.mean_absolute_error(scored.rows.labels, scored.predicted[0])
    assert scored.mean_absolute_error == pytest.approx(expected)
    assert f"{expected:.3f}" in repr(scored)
    with pytest.raises(ValueError, match="ordered"):
        _ = _random("single", 1).mean_absolute_error


def test_repeats_are_averaged():
    together = _random("single", 3, n_repeats=3)
    each = [dataclasses.replace(together, proba=together.proba[i : i + 1]) for i in range(3)]
    assert together.predicted.shape == (3, 60) and together.correct.shape == (60,)
    assert together.accuracy == pytest.approx(np.mean([e.accuracy for e in each]))
    assert together.macro_f1 == pytest.approx(np.mean([e.macro_f1 for e in each]), abs=1e-6)


def test_several_seeds_are_scored_as_repeats_and_opened_once():
    data = tiny.splits()
    several = [baseline.majority(data), baseline.tfidf(data)]
    scored = evaluate(several, data.test, name="both")
    assert scored.proba.shape == (2, 30, 3)
    assert data.test.opened == 1


def test_every_look_at_the_test_rows_is_counted_and_told():
    data = tiny.splits()
    first, second = (evaluate(baseline.majority(data), data.test) for _ in range(2))
    assert (first.opened, second.opened, data.test.opened) == (1, 2, 2)
    assert "opened once" in first.summary() and "opened 2 times" in second.summary()
    evaluate(baseline.majority(data), data.test.take(range(5)))
    assert data.test.opened == 3  # a part of the test rows is the test rows


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_probabilities_that_are_not_finite_are_refused(bad):
    rows = tiny.yes_no([0, 1])
    with pytest.raises(ValueError, match="finite"):
        Evaluation(name="bad", proba=np.array([[[0.5, 0.5], [bad, 0.5]]]), rows=rows)


@pytest.mark.parametrize("shape", [(2, 2), (1, 3, 2), (1, 2, 3)])
def test_probabilities_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"\(n_repeats, 2, 2\)"):
        Evaluation(name="bad", proba=np.full(shape, 0.5), rows=tiny.yes_no([0, 1]))


def test_an_interval_holds_its_estimate_and_a_higher_level_is_wider():
    scored = _random("single", 0)
    for metric in ("accuracy", "macro_f1"):
        low, high = scored.interval(metric)
        assert low < getattr(scored, metric) < high
        wide = dataclasses.replace(scored, level=0.99).interval(metric)
        assert wide[0] < low and high < wide[1]


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_interval_of_independent_rows_is_that_of_the_binomial_distribution(level):
    scored = dataclasses.replace(tiny.answered("a", tiny.yes_no([0] * 400), np.arange(400) < 280), level=level)
    expected = stats.binom(400, 0.7).ppf([(1 - level) / 2, (1 + level) / 2]) / 400
    assert scored.interval() == pytest.approx(expected, abs=0.005)


def test_intervals_are_the_same_each_time():
    assert _random("single", 0).interval("macro_f1") == _random("single", 0).interval("macro_f1")


@pytest.fixture
def drawn_once(monkeypatch):
    """Draw the resamples once, not once a simulation: they are the same each time, and most of the work."""
    monkeypatch.setattr(evaluation, "resample_weights", functools.cache(evaluation.resample_weights))


def _covered(share: float, n_simulations: int, *, n_groups: int, per_group: int, told: bool) -> float:
    """Share of simulations whose interval holds the true accuracy; rows of a group are right or wrong together."""
    rng = np.random.default_rng(0)
    n = n_groups * per_group
    groups = tuple(str(i // per_group) for i in range(n)) if told else None
    rows = tiny.yes_no(np.zeros(n, dtype=int), groups=groups)
    hits = 0
    for _ in range(n_simulations):
        low, high = tiny.answered("simulated", rows, np.repeat(rng.random(n_groups) < share, per_group)).interval()
        hits += low <= share <= high
    return hits / n_simulations


@pytest.mark.usefixtures("drawn_once")
def test_intervals_cover_the_truth_about_as_often_as_they_say():
    assert 0.90 <= _covered(0.7, 300, n_groups=100, per_group=1, told=True) <= 0.99
    assert 0.90 <= _covered(0.7, 300, n_groups=100, per_group=1, told=False) <= 0.99


@pytest.mark.usefixtures("drawn_once")
def test_only_resampling_groups_covers_where_rows_of_a_group_are_alike():
    by_group = _covered(0.7, 200, n_groups=40, per_group=6, told=True)
    by_row = _covered(0.7, 200, n_groups=40, per_group=6, told=False)
    assert by_group >= 0.88
    assert by_row <= 0.75


def test_cross_validation_answers_every_row_once_a_repeat_by_one_that_never_saw_it():
    data = tiny.splits(n_train=42, n_valid=18, n_test=30, grouped=True)
    seen, answered = [], []

    class Watched:
        def __init__(self, splits):
            self.known = {*splits.train.texts, *splits.valid.texts}
            self.groups = {*splits.train.groups, *splits.valid.groups}
            seen.append((splits, self))

        def predict_proba(self, texts):
            assert not self.known & set(texts)
            answered.extend(texts)
            return np.full((len(texts), 3), 1 / 3)

    scored = cross_validate({"watched": Watched}, data, k=5, repeats=2)["watched"]
    everything = [*data.train.texts, *data.valid.texts, *data.test.texts]
    assert sorted(answered) == sorted(everything * 2)
    assert sorted(scored.rows.texts) == sorted(everything)
    assert scored.proba.shape == (2, 90, 3) and len(seen) == 10
    assert not any(watched.groups & set(splits.test.groups) for splits, watched in seen)


def test_cross_validated_answers_stand_beside_their_own_rows():
    data = tiny.splits(n_train=42, n_valid=18, n_test=30)
    every = [(t, c) for part in data.parts for t, c in zip(part.texts, part.labels, strict=True)]
    truth = tiny.Fixed("truth", {t: np.eye(3)[c] for t, c in every})
    scored = cross_validate({"truth": lambda splits: truth, "majority": baseline.majority}, data, k=3, repeats=2)
    assert scored["truth"].accuracy == 1.0
    assert scored["majority"].accuracy < 0.6
    assert scored["truth"].rows is scored["majority"].rows


def test_a_predictor_is_called_by_its_own_name_unless_given_one():
    data = tiny.splits()
    assert evaluate(baseline.majority(data), data.valid).name == "majority class"
    assert evaluate(baseline.majority(data), data.valid, name="mine").name == "mine"
