"""The learning-rate range test: the loss while the rates grow, in some hundred steps."""

import contextlib
import math

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter1d

from ftkit import plots, training
from ftkit.data import Rows, Splits
from ftkit.display import Picture, Record
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.training.loop import Checkpoints, Ended, Loop, Ranks


class RateRange(Record):
    """The loss over a growing learning rate.

    Parameters
    ----------
    plan : Plan
        The plan whose rates were varied.
    field : str
        Which of its rates `rates` are: `"lr"`, or `"head_lr"` where only the head trains. The others keep their ratio
        to it.
    rates : numpy.ndarray, shape (n_steps,)
    losses : numpy.ndarray, shape (n_steps,)
        The training loss of each step's batch, in nats.
    diverged : float or None
        The rate at which the loss was lost, if it was.

    Examples
    --------
    >>> rates = np.geomspace(1e-5, 1, 60)
    >>> losses = 3 - 2 / (1 + (1e-3 / rates) ** 2)
    >>> tested = RateRange(plan=Plan(train="top 1"), field="lr", rates=rates, losses=losses, diverged=0.005)
    >>> tested.suggestion, tested.suggested
    (0.0005, Plan(train='top 1', lr=0.0005, head_lr=0.005))
    """

    plan: Plan
    field: str
    rates: np.ndarray
    losses: np.ndarray
    diverged: float | None

    @property
    def smoothed(self) -> np.ndarray:
        """The losses smoothed over a quarter of a decade to both sides, so that none is shifted; shape (n_steps,)."""
        return gaussian_filter1d(self.losses, 0.25 / np.log10(self.rates[1] / self.rates[0]), mode="nearest")

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls fastest; None where it falls by no more than it scatters."""
        falling = self.smoothed[: int(np.argmin(self.smoothed)) + 1]
        scatter = float(np.std(self.losses[: len(falling)] - falling))
        if falling[0] - falling[-1] <= max(2 * scatter, 1e-6):
            return None
        return float(self.rates[np.argmin(np.gradient(falling))])

    @property
    def suggestion(self) -> float | None:
        """The smaller of two rates: where the loss falls fastest, and a tenth of where it is lost; None if untold."""
        return self.steepest and float(f"{min(self.steepest, (self.diverged or math.inf) / 10):.2g}")

    @property
    def suggested(self) -> Plan:
        """The plan with all rates that are used changed by one factor, to at most 1, such that `field` is as suggested.

        Raises
        ------
        FtkitError
            FT076 if nothing can be suggested.
        """
        if self.suggestion is None:
            raise FtkitError("FT076", self.summary())
        factor, names = self.suggestion / getattr(self.plan, self.field), {self.field, "head_lr"}
        planned = {name: getattr(self.plan, name) for name in names}, self.plan.rates
        usual, own = ({n: min(1.0, float(f"{r * factor:.2g}")) for n, r in rates.items()} for rates in planned)
        return self.plan.but(**usual, rates=own)

    def summary(self) -> str:
        lost = f"was lost at {self.diverged:.2g}" if self.diverged else "was not lost"
        span = f"with {self.field} from {self.rates[0]:.2g} to {self.rates[-1]:.2g} the loss"
        if self.suggestion is None:
            return f"No suggestion: {span} fell by no more than it scatters, and {lost}."
        fell = f"{self.suggested.code()}: {span} fell fastest at {self.steepest:.2g} and {lost}"
        why = "the test tends to suggest too much, since a few steps do not show what a whole run forgets"
        return f"{fell}. Take this as the upper end: for transformers {why}. Try a third and a tenth of it too."

    def frame(self) -> pd.DataFrame:
        """Return one row a step: `rate`, `loss`, `smoothed`."""
        return pd.DataFrame({"rate": self.rates, "loss": self.losses, "smoothed": self.smoothed})

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        some = self.frame().iloc[:: max(1, len(self.rates) // 12)]
        return [(f"Loss in nats by {self.field}", some.map("{:.3g}".format))]

    def picture(self) -> Picture:
        told = {"falls fastest": self.steepest, "lost": self.diverged, "suggested": self.suggestion}
        marks = {f"{name}: {rate:.2g}": rate for name, rate in told.items() if rate}
        ax = plots.loss_by_rate(self.frame(), marks=marks, label=self.field)
        return ax.figure, f"Training loss while {self.field} grows, each step a dot. {'; '.join(marks)}".rstrip() + "."


def rate_range(
    base: Base, data: Splits, plan: Plan, *, low: float = 1e-6, high: float = 1.0, n_steps: int = 100
) -> RateRange:
    """Train a copy for some steps while all rates grow together, and tell at which the loss falls and is lost.

    The steps are those of `ft.fit`, with the plan's seed, and the same activations of frozen blocks on disk; only the
    rates differ. Groups keep their ratios; of gradual unfreezing the last stage is tested. Nothing given is changed;
    `test` is not opened, and `valid` neither, but for a start from a probe, whose penalty it chooses as in `ft.fit`.
    It is a test for one process.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
    low, high : float
        First and last rate of the pretrained groups, or of the head where it trains alone; the steps between are even
        on a logarithmic scale.
    n_steps : int
        At most so many, 20 at least; it ends where the loss is lost: where its mean over five steps is half as high
        again as that over the first five, and half a nat higher at least, or is not finite.

    Raises
    ------
    FtkitError
        FT073 if `low`, `high` or `n_steps` do not fit; FT076 if the loss was lost within six steps; and as `ft.fit`.

    Notes
    -----
    L. N. Smith, Cyclical Learning Rates for Training Neural Networks (WACV 2017).

    Examples
    --------
    >>> tested = rate_range(base, data, Plan(train="top 1"))  # doctest: +SKIP
    >>> run = ft.fit(base, data, tested.suggested)  # doctest: +SKIP
    """
    if not 0 < low < high < math.inf or n_steps < 20:
        raise FtkitError("FT073", f"Expected 0 < low < high and n_steps of 20 or more; found {low}, {high}, {n_steps}.")
    n_epochs = math.ceil(n_steps / math.ceil(len(data.train) / plan.batch_size))
    even = {"schedule": "constant", "warmup": 0.0, "gradual": False, "patience": None, "epochs": n_epochs}
    # What a run scores its epochs on is no part of the test: rows of no meaning stand there.
    texts, kind = ("(nothing is scored)", "(nor opened)"), {"label_names": data.label_names, "kind": data.kind}
    blank = Rows(name="blank", texts=texts, labels=data.train.labels[[0, 0]], source="blank", **kind)
    alone = Splits(name=data.name, train=data.train, valid=blank.take([0]), test=blank.take([1]))

    def grow(event: training.Event) -> None:
        if event.kind == "step" and (event.step == n_steps or _lost(loop.state.losses)):
            raise Ended("tested")
        for settings, peak in zip(loop.optimizer.param_groups, planned, strict=True):
            settings["peak"] = peak * rates[event.step] / getattr(plan, field)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        given = (base, data if plan.start == "probe" else alone, training.settled(plan.but(**even)))
        loop = Loop(*given, Ranks(), Checkpoints(None, *given), 0.0, grow, lambda: False)
        field = "head_lr" if plan.resolve(list(loop.groups)) == ("head",) else "lr"
        rates, planned = np.geomspace(low, high, n_steps), [s["peak"] for s in loop.optimizer.param_groups]
        loop.begin()
        with contextlib.suppress(Ended):
            loop.epochs()
        losses = list(loop.end("tested").losses)
    diverged = float(rates[len(losses) - 1]) if len(losses) < n_steps or _lost(losses) else None
    finite = np.array(losses)[np.isfinite(losses)]
    if len(finite) < 6:
        raise FtkitError("FT076", f"The loss was lost after {len(finite)} steps: begin lower than at {low:.2g}.")
    return RateRange(plan=plan, field=field, rates=rates[: len(finite)], losses=finite, diverged=diverged)


def _lost(losses: list[float]) -> bool:
    """Say whether the mean of the last five losses is far above that of the first five, or no number."""
    start = np.mean(losses[:5])
    return not np.mean(losses[-5:]) <= start + max(0.5, start / 2)
