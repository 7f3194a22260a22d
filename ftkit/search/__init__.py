"""Which plan: a learning-rate range test, sweeps, and successive halving, all judged on `valid` (lesson 06)."""

from ftkit.search.rates import RateRange, rate_range
from ftkit.search.sweeps import halving, sweep
from ftkit.search.trials import Sweep, Trial

__all__ = ["RateRange", "Sweep", "Trial", "halving", "rate_range", "sweep"]
