"""`compare` and its verdict: what tuning bought, and whether that is more than noise (lesson 08)."""

import functools

import numpy as np
import pandas as pd

from ftkit import plots
from ftkit.data import Rows
from ftkit.display import Picture, Record, count, percent, points, shorten
from ftkit.evaluation import METRICS, Evaluation, Predictor, evaluate, interval_of
from ftkit.findings import FtkitError
from ftkit.report.seeds import Curve, score_curve

__all__ = ["Changed", "Comparison", "Curve", "Scoreboard", "compare", "score_curve", "scoreboard"]

BETTER, WORSE, CANNOT_TELL = "better", "worse", "cannot tell"
N_FLIPS = 5000
FEW_ROWS_ADVICE = " So few rows decide little: ft.cross_validate() turns every row of a small set into a test row once."


class Comparison(Record):
    """Two evaluations of the same rows, row by row: by how much one is better, and whether that is more than chance.

    Parameters
    ----------
    before, after : Evaluation
        Answers to the same rows.
    level : float
        Coverage of the intervals; `1 - level` is how often two equal predictors may be called different.
    """

    before: Evaluation
    after: Evaluation
    level: float = 0.95

    def __post_init__(self) -> None:
        a, b = self.before.rows, self.after.rows
        if (a.ids, a.texts, a.groups) != (b.ids, b.texts, b.groups) or not np.array_equal(a.labels, b.labels):
            on_a, on_b = (f"on {len(rows)} rows ({rows.name})" for rows in (a, b))
            told = f"{self.before.name!r} was scored {on_a} and {self.after.name!r} {on_b}, and they differ. A paired"
            raise FtkitError("FT070", f"{told} comparison needs both on the same rows: evaluate both on one split.")

    def difference(self, metric: str = "accuracy") -> float:
        """Return after minus before, as a share of one."""
        return getattr(self.after, metric) - getattr(self.before, metric)

    def interval(self, metric: str = "accuracy") -> tuple[float, float]:
        """Return the bootstrap interval of the difference; both predictors are resampled together."""
        return interval_of(self.after._resampled[metric] - self.before._resampled[metric], self.level)

    @functools.cached_property
    def p_value(self) -> float:
        """How often chance alone would make a difference in accuracy this large, if both were equally good.

        Without groups, and with one repeat each: McNemar's exact test on the rows that only one of them got right
        (Q. McNemar, 1947). Otherwise: the sign of each group's summed difference is flipped at random, as it could
        have been if before and after were exchangeable (a permutation test by group, two-sided).
        """
        gain = self.after.correct - self.before.correct
        if self.before.rows.groups is None and len(self.before.proba) == len(self.after.proba) == 1:
            from scipy.stats import binomtest

            won, lost = int((gain > 0).sum()), int((gain < 0).sum())
            return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
        sums = np.bincount(self.before.units, gain)
        sums = sums[np.abs(sums) > 1e-12]  # none where the answers are the same: then every flip is as large, p is 1
        signs = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.int8), size=(N_FLIPS, len(sums)))
        return float(((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9).sum() + 1) / (N_FLIPS + 1))

    @property
    def verdict(self) -> str:
        """`"better"` or `"worse"` where interval and test agree on it; otherwise `"cannot tell"`."""
        low, high = self.interval()
        if self.p_value >= 1 - self.level or low <= 0 <= high:
            return CANNOT_TELL
        return BETTER if low > 0 else WORSE

    def rows_needed(self, gain: float = 0.02) -> int:
        """Return about how many rows like these it takes to find a gain, in four of five cases, at a level of 95 %.

        Counted from how often answers change here (R. J. Connor, Biometrics 1987). Where the rows of a group change
        together, each counts for less, and more are needed.

        Parameters
        ----------
        gain : float
            The smallest gain in accuracy that would matter, as a share of one: decided on beforehand, since the gain
            that was just measured is what is in doubt.
        """
        gaps = self.after.correct - self.before.correct
        changed, beside = max((gaps**2).mean(), gain), gaps - gaps.mean()
        together = (np.bincount(self.before.units, beside) ** 2).sum() / max((beside**2).sum(), 1e-12)
        n = (1.96 * changed**0.5 + 0.84 * (changed - gain**2) ** 0.5) ** 2 / gain**2
        return int(np.ceil(n * max(1.0, together)))

    def changed(self, n: int = 3, *, to: str = "right") -> "Changed":
        """Return rows whose answer changed, the most confident first.

        Parameters
        ----------
        n : int
            How many rows at most; never two of one group.
        to : str
            `"right"`: wrong before, right after. `"wrong"`: the reverse.

        Returns
        -------
        Changed
            Its `frame()` has the columns `text`, `label`, `before`, `after`, `confidence`.
        """
        if self.before.rows.kind == "multiple":
            raise ValueError("kind: changed() lists one answer a row; these rows have multiple labels")
        if to not in ("right", "wrong"):
            raise ValueError(f"to: expected 'right' or 'wrong', found {to!r}")
        rows, names = self.after.rows, np.array(self.after.rows.label_names, dtype=object)
        was, now = self.before.predicted[0], self.after.predicted[0]
        wrong, right = (was, now) if to == "right" else (now, was)
        told = {"text": rows.texts, "label": names[rows.labels], "before": names[was], "after": names[now]}
        every = pd.DataFrame({**told, "confidence": self.after.proba[0].max(axis=1), "unit": self.before.units})
        gained = every[(wrong != rows.labels) & (right == rows.labels)]
        surest = gained.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("unit").head(n)
        shown = surest.assign(text=[shorten(text, 110) for text in surest["text"]]).drop(columns="unit")
        return Changed(to=to, n_all=len(gained), rows=shown.reset_index(drop=True))

    def summary(self) -> str:
        low, high = self.interval()
        before, after, verdict = self.before.name, self.after.name, self.verdict
        told = f"cannot tell {after} from {before}" if verdict == CANNOT_TELL else f"{after} is {verdict} than {before}"
        p = f"p = {self.p_value:.3f}" if self.p_value >= 0.001 else "p < 0.001"
        interval = f"{self.level:.0%} interval {points(low)} to {points(high)}"
        changed = f"{points(self.difference())} points ({interval}, {p}) on the {len(self.before.rows)} rows."
        advice = FEW_ROWS_ADVICE if verdict == CANNOT_TELL and len(self.before.rows) < 500 else ""
        if verdict == CANNOT_TELL:
            advice = f" A gain of 2 points would take about {count(self.rows_needed(0.02))} such rows to find.{advice}"
        return f"Verdict: {told}. Accuracy changed by {changed}{advice}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = []
        for metric, name in METRICS.items():
            scores = [f"{getattr(e, metric):.3f}" for e in (self.before, self.after)]
            low, high = map(points, self.interval(metric))
            rows.append((name, *scores, points(self.difference(metric)), f"{low} to {high}"))
        frame = pd.DataFrame(rows, columns=["metric", "before", "after", "change (points)", "interval"])
        return [(f"{self.before.name} → {self.after.name}", frame)]

    def picture(self) -> Picture:
        changes = 100 * np.array([(self.difference(metric), *self.interval(metric)) for metric in METRICS])
        label = f"change from {self.before.name} to {self.after.name} (points)"
        ax = plots.intervals(list(METRICS.values()), changes, label=label, reference=0)
        _, low, high = changes[0]
        return ax.figure, f"The change in accuracy lies between {low:+.1f} and {high:+.1f} points; zero is no change."


