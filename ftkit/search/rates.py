"""The learning-rate range test: the loss while the rates grow, in some hundred steps."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ftkit import baseline, plots, tasks, training
from ftkit.data import Splits
from ftkit.display import Record, record
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.training.feed import Feed


@record
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
    """

    plan: Plan
    field: str
    rates: np.ndarray
    losses: np.ndarray
    diverged: float | None

    @functools.cached_property
    def smoothed(self) -> np.ndarray:
        """The losses smoothed over a quarter of a decade to both sides, so that none is shifted; shape (n_steps,)."""
        from scipy.ndimage import gaussian_filter1d

        return gaussian_filter1d(self.losses, 0.25 / np.log10(self.rates[1] / self.rates[0]), mode="nearest")

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls fastest; None where it falls by no more than it scatters."""
        lowest = int(np.argmin(self.smoothed))
        scatter = float(np.std((self.losses - self.smoothed)[: lowest + 1]))
        if self.smoothed[0] - self.smoothed[lowest] <= max(2 * scatter, 1e-6):
            return None
        return float(self.rates[np.argmin(np.gradient(self.smoothed[: lowest + 1]))])

    @property
    def suggestion(self) -> float | None:
        """The smaller of two rates: where the loss falls fastest, and a tenth of where it is lost; None if untold."""
        if self.steepest is None:
            return None
        return float(f"{min(self.steepest, (self.diverged or math.inf) / 10):.2g}")

    @property
    def changes(self) -> dict[str, Any]:
        """What the suggestion changes in the plan: all rates that are used, by one factor, to at most 1.

        Raises
        ------
        FtkitError
            FT076 if nothing can be suggested.
        """
        if self.suggestion is None:
            raise FtkitError("FT076", self.summary())
        factor = self.suggestion / getattr(self.plan, self.field)
        rates = {n: getattr(self.plan, n) for n in ("lr", "head_lr")[self.field == "head_lr" :]}
        rates, own = ({n: min(1.0, float(f"{r * factor:.2g}")) for n, r in p.items()} for p in (rates, self.plan.rates))
        return {**rates, "rates": own} if own else rates

    @property
    def suggested(self) -> Plan:
        """The plan with the suggested rates."""
        return self.plan.but(**self.changes)

    def summary(self) -> str:
        lost = f"was lost at {self.diverged:.2g}" if self.diverged else "was not lost"
        span = f"with {self.field} from {self.rates[0]:.2g} to {self.rates[-1]:.2g} the loss"
        if self.suggestion is None:
            return f"No suggestion: {span} fell by no more than it scatters, and {lost}."
        return (
            f"plan.but({', '.join(f'{n}={v!r}' for n, v in self.changes.items())}): {span} fell fastest at "
            f"{self.steepest:.2g} and {lost}. Take this as the upper end: for transformers the test tends to suggest "
            "too much, since a few steps do not show what a whole run forgets. Try a third and a tenth of it too."
        )

    def frame(self) -> pd.DataFrame:
        """Return one row a step: `rate`, `loss`, `smoothed`."""
        return pd.DataFrame({"rate": self.rates, "loss": self.losses, "smoothed": self.smoothed})

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        some = self.frame().iloc[:: max(1, len(self.rates) // 12)]
        return [(f"Loss in nats by {self.field}", some.map("{:.3g}".format))]

    def picture(self) -> tuple[Figure, str]:
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

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
    low, high : float
        First and last rate of the pretrained groups, or of the head where it trains alone; the steps between are even
        on a logarithmic scale.
    n_steps : int
        At most so many; it ends where the loss is lost: where its mean over five steps is half as high again as that
        over the first five, and half a nat higher at least.

    Raises
    ------
    FtkitError
        FT073 if `low`, `high` or `n_steps` do not fit.

    Notes
    -----
    L. N. Smith, Cyclical Learning Rates for Training Neural Networks (WACV 2017).
    """
    if not 0 < low < high < math.inf or n_steps < 20:
        raise FtkitError("FT073", f"Expected 0 < low < high and n_steps of 20 or more; found {low}, {high}, {n_steps}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model, groups = tasks.Classifier(base, len(data.label_names)), tasks.classifier_groups(base)
        plan.apply(model, groups)
        if plan.start == "probe":
            probe, _ = baseline.fit_probe(base, data)
            for own, found in zip(model.head.parameters(), baseline.probe_weights(probe, data), strict=True):
                own.data.copy_(torch.from_numpy(found))
        ids, labels = base.tokenize(data.train.texts), torch.tensor(data.train.labels)
        feed = Feed(base, plan, groups, ids, [], lambda: None, lambda n_texts, n_bytes: None)
        feed.prepare(plan.epochs)
        optimizer, order = training.make_optimizer(model, groups, plan), torch.Generator().manual_seed(plan.seed)
        training.set_modes(model, groups, plan, plan.epochs)
        balanced = tasks.class_weights(data.train.labels, len(data.label_names), data.kind)
        weights = torch.tensor(balanced).float() if plan.class_weight else None
        field = "head_lr" if plan.resolve(list(groups)) == ("head",) else "lr"
        planned = [settings["lr"] / getattr(plan, field) for settings in optimizer.param_groups]
        rates, losses, left, diverged = np.geomspace(low, high, n_steps), [], [], None
        for rate in rates:
            left = left or training.batches(list(map(len, ids)), plan.batch_size, order)
            rows = left.pop(0)
            for settings, ratio in zip(optimizer.param_groups, planned, strict=True):
                settings["lr"] = ratio * rate
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.dtype == "bfloat16"):
                loss = tasks.loss(model(feed.train(rows)).float(), labels[rows], data.kind, weights)
            losses.append(loss.item())
            start, now = np.mean(losses[:5]), np.mean(losses[-5:])
            if not math.isfinite(now) or now > start + max(0.5, start / 2):
                diverged = float(rate)
                break
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
            optimizer.step()
            optimizer.zero_grad()
    n = len(losses) - (not math.isfinite(losses[-1]))
    if n < 6:
        raise FtkitError("FT076", f"The loss was lost after {n} steps, at a rate of {rates[n - 1]:.2g}: begin lower.")
    return RateRange(plan=plan, field=field, rates=rates[:n], losses=np.array(losses[:n]), diverged=diverged)
