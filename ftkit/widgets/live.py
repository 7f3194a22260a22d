"""What can be watched while a model trains: progress, time to go, rows a second, memory, and two curves (lesson 05).

The charts are SVG text: a matplotlib figure takes 80 ms, and would hold up the training it shows.
"""

import math
import time
from collections.abc import Sequence
from typing import NamedTuple

from ipywidgets import HTML
from matplotlib.ticker import MaxNLocator

from ftkit import doctor
from ftkit.display import count, escape, percent, seconds, size
from ftkit.plan import Plan
from ftkit.training import Event

#: Seconds between two updates: a reader needs no more, and the training keeps the processor.
EVERY_S = 0.5
#: Three to five round numbers.
_TICKS = MaxNLocator(nbins=3, steps=[1, 2, 5, 10], min_n_ticks=1)
_WIDTH, _HEIGHT = 380, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 368, 30, 156  # the edges of what the axes frame


class Live:
    """Listens to the events of one run, and draws them into an HTML widget at most twice a second.

    Parameters
    ----------
    shown : HTML
        Its value is assigned, which a thread may do.
    plan : Plan
    reference : tuple of str and float
        Name and accuracy of what the run has to beat; a dashed line.
    """

    def __init__(self, shown: HTML, plan: Plan, reference: tuple[str, float]) -> None:
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

    def _progress(self) -> str:
        """How far the run is, in a sentence."""
        if not self._step:
            return f"Step 0 of {count(self._n_steps)}. The start is scored."
        trained_s = max(1e-9, self._elapsed_s - self._began_s)
        left_s = trained_s / self._step * (self._n_steps - self._step)
        epoch = math.ceil(self._step * self._plan.epochs / self._n_steps)
        step = f"Epoch {epoch} of {self._plan.epochs}, step {count(self._step)} of {count(self._n_steps)}"
        speed = f"{count(self._n_rows / trained_s)} rows a second, {size(doctor.rss_bytes())} of memory in use."
        return f"{step}: about {seconds(left_s)} to go. {speed}"

    def draw(self, told: str | None = None) -> None:
        """Draw the state as it is, with a sentence in the place of the progress, if one is given."""
        self._drawn_at = time.monotonic()
        done = 100 * self._step / max(1, self._n_steps)
        told_by = f'aria-label="Share of the steps that are done, in percent" aria-valuenow="{done:.0f}"'
        bar = f'<div class="bar" role="progressbar" {told_by}><div style="width:{done:.1f}%"></div></div>'
        charts = self._charts() if self._scored else ""
        self._shown.value = f'<div class="live">{bar}<p>{escape(told or self._progress())}</p>{charts}</div>'

    def _charts(self) -> str:
        steps, losses, right = zip(*self._scored, strict=True)
        axis, after = {"x_label": "step", "x_most": self._n_steps}, f"on valid after {count(steps[-1])} steps"
        fine, (name, score) = thin(self._losses), self._reference
        width = len(self._losses) / max(1, len(fine))
        each_step = Series("training, each step", [width * (i + 0.5) for i in range(len(fine))], fine, "fine")
        told = f"Loss {after}: {losses[-1]:.3f}; it began at {losses[0]:.3f}."
        epochs = Series("valid, each epoch", steps, losses, "marked")
        falling = chart([each_step, epochs], title="Loss", told=told, **axis)
        own = Series("this run", steps, [100 * share for share in right], "marked")
        dashed = Series(name, [0, self._n_steps], [100 * score] * 2, "dashed")
        told = f"Accuracy {after}: {percent(right[-1])}. {name} has {percent(score)}."
        rising = chart([own, dashed], title="Right on valid (%)", told=told, **axis)
        return f'<div class="charts">{falling}{rising}</div>'


class Series(NamedTuple):
    """One line of a chart.

    Parameters
    ----------
    label : str
        What it is, for the key.
    x, y : sequence of float
        Its points; those that are not finite are left out.
    look : str
        `"fine"`, `"marked"` (a dot on each point) or `"dashed"`, told apart by stroke and markers, not by colour alone.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    look: str


def thin(values: Sequence[float], most: int = 200) -> list[float]:
    """Return `values`, or the means of equally many neighbours where there are more than `most`: 200 say as much.

    >>> thin([1, 3, 5, 7, 9], 3)
    [2.0, 6.0, 9.0]
    """
    width = math.ceil(len(values) / most) if values else 1
    return [sum(part) / len(part) for part in [values[i : i + width] for i in range(0, len(values), width)]]


def chart(series: Sequence[Series], *, title: str, x_label: str, x_most: float, told: str) -> str:
    """Return a line chart as SVG text; panels.css says how it looks.

    Parameters
    ----------
    series : sequence of Series
    title : str
        What the vertical axis shows.
    x_label : str
    x_most : float
        The horizontal axis goes from 0 to here from the beginning, so that a line that grows does not move.
    told : str
        The sentence that says what is to be seen, for those who do not see it.
    """
    points = [[(x, y) for x, y in zip(s.x, s.y, strict=True) if math.isfinite(x + y)] for s in series]
    ys = [y for line in points for _, y in line] or [0.0, 1.0]
    margin = 0.05 if max(ys) - min(ys) < 1e-9 else 0.0
    ticks = _TICKS.tick_values(min(ys) - margin, max(ys) + margin)  # from below the lowest to above the highest
    low, high = ticks[0], ticks[-1]
    decimals = max(0, -math.floor(math.log10(ticks[1] - low) + 1e-9))

    def at(x: float, y: float) -> tuple[float, float]:
        across = min(1.0, x / max(x_most, 1e-9))
        return _LEFT + (_RIGHT - _LEFT) * across, _TOP + (_BOTTOM - _TOP) * (high - y) / (high - low)

    def text(x: float, y: float, words: str, look: str) -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" class="{look}">{escape(words)}</text>'

    def path(line: Sequence[tuple[float, float]], look: str) -> str:
        return f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in line)}" class="{look}"/>' if line else ""

    drawn, below = [text(_LEFT, 14, title, "title")], _HEIGHT - 18
    for tick in ticks:
        _, down = at(0, tick)
        drawn.append(path([(_LEFT, down), (_RIGHT, down)], "tick"))
        drawn.append(text(_LEFT - 6, down + 4, f"{tick:,.{decimals}f}", "end"))
    drawn += [text(_LEFT, below, "0", ""), text(_RIGHT, below, f"{x_most:,.0f}", "end")]
    drawn.append(text((_LEFT + _RIGHT) / 2, below, x_label, "middle"))
    start, key = _LEFT, _HEIGHT - 5
    for s, line in zip(series, points, strict=True):
        placed = [at(x, y) for x, y in line]
        drawn += [path(placed, s.look), path([(start, key), (start + 18, key)], s.look)]
        if s.look == "marked":
            drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in (*placed, (start + 9, key))]
        drawn.append(text(start + 23, _HEIGHT - 1, s.label, ""))
        start += 34 + 6.2 * len(s.label)
    return f'<svg role="img" aria-label="{escape(told)}" viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(drawn)}</svg>'
