"""What tuning has to beat: the largest class, TF-IDF, label names alone, a linear head on frozen features (lesson 03).

Each function learns from `train`, chooses its one setting on `valid`, and returns a predictor for `evaluate`.
None of them opens `test`. The linear head is logistic regression, and can be put on each stage of a model (lesson 01).
"""

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ftkit import plots, tasks
from ftkit.data import Splits
from ftkit.display import Picture, Record, percent, points
from ftkit.evaluation import Evaluation, interval_of
from ftkit.findings import FtkitError
from ftkit.pretrained import Base, hidden_states, stages

#: Softmax temperature for cosine similarities, which lie close together; it changes confidence, never an answer.
TEMPERATURE = 0.05
#: Inverse strengths of the penalty tried for logistic regression, the strongest penalty first.
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
#: Spread given to each feature of a stage before it is probed, near that of `minilm`'s own: one penalty then means
#: the same at every stage, and `STRENGTHS` reach from too strong to too weak.
SPREAD = 0.125
_last: list[Any] = []  # a base, data, and the probe that was fitted last


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
    note = f"always answers {rows.label_names[int(np.argmax(shares))]!r}."
    return Baseline(name="majority class", predict_proba=lambda texts: np.tile(shares, (len(texts), 1)), note=note)


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
    fitted, what = fit_logistic(train, vectorizer.transform(data.valid.texts), data), "words and pairs of words"
    return _regression("TF-IDF + logistic regression", vectorizer.transform, fitted, data, f"{train.shape[1]:,} {what}")


def _regression(name: str, features: Callable, fitted: tuple[Any, float], data: Splits, what: str) -> Baseline:
    note = f"{what}, C = {fitted[1]:g} chosen on valid."
    return Baseline(name=name, predict_proba=lambda texts: answered(fitted[0], features(texts), data), note=note)


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

    def unit(texts: Sequence[str]) -> np.ndarray:
        vectors = base.encode(texts)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    names = unit([template.format(n) for n in data.label_names])

    def predict_proba(texts: Sequence[str]) -> np.ndarray:
        return tasks.probabilities(unit(texts) @ names.T / TEMPERATURE, data.kind)

    return Baseline(name="zero-shot", predict_proba=predict_proba, note="nearest label name, nothing trained.")


def probe(base: Base, data: Splits) -> Baseline:
    """Train a linear head on the frozen model's features (a linear probe): what the model already holds.

    Notes
    -----
    G. Alain and Y. Bengio, Understanding intermediate layers using linear classifier probes (2016).
    """
    what = f"logistic regression on {base.hidden_size} frozen features"
    return _regression("frozen probe", base.encode, fit_probe(base, data), data, what)


def fit_probe(base: Base, data: Splits, before_batch: Callable[[], None] | None = None) -> tuple[Any, float]:
    """Return logistic regression fitted on frozen features, and its inverse penalty strength chosen on `valid`.

    `before_batch` is called before each piece of work, and what it raises ends it. The last one is remembered: seeds
    and plans that start from it come one after another.
    """
    known = _last.copy()
    if known[:2] != [base, data]:
        train, valid = (base.encode(part.texts, before_batch=before_batch) for part in (data.train, data.valid))
        _last[:] = known = [base, data, fit_logistic(train, valid, data, before_batch)]
    return known[2]


def probe_weights(model: Any, data: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Return a fitted probe as the weight (n_classes, hidden) and bias (n_classes,) of a linear head.

    Classes without a row in `train` get zero weight and the smallest bias, so they are never the answer.
    """
    if data.kind == "multiple":
        # A label that no row of train has, or every row, teaches no direction: its answer is the same for any text.
        weight = [h.coef_[0] if hasattr(h, "coef_") else np.zeros(h.n_features_in_) for h in model.estimators_]
        bias = [h.intercept_[0] if hasattr(h, "coef_") else 20.0 * h.y_[0] - 10 for h in model.estimators_]
        return np.stack(weight), np.array(bias)
    weight = np.zeros((len(data.label_names), model.coef_.shape[1]))
    bias = np.full(len(data.label_names), min(0.0, model.intercept_.min()) - 5.0)
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes: the second's logit against the first's
        weight[model.classes_[1]], bias[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def fit_logistic(train: Any, valid: Any, data: Splits, before_fit: Callable | None = None) -> tuple[Any, float]:
    """Return logistic regression fitted on features of `train`, and its inverse penalty strength chosen on `valid`.

    `before_fit` is called before each of the fits, and may end them by raising.
    """
    from sklearn import exceptions, linear_model, multiclass

    best: tuple = ()
    # Each fit of a single model starts from the one before, which is faster.
    one = linear_model.LogisticRegression(max_iter=300, warm_start=True)
    model = multiclass.OneVsRestClassifier(one) if data.kind == "multiple" else one
    for strength in STRENGTHS:
        if before_fit:
            before_fit()
        one.set_params(C=strength)
        # A weak penalty may not converge within the limit; then it is judged on valid as it stands.
        with warnings.catch_warnings(action="ignore", category=exceptions.ConvergenceWarning):
            warnings.filterwarnings("ignore", "Label", UserWarning)  # one that no train row has, or every one
            model.fit(train, data.train.labels)
        score = Evaluation(name="tried", proba=answered(model, valid, data)[None], rows=data.valid).accuracy
        if not best or score > best[0]:
            best = score, copy.deepcopy(model), strength
    return best[1], best[2]


def answered(model: Any, features: Any, data: Splits) -> np.ndarray:
    """Return probabilities of shape (n, n_classes); classes without a row in `train` get zero."""
    proba = np.zeros((features.shape[0], len(data.label_names)))
    proba[:, model.classes_] = model.predict_proba(features)
    return proba


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
        right = f"{percent(self.scores[first].accuracy)} of {len(best.rows)} {best.rows.name} rows right"
        most = f"at most {percent(best.accuracy)} (after {self.best})"
        return f"{self.name}, read after each stage: {right} after the {first}, {most}. {where}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows, before = [], None
        for stage, score in self.scores.items():
            low, high = score.interval()
            more = "{} ({} to {})".format(*map(points, self.gain(before, stage))) if before else ""
            rows.append((stage, percent(score.accuracy), f"{100 * low:.1f} to {100 * high:.1f}", more))
            before = stage
        columns = ["stage", "accuracy", "95 % interval", "more than the stage before (95 % interval)"]
        return [("A linear probe after each stage, on valid", pd.DataFrame(rows, columns=columns))]

    def picture(self) -> Picture:
        values = np.array([(s.accuracy, *s.interval()) for s in self.scores.values()])
        ax = plots.intervals(list(self.scores), 100 * values, label="rows of valid right (%)")
        told = ", ".join(map(percent, values[:, 0]))
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
