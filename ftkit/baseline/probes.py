"""Linear probes: logistic regression on any features, and on those of each stage of a frozen model (lesson 01).

The regression is the linear head of every baseline; its one setting is chosen on `valid`.
"""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ftkit import plots
from ftkit.data import Splits
from ftkit.display import Record, percent, points, record
from ftkit.evaluation import Evaluation, interval_of
from ftkit.pretrained import Base, hidden_states, stages

#: Inverse strengths of the penalty tried for logistic regression, the strongest penalty first.
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: Spread given to each feature of a stage before it is probed, near that of `minilm`'s own: one penalty then means
#: the same at every stage, and `STRENGTHS` reach from too strong to too weak.
SPREAD = 0.125


def fit_logistic(train: Any, valid: Any, data: Splits, before_fit: Callable | None = None) -> tuple[Any, float]:
    """Return logistic regression fitted on features of `train`, and its inverse penalty strength chosen on `valid`.

    `before_fit` is called before each of the fits, and may end them by raising.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    best: tuple[float, Any, float] | None = None
    # Each fit of a single model starts from the one before, which is faster.
    one, many = LogisticRegression(max_iter=300, warm_start=True), data.kind == "multiple"
    model = OneVsRestClassifier(one) if many else one
    for strength in STRENGTHS:
        if before_fit:
            before_fit()
        model.set_params(**{"estimator__C" if many else "C": strength})
        with warnings.catch_warnings():
            # A weak penalty may not converge within the limit; then it is judged on valid as it stands.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", "Label", UserWarning)  # one that no train row has, or every one
            model.fit(train, data.train.labels)
        score = Evaluation(name="tried", proba=answered(model, valid, data)[None], rows=data.valid).accuracy
        if best is None or score > best[0]:
            best = score, copy.deepcopy(model), strength
    return best[1], best[2]


def answered(model: Any, features: Any, data: Splits) -> np.ndarray:
    """Return probabilities of shape (n, n_classes); classes without a row in `train` get zero."""
    given = model.predict_proba(features)
    if data.kind == "multiple":
        return given
    proba = np.zeros((given.shape[0], len(data.label_names)))
    proba[:, model.classes_] = given
    return proba


@record
class BlockProbes(Record):
    """What a linear head can read off each stage of a frozen model, on `valid`.

    Parameters
    ----------
    name : str
        The probed model.
    scores : dict of str to Evaluation
        The answers of each stage's probe, in the order of the computation. Its penalty was chosen on the same rows,
        which flatters all stages a little and alike.
    """

    name: str
    scores: dict[str, Evaluation]

    @property
    def best(self) -> str:
        """The stage with the highest accuracy."""
        return max(self.scores, key=lambda stage: self.scores[stage].accuracy)

    @property
    def appears(self) -> str:
        """The earliest stage that cannot be told from the best one: what comes later adds nothing that is certain."""
        return next(s for s in self.scores if s == self.best or self.gain(s, self.best)[1] <= 0)

    def gain(self, before: str, after: str) -> tuple[float, float, float]:
        """Return how much more of the rows one stage gets right than another, with its interval's ends.

        Both are resampled together (groups where there are any), so that rows hard for both do not count as doubt.
        """
        one, two = self.scores[before], self.scores[after]
        low, high = interval_of(two._resampled["accuracy"] - one._resampled["accuracy"], one.level)
        return two.accuracy - one.accuracy, low, high

    def summary(self) -> str:
        best, first = self.scores[self.best], next(iter(self.scores))
        where = f"The earliest stage that cannot be told from the best is {self.appears}."
        if self.appears == self.best != first:
            where = "Every earlier stage is worse by more than chance."
        words = percent(self.scores[first].accuracy)
        right = f"{words} of {len(best.rows)} {best.rows.name} rows right after the {first}"
        most = f"at most {percent(best.accuracy)} (after {self.best})"
        return f"{self.name}, read after each stage: {right}, {most}. {where}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows, before = [], None
        for stage, score in self.scores.items():
            low, high = score.interval()
            more = "{} ({} to {})".format(*map(points, self.gain(before, stage))) if before else ""
            rows.append((stage, percent(score.accuracy), f"{100 * low:.1f} to {100 * high:.1f}", more))
            before = stage
        columns = ["stage", "accuracy", "95 % interval", "more than the stage before (95 % interval)"]
        return [("A linear probe after each stage, on valid", pd.DataFrame(rows, columns=columns))]

    def picture(self) -> tuple[Figure, str]:
        values = [s.accuracy for s in self.scores.values()]
        lows, highs = zip(*(s.interval() for s in self.scores.values()), strict=True)
        hundred = ([100 * v for v in part] for part in (values, lows, highs))
        ax = plots.intervals(list(self.scores), *hundred, label="rows of valid right (%)")
        told = ", ".join(map(percent, values))
        return ax.figure, f"Accuracy of a linear probe after each stage of {self.name}, the first stage on top: {told}."


def probe_blocks(base: Base, data: Splits) -> BlockProbes:
    """Train a linear probe after the embeddings and after each block: where does the domain's signal appear?

    A probe says what could be read off a stage, not what the model does with it.

    Parameters
    ----------
    base : Base
        It is only read.
    data : Splits
        Each probe learns from `train`; its penalty is chosen, and it is scored, on `valid`.

    Returns
    -------
    BlockProbes

    Notes
    -----
    G. Alain and Y. Bengio, Understanding intermediate layers using linear classifier probes (2016).
    """
    rows, scores = data.valid.open(), {}
    vectors = (hidden_states(base, part.texts) for part in (data.train, rows))
    for name, train, valid in zip(stages(base), *vectors, strict=True):
        centre, spread = train.mean(axis=0), train.std(axis=0)
        spread = np.where(spread > 0, spread, 1) / SPREAD
        seen = (valid - centre) / spread
        model, _ = fit_logistic((train - centre) / spread, seen, data)
        scores[name] = Evaluation(name=name, proba=answered(model, seen, data)[None], rows=rows, opened=rows.opened)
    return BlockProbes(name=base.name, scores=scores)
