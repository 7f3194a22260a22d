"""What a run will cost, told before it is paid for, and beside what it did cost: time, memory, energy (lesson 04)."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd

from ftkit import doctor, plots
from ftkit.data import Splits
from ftkit.display import Picture, Record, count, seconds, size
from ftkit.findings import FtkitError
from ftkit.forecast import costs
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.record import Run

#: How far a time can be from its forecast, as a share of it: for measured steps, about twice the root of the mean
#: square over the plans of `python -m benchmarks.forecast`; and for steps that are only counted.
MEASURED_ERROR, COUNTED_ERROR = 0.3, 1 / 3
#: The same for a peak of memory.
PEAK_ERROR = 0.15
#: Seconds for what is done once: a copy of the model, and at the end a look at what moved.
START_S = 0.2
#: Seconds of the logistic regressions of a probe; and of AdamW for each weight, where its steps are only counted.
PROBE_S, UPDATE_S = 3.0, 2e-9
_UNITS = {"train_s": seconds, "peak_bytes": size, "energy_wh": "{:.2g} Wh".format}


class Estimate(Record):
    """What a plan will cost, if no epoch is spared.

    Parameters
    ----------
    plan : Plan
    train_s : float
        Seconds of wall time.
    peak_bytes : int
        Memory of the whole process at its highest.
    error : float
        By what share of it the time can be longer or, divided, shorter.
    """

    plan: Plan
    train_s: float
    peak_bytes: int
    error: float = COUNTED_ERROR

    @property
    def energy_wh(self) -> float:
        """Energy in watt hours: what the machine draws at work, or is taken to draw, for that time."""
        return self.train_s * costs.watts()[0] / 3600

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The low and the high end of `train_s`, `peak_bytes` and `energy_wh`."""
        errors = zip(_UNITS, (self.error, PEAK_ERROR, math.hypot(self.error, costs.watts()[1])), strict=True)
        return {name: (getattr(self, name) / (1 + e), getattr(self, name) * (1 + e)) for name, e in errors}

    def words(self, name: str) -> tuple[str, str]:
        """Return one of the three in words, and its range."""
        value, low, high = map(_UNITS[name], (getattr(self, name), *self.ranges[name]))
        return value, f"{low} to {high}"

    def told(self, name: str) -> str:
        """Return one of the three in words, with its range."""
        return "{} ({})".format(*self.words(name))

    def summary(self) -> str:
        time, memory, energy = map(self.told, _UNITS)
        return f"Roughly {time}, {memory} of memory, {energy} (at {costs.watts()[0]:.0f} W) for {self.plan.code()}."

    def beside(self, run: Run) -> pd.DataFrame:
        """Return a table of this forecast and what a run took, and by how many percent the forecast was off.

        The run's peak is that of its process: earlier work in it counts, too.
        """
        rows = []
        for what, name in (("time", "train_s"), ("memory", "peak_bytes")):
            off = getattr(self, name) / getattr(run, name) - 1
            rows.append((what, self.told(name), _UNITS[name](getattr(run, name)), f"{100 * off:+.0f} %"))
        return pd.DataFrame(rows, columns=["what", "forecast", "measured", "off by"])


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
        return "; ".join(f"{e.plan.words}: about {e.told('train_s')}" for e in (ranked[0], ranked[-1])) + "."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = []
        for e, n in zip(self.estimates, self.n_trained, strict=True):
            (took, times), (held, sizes), (energy, _) = map(e.words, _UNITS)
            rows.append((e.plan.words, count(n), took, times, held, sizes, energy))
        columns = ["what trains", "weights that may move", "time", "time can be", "memory", "memory can be", "energy"]
        return [("Estimates", pd.DataFrame(rows, columns=columns))]

    def picture(self) -> Picture:
        names, took = [e.plan.words for e in self.estimates], [e.train_s for e in self.estimates]
        told = "The backward pass goes down to the lowest group that trains, and no further."
        return plots.bars(names, took, label="estimated seconds").figure, f"Estimated seconds for each plan. {told}"


def estimates(base: Base, data: Splits, plans: Sequence[Plan]) -> Estimates:
    """Estimate what several plans cost.

    Parameters
    ----------
    base : Base
    data : Splits
    plans : sequence of Plan
    """
    n_trained = tuple(plan.preview(base, len(data.label_names)).n_trained for plan in plans)
    return Estimates(estimates=tuple(estimate(base, data, plan) for plan in plans), n_trained=n_trained)


