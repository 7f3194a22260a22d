"""Logistic regression on any features, its one setting chosen on `valid`: the linear head of every baseline."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ftkit.data import Splits
from ftkit.evaluation import Evaluation

#: Inverse strengths of the penalty tried for logistic regression, the strongest penalty first.
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


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
