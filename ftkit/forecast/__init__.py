"""What a run will cost, told before it is paid for, and beside what it did cost (lesson 04).

Seconds, memory and energy, each with its uncertainty, from a calibration of about two seconds on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ftkit import plots
from ftkit.data import Splits
from ftkit.display import Record, count, record, seconds, size
from ftkit.forecast import memory
from ftkit.forecast.calibration import Calibration, calibrate, needed
from ftkit.forecast.energy import POWER_ERROR
from ftkit.forecast.memory import fitting
from ftkit.forecast.work import work
from ftkit.plan import Plan
from ftkit.pretrained import Base

__all__ = [
    "Calibration",
    "Estimate",
    "Estimates",
    "Forecasted",
    "beside",
    "calibrate",
    "estimate",
    "estimates",
    "fitting",
]

#: How far a time was from its forecast, as a share of it: the root of the mean square over the plans of
#: `python -m benchmarks.forecasts`.
TIME_ERROR = 0.10


@record
class Estimate(Record):
    """What a plan will cost. Ranges hold 19 times in 20, if errors are as they were in `benchmarks/forecasts.py`.

    Parameters
    ----------
    plan : Plan
    train_s : float
        Seconds of wall time, if no epoch is spared.
    train_range_s : tuple of two float
    peak_bytes : int
        Memory of the whole process at its highest, mapped files included.
    peak_range_bytes : tuple of two int
    energy_wh : float or None
        Energy in watt hours; None where nothing here can tell (it takes the extra `energy`, codecarbon).
    energy_range_wh : tuple of two float, or None
    """

    plan: Plan
    train_s: float
    train_range_s: tuple[float, float]
    peak_bytes: int
    peak_range_bytes: tuple[int, int]
    energy_wh: float | None = None
    energy_range_wh: tuple[float, float] | None = None

    def summary(self) -> str:
        time = f"{seconds(self.train_s)} ({_within(self.train_range_s, seconds)})"
        peak = f"{size(self.peak_bytes)} of memory ({_within(self.peak_range_bytes, size)})"
        drawn = "what energy it takes, nothing here can tell: codecarbon is not installed"
        if self.energy_wh is not None:
            drawn = f"the energy, about {_wh(self.energy_wh)} ({_within(self.energy_range_wh, _wh)})"
        return f"About {time} and {peak} for {self.plan.code()} here; {drawn}."


@record
class Estimates(Record):
    """What several plans will cost, side by side.

    Parameters
    ----------
    estimates : tuple of Estimate
    n_trained : tuple of int
        How many weights may move in each plan.
    """

    estimates: tuple[Estimate, ...]
    n_trained: tuple[int, ...]

    def summary(self) -> str:
        ranked = sorted(self.estimates, key=lambda e: e.train_s)
        told = [f"{e.plan.words}: {seconds(e.train_s)} ({_within(e.train_range_s, seconds)})" for e in ranked]
        return f"From {told[0]} to {told[-1]}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [
            (e.plan.words, count(n), seconds(e.train_s), _within(e.train_range_s, seconds), size(e.peak_bytes),
             _within(e.peak_range_bytes, size))
            for e, n in zip(self.estimates, self.n_trained, strict=True)
        ]  # fmt: skip
        columns = ["what trains", "weights that may move", "time", "time within", "memory", "memory within"]
        return [("Estimates", pd.DataFrame(rows, columns=columns))]

    def picture(self) -> tuple[Figure, str]:
        names, took = [e.plan.words for e in self.estimates], [e.train_s for e in self.estimates]
        told = "The backward pass goes down to the lowest group that trains, and no further."
        return plots.bars(names, took, label="estimated seconds").figure, f"Estimated seconds for each plan. {told}"


@record
class Forecasted(Record):
    """A forecast beside what was measured.

    Parameters
    ----------
    estimate : Estimate
    train_s : float
        Seconds that the run took.
    peak_bytes : int
        Memory that its process held at its highest.
    """

    estimate: Estimate
    train_s: float
    peak_bytes: int

    def summary(self) -> str:
        told = [f"{what} {_off(forecast, measured)}" for what, _, forecast, measured, _ in self._rows()]
        return f"The forecast for {self.estimate.plan.code()} was off by {' and '.join(told)}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [
            (what, unit(forecast), _within(range_, unit), unit(measured), _off(forecast, measured))
            for what, unit, forecast, measured, range_ in self._rows()
        ]
        columns = ["what", "forecast", "within", "measured", "off by"]
        return [("Forecast and measured", pd.DataFrame(rows, columns=columns))]

    def _rows(self) -> list[tuple]:
        e = self.estimate
        return [
            ("time", seconds, e.train_s, self.train_s, e.train_range_s),
            ("memory", size, e.peak_bytes, self.peak_bytes, e.peak_range_bytes),
        ]


def beside(estimate: Estimate, run: Any) -> Forecasted:
    """Return a forecast beside what the run took.

    Parameters
    ----------
    estimate : Estimate
        Made before the run.
    run : Run
        Its `train_s` and `peak_bytes` count; the peak is that of the process, earlier runs in it included.
    """
    return Forecasted(estimate=estimate, train_s=run.train_s, peak_bytes=run.peak_bytes)


def estimates(base: Base, data: Splits, plans: Sequence[Plan]) -> Estimates:
    """Estimate what several plans cost, from one calibration.

    Parameters
    ----------
    base : Base
    data : Splits
    plans : sequence of Plan
    """
    measured = calibrate(base, data, plans)
    return Estimates(
        estimates=tuple(estimate(base, data, plan, measured) for plan in plans),
        n_trained=tuple(plan.preview(base, len(data.label_names)).n_trained for plan in plans),
    )


def estimate(base: Base, data: Splits, plan: Plan, calibration: Calibration | None = None) -> Estimate:
    """Estimate seconds, memory and energy of a run, before it is paid for.

    What a plan's steps consist of is counted, and multiplied with what each part took when it was measured. The
    uncertainty is that of the measured repeats, and how far forecasts were off when they were compared with runs.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
    calibration : Calibration, optional
        From `calibrate(base, data, plan)`; measured now if None, or if it lacks something that this plan needs.
    """
    if calibration is None or not needed(base, data, plan) <= set(calibration.rounds[0]):
        calibration = calibrate(base, data, plan)
    parts = work(base, data, plan, calibration)
    each = [sum(n @ np.array(costs[name]) for name, n in parts.items()) for costs in calibration.rounds]
    train_s, n_tokens = float(np.mean(each)), max(calibration.train + calibration.valid)
    error = float(np.hypot(TIME_ERROR, np.std(each, ddof=1) / len(each) ** 0.5 / train_s))
    peak = memory.peak_bytes(base, data, plan, n_tokens)
    wh = None if calibration.watts is None else calibration.watts * train_s / 3600
    return Estimate(
        plan=plan,
        train_s=train_s,
        train_range_s=_range(train_s, 2 * error),
        peak_bytes=peak,
        peak_range_bytes=_range(peak, 2 * memory.MEMORY_ERROR),
        energy_wh=wh,
        energy_range_wh=None if wh is None else _range(wh, float(np.hypot(2 * error, POWER_ERROR))),
    )


def _range(value: float, error: float) -> tuple:
    return type(value)(value / (1 + error)), type(value)(value * (1 + error))


def _within(ends: tuple[float, float], unit: Callable[[float], str]) -> str:
    return " to ".join(map(unit, ends))


def _wh(energy: float) -> str:
    return f"{energy:.2g} Wh"


def _off(forecast: float, measured: float) -> str:
    return f"{100 * (forecast / measured - 1):+.0f} %"