def estimate(base: Base, data: Splits, plan: Plan, *, calibrate: bool = True) -> Estimate:
    """Estimate seconds, memory and energy of a run, before it is paid for.

    A few steps of the plan are taken on a copy of the model, with a short batch and a long one: a second or two, once
    in a process. The backward pass goes down to the lowest group that trains, and no further: that is why freezing
    from below saves time. What is frozen below is computed once, unless the plan keeps nothing; what is on disk
    already is no work.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
    calibrate : bool
        False only counts the steps, from the speed of the frozen encoder, and takes it that nothing was kept before:
        rougher, but quick enough for a slider.
    """
    ids, n_train, n_rows = costs.sample(base, data), len(data.train), len(data.train) + len(data.valid)
    preview, forward_s = plan.preview(base, len(data.label_names)), costs.forward_s(base, ids)
    settled = plan.but(dtype=doctor.fastest_dtype()) if calibrate and plan.dtype == "auto" else plan
    train_s, kept = START_S + (plan.start == "probe") * (forward_s * n_rows + PROBE_S), 0.0
    # The last step of an epoch has fewer rows, but no smaller update: half of what it lacks is counted.
    n_full = min(plan.batch_size, n_train)
    n_equal = (n_train + math.ceil(n_train / n_full) * n_full) / 2
    for epoch in range(1, plan.epochs + 1):
        stage = tuple(g for g in plan.stage(list(preview.sizes), epoch) if preview.moving[g])
        below, crossed = costs.depths(base, stage)
        share = crossed / (below + crossed)
        if plan.cache and 1 - share != kept:
            kept = 1 - share
            train_s += costs.build_s(base, ids, n_rows, settled, stage) if calibrate else forward_s * kept * n_rows
        # Half of a backward pass is the gradient of the weights, which biases, norm layers and adapters hardly have.
        counted_s = forward_s * (1 - kept + (2 if (plan.tensors, plan.method) == ("all", "full") else 1) * share)
        counted_s += UPDATE_S / n_full * sum(preview.moving[g] for g in stage)
        train_s += n_equal * (costs.row_s(base, data, ids, settled, stage) if calibrate else counted_s)
        train_s += forward_s * (1 - kept) * (n_rows - n_train) * (1 + (epoch == 1))  # the start is scored, too
    error = math.hypot(MEASURED_ERROR, 2 * train_s.std() / train_s.mean()) if calibrate else COUNTED_ERROR
    doctor.give_back_memory()
    peak = costs.peak_bytes(base, data, plan)
    return Estimate(plan=plan, train_s=float(train_s.mean()), peak_bytes=peak, error=error)


def fitting(
    base: Base, data: Splits, plan: Plan, limit_bytes: int | None = None, *, shrink: bool = False, doubt: float = 0.0
) -> Plan:
    """Return the plan if it fits in memory; otherwise say which one would, or return that. Nothing is run.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
    limit_bytes : int, optional
        What the process may hold at its highest; by default what it holds now and what is left here, as control
        groups and the machine have it.
    shrink : bool
        Return the nearest plan that fits: batches in more parts, which change nothing but the time, then deeper
        freezing.
    doubt : float
        Let a plan pass that is above the limit by no more than this share of its forecast.

    Raises
    ------
    FtkitError
        FT066, if the plan does not fit and is not to shrink, or if nothing fits.
    """
    limit = limit_bytes or doctor.rss_bytes() + doctor.memory_bytes()[1]
    peak = costs.peak_bytes(base, data, plan)
    if peak * (1 - doubt) <= limit:
        return plan
    near = next((p for p in _smaller(base, plan) if costs.peak_bytes(base, data, p) <= limit), None)
    if near and shrink:
        return near
    nearest = f"The nearest plan that fits is {near.code()}" if near else "Not even training the top alone would fit"
    told = f"{plan.code()} would hold about {size(peak)} of memory, and {size(limit)} are to be had"
    raise FtkitError("FT066", f"{told}. {nearest}.")


def _smaller(base: Base, plan: Plan) -> Iterator[Plan]:
    """Yield plans that need less and less: batches in more parts, then with the lowest group frozen, and so on."""
    trained = plan.resolve([*base.groups, "head"])
    for first in range(len(trained) - (plan.method != "full")):  # a method needs a block to go into
        rates = {g: rate for g, rate in plan.rates.items() if g in trained[first:]}
        part = plan.but(train=trained[first:], rates=rates) if first else plan
        while part.accumulate <= part.batch_size:
            yield part
            part = part.but(accumulate=2 * part.accumulate)
