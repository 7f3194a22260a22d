"""Reads a run's loss curves: healthy, underfitting, overfitting, erratic, or too short to tell (lessons 03 and 05).

Each rule compares one number out of the run with one named threshold, and says both. The thresholds are conventions,
chosen so that what passes them can be seen in the picture by eye; none of them was fitted to results.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ftkit import plots
from ftkit.display import Picture, Record, percent, points
from ftkit.findings import Finding
from ftkit.record import Run

HEALTHY, UNDER, OVER = "healthy", "underfitting", "overfitting"
ERRATIC, TOO_SHORT = "erratic", "too short to tell"
CODES = {UNDER: "FT062", OVER: "FT063", ERRATIC: "FT064"}

#: A curve has a direction from two epochs on, and two ends of training loss that do not overlap from 16 steps on.
MIN_EPOCHS, MIN_STEPS = 2, 16
#: Training loss is read as the means of this many stretches: a single batch says little.
STRETCHES = 8
#: Rise of the loss on valid above its lowest point, as a share of it, that counts as a rise.
RISE = 0.10
#: Share of its first stretch by which training loss must have fallen for anything to have been learned.
LEARNED = 0.10
#: Training loss below this share of the loss of blind guessing: nearly everything is learned, little is left to fall.
NEARLY_ALL = 0.15
#: Share of the last loss on valid that further epochs would still take off, if it went on slowing down as it did.
STILL_TO_GAIN = 0.10
#: How far training loss climbs back above its lowest stretch, as a share of the first stretch ...
CLIMB = 0.25
#: ... and in standard errors of a stretch's mean, so that the ordinary unrest of batches is not called erratic.
CLIMB_ERRORS = 5.0


class Reading(Record):
    """What a run's curves say, with the numbers that say it.

    Parameters
    ----------
    name : str
        The run.
    verdict : str
        `"healthy"`, `"underfitting"`, `"overfitting"`, `"erratic"` or `"too short to tell"`.
    because : str
        The evidence that decided, in a sentence or two.
    evidence : DataFrame
        One row a rule, in the order in which they were asked: its `verdict`, whether it `speaks_up`, what it `found`,
        and the `meaning` of that beyond its threshold. The first to speak up decided.
    findings : tuple of Finding
        FT062, FT063 or FT064, where the verdict is one of these.
    history : tuple of mapping
        The run's, one entry an epoch.
    best_epoch : int
        The epoch whose weights were kept.
    """

    name: str
    verdict: str
    because: str
    evidence: pd.DataFrame
    findings: tuple[Finding, ...]
    history: tuple[Mapping[str, float], ...]
    best_epoch: int

    def summary(self) -> str:
        return " ".join([f"{self.name}: {self.verdict}. {self.because}", *(f"({f.code})" for f in self.findings)])

    def frame(self) -> pd.DataFrame:
        """Return all rules that were asked, those that kept silent as well."""
        return self.evidence

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        loud = self.evidence.query("speaks_up")[["verdict", "found", "meaning"]]
        return [("Rules that spoke up", loud)] if len(loud) else []

    def picture(self) -> Picture:
        ax = plots.history(pd.DataFrame(self.history), best_epoch=self.best_epoch)
        return ax.figure, f"Loss by epoch: {self.verdict}. {self.because}"


def read_curve(run: Run) -> Reading:
    """Say whether a run's curves look healthy, underfitting, overfitting or erratic, and show the evidence.

    The rules are asked in this order, and the first that speaks up decides: erratic (a loss that is not finite,
    training loss that climbs back, a loss on valid that rises and comes back, answers that are all alike),
    overfitting (valid rises while training falls, and the answers no longer get better), underfitting (next to
    nothing learned, or much still to gain).

    Parameters
    ----------
    run : Run
        Its `losses` of every step and its `history` of every epoch are read; no model is asked anything.

    Returns
    -------
    Reading
        It shows the rules that spoke up; `frame()` has all of them.

    Notes
    -----
    L. Prechelt, Early Stopping - But When? (1998), measures overfitting as the rise of the validation loss above its
    lowest point so far, as is done here. That this loss can rise while answers still get better is shown by C. Guo et
    al., On Calibration of Modern Neural Networks (ICML 2017).
    """
    rules = pd.DataFrame(_rules(run), columns=["verdict", "speaks_up", "found", "meaning"])
    fine = (HEALTHY, True, "Training and valid loss both fell, and none of the signs of trouble showed.", "")
    verdict, _, found, meaning = next(rules.query("speaks_up").itertuples(index=False), fine)
    because = f"{found} {meaning}".strip()
    findings = (Finding(code=CODES[verdict], message=because),) if verdict in CODES else ()
    read = {"verdict": verdict, "because": because, "evidence": rules, "findings": findings}
    return Reading(name=run.name, history=run.history, best_epoch=run.best_epoch, **read)


def _rules(run: Run) -> list[tuple[str, bool, str, str]]:
    """Return each rule's verdict, whether it speaks up, what it found, and what that means beyond its threshold."""
    n_epochs, n_steps = len(run.history) - 1, len(run.losses)
    valid, right = pd.DataFrame(run.history)[["valid_loss", "accuracy"]].to_numpy().T
    broken = not np.isfinite([*run.losses, *valid]).all() or any(f.code == "FT055" for f in run.findings)
    found = "A loss was not a finite number." if broken else "Every loss was a finite number."
    told = f"A direction needs at least {MIN_EPOCHS} epochs and {MIN_STEPS} steps."
    short = n_epochs < MIN_EPOCHS or n_steps < MIN_STEPS
    one = (ERRATIC, broken, found, "One that is not means that the steps were far too large.")
    first = [one, (TOO_SHORT, short, f"Epochs: {n_epochs}; steps: {n_steps}.", told)]
    if broken or short:  # the others would measure nothing
        return first

    lowest, n_rows = int(np.argmin(valid)), len(run.data.valid)
    climb, in_errors, fell, ended_low = _training(run)
    to_gain, rise, gained = _still_to_gain(valid), valid[-1] / valid[lowest] - 1, right[-1] - right[lowest]
    # The largest rise that was followed by as large a fall, as a share of the lowest value before it.
    lows = np.minimum.accumulate(valid)
    back = float((np.minimum(valid - lows, valid - np.minimum.accumulate(valid[::-1])[::-1]) / lows).max())
    most = np.unique(run.data.valid.labels, axis=0, return_counts=True)[1].max() / n_rows
    one_error, error_of_most = (math.sqrt(share * (1 - share) / n_rows) for share in (right[lowest], most))
    constant = most + error_of_most  # what the most frequent answer scores, and one standard error more
    # Three things can be behind a rise of the loss on valid.
    if fell <= 0:
        rose, why = ERRATIC, "and training loss did not fall either"
    elif gained <= one_error:
        rose, why = OVER, "and accuracy is not up by a standard error: it learns its rows by heart"
    else:
        rose, why = HEALTHY, "but answers are better: it only grows too sure of itself, in its mistakes as well"
    climbed = f"Training loss climbed back by {percent(climb)} of where it began ({in_errors:.1f} standard errors)."
    unrest = f"More than {percent(CLIMB)} and {CLIMB_ERRORS:g} standard errors is more than the unrest of batches."
    wobble = f"More than {percent(RISE)} is more than a wobble."
    alike = f"At the end {percent(right[-1])} of valid are right; always the same class gets {percent(constant)}."
    no_good = f"No better than that, and less than {percent(LEARNED)} off training loss: the steps were far too large."
    since = f"Since epoch {lowest} the loss on valid rose by {percent(rise)}, and accuracy there changed by "
    since += f"{points(gained)} points (one standard error: {100 * one_error:.1f})."
    changed = f"From its first stretch to its last, training loss changed by {points(-fell)} %."
    too_little = f"A fall of less than {percent(LEARNED)} means that the steps were too small or too few."
    to_come = f"More epochs would take about {percent(to_gain)} off the loss on valid."
    falling = f"More than {percent(STILL_TO_GAIN)} means that it was still falling."
    return [
        *first,
        (ERRATIC, climb > CLIMB and in_errors > CLIMB_ERRORS, climbed, unrest),
        (ERRATIC, back > RISE, f"The loss on valid rose by {percent(back)} and came back down.", wobble),
        (ERRATIC, fell < LEARNED and right[-1] <= constant, alike, no_good),
        (rose, rise > RISE, since, f"More than {percent(RISE)} counts as a rise, {why}."),
        (UNDER, fell < LEARNED and not ended_low, changed, too_little),
        (UNDER, to_gain > STILL_TO_GAIN, to_come, falling),
    ]


