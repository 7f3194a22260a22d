"""Which plan: a learning-rate range test, and sweeps that end what looks poor, all judged on `valid` (lesson 06)."""

from ftkit.search.rates import RateRange, rate_range
from ftkit.search.sweeps import Sweep, sweep

__all__ = ["RateRange", "Sweep", "rate_range", "sweep"]
