"""Score anything that predicts: accuracy and macro-F1 with bootstrap intervals, cross-validation (lesson 08).

Where a set has groups (all wordings of one disease category, all notices of one licence), rows of a group are alike,
so they are not independent evidence. Intervals and tests then resample whole groups, not rows.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from ftkit import plots, tasks
from ftkit.data import Rows, Splits
from ftkit.data.splitting import one_hot
from ftkit.display import Picture, Record, percent

#: Metrics of an `Evaluation`: attribute and name.
METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1"}


class Predictor(Protocol):
    """Anything that can be evaluated: `predict_proba(texts)` gives an array (n, n_classes)."""

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray: ...


class Evaluation(Record):
    """The answers of one predictor, or of several trained alike, on the same rows; and what they are worth.

    Parameters
    ----------
    name : str
        Whose answers these are.
    proba : numpy.ndarray, shape (n_repeats, n, n_classes)
        Probabilities; one repeat for each seed or each repeat of a cross-validation.
    rows : Rows
        The scored rows with their labels.
    opened : int
        How often these rows had been opened for scoring, this time included. A test split opened often is a test
        split chosen on.
    level : float
        Coverage that the intervals aim at.
    """

    name: str
    proba: np.ndarray
    rows: Rows
    opened: int = 1
    level: float = 0.95

    def __post_init__(self) -> None:
        expected = (len(self.rows), len(self.rows.label_names))
        if self.proba.ndim != 3 or self.proba.shape[1:] != expected:
            raise ValueError(f"proba: expected shape (n_repeats, {expected[0]}, {expected[1]}), got {self.proba.shape}")
        if not np.isfinite(self.proba).all():
            raise ValueError(f"proba: {self.name} gave values that are not finite")

    @functools.cached_property
    def predicted(self) -> np.ndarray:
        """Answers, shape (n_repeats, n), or (n_repeats, n, n_classes) for multiple labels."""
        return np.stack([tasks.answers(p, self.rows.kind) for p in self.proba])

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """Share of repeats in which each row was answered right, shape (n,); multiple labels must all be right."""
        hits = self.predicted == self.rows.labels[None]
        return (hits.all(axis=2) if hits.ndim == 3 else hits).mean(axis=0)

    @property
    def accuracy(self) -> float:
        """Share of rows answered right (for multiple labels: with all labels right)."""
        return float(self.correct.mean())

    @property
    def macro_f1(self) -> float:
        """F1 of each class, averaged with equal weight for every class that occurs in labels or answers."""
        return float(_macro_f1(self._counts.sum(axis=1)).mean())

    @property
    def mean_absolute_error(self) -> float:
        """Mean distance in ranks between answer and label; ordered labels only."""
        if self.rows.kind != "ordered":
            raise ValueError(f"kind: ranks have distances only for ordered labels, these are {self.rows.kind!r}")
        return float(np.abs(self.predicted - self.rows.labels[None]).mean())

    @functools.cached_property
    def units(self) -> np.ndarray:
        """Index of the independent unit (group or row) to which each row belongs, shape (n,)."""
        if self.rows.groups is None:
            return np.arange(len(self.rows))
        return np.unique(np.asarray(self.rows.groups, dtype=object).astype(str), return_inverse=True)[1]

    @functools.cached_property
    def _counts(self) -> np.ndarray:
        """Per repeat and unit and class: true positives, answers, labels; shape (n_repeats, n_units, 3, n_classes)."""
        labels = one_hot(self.rows.labels, self.rows.n_labels)
        counts = np.zeros((len(self.proba), self.units.max() + 1, 3, self.rows.n_labels), dtype=np.float32)
        for out, predicted in zip(counts, self.predicted, strict=True):
            answers = one_hot(predicted, self.rows.n_labels)
            np.add.at(out, self.units, np.stack([answers * labels, answers, labels], axis=1, dtype=np.float32))
        return counts

    @functools.cached_property
    def _resampled(self) -> dict[str, np.ndarray]:
        """Each metric in each bootstrap resample of units, (n_resamples,); the same units are drawn each time."""
        weights, counts = resample_weights(self.units.max() + 1), self._counts
        right, n_rows = np.bincount(self.units, self.correct), np.bincount(self.units)
        sums = (weights @ counts.reshape(*counts.shape[:2], -1)).reshape(len(counts), len(weights), *counts.shape[2:])
        return {"accuracy": (weights @ right) / (weights @ n_rows), "macro_f1": _macro_f1(sums).mean(axis=0)}

    def interval(self, metric: str = "accuracy") -> tuple[float, float]:
        """Return the ends of the bootstrap interval of a metric (percentiles of 2,000 resamples of units).

        Parameters
        ----------
        metric : str
            `"accuracy"` or `"macro_f1"`.

        Notes
        -----
        B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. The interval says how the
        figure would vary with other rows of the same kind. It does not say how it would vary with another seed.
        """
        return interval_of(self._resampled[metric], self.level)

    @functools.cached_property
    def per_class(self) -> pd.DataFrame:
        """Precision, recall, F1 and number of rows of each class, mean over repeats."""

        hits, answers, labels = np.moveaxis(self._counts.sum(axis=1), 1, 0).mean(axis=1, dtype=np.float64)
        precision, recall = hits / np.maximum(answers, 1e-9), hits / np.maximum(labels, 1e-9)
        f1 = 2 * hits / np.maximum(answers + labels, 1e-9)
        scores = {"precision": precision, "recall": recall, "f1": f1, "rows": labels.astype(int)}
        return pd.DataFrame({"class": self.rows.label_names} | scores)

    def summary(self) -> str:
        low, high = self.interval()
        units = f"{self.units.max() + 1} groups" if self.rows.groups is not None else "rows"
        right = f"{self.name}: {percent(self.accuracy)} of {len(self.rows)} {self.rows.name} rows right"
        interval = f"{self.level:.0%} interval {100 * low:.1f} to {100 * high:.1f}, resampling {units}"
        opened = "once" if self.opened == 1 else f"{self.opened} times"
        return f"{right} ({interval}); the {self.rows.name} rows were opened {opened}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [(name, getattr(self, metric), *self.interval(metric)) for metric, name in METRICS.items()]
        if self.rows.kind == "ordered":
            rows.append(("mean absolute error (ranks)", self.mean_absolute_error, np.nan, np.nan))
        shown = [(name, *("" if np.isnan(v) else f"{v:.3f}" for v in values)) for name, *values in rows]
        return [(f"{self.name} on {self.rows.name}", pd.DataFrame(shown, columns=["metric", "value", "from", "to"]))]

    def picture(self) -> Picture:
        frame = self.per_class.sort_values("f1", ascending=False)
        ax = plots.bars(list(frame["class"]), list(frame["f1"]), label="F1")
        best, worst = (f"{row['class']} ({row['f1']:.2f})" for _, row in frame.iloc[[0, -1]].iterrows())
        return ax.figure, f"F1 of each class for {self.name}: highest for {best}, lowest for {worst}."


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    """Macro-F1 from sums (…, 3, n_classes); classes that occur nowhere are left out, as scikit-learn does."""
    hits, seen = sums[..., 0, :], sums[..., 1, :] + sums[..., 2, :]
    f1 = np.divide(2 * hits, seen, out=np.zeros_like(hits), where=seen > 0)
    return f1.sum(axis=-1) / np.maximum((seen > 0).sum(axis=-1), 1)


def resample_weights(n_units: int) -> np.ndarray:
    """Return how often each unit is drawn in each of 2,000 bootstrap resamples, shape (2000, n_units), float32."""
    rng = np.random.default_rng(0)
    return rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=2000).astype(np.float32)


def interval_of(resampled: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of resampled values."""
    return tuple(np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]).tolist())


