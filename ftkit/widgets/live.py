"""What can be watched while a model trains: progress, time to go, rows a second, memory, and two curves (lesson 05)."""

from __future__ import annotations

import math
import time

import ipywidgets

from ftkit import doctor
from ftkit.display import count, escape, percent, seconds, size
from ftkit.plan import Plan
from ftkit.training import Event
from ftkit.widgets.curves import Series, chart, thin

#: Seconds between two updates: a reader needs no more, and the training keeps the processor.
EVERY_S = 0.5


class Live:
    """Listens to the events of one run, and draws them into an HTML widget at most twice a second.

    Parameters
    ----------
    shown : ipywidgets.HTML
        Its value is assigned, which a thread may do.
    plan : Plan
    reference : tuple of str and float
        Name and accuracy of what the run has to beat; a dashed line.
    """

    def __init__(self, shown: ipywidgets.HTML, plan: Plan, reference: tuple[str, float]) -> None:
        self._shown, self._plan, self._reference = shown, plan, reference
        self._losses, self._scored = [], []  # of each step; step, loss and accuracy on valid of each epoch
        self._step = self._n_steps = self._n_rows = 0
        self._began_s = self._elapsed_s = 0.0
        self.draw("Preparing: reading the rows, and scoring the start.")

    def on_event(self, event: Event) -> None:
        """Take note of an event; draw, if the last time was long enough ago."""
        self._step, self._n_steps, self._elapsed_s = event.step, event.n_steps, event.elapsed_s
        if event.kind == "step":
            self._losses.append(event.values["loss"])
            self._n_rows += event.values["n_rows"]
        elif event.kind == "epoch":
            self._scored.append((event.step, event.values["valid_loss"], event.values["accuracy"]))
            self._began_s = self._began_s or event.elapsed_s
        if time.monotonic() - self._drawn_at >= EVERY_S:
            self.draw()

    @property
    def progress(self) -> str:
        """How far the run is, in a sentence."""
        if not self._step:
            return f"Step 0 of {count(self._n_steps)}. The start is scored."
        trained_s = max(1e-9, self._elapsed_s - self._began_s)
        left_s = trained_s / self._step * (self._n_steps - self._step)
        epoch = math.ceil(self._step * self._plan.epochs / self._n_steps)
        return (
            f"Epoch {epoch} of {self._plan.epochs}, step {count(self._step)} of {count(self._n_steps)}: "
            f"about {seconds(left_s)} to go. {count(self._n_rows / trained_s)} rows a second, "
            f"{size(doctor.rss_bytes())} of memory in use."
        )

    def draw(self, told: str | None = None) -> None:
        """Draw the state as it is, with a sentence in the place of the progress, if one is given."""
        self._drawn_at = time.monotonic()
        done = 100 * self._step / max(1, self._n_steps)
        bar = (
            f'<div class="bar" role="progressbar" aria-label="Share of the steps that are done, in percent" '
            f'aria-valuenow="{done:.0f}"><div style="width:{done:.1f}%"></div></div>'
        )
        charts = self._charts() if self._scored else ""
        self._shown.value = f'<div class="live">{bar}<p>{escape(told or self.progress)}</p>{charts}</div>'

    def _charts(self) -> str:
        steps, losses, right = (list(column) for column in zip(*self._scored, strict=True))
        fine = thin(self._losses)
        width = len(self._losses) / max(1, len(fine))
        name, score = self._reference
        after = f"on valid after {count(steps[-1])} steps"
        axis = {"x_label": "step", "x_most": self._n_steps}
        falling = chart(
            [
                Series("training, each step", [width * (i + 0.5) for i in range(len(fine))], fine, "fine"),
                Series("valid, each epoch", steps, losses, "marked"),
            ],
            title="Loss",
            told=f"Loss {after}: {losses[-1]:.3f}; it began at {losses[0]:.3f}.",
            **axis,
        )
        rising = chart(
            [
                Series("this run", steps, [100 * share for share in right], "marked"),
                Series(name, [0, self._n_steps], [100 * score] * 2, "dashed"),
            ],
            title="Right on valid (%)",
            told=f"Accuracy {after}: {percent(right[-1])}. {name} has {percent(score)}.",
            **axis,
        )
        return f'<div class="charts">{falling}{rising}</div>'
