"""A verdict is given where test and interval agree, and equal predictors are seldom called different."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tiny

from ftkit import baseline, evaluation, report
from ftkit.data import Rows
from ftkit.evaluation import Evaluation, evaluate
from ftkit.findings import FtkitError
from ftkit.report import BETTER, CANNOT_TELL, WORSE, compare, scoreboard


def test_a_famous_difference_of_five_items_in_300_cannot_be_told_from_chance():
    """95.00 % against 96.67 % of 300 messages, in the best case for the better one: it loses nothing."""
    rows = tiny.yes_no(np.arange(300) % 2)
    before, after = (tiny.answered(f"{k} right", rows, np.arange(300) < k) for k in (285, 290))
    found = compare(before, after)
    assert (before.accuracy, round(after.accuracy, 4)) == (0.95, 0.9667)
    assert found.p_value == pytest.approx(0.0625)
    assert found.verdict == CANNOT_TELL
    assert "cannot tell" in found.summary() and "+1.7" in found.summary()


@pytest.mark.parametrize("seed", range(10))
def test_the_exact_test_is_mcnemars(seed):
    from statsmodels.stats.contingency_tables import mcnemar

    rng = np.random.default_rng(seed)
    rows = tiny.yes_no(rng.integers(0, 2, 120))
    a, b = rng.random((2, 120)) < [[0.7], [0.6 + seed / 30]]
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    found = compare(tiny.answered("a", rows, a), tiny.answered("b", rows, b))
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue)


def test_as_many_rows_as_are_said_to_be_needed_find_a_gain_in_four_of_five_cases():
    from scipy.stats import binomtest

    rng, changed, gain = np.random.default_rng(0), 0.12, 0.04
    share = [(changed + gain) / 2, (changed - gain) / 2]

    def pair(n):
        drawn = rng.random(n)
        return drawn < 1 - share[0], (drawn < 1 - changed) | (drawn >= 1 - share[0])  # before, after

    rows = tiny.yes_no(np.zeros(20_000, dtype=int))
    n = compare(
        *(tiny.answered(name, rows, right) for name, right in zip("ab", pair(20_000), strict=True))
    ).rows_needed(gain)
    assert n == pytest.approx(585, rel=0.1), "as the formula gives for these shares"
    found = 0
    for _ in range(400):
        before, after = pair(n)
        won, lost = int((after & ~before).sum()), int((before & ~after).sum())
        found += binomtest(won, won + lost).pvalue < 0.05
    assert 0.72 < found / 400 < 0.88


def test_rows_of_a_group_that_change_together_count_as_one():
    before, after = (np.arange(600) % 10 < k for k in (7, 8))
    alone = compare(
        *(
            tiny.answered(n, tiny.yes_no(np.zeros(600, dtype=int)), r)
            for n, r in zip("ab", (before, after), strict=True)
        )
    )
    fours = tiny.yes_no(np.zeros(2400, dtype=int), groups=tuple(str(i // 4) for i in range(2400)))
    grouped = compare(*(tiny.answered(n, fours, np.repeat(r, 4)) for n, r in zip("ab", (before, after), strict=True)))
    assert grouped.rows_needed(0.02) == pytest.approx(4 * alone.rows_needed(0.02), rel=0.01)


def test_an_open_verdict_says_how_many_rows_would_settle_it_and_a_clear_one_does_not():
    rows = tiny.yes_no(np.arange(300) % 2)
    none, five, many = (tiny.answered(f"{k} right", rows, np.arange(300) < k) for k in (285, 290, 180))
    found = compare(none, five)
    assert f"about {found.rows_needed(0.02):,} such rows" in found.summary()
    assert compare(none, none).rows_needed(0.02) > 300, "where nothing changed, as if as many changed as are to gain"
    assert "such rows" not in compare(many, five).summary()


def test_equal_answers_leave_nothing_to_tell():
    for groups in (None, tuple("aabbccdd")):
        rows = tiny.yes_no([0, 1] * 4, groups=groups)
        one = tiny.answered("one", rows, [True] * 6 + [False] * 2)
        assert compare(one, one).p_value == 1.0
        assert compare(one, one).verdict == CANNOT_TELL


@pytest.fixture
def drawn_once(monkeypatch):
    """Draw the resamples once, not once a comparison: they are the same each time, and most of the work."""
    monkeypatch.setattr(evaluation, "resample_weights", functools.cache(evaluation.resample_weights))


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize("per_group", [1, 5])
def test_equally_good_predictors_are_called_different_at_most_one_time_in_ten(per_group):
    rng = np.random.default_rng(per_group)
    groups = tuple(str(i // per_group) for i in range(300)) if per_group > 1 else None
    rows = tiny.yes_no(np.zeros(300, dtype=int), groups=groups)
    called = 0
    for _ in range(100):
        a, b = np.repeat(rng.random((2, 300 // per_group)) < 0.7, per_group, axis=1)
        called += compare(tiny.answered("a", rows, a), tiny.answered("b", rows, b)).verdict != CANNOT_TELL
    assert called <= 10


@pytest.mark.usefixtures("drawn_once")
def test_without_groups_alike_rows_would_call_equal_predictors_different():
    rng = np.random.default_rng(5)
    rows, called = tiny.yes_no(np.zeros(300, dtype=int)), 0
    for _ in range(100):
        a, b = np.repeat(rng.random((2, 60)) < 0.7, 5, axis=1)
        called += compare(tiny.answered("a", rows, a), tiny.answered("b", rows, b)).verdict != CANNOT_TELL
    assert called > 20


@pytest.mark.parametrize("grouped", [False, True])
def test_ten_points_on_a_thousand_rows_are_found_and_their_sign_is_told(grouped):
    rng = np.random.default_rng(0)
    groups = tuple(str(i // 4) for i in range(1000)) if grouped else None
    rows = tiny.yes_no(rng.integers(0, 2, 1000), groups=groups)
    low, high = (tiny.answered(n, rows, rng.random(1000) < p) for n, p in (("low", 0.7), ("high", 0.8)))
    assert compare(low, high).verdict == BETTER
    assert compare(high, low).verdict == WORSE
    assert "high is better than low" in compare(low, high).summary()
    assert "low is worse than high" in compare(high, low).summary()


def test_swapping_the_two_turns_the_sign_and_keeps_the_p_value():
    rng = np.random.default_rng(1)
    rows = tiny.yes_no(rng.integers(0, 2, 200), groups=tuple(str(i // 4) for i in range(200)))
    a, b = (tiny.answered(n, rows, rng.random(200) < 0.7) for n in "ab")
    there, back = compare(a, b), compare(b, a)
    assert there.p_value == back.p_value
    for metric in ("accuracy", "macro_f1"):
        assert there.difference(metric) == -back.difference(metric)
        assert there.interval(metric) == pytest.approx([-e for e in reversed(back.interval(metric))], abs=1e-6)


def test_the_permutation_test_agrees_with_mcnemar_where_both_apply():
    rng = np.random.default_rng(2)
    labels, a, b = rng.integers(0, 2, 200), rng.random(200) < 0.6, rng.random(200) < 0.7
    single, alone = (tiny.yes_no(labels, groups=g) for g in (None, tuple(map(str, range(200)))))
    exact, flipped = (compare(tiny.answered("a", r, a), tiny.answered("b", r, b)).p_value for r in (single, alone))
    assert 0.001 < exact < 0.5
    assert flipped == pytest.approx(exact, abs=0.02)


def test_many_alike_rows_of_few_groups_prove_little():
    """Twenty rows won in each of three groups: 60 wins by row, three by group, which chance gives twice in eight."""
    groups = tuple(str(i // 20) for i in range(60))
    rows = tiny.yes_no([0] * 60, groups=groups)
    found = compare(tiny.answered("a", rows, [False] * 60), tiny.answered("b", rows, [True] * 60))
    assert found.p_value == pytest.approx(2 / 8, abs=0.02)
    assert found.verdict == CANNOT_TELL


def test_repeats_are_averaged_before_they_are_compared():
    rows = tiny.yes_no([0, 1] * 30)
    rng = np.random.default_rng(3)
    a, b = (tiny.answered(n, rows, rng.random((3, 60)) < 0.7) for n in "ab")
    assert compare(a, b).difference() == pytest.approx(b.correct.mean() - a.correct.mean())
    assert 0 < compare(a, b).p_value <= 1


def test_predictors_that_answered_different_rows_cannot_be_compared():
    data = tiny.splits()
    majority = baseline.majority(data)
    with pytest.raises(FtkitError, match="FT070"):
        compare(evaluate(majority, data.valid), evaluate(majority, data.test))
    with pytest.raises(FtkitError, match="FT070"):
        scoreboard(*(evaluate(majority, rows) for rows in (data.test, data.test, data.valid)))
    with pytest.raises(FtkitError, match="FT070"):
        compare(majority, majority)


def test_rows_with_equal_numbers_and_labels_but_other_texts_are_different_rows():
    one, other = (tiny.rows("test", 12, seed=seed) for seed in (1, 2))
    assert one.ids == other.ids and np.array_equal(one.labels, other.labels)
    majority = baseline.majority(tiny.splits())
    with pytest.raises(FtkitError, match="FT070"):
        compare(evaluate(majority, one), evaluate(majority, other))


def test_predictors_are_scored_on_the_rows_that_are_given():
    data = tiny.splits()
    found = compare(baseline.majority(data), baseline.tfidf(data), rows=data.test)
    assert found.before.rows is found.after.rows is data.test
    assert data.test.opened == 2


def _changed_pair() -> report.Comparison:
    """Six rows in four groups: 0, 1 and 2 become right (0 and 1 in one group), 3 becomes wrong, 4 and 5 stay."""
    rows = Rows(
        name="test",
        texts=tuple(f"row {i}" for i in range(6)),
        labels=[0, 1, 2, 0, 1, 2],
        label_names=("x", "y", "z"),
        groups=("a", "a", "b", "c", "d", "d"),
    )
    sure = np.array([0.8, 0.9, 0.7, 0.6, 0.9, 0.9])[:, None]
    before, after = (
        Evaluation(name=name, proba=(sure * np.eye(3)[list(answers)] + (1 - sure) / 3)[None], rows=rows)
        for name, answers in (("before", (1, 0, 0, 0, 1, 0)), ("after", (0, 1, 2, 1, 1, 1)))
    )
    return compare(before, after)


def test_changed_lists_rows_that_became_right_surest_first_and_one_of_a_group():
    assert _changed_pair().changed().frame()["text"].tolist() == ["row 1", "row 2"]
    assert _changed_pair().changed(1).frame()["text"].tolist() == ["row 1"]
    first = _changed_pair().changed().frame().iloc[0]
    assert (first["label"], first["before"], first["after"]) == ("y", "x", "y")


def test_changed_lists_rows_that_became_wrong():
    assert _changed_pair().changed(to="wrong").frame()["text"].tolist() == ["row 3"]


def test_changed_refuses_what_it_cannot_list():
    with pytest.raises(ValueError, match="to:"):
        _changed_pair().changed(to="better")
    data = tiny.splits(kind="multiple")
    many = evaluate(baseline.majority(data), data.test)
    with pytest.raises(ValueError, match="multiple"):
        compare(many, many).changed()


def test_a_scoreboard_names_the_best_and_shows_all():
    data = tiny.splits()
    board = scoreboard(*(evaluate(b, data.test) for b in (baseline.majority(data), baseline.tfidf(data))))
    assert "TF-IDF" in board.summary()
    assert board.frame()["predictor"].tolist() == ["majority class", "TF-IDF + logistic regression"]


def test_changed_rows_say_how_many_there_are_and_escape_their_texts():
    shown = _changed_pair().changed(1)
    assert shown.summary().startswith("3 answers became right; here are 1")
    assert shown.frame()["confidence"].dtype == float and "%" in repr(shown)
    assert "<caption>Became right</caption>" in shown._repr_html_()
