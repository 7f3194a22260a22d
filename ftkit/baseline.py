"""What tuning has to beat: the largest class, TF-IDF, label names alone, a linear head on frozen features (lesson 03).

Each function learns from `train`, chooses its one setting on `valid`, and returns a predictor for `evaluate`.
None of them opens `test`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit import tasks
from ftkit.display import Record
from ftkit.findings import FtkitError

if TYPE_CHECKING:
    from ftkit.data import Rows, Splits
    from ftkit.pretrained import Base

#: Inverse strengths of the penalty tried for logistic regression, the strongest penalty first.
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: Softmax temperature for cosine similarities, which lie close together; it changes confidence, never an answer.
TEMPERATURE = 0.05


@dataclass(frozen=True, repr=False, eq=False)
class Baseline(Record):
    """A simple predictor.

    Parameters
    ----------
    name : str
        What it is.
    predict_proba : function
        Takes a sequence of n texts, returns an array (n, n_classes).
    note : str
        How it was made, in a sentence; with the setting that was chosen on `valid`, if any.
    model : object
        The fitted scikit-learn model, or None.
    """

    _: KW_ONLY
    name: str
    predict_proba: Callable[[Sequence[str]], np.ndarray]
    note: str
    model: Any = None

    def summary(self) -> str:
        return f"{self.name}: {self.note}"


def majority(data: Splits) -> Baseline:
    """Always answer with the shares of the classes in `train`: the score of knowing nothing about the text."""
    rows = data.train
    if rows.kind == "multiple":
        shares = rows.labels.mean(axis=0)
    else:
        shares = np.bincount(rows.labels, minlength=len(rows.label_names)) / len(rows)
    return Baseline(
        name="majority class",
        predict_proba=lambda texts: np.tile(shares, (len(texts), 1)),
        note=f"always answers {rows.label_names[int(np.argmax(shares))]!r}.",
    )


def tfidf(data: Splits) -> Baseline:
    """Words and pairs of words, weighted by rarity, into logistic regression: no pretrained model at all.

    Notes
    -----
    K. Spärck Jones, A statistical interpretation of term specificity (1972), gave the weighting.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    try:
        train = vectorizer.fit_transform(data.train.texts)
    except ValueError as error:  # scikit-learn's words for "no words at all"
        raise FtkitError(
            "FT061", f"No text in train has a word of two letters or more, so TF-IDF has nothing to count ({error})."
        ) from None
    model, strength = _logistic(train, vectorizer.transform(data.valid.texts), data)
    return Baseline(
        name="TF-IDF + logistic regression",
        predict_proba=lambda texts: _proba(model, vectorizer.transform(texts), data),
        note=f"{train.shape[1]:,} words and pairs of words, C = {strength:g} chosen on valid.",
        model=model,
    )


def zero_shot(base: Base, data: Splits, *, template: str = "{}") -> Baseline:
    """Answer with the label whose *name* the pretrained model finds most similar to the text; nothing is trained.

    Parameters
    ----------
    base : Base
        A sentence encoder, such as `minilm`.
    data : Splits
        Only its label names are used.
    template : str
        A sentence around a label's name, such as `"a diagnosis about {}"`; `{}` stands for the name.

    Notes
    -----
    M.-W. Chang et al., Importance of Semantic Representation: Dataless Classification (AAAI 2008).
    """
    names = _unit(base.encode([template.format(n) for n in data.label_names]))

    def predict_proba(texts: Sequence[str]) -> np.ndarray:
        return tasks.probabilities(_unit(base.encode(texts)) @ names.T / TEMPERATURE, data.kind)

    return Baseline(name="zero-shot", predict_proba=predict_proba, note="nearest label name, nothing trained.")


def probe(base: Base, data: Splits) -> Baseline:
    """Train a linear head on the frozen model's features (a linear probe): what the model already holds.

    Notes
    -----
    G. Alain and Y. Bengio, Understanding intermediate layers using linear classifier probes (2016).
    """
    model, strength = fit_probe(base, data)
    return Baseline(
        name="frozen probe",
        predict_proba=lambda texts: _proba(model, base.encode(texts), data),
        note=f"logistic regression on {base.hidden_size} frozen features, C = {strength:g} chosen on valid.",
        model=model,
    )


def fit_probe(base: Base, data: Splits) -> tuple[Any, float]:
    """Return logistic regression fitted on frozen features, and its inverse penalty strength chosen on `valid`."""
    return _logistic(base.encode(data.train.texts), base.encode(data.valid.texts), data)


def probe_weights(model: Any, data: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Return a fitted probe as the weight (n_classes, hidden) and bias (n_classes,) of a linear head.

    Classes without a row in `train` get zero weight and the smallest bias, so they are never the answer.
    """
    if data.kind == "multiple":
        # A label that no row of train has, or every row, teaches no direction: its answer is the same for any text.
        heads = [
            (h.coef_[0], h.intercept_[0]) if hasattr(h, "coef_") else (np.zeros(h.n_features_in_), 20.0 * h.y_[0] - 10)
                 for h in model.estimators_]  # fmt: skip
        return np.stack([weight for weight, _ in heads]), np.array([bias for _, bias in heads])
    weight = np.zeros((len(data.label_names), model.coef_.shape[1]))
    bias = np.full(len(data.label_names), min(0.0, model.intercept_.min()) - 5.0)
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes: the second's logit against the first's
        weight[model.classes_[1]], bias[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def _logistic(train: Any, valid: Any, data: Splits) -> tuple[Any, float]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    best: tuple[float, Any, float] | None = None
    model: Any = LogisticRegression(max_iter=300, warm_start=True)  # each fit starts from the one before: faster
    for strength in STRENGTHS:
        if data.kind == "multiple":
            model = OneVsRestClassifier(LogisticRegression(C=strength, max_iter=300))
        else:
            model.set_params(C=strength)
        with warnings.catch_warnings():
            # A weak penalty may not converge within the limit; then it is judged on valid as it stands.
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", "Label", UserWarning)  # one that no train row has, or every one
            model.fit(train, data.train.labels)
        score = _share_right(_proba(model, valid, data), data.valid)
        if best is None or score > best[0]:
            best = score, copy.deepcopy(model), strength
    return best[1], best[2]


def _share_right(proba: np.ndarray, rows: Rows) -> float:
    hits = tasks.answers(proba, rows.kind) == rows.labels
    return float((hits.all(axis=1) if hits.ndim == 2 else hits).mean())


def _proba(model: Any, features: Any, data: Splits) -> np.ndarray:
    given = model.predict_proba(features)
    if data.kind == "multiple":
        return given
    proba = np.zeros((given.shape[0], len(data.label_names)))
    proba[:, model.classes_] = given
    return proba


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
