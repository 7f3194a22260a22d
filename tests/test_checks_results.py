"""What is simple has to be beaten by more than chance; and a curve is read by rules that can be wrong in the open."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from ftkit.checks import check_baselines
from ftkit.checks.checked import FEW_LOOKS
from ftkit.checks.curves import ERRATIC, HEALTHY, OVER, TOO_SHORT, UNDER, read_curve
from ftkit.findings import Finding, FtkitError

N = 400


def answers(name, n_right, *, rows=None, first=0):
    """`n_right` of N rows right, beginning with row `first`."""
    rows = rows or tiny.yes_no(np.arange(N) % 2)
    return tiny.answered(name, rows, (np.arange(N) - first) % N < n_right)


def codes(checked):
    return [f.code for f in checked.findings]


def test_a_baseline_that_is_clearly_beaten_raises_no_alarm():
    rows = tiny.yes_no(np.arange(N) % 2)
    found = check_baselines(answers("TF-IDF", 200, rows=rows), answers("tuned", 320, rows=rows))
    assert codes(found) == []
    assert set(found.looked_for) == {"FT071", "FT072"}
    assert "tuned against TF-IDF" in found.summary()


def test_a_tuned_model_that_loses_is_told_not_to_tune():
    rows = tiny.yes_no(np.arange(N) % 2)
    found = check_baselines(answers("TF-IDF", 320, rows=rows), answers("tuned", 280, rows=rows))
    assert codes(found) == ["FT071"]
    assert "do not tune here" in found.findings[0].message and "-10.0 points" in found.findings[0].message


def test_a_gain_that_chance_could_bring_is_not_a_gain():
    """Five more right of 400, but on other rows: 20 lost and 25 won."""
    rows = tiny.yes_no(np.arange(N) % 2)
    found = check_baselines(answers("TF-IDF", 300, rows=rows), answers("tuned", 305, rows=rows, first=20))
    assert codes(found) == ["FT071"]
    assert "keep the simple one" in found.findings[0].message


def test_each_baseline_is_asked_and_only_the_unbeaten_are_named():
    rows = tiny.yes_no(np.arange(N) % 2)
    simple = [answers("majority", 200, rows=rows), answers("TF-IDF", 310, rows=rows)]
    found = check_baselines(simple, answers("tuned", 310, rows=rows))
    assert codes(found) == ["FT071"]
    assert "TF-IDF" in found.findings[0].message and "majority" not in found.findings[0].message


def test_a_score_on_valid_is_not_compared_with_one_on_test():
    from dataclasses import replace

    rows = tiny.yes_no(np.arange(N) % 2)
    other = replace(rows, name="valid", texts=tuple(f"other {t}" for t in rows.texts))
    with pytest.raises(FtkitError, match="FT070"):
        check_baselines(answers("TF-IDF", 200, rows=other), answers("tuned", 320, rows=rows))


@pytest.mark.parametrize(("split", "opened", "expected"), [("test", 0, []), ("test", 1, ["FT072"]), ("valid", 9, [])])
def test_test_may_be_opened_a_few_times_and_valid_as_often_as_you_like(split, opened, expected):
    from dataclasses import replace

    rows = replace(tiny.yes_no(np.arange(N) % 2), name=split)
    simple, tuned = (answers(n, k, rows=rows) for n, k in (("TF-IDF", 200), ("tuned", 320)))
    tuned = replace(tuned, opened=FEW_LOOKS + opened)
    assert codes(check_baselines(simple, tuned)) == expected


# --- read_curve: histories made on purpose ---------------------------------------------------------------------------


def run(valid, *, accuracy=None, train=None, steps_an_epoch=20, noise=0.05, seed=0, findings=(), n_labels=20):
    """A run with the given losses on valid, and a noisy training loss through the points of `train`, one an epoch."""
    n_epochs = len(valid) - 1
    train = train if train is not None else [valid[0], *valid[1:]]
    at = np.linspace(0, n_epochs, n_epochs * steps_an_epoch)
    losses = np.interp(at, range(len(train)), train) + np.random.default_rng(seed).normal(0, noise, len(at))
    accuracy = accuracy or [0.5 + 0.02 * e for e in range(len(valid))]
    history = tuple(
        {"epoch": e, "train_loss": float("nan") if not e else float(t), "valid_loss": v, "accuracy": a, "macro_f1": a}
        for e, (v, t, a) in enumerate(zip(valid, train, accuracy, strict=True))
    )
    rows = tiny.rows("valid", 300, seed=0)
    data = SimpleNamespace(kind="single", label_names=tuple(map(str, range(n_labels))), valid=rows)
    return SimpleNamespace(
        name="a run", losses=tuple(losses), history=history, best_epoch=n_epochs, data=data, findings=tuple(findings)
    )


GOOD = [3.0, 1.6, 1.25, 1.15, 1.12]


def test_a_curve_that_falls_and_levels_off_is_healthy():
    found = read_curve(run(GOOD))
    assert (found.verdict, found.findings) == (HEALTHY, ())
    assert not found.evidence["speaks_up"].any()


def test_losses_that_still_fall_at_the_end_are_underfitting():
    found = read_curve(run([3.0, 2.7, 2.42, 2.17]))
    assert found.verdict == UNDER and found.findings[0].code == "FT062"
    assert "still falling" in found.because


def test_a_loss_that_hardly_moves_is_underfitting():
    found = read_curve(run([3.0, 2.97, 2.95, 2.95]))
    assert found.verdict == UNDER and "too small or too few" in found.because


def test_a_loss_that_hardly_moves_because_all_is_learned_is_not():
    assert read_curve(run([0.10, 0.098, 0.097], noise=0.01)).verdict == HEALTHY


def test_valid_that_rises_while_train_falls_and_answers_do_not_get_better_is_overfitting():
    found = read_curve(
        run([3.0, 1.5, 1.4, 1.6, 1.9], train=[3.0, 1.2, 0.6, 0.2, 0.1], accuracy=[0.05, 0.6, 0.62, 0.62, 0.61])
    )
    assert found.verdict == OVER and found.findings[0].code == "FT063"
    assert "Since epoch 2" in found.because


def test_from_a_probe_the_first_epoch_may_be_the_one_that_overfits():
    found = read_curve(run([0.9, 1.0, 1.2], train=[0.8, 0.4, 0.1], accuracy=[0.7, 0.71, 0.7]))
    assert found.verdict == OVER and "Since epoch 0" in found.because


def test_a_rising_loss_with_better_answers_is_growing_too_sure_not_overfitting():
    """Guo et al. 2017: the loss can overfit while the answers still improve."""
    found = read_curve(run([0.9, 0.95, 1.1], train=[0.8, 0.4, 0.1], accuracy=[0.70, 0.74, 0.76]))
    assert found.verdict == HEALTHY and "too sure of itself" in found.because


def test_a_training_loss_that_climbs_back_is_erratic():
    found = read_curve(run([3.0, 2.0, 2.9, 2.95], train=[3.0, 1.8, 3.1, 3.0]))
    assert found.verdict == ERRATIC and found.findings[0].code == "FT064"
    assert "climbed back" in found.because


def test_a_loss_on_valid_that_goes_up_and_down_is_erratic():
    found = read_curve(run([3.0, 1.5, 2.2, 1.4, 2.0], train=[3.0, 1.6, 1.4, 1.3, 1.2]))
    assert found.verdict == ERRATIC and "came back down" in found.because


def test_a_start_that_is_first_thrown_away_and_then_found_again_is_erratic():
    found = read_curve(run([2.05, 4.1, 2.1], train=[2.0, 1.9, 1.5], accuracy=[0.47, 0.23, 0.42]))
    assert found.verdict == ERRATIC and "came back down" in found.because


def test_a_model_that_answers_always_alike_is_erratic_not_underfitting():
    """Measured at a rate of 0.01: the loss stays at blind guessing, and more of the same would not help."""
    found = read_curve(run([3.04, 3.07, 3.05, 3.05], accuracy=[0.33, 0.33, 0.34, 0.33]))
    assert found.verdict == ERRATIC and "always the same class" in found.because


def test_a_loss_that_rises_on_valid_and_on_train_is_erratic_not_overfitting():
    found = read_curve(run([2.0, 2.3, 2.5], train=[2.0, 2.2, 2.4]))
    assert found.verdict == ERRATIC and "did not fall either" in found.because


def test_a_loss_that_is_not_finite_is_erratic_however_short_the_run():
    broken = run([3.0, 1.5], findings=[Finding(code="FT055", message="the loss was nan at step 3")])
    assert read_curve(broken).verdict == ERRATIC
    broken = run(GOOD)
    broken.losses = (*broken.losses, float("nan"))
    assert read_curve(broken).verdict == ERRATIC


@pytest.mark.parametrize("changes", [{"valid": [3.0, 1.5]}, {"valid": [3.0, 1.5, 1.4], "steps_an_epoch": 7}])
def test_a_short_run_is_not_judged(changes):
    found = read_curve(run(**changes))
    assert (found.verdict, found.findings) == (TOO_SHORT, ())
    assert "at least 2 epochs and 16 steps" in found.because and len(found.frame()) == 2


def test_a_run_of_exactly_the_least_length_is_judged():
    assert read_curve(run([3.0, 1.5, 1.4], steps_an_epoch=8)).verdict != TOO_SHORT


@pytest.mark.parametrize("noise", [0.02, 0.2, 0.4])
def test_the_unrest_of_batches_is_not_called_erratic(noise):
    verdicts = [read_curve(run(GOOD, noise=noise, seed=seed)).verdict for seed in range(100)]
    assert verdicts.count(HEALTHY) >= 99


def test_unrest_on_a_flat_training_loss_is_not_called_erratic():
    """A start from a probe falls little; its batches differ as much as anyone's."""
    found = [
        read_curve(run([0.9, 0.85, 0.84], train=[0.8, 0.6, 0.5], noise=0.25, seed=seed)).verdict for seed in range(100)
    ]
    assert found.count(ERRATIC) <= 1


def test_a_large_climb_is_found_in_noise():
    verdicts = [
        read_curve(run([3.0, 2.0, 2.9, 2.95], train=[3.0, 1.8, 3.1, 3.0], noise=0.2, seed=s)).verdict for s in range(50)
    ]
    assert verdicts.count(ERRATIC) == 50


def test_a_reading_shows_the_rules_that_spoke_up_and_keeps_them_all():
    found = read_curve(run(GOOD))
    assert found.tables() == [], "nothing spoke up, so there is nothing to list"
    assert len(found.frame()) == len(found.evidence) == 8 and not found.frame()["speaks_up"].any()
    figure, alt = found.picture()
    assert figure.axes and alt.startswith("Loss by epoch: healthy.")
    found = read_curve(run([3.0, 2.7, 2.42, 2.17]))
    ((_, shown),) = found.tables()
    assert list(shown["verdict"]) == ["underfitting"] and "More than 10.0 %" in shown["meaning"].iloc[0]
    assert len(found.frame()) == 8 and "FT062" in found.summary()
