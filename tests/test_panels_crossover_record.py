"""A crossover answers for an amount of data, and claims no more than its seeds allow."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from ftkit import display
from ftkit.report import Curve
from panels.crossover import Crossover, crossover

NAMES = ("simple", "middle", "tuned")


def found(scores, sizes=(4, 16, 48), names=NAMES, seeds=(0, 1, 2)):
    """A crossover of scores, shape (n_sizes, n_strategies, n_seeds)."""
    scores = np.asarray(scores, dtype=float)
    told = {"values": names, "seeds": seeds, "x_label": "strategy", "scored_on": "the 300 valid rows"}
    curves = {n: Curve(scores=s, seconds=np.ones_like(s), **told) for n, s in zip(sizes, scores, strict=True)}
    return Crossover(curves=curves)


NOISE = np.array([0.0, 0.001, 0.002])
CLEAR = found(
    [
        [0.50 + NOISE, 0.40 + NOISE[::-1], 0.30 + NOISE[[1, 0, 2]]],
        [0.55 + NOISE, 0.60 + NOISE[::-1], 0.50 + NOISE[[1, 0, 2]]],
        [0.60 + NOISE, 0.65 + NOISE[::-1], 0.80 + NOISE[[1, 0, 2]]],
    ]
)


class Right:
    """Answers the first `n` rows right."""

    def __init__(self, rows, n):
        self.proba = np.eye(3)[np.where(np.arange(len(rows)) < n, rows.labels, (rows.labels + 1) % 3)]

    def predict_proba(self, texts):
        return self.proba


def test_every_strategy_is_measured_with_every_amount_and_the_same_seeds():
    rows, asked = tiny.splits().valid, []

    def maker(name, bonus):
        def make(n, seed):
            asked.append((name, n, seed))
            return Right(rows, n + bonus + seed)

        return make

    measured = crossover({"a": maker("a", 0), "b": maker("b", 6)}, (8, 2), rows, seeds=(0, 1))
    assert sorted(asked) == [(name, n, seed) for name in "ab" for n in (2, 8) for seed in (0, 1)]
    assert list(measured.curves) == [2, 8], "ascending"
    assert measured.curves[8].values == ("a", "b")
    assert measured.curves[8].scores * 30 == pytest.approx(np.array([[8, 9], [14, 15]]))
    assert rows.opened == 8 and measured.seconds > 0
    assert measured.frame().shape == (8, 5) and "the 30 valid rows" in measured.summary()


@pytest.mark.parametrize(
    ("n", "best", "second"), [(4, "simple", "middle"), (16, "middle", "simple"), (48, "tuned", "middle")]
)
def test_the_best_is_said_to_be_ahead_where_the_seeds_can_tell(n, best, second):
    answer = CLEAR.answer(n)
    assert answer.startswith(f"With {n} rows of a class: {best} is ahead. Highest mean over 3 seeds: {best}")
    assert f"points above the second best, {second}, and the seeds can tell them apart" in answer


def test_the_nearest_amount_by_factors_stands_for_one_that_was_not_measured():
    assert CLEAR.answer(9).startswith("With 16 rows of a class, the nearest to 9 that was measured: middle")
    assert CLEAR.answer(7).startswith("With 4 rows of a class, the nearest to 7 that was measured: simple")
    assert CLEAR.answer(1_000).startswith("With 48 rows")


def test_where_the_seeds_cannot_tell_it_says_so():
    scores = [[[0.70, 0.74, 0.71], [0.10, 0.11, 0.12], [0.73, 0.70, 0.75]]]
    answer = found(scores, sizes=(16,)).answer(16)
    assert answer.startswith("With 16 rows of a class: cannot tell tuned from simple.")
    one = found([[[0.7], [0.1], [0.9]]], sizes=(16,), seeds=(0,)).answer(16)
    assert "cannot tell tuned from simple" in one and "one seed cannot tell" in one


def test_the_best_is_also_compared_with_the_simplest_or_with_what_is_asked():
    simplest, asked = CLEAR.answer(48), CLEAR.answer(48, against="middle")
    assert "20.0 points above simple, and the seeds can tell" in simplest
    assert "above simple" not in asked and "15.0 points above the second best, middle" in asked
    itself = CLEAR.answer(48, against="tuned")
    assert "tuned and tuned" not in itself and "above tuned" not in itself


def test_it_says_between_which_amounts_the_lines_cross():
    answer = CLEAR.answer(48)
    assert "The lines of tuned and middle cross between 16 and 48." in answer
    assert "The lines of tuned and simple cross between 16 and 48." in answer
    assert "The lines of simple and middle cross between 4 and 16." in CLEAR.answer(4)
    twice = found([[[0.5], [0.6]], [[0.7], [0.6]], [[0.5], [0.6]]], names=("a", "b"), seeds=(0,))
    assert "cross between 4 and 16 and between 16 and 48." in twice.answer(4)
    never = found([[[0.5], [0.6]], [[0.5], [0.6]], [[0.5], [0.7]]], names=("a", "b"), seeds=(0,))
    assert "The lines of b and a cross nowhere." in never.answer(4)


def test_the_picture_has_a_line_a_strategy_told_apart_by_stroke_and_marker_and_every_seed():
    figure, told = CLEAR.picture()
    (ax,) = figure.axes
    lines = [line for line in ax.lines if len(line.get_xdata()) == 3 and line.get_linestyle() != "None"]
    assert [line.get_label() for line in lines] == list(NAMES)
    assert len({line.get_linestyle() for line in lines}) == len({line.get_marker() for line in lines}) == 3
    assert lines[2].get_ydata() == pytest.approx([30.1, 50.1, 80.1])
    faint = [line for line in ax.lines if line.get_alpha()]
    assert sum(len(line.get_ydata()) for line in faint) == 27
    assert ax.get_xscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == ["4", "16", "48"]
    assert "tuned with 48" in told and ax.get_xlabel() == "rows of a class"
    assert "data:image/png;base64," in display.figure_html(figure, told)


def test_the_table_has_every_amount_strategy_and_seed():
    ((caption, frame),) = CLEAR.tables()
    assert frame["rows"].tolist() == [4] * 3 + [16] * 3 + [48] * 3 and frame["strategy"].tolist() == [*NAMES] * 3
    assert frame["each seed"].tolist()[0] == "50.0, 50.1, 50.2" and caption
    assert CLEAR.seconds == 27


def test_amounts_may_have_other_seeds_while_it_is_being_measured():
    fewer = found([[[0.5, 0.6], [0.6, 0.7]]], sizes=(4,), names=("a", "b"), seeds=(0, 1))
    more = found([[[0.5], [0.6]]], sizes=(16,), names=("a", "b"), seeds=(0,))
    partly = Crossover(curves=fewer.curves | more.curves)
    assert len(partly.frame()) == 6 and partly.picture() and "with 16" in partly.summary()


def test_before_anything_is_measured_it_claims_nothing():
    blank = Crossover(curves={})
    assert "Nothing can be compared yet" in blank.answer(4) and blank.summary() == "Nothing was measured yet."
    assert blank.tables() == [] and blank.picture() is None and blank.frame().empty and blank.seconds == 0


def test_names_are_text_whatever_they_say():
    bad = "<img src=x onerror=alert(1)>$"
    shown = found([[[0.5], [0.6]]], sizes=(4,), names=(bad, "b"), seeds=(0,))._repr_html_()
    assert "<img src=x" not in shown and display.escape(bad) in shown
