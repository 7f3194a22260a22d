"""What several seeds say: a score as a curve over some setting, or one way of training in repeats (lessons 03 to 06).

However many are trained, only one model is in memory at a time.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ftkit import plots
from ftkit.data import Rows
from ftkit.display import Picture, Record, percent, points, seconds
from ftkit.evaluation import Evaluation, Predictor, evaluate

LEVEL = 0.95  # coverage of the interval of a difference over seeds


class Curve(Record):
    """Scores for some values of one setting, each tried with the same seeds.

    Parameters
    ----------
    values : tuple
        What was tried, in order: numbers, or names.
    seeds : tuple of int
    scores : numpy.ndarray, shape (n_values, n_seeds)
        Accuracy, as a share of one.
    seconds : numpy.ndarray, shape (n_values, n_seeds)
        How long each took to make.
    x_label : str
        What the values are.
    scored_on : str
        Which rows the scores come from.
    reference : tuple of str and float, optional
        A name and a score to compare with, such as the probe's.
    """

    values: tuple[Any, ...]
    seeds: tuple[int, ...]
    scores: np.ndarray
    seconds: np.ndarray
    x_label: str
    scored_on: str
    reference: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        if not self.scores.size:
            raise ValueError("values and seeds: expected at least one of each")

    @property
    def means(self) -> np.ndarray:
        """Mean score of each value over the seeds, shape (n_values,)."""
        return self.scores.mean(axis=1)

    @property
    def best(self) -> Any:
        """The value with the highest mean score; the first of them where several are equal."""
        return self.values[int(np.argmax(self.means))]

    def difference(self, one: Any, other: Any) -> tuple[float, tuple[float, float] | None]:
        """Return how much `one` scored above `other`, and the interval of that mean difference over the seeds.

        The same seed draws the same order of rows, so differences are taken seed by seed; the interval is Student's
        (1908) for the mean of a few. None where the seeds cannot give one: a single seed, or the same difference
        for each.

        Parameters
        ----------
        one, other
            Two of `values`.
        """
        from scipy.stats import sem, t

        gaps = self.scores[self.values.index(one)] - self.scores[self.values.index(other)]
        if len(gaps) < 2 or np.ptp(gaps) == 0:
            return float(gaps.mean()), None
        low, high = t.interval(LEVEL, len(gaps) - 1, gaps.mean(), sem(gaps))
        return float(gaps.mean()), (float(low), float(high))

    @property
    def told_apart(self) -> bool:
        """Whether the seeds allow to say that the best value is better than the second best."""
        ends = self.difference(self.best, self.second)[1] if len(self.values) > 1 else None
        return ends is not None and ends[0] > 0

    @property
    def second(self) -> Any:
        """The value with the second highest mean score."""
        return self.values[int(np.argsort(-self.means, kind="stable")[1])]

    def summary(self) -> str:
        n = f"{len(self.seeds)} seed{'s' if len(self.seeds) > 1 else ''}"
        best = f"{self.best} ({self.x_label}) with {percent(self.means.max())} of {self.scored_on} right."
        second = f" {self.above(self.second, f'the second best, {self.second}')}" if len(self.values) > 1 else ""
        reference = f" {self.reference[0]} has {percent(self.reference[1])}." if self.reference else ""
        return f"Highest mean over {n}: {best}{second}{reference}"

    def above(self, other: Any, name: str) -> str:
        """Return in words how far the best value is above `other`, called `name`, and whether the seeds can tell."""
        gap, ends = self.difference(self.best, other)
        lead = f"That is {100 * gap:.1f} points above {name}"
        if ends is None:
            one = "one seed cannot tell whether that is more than the luck of a draw"
            alike = "every seed gave the same difference, so they say nothing about luck"
            return f"{lead}; {one if len(self.seeds) < 2 else alike}."
        told = ", and the seeds can tell" if ends[0] > 0 else "; the seeds cannot tell"
        return f"{lead}{told} them apart ({LEVEL:.0%} interval over the seeds {' to '.join(map(points, ends))})."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [
            (str(value), percent(scores.mean()), ", ".join(f"{100 * s:.1f}" for s in scores), seconds(took.mean()))
            for value, scores, took in zip(self.values, self.scores, self.seconds, strict=True)
        ]
        frame = pd.DataFrame(rows, columns=[self.x_label, "mean accuracy", "each seed", "mean time"])
        return [(f"Accuracy on {self.scored_on}, seeds {', '.join(map(str, self.seeds))}", frame)]

    def frame(self) -> pd.DataFrame:
        """Return one row for each value and seed: `value`, `seed`, `score`, `seconds`."""
        frame = pd.MultiIndex.from_product([self.values, self.seeds], names=["value", "seed"]).to_frame(index=False)
        return frame.assign(score=self.scores.ravel(), seconds=self.seconds.ravel())

    def picture(self) -> Picture:
        told = "; ".join(f"{v}: {percent(m)}" for v, m in zip(self.values, self.means, strict=True))
        dashed = f" The dashed line is {self.reference[0]}." if self.reference else ""
        reference = self.reference and (self.reference[0], 100 * self.reference[1])
        scores = 100 * self.scores
        ax = plots.curve(self.values, scores, x_label=self.x_label, label="accuracy (%)", reference=reference)
        return ax.figure, f"Each dot is one seed, the line their mean ({told}).{dashed}"


def score_curve(
    make: Callable[[Any, int], Predictor],
    values: Sequence[Any],
    rows: Rows,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    x_label: str,
    reference: tuple[str, float] | None = None,
) -> Curve:
    """Make a predictor for each value of a setting and each seed, and score it on the same rows.

    Only one predictor is kept at a time. To choose a value, give `data.valid`: the best of several scores on *test*
    is too high, because it was chosen for being high.

    Parameters
    ----------
    make : function of a value and a seed
        Returns a predictor, such as a run; how long it takes is measured.
    values : sequence
        What to try: numbers, or names.
    rows : Rows
        Where to score, usually `data.valid`.
    seeds : sequence of int
        Three or more say something about luck; one says nothing.
    x_label : str
        What the values are.
    reference : tuple of str and float, optional
        A name and a score, drawn as a dashed line.
    """
    scores, took = np.zeros((2, len(values), len(seeds)))
    for i, value in enumerate(values):
        for j, seed in enumerate(seeds):
            began = time.perf_counter()
            predictor = make(value, seed)
            if getattr(predictor, "stopped", None) == "interrupted":  # half a run is no measurement
                raise KeyboardInterrupt
            took[i, j] = time.perf_counter() - began
            scores[i, j] = evaluate(predictor, rows).accuracy
            del predictor  # before the next one is made: two tuned models at a time are one too many
    measured = {"scores": scores, "seconds": took, "scored_on": f"the {len(rows)} {rows.name} rows"}
    return Curve(values=tuple(values), seeds=tuple(seeds), x_label=x_label, reference=reference, **measured)


def over_seeds(
    make: Callable[[int], Predictor], *parts: Rows, seeds: Sequence[int] = (0, 1, 2), name: str | None = None
) -> tuple[Evaluation, ...]:
    """Train once a seed, score each on several sets of rows, and return the answers: a repeat a seed for each set.

    One run can be luck: an evaluation with a repeat a seed goes into `compare` as it is.

    Parameters
    ----------
    make : function of a seed
        Returns a predictor, such as a run.
    *parts : Rows
        One or more sets of rows; each is opened once.
    seeds : sequence of int
    name : str, optional
        What to call the evaluations; by default the predictor's own name.

    Raises
    ------
    ValueError
        If there is no seed.
    """
    if not len(seeds):
        raise ValueError("seeds: expected at least one")
    answers: list[list[np.ndarray]] = [[] for _ in parts]
    for seed in seeds:
        predictor = make(seed)
        name = name or getattr(predictor, "name", type(predictor).__name__)
        for kept, rows in zip(answers, parts, strict=True):
            kept.append(np.asarray(predictor.predict_proba(rows.texts), dtype=np.float64))
        del predictor  # before the next one is made
    probas = ((np.stack(kept), rows) for kept, rows in zip(answers, parts, strict=True))
    return tuple(Evaluation(name=name, proba=p, rows=rows, opened=rows.open().opened) for p, rows in probas)
