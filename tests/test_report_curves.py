"""A curve shows every seed, and claims a difference only where the seeds allow it."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from ftkit import baseline
from ftkit.report import Curve, score_curve


def curve(scores, **changes):
    scores = np.asarray(scores, dtype=float)
    given = {
        "values": tuple(range(1, len(scores) + 1)),
        "seeds": tuple(range(scores.shape[1])),
        "scores": scores,
        "seconds": np.ones_like(scores),
        "x_label": "blocks that move",
        "scored_on": "the 300 valid rows",
    }
    return Curve(**{**given, **changes})


def test_each_value_is_made_with_each_seed_and_scored_on_the_rows():
    data, asked = tiny.splits(), []

    def make(value, seed):
        asked.append((value, seed))
        return {"majority": baseline.majority, "tfidf": baseline.tfidf}[value](data)

    found = score_curve(make, ["majority", "tfidf"], data.valid, seeds=(3, 4), x_label="baseline")
    assert asked == [("majority", 3), ("majority", 4), ("tfidf", 3), ("tfidf", 4)]
    assert found.scores.shape == found.seconds.shape == (2, 2)
    assert found.best == "tfidf" and found.scores[0, 0] == pytest.approx(1 / 3)
    assert (found.seconds > 0).all()
    assert data.valid.opened == 4 and data.test.opened == 0


def test_only_one_predictor_is_alive_at_a_time():
    import weakref

    data, made = tiny.splits(), []

    class Alike:
        def predict_proba(self, texts):
            return np.full((len(texts), 3), 1 / 3)

    def make(value, seed):
        assert all(ref() is None for ref in made), "the one before was kept"
        predictor = Alike()
        made.append(weakref.ref(predictor))
        return predictor

    score_curve(make, [1, 2], data.valid, x_label="anything")
    assert len(made) == 6


def test_a_clear_difference_is_told_with_its_interval():
    found = curve([[0.70, 0.71, 0.70], [0.80, 0.805, 0.80]])
    gap, (low, high) = found.difference(2, 1)
    assert gap == pytest.approx(0.0983, abs=1e-3) and 0 < low < gap < high
    assert found.told_apart and "can tell them apart" in found.summary()


def test_the_interval_is_students_for_paired_differences():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    scores = rng.normal(0.7, 0.02, (2, 5))
    _, ends = curve(scores).difference(1, 2)
    expected = ttest_rel(scores[0], scores[1]).confidence_interval(0.95)
    assert ends == pytest.approx((expected.low, expected.high))


def test_overlapping_seeds_are_not_told_apart():
    found = curve([[0.70, 0.74, 0.71], [0.73, 0.70, 0.75]])
    assert not found.told_apart
    assert "cannot tell them apart" in found.summary()


@pytest.mark.parametrize(
    ("scores", "words"),
    [([[0.7], [0.9]], "one seed cannot tell"), ([[0.7] * 3, [0.9] * 3], "say nothing about luck")],
)
def test_without_spread_nothing_is_claimed_however_large_the_gap(scores, words):
    found = curve(scores)
    assert not found.told_apart and found.difference(2, 1)[1] is None
    assert words in found.summary()


@pytest.mark.parametrize("n_values", [2, 5])
def test_equal_values_are_called_different_about_one_time_in_twenty_or_less(n_values):
    rng = np.random.default_rng(1)
    called = sum(curve(rng.normal(0.7, 0.02, (n_values, 3))).told_apart for _ in range(400))
    assert called <= 33  # a twentieth of 400, and three standard errors


def test_it_shows_every_seed_the_means_and_the_reference():
    found = curve([[0.70, 0.72], [0.75, 0.77]], reference=("frozen probe", 0.69))
    assert "frozen probe has 69.0 %" in found.summary()
    assert found.tables()[0][1]["each seed"].tolist() == ["70.0, 72.0", "75.0, 77.0"]
    figure, alt = found.picture()
    (ax,) = figure.axes
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(dots) == 2 and dots[0].get_ydata() == pytest.approx([70, 75])
    assert ax.lines[0].get_ydata() == pytest.approx([71, 76])
    assert ax.get_legend().get_texts()[0].get_text() == "frozen probe"
    assert "1: 71.0 %; 2: 76.0 %" in alt and "dashed line is frozen probe" in alt


def test_its_frame_has_one_row_for_each_value_and_seed():
    frame = curve([[0.70, 0.72], [0.75, 0.77]], values=("head", "top 2"), seeds=(5, 6)).frame()
    assert frame["value"].tolist() == ["head", "head", "top 2", "top 2"]
    assert frame["seed"].tolist() == [5, 6, 5, 6]
    assert frame["score"].tolist() == [0.70, 0.72, 0.75, 0.77]


@pytest.mark.parametrize(
    ("values", "scale"), [((16, 64, 200), "log"), ((0, 2, 6), "linear"), (("a", "b", "$"), "linear")]
)
def test_numbers_are_drawn_to_scale_and_names_side_by_side(values, scale):
    ax = curve([[0.1], [0.2], [0.3]], values=values).picture()[0].axes[0]
    assert ax.get_xscale() == scale
    assert list(ax.get_xticks()) == (list(values) if isinstance(values[0], int) else [0, 1, 2])


def test_no_line_joins_names_since_nothing_lies_between_them():
    means = curve([[0.1, 0.2], [0.2, 0.3]], values=("random", "pretrained")).picture()[0].axes[0].lines[0]
    assert means.get_linestyle() == "None" and means.get_ydata() == pytest.approx([15, 25])


def test_a_single_value_is_shown_and_compared_with_nothing():
    found = curve([[0.7, 0.71, 0.72]])
    assert not found.told_apart and "second" not in found.summary()


def test_nothing_to_try_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        curve(np.zeros((0, 1)), values=())
