"""What tuning has to beat: the largest class, TF-IDF, label names alone, a linear head on frozen features (lesson 03).

Each function learns from `train`, chooses its one setting on `valid`, and returns a predictor for `evaluate`.
None of them opens `test`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ftkit import tasks
from ftkit.baseline.probes import answered, fit_logistic, probe_blocks
from ftkit.data import Splits
from ftkit.display import Record, record
from ftkit.findings import FtkitError
from ftkit.pretrained import Base

__all__ = ["Baseline", "fit_probe", "majority", "probe", "probe_blocks", "probe_weights", "tfidf", "zero_shot"]

#: Softmax temperature for cosine similarities, which lie close together; it changes confidence, never an answer.
TEMPERATURE = 0.05


@record
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
    """

    name: str
    predict_proba: Callable[[Sequence[str]], np.ndarray]
    note: str

    def summary(self) -> str:
        return f"{self.name}: {self.note}"


def majority(data: Splits) -> Baseline:
    """Always answer with the shares of the classes in `train`: the score of knowing nothing about the text."""
    rows = data.train
    shares = rows.counts / len(rows)
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
        found = "No text in train has a word of two letters or more, so TF-IDF has nothing to count"
        raise FtkitError("FT061", f"{found} ({error}).") from None
    model, strength = fit_logistic(train, vectorizer.transform(data.valid.texts), data)
    return Baseline(
        name="TF-IDF + logistic regression",
        predict_proba=lambda texts: answered(model, vectorizer.transform(texts), data),
        note=f"{train.shape[1]:,} words and pairs of words, C = {strength:g} chosen on valid.",
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
        predict_proba=lambda texts: answered(model, base.encode(texts), data),
        note=f"logistic regression on {base.hidden_size} frozen features, C = {strength:g} chosen on valid.",
    )


def fit_probe(base: Base, data: Splits, before_batch: Callable[[], None] | None = None) -> tuple[Any, float]:
    """Return logistic regression fitted on frozen features, and its inverse penalty strength chosen on `valid`.

    `before_batch` is called before each piece of work, and what it raises ends it.
    """
    train, valid = (base.encode(part.texts, before_batch=before_batch) for part in (data.train, data.valid))
    return fit_logistic(train, valid, data, before_batch)


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


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