def _training(run: Run) -> tuple[float, float, float, bool]:
    """Return training loss's climb (share of the start; standard errors), its fall (share), and if it ended low."""
    parts = np.array_split(run.losses, STRETCHES)
    means = np.array([part.mean() for part in parts])
    # Noise of one batch from differences of neighbours, by their median: a slow trend and a few spikes leave it alone.
    noise = float(np.median(np.abs(np.diff(run.losses)))) * 1.4826 / math.sqrt(2)
    error = noise * math.sqrt(2 / len(parts[-1]))  # of a difference of two stretches
    climb = float((means - np.minimum.accumulate(means)).max())
    in_errors = climb / error if error else math.inf * climb if climb else 0.0
    ended_low = bool(means[-1] < NEARLY_ALL * math.log(2 if run.data.kind == "multiple" else len(run.data.label_names)))
    return climb / means[0], in_errors, float(1 - means[-1] / means[0]), ended_low


def _still_to_gain(valid: np.ndarray) -> float:
    """Share of the last loss that would still come off if each fall were as much smaller as the last one was."""
    before, last = valid[-3] - valid[-2], valid[-2] - valid[-1]
    if before <= 0:  # it rose and came back: as much as both epochs brought together may come once more
        return float(max(0.0, last + before) / valid[-1])
    ratio = min(max(last, 0.0) / before, 0.9)  # a fall that does not slow down could go on for long
    return float(last * ratio / (1 - ratio) / valid[-1])
