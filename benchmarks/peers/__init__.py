"""One adapter for each tool: `load` (not timed) and `tune` (timed), alike in everything but the tool.

`load(job)` loads the model, and `tune(loaded, rows, job)` goes from raw texts to a tuned one and returns it as `Tuned`.
Peers of ftkit never import it, so that its imports cost them neither time nor memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class Tuned(NamedTuple):
    """What an adapter hands back.

    Parameters
    ----------
    answer : function
        Takes texts, returns a class number for each.
    told : mapping
        What else was measured or is worth knowing, as plain values.
    """

    answer: Callable[[Sequence[str]], Sequence[int]]
    told: Mapping[str, Any]


class Stopwatch:
    """Tells the optimizer's seconds from those of whole steps: `began` and `ended` are called around each step."""

    def __init__(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        self.steps_s = self.optimizer_s = self._from = self._optimizer_from = 0.0
        self.first_step: float | None = None
        register_optimizer_step_pre_hook(lambda *_: setattr(self, "_optimizer_from", time.perf_counter()))
        register_optimizer_step_post_hook(self._optimized)

    def _optimized(self, *_: Any) -> None:
        self.optimizer_s += time.perf_counter() - self._optimizer_from

    def began(self) -> None:
        """Start a step."""
        self._from = time.perf_counter()
        self.first_step = self.first_step or time.monotonic()

    def ended(self) -> None:
        """End a step."""
        self.steps_s += time.perf_counter() - self._from

    def told(self) -> dict[str, float]:
        """Return what a result keeps: seconds in all steps, seconds of them in the optimizer, when the first began."""
        return {"steps_s": self.steps_s, "optimizer_s": self.optimizer_s, "first_step": self.first_step or 0.0}
