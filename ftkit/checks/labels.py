"""Labels that look wrong, found by cross-validation; and noise put in on purpose, to see what it finds (lesson 02)."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pandas as pd

from ftkit.baseline import fit_probe
from ftkit.data import Rows, Splits
from ftkit.data.splitting import allocate, one_hot, units
from ftkit.display import Record, count, percent, shorten
from ftkit.findings import Finding
from ftkit.pretrained import Base

_SHOWN = 10  # rows in a table


class LabelIssues(Record):
    """Rows of train whose label a model that never saw them doubts.

    Parameters
    ----------
    rows : Rows
        All rows that were asked about.
    order : np.ndarray
        (n_issues,) int64: positions of the doubtful rows in `rows`, the most doubtful first.
    suggested : np.ndarray
        (n,) int64: for every row, the label that is most probable to the model.
    quality : np.ndarray
        (n,) float64: for every row, the probability of its given label, from 0 to 1.
    """

    rows: Rows
    order: np.ndarray
    suggested: np.ndarray
    quality: np.ndarray

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the doubtful rows, the most doubtful first."""
        return tuple(self.rows.ids[i] for i in self.order)

    def recall(self, wrong: Collection[str]) -> float:
        """Return the share of the rows known to be wrong (ids) that are among the doubtful ones."""
        return len(set(wrong) & set(self.ids)) / max(len(set(wrong)), 1)

    def precision(self, wrong: Collection[str], first: int | None = None) -> float:
        """Return the share of the doubtful rows, or of the `first` of them, that are known to be wrong (ids)."""
        asked = self.ids[:first]
        return len(set(wrong) & set(asked)) / max(len(asked), 1)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """FT090, if any label looks wrong."""
        if not len(self.order):
            return ()
        told = f"{count(len(self.order))} of {count(len(self.rows))} {self.rows.name} labels look wrong"
        where = self.rows.source or "These rows"
        return (Finding(code="FT090", message=f"{where}: {told}, most of all that of {self.ids[0]!r}."),)

    def summary(self) -> str:
        n, of = len(self.order), len(self.rows)
        told = f"{count(n)} of {count(of)} {self.rows.name} labels ({percent(n / of)}) look wrong to a model that never"
        return f"{told} saw the row. A doubt is not a proof: read them."

    def frame(self) -> pd.DataFrame:
        """Return the doubtful rows, the most doubtful first: id, text, given and suggested label, quality."""
        rows, names = self.rows.take(self.order), self.rows.label_names
        columns = {"Id": rows.ids, "Text": rows.texts, "Given": rows.named_labels()}
        columns["Suggested"] = [names[i] for i in self.suggested[self.order]]
        return pd.DataFrame(columns | {"Quality": self.quality[self.order]})

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        frame = self.frame().drop(columns="Id").head(_SHOWN)
        frame["Text"] = [shorten(t, 160) for t in frame["Text"]]
        frame["Quality"] = frame["Quality"].map("{:.3f}".format)
        return [("The most doubtful labels", frame)] if len(frame) else []


def label_issues(base: Base, data: Splits, *, k: int = 5, seed: int = 0) -> LabelIssues:
    """Find labels of train that look wrong to a probe which never saw the row.

    The rows of train are dealt into `k` folds, groups whole; each fold is answered by logistic regression on the
    frozen model's features of the others. Where the given label is improbable, and more so than is usual for its
    class, it is doubtful (confident learning, by the package cleanlab).

    Parameters
    ----------
    base : Base
        Gives the features; nothing is trained in it.
    data : Splits
        Rows of train are judged; `valid` chooses the strength of the penalty. One label a row.
    k : int
        Folds, 2 or more.
    seed : int
        Decides the folds.

    Raises
    ------
    ValueError
        If a row may have several labels, or there are fewer groups or distinct texts than folds.

    Notes
    -----
    C. Northcutt, L. Jiang and I. Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels (JAIR 2021).
    """
    from cleanlab.filter import find_label_issues
    from sklearn.linear_model import LogisticRegression

    rows = data.train
    _one_label_a_row(data, "label_issues() judges")
    unit = units(rows.texts, rows.groups)
    if not 2 <= k <= unit.max() + 1:
        raise ValueError(f"k is {k}; it must be from 2 to {unit.max() + 1}, the number of groups or distinct texts")
    fold = allocate(one_hot(rows.labels, rows.n_labels), unit, [1 / k] * k, seed, floor=0)
    strength, features, proba = fit_probe(base, data)[1], base.encode(rows.texts), np.zeros((len(rows), rows.n_labels))
    for i in np.unique(fold):
        mine = fold == i
        model = LogisticRegression(C=strength, max_iter=1000).fit(features[~mine], rows.labels[~mine])
        proba[np.ix_(mine, model.classes_)] = model.predict_proba(features[mine])
    quality = proba[np.arange(len(rows)), rows.labels]
    order = find_label_issues(rows.labels, proba, return_indices_ranked_by="self_confidence", n_jobs=1)
    return LabelIssues(rows=rows, order=order, suggested=proba.argmax(axis=1), quality=quality)


def _one_label_a_row(data: Splits, what: str) -> None:
    if data.kind == "multiple":
        raise ValueError(f"{data.name} has several labels a row; {what} rows with one")


def flip_labels(data: Splits, share: float, seed: int = 0) -> tuple[Splits, tuple[str, ...]]:
    """Put label noise into train on purpose: give a share of its rows another label, drawn at random.

    Parameters
    ----------
    data : Splits
        One label a row. Valid and test stay as they are.
    share : float
        From 0 to 1.
    seed : int
        Decides which rows, and which labels.

    Returns
    -------
    tuple of Splits and of ids
        The noisy splits, and the ids of the rows that now have a wrong label.

    Raises
    ------
    ValueError
        If the share is out of range, or a row may have several labels.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be from 0 to 1")
    _one_label_a_row(data, "flip_labels() changes")
    rng = np.random.default_rng(seed)
    at = np.sort(rng.permutation(len(data.train))[: round(share * len(data.train))])
    labels = data.train.labels.copy()
    labels[at] = (labels[at] + rng.integers(1, data.n_labels, len(at))) % data.n_labels
    noisy = replace(data, name=f"{data.name}, {share:.0%} flipped", train=replace(data.train, labels=labels))
    return noisy, tuple(data.train.ids[i] for i in at)