def evaluate(predictor: Predictor | Sequence[Predictor], rows: Rows, *, name: str | None = None) -> Evaluation:
    """Score a predictor on rows; opening `rows` is counted.

    Parameters
    ----------
    predictor : Predictor or sequence of them
        Anything with `predict_proba(texts)`; several, trained alike with different seeds, are scored as repeats.
    rows : Rows
        The rows to score on, such as `data.valid` while choosing and `data.test` once, at the end.
    name : str, optional
        What to call it; by default the predictor's own name.

    Returns
    -------
    Evaluation
    """
    several = list(predictor) if isinstance(predictor, Sequence) else [predictor]
    proba = np.stack([np.asarray(p.predict_proba(rows.texts), dtype=np.float64) for p in several])
    name = name or getattr(several[0], "name", type(several[0]).__name__)
    return Evaluation(name=name, proba=proba, rows=rows, opened=rows.open().opened)


def cross_validate(
    makers: Mapping[str, Callable[[Splits], Predictor]], data: Splits, *, k: int = 5, repeats: int = 2, seed: int = 0
) -> dict[str, Evaluation]:
    """Judge small sets: every row is answered by a predictor that never saw it, `repeats` times over.

    A few dozen test rows decide nothing. In k-fold cross-validation all rows are test rows once a repeat, so several
    hundred answers come out of several hundred rows. Each maker sees the same folds, so the results can be compared.

    Parameters
    ----------
    makers : mapping of name to function
        Each function takes `Splits` and returns a predictor trained on their train and valid rows.
    data : Splits
        All of its rows are used.
    k, repeats, seed : int
        Folds a repeat, repeats, and the seed of the first.

    Returns
    -------
    dict of name to Evaluation, each of shape (repeats, n, n_classes)
    """
    folds = list(data.folds(k=k, repeats=repeats, seed=seed))
    place = {i: n for n, i in enumerate(i for s in folds[:k] for i in s.test.ids)}
    proba = {name: np.full((repeats, len(place), len(data.label_names)), np.nan) for name in makers}
    for number, splits in enumerate(folds):
        at = [place[i] for i in splits.test.ids]
        for name, maker in makers.items():
            proba[name][number // k, at] = maker(splits).predict_proba(splits.test.texts)
    every = data.joined()
    rows = dataclasses.replace(every.take(np.argsort([place[i] for i in every.ids])), name="cross-validated")
    return {name: Evaluation(name=name, proba=p, rows=rows) for name, p in proba.items()}
