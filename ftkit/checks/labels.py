"""Labels that look wrong, found by cross-validation, noise put in on purpose to see what it finds; and decisions."""

from collections.abc import Collection, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from ftkit.baseline import fit_probe
from ftkit.data import Rows, Splits, files
from ftkit.data.repair import did_you_mean
from ftkit.data.splitting import allocate, one_hot, units, wording
from ftkit.display import Record, count, percent, shorten
from ftkit.findings import Finding, FtkitError
from ftkit.pretrained import Base

_SHOWN = 10  # rows in a table
#: What can be decided besides another label; in brackets, since a label may be called keep.
KEEP, DROP = "(keep)", "(drop)"
_COLUMNS = ["row", "given", "decision", "text"]


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
    one_label_a_row(data, "label_issues() judges")
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


def one_label_a_row(data: Splits, what: str) -> None:
    """Raise ValueError if a row may have several labels; `what` says what is done to rows with one."""
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
    one_label_a_row(data, "flip_labels() changes")
    rng = np.random.default_rng(seed)
    at = np.sort(rng.permutation(len(data.train))[: round(share * len(data.train))])
    labels = data.train.labels.copy()
    labels[at] = (labels[at] + rng.integers(1, data.n_labels, len(at))) % data.n_labels
    noisy = replace(data, name=f"{data.name}, {share:.0%} flipped", train=replace(data.train, labels=labels))
    return noisy, tuple(data.train.ids[i] for i in at)


class Decisions(Record):
    """What somebody decided about labels, by the wordings of the texts: it stays with a text in other splits, too.

    Parameters
    ----------
    made : DataFrame
        By `ftkit.data.splitting.wording` of the text: `row` (the id it had), `given` (the label it had), `decision`
        (`"(keep)"`, `"(drop)"`, or the name of another label), and the beginning of the `text`.

    >>> rows = Rows(name="train", texts=("good", "bad"), labels=[0, 0], label_names=("no", "yes"))
    >>> Decisions().decide(rows.take([0]), "yes").decide(rows.take([1]), DROP).summary()
    'Decided: 0 to keep, 1 to drop, 1 with another label.'
    """

    made: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=_COLUMNS).rename_axis("wording"))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return the decisions in a file, as written by `write`, and perhaps edited; blank ones are none.

        Raises
        ------
        FtkitError
            FT007 if the file is damaged, or another kind of file; and as `load_data`, such as FT001 if there is none.
        """
        found, path = files.read(path)[0]["train"], Path(path).expanduser()
        # A file that was cut off ends within a line.
        whole = path.read_bytes().endswith((b"\n", b"\r")) and sorted(found) == sorted(["wording", *_COLUMNS])
        if not whole or not found["wording"].str.fullmatch("[0-9a-f]{32}").all():
            expected = f"expected are whole lines of wording, {', '.join(_COLUMNS)}, as Decisions.write() leaves them"
            raise FtkitError("FT007", f"{path} is no file of decisions, or a damaged one: {expected}; mend or move it.")
        cells = found.map(str.strip).replace("^'(?=[=+@'-])", "", regex=True).drop_duplicates("wording", keep="last")
        return cls(made=cells[cells["decision"] != ""].set_index("wording")[_COLUMNS])

    def write(self, path: str | Path) -> None:
        """Write a CSV file, whole or not at all; what a spreadsheet would take for a formula gets an apostrophe.

        Raises
        ------
        FtkitError
            As `read`, if there is a file that is not one of decisions; it is left as it is.
        """
        path = Path(path).expanduser()
        if path.exists():
            self.read(path)
        cells = self.made.reset_index().replace("^(?=[=+@'-])", "'", regex=True)
        part = path.with_name(f"{path.name}.part")
        part.write_bytes(cells.to_csv(index=False).encode("utf-8-sig", "replace"))
        part.replace(path)

    def decide(self, rows: Rows, what: str | Sequence[str]) -> Self:
        """Return these decisions with others about some rows.

        Parameters
        ----------
        rows : Rows
            Such as `data.train.take([7])`.
        what : str or sequence of str
            For all of them or for each: `"(keep)"`, `"(drop)"`, the name of a label, or `""` for undecided.

        Raises
        ------
        ValueError
            If there is no such label.
        """
        given, what = rows.named_labels(), [what] * len(rows) if isinstance(what, str) else what
        told = [KEEP if one == own else one for one, own in zip(what, given, strict=True)]
        new = {"row": rows.ids, "given": given, "decision": told, "text": [shorten(text, 300) for text in rows.texts]}
        keys = pd.Index([wording(text) for text in rows.texts], name="wording")
        made = pd.concat([self.made, pd.DataFrame(new, index=keys, dtype=object)])  # not str: half a surrogate pair
        made = made[~made.index.duplicated(keep="last")]
        return type(self)(made=made[made["decision"] != ""]).checked(rows.label_names)

    def checked(self, label_names: Sequence[str]) -> Self:
        """Return these decisions, or raise ValueError for one that is no label of these."""
        for row, _, told, text in self.made.itertuples(index=False):
            if told not in (KEEP, DROP, *label_names):
                hint = did_you_mean(told, label_names, f"write {KEEP}, {DROP}, or one of {', '.join(label_names)}")
                raise ValueError(f"row {row!r} ({shorten(text, 60)}): {told!r} is no decision; {hint}")
        return self

    def mended(self, splits: Splits) -> Splits:
        """Return splits whose train rows are dropped or relabelled as decided; valid and test stay as they are.

        Raises
        ------
        ValueError
            If a row may have several labels, a decision is no label of these splits, or no train row is left.
        """
        if not len(self.made):
            return splits
        one_label_a_row(splits, "Decisions.mended() changes")
        rows, known, made = splits.train, splits.label_names, self.checked(splits.label_names).made["decision"]
        told = made.reindex([wording(text) for text in rows.texts], fill_value=KEEP).to_numpy()
        labels = [old if t in (KEEP, DROP) else known.index(t) for t, old in zip(told, rows.labels, strict=True)]
        return replace(splits, train=replace(rows, labels=labels).take(told != DROP))

    def frame(self) -> pd.DataFrame:
        """Return the decisions, the first one first."""
        return self.made

    def summary(self) -> str:
        told = self.made["decision"]
        kept, dropped = sum(told == KEEP), sum(told == DROP)
        return f"Decided: {kept} to keep, {dropped} to drop, {len(told) - kept - dropped} with another label."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        return [("Decisions, the latest first", self.made[::-1].head(10))] if len(self.made) else []