class Changed(Record):
    """Rows whose answer changed from one predictor to another.

    Parameters
    ----------
    to : str
        `"right"` or `"wrong"`: what the answers became.
    n_all : int
        How many answers changed that way.
    rows : DataFrame
        Some of them: `text`, `label`, `before`, `after`, `confidence`.
    """

    to: str
    n_all: int
    rows: pd.DataFrame

    def summary(self) -> str:
        return f"{self.n_all} answers became {self.to}; here are {len(self.rows)}, the most confident of their groups."

    def frame(self) -> pd.DataFrame:
        """Return the rows, with confidence as a share of one."""
        return self.rows

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        return [(f"Became {self.to}", self.rows.assign(confidence=self.rows["confidence"].map(percent)))]


class Scoreboard(Record):
    """Several evaluations of the same rows side by side.

    Parameters
    ----------
    evaluations : tuple of Evaluation
    """

    evaluations: tuple[Evaluation, ...]

    def summary(self) -> str:
        best = max(self.evaluations, key=lambda e: e.accuracy)
        return f"Highest accuracy: {best.name}. Overlapping intervals settle nothing: compare() asks the same rows."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows, first = [], self.evaluations[0].rows
        for e in self.evaluations:
            accuracy, low, high, macro_f1 = (f"{100 * share:.1f}" for share in (e.accuracy, *e.interval(), e.macro_f1))
            rows.append((e.name, accuracy, f"{low} to {high}", macro_f1))
        frame = pd.DataFrame(rows, columns=["predictor", "accuracy", "95% interval", "macro-F1"])
        return [(f"On the same {len(first)} {first.name} rows (percent)", frame)]

    def picture(self) -> Picture:
        shares = 100 * np.array([(e.accuracy, *e.interval()) for e in self.evaluations])
        ax = plots.intervals([e.name for e in self.evaluations], shares, label="accuracy (%) with its 95% interval")
        told = "; ".join(f"{e.name} {percent(e.accuracy)}" for e in self.evaluations)
        return ax.figure, f"Accuracy with intervals: {told}."


def compare(before: Evaluation | Predictor, after: Evaluation | Predictor, *, rows: Rows | None = None) -> Comparison:
    """Compare two predictors on the same rows, and say whether the difference is more than noise.

    Parameters
    ----------
    before, after : Evaluation or Predictor
        Evaluations of the same rows; or predictors, which are then scored on `rows`.
    rows : Rows, optional
        Needed where a predictor is given.

    Raises
    ------
    FtkitError
        FT070, if the two were not scored on the same rows.
    """
    if rows is None and not (isinstance(before, Evaluation) and isinstance(after, Evaluation)):
        raise FtkitError("FT070", "compare() got a predictor and no rows: evaluate both first, or pass rows=data.test.")
    a, b = (e if isinstance(e, Evaluation) else evaluate(e, rows) for e in (before, after))
    return Comparison(before=a, after=b)


def scoreboard(*evaluations: Evaluation) -> Scoreboard:
    """Put several evaluations of the same rows side by side.

    Raises
    ------
    FtkitError
        FT070, if they were not scored on the same rows.
    """
    for other in evaluations[1:]:
        compare(evaluations[0], other)
    return Scoreboard(evaluations=evaluations)
