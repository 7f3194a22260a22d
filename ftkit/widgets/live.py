"""What can be watched while a model trains: progress, time to go, rows a second, memory, and two curves (lesson 05).

The charts are SVG text: a matplotlib figure takes 80 ms, and would hold up the training it shows.
"""

import math
import time
from collections.abc import Sequence

from ipywidgets import HTML
from matplotlib.ticker import MaxNLocator

from ftkit import doctor
from ftkit.display import count, escape, percent, seconds, size
from ftkit.plan import Plan
from ftkit.training import Event

#: Three to five round numbers.
_TICKS = MaxNLocator(nbins=3, steps=[1, 2, 5, 10], min_n_ticks=1)


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
        self._losses, self._scored = [], []  # of each step; of each epoch its step, loss and share right on valid
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
            self._scored.append((event.step, event.values["valid_loss"], 100 * event.values["accuracy"]))
            self._began_s = self._began_s or event.elapsed_s
        # Twice a second: a reader needs no more, and the training keeps the processor.
        if time.monotonic() - self._drawn_at >= 0.5:
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
        steps = f'max="{max(1, self._n_steps)}" value="{self._step}"'
        bar = f'<progress aria-label="Share of the steps that are done" {steps}></progress>'
        charts = self._charts() if self._scored else ""
        self._shown.value = f'<div class="live">{bar}<p>{escape(told or self._progress())}</p>{charts}</div>'

    def _charts(self) -> str:
        steps, losses, right = zip(*self._scored, strict=True)
        n, after = self._n_steps, f"on valid after {count(steps[-1])} steps"
        fine, (name, score) = thin(self._losses), self._reference
        middles = [(i + 0.5) * len(self._losses) / len(fine) for i in range(len(fine))]
        lines = [("training, each step", "fine", middles, fine), ("valid, each epoch", "marked", steps, losses)]
        told = f"Loss {after}: {losses[-1]:.3f}; it began at {losses[0]:.3f}."
        falling = chart("Loss", lines, n, told)
        lines = [("this run", "marked", steps, right), (name, "dashed", [0, n], [100 * score] * 2)]
        told = f"Accuracy {after}: {right[-1]:.1f} %. {name} has {percent(score)}."
        return f'<div class="charts">{falling}{chart("Right on valid (%)", lines, n, told)}</div>'


def thin(values: Sequence[float], most: int = 200) -> list[float]:
    """Return `values`, or the means of equally many neighbours where there are more than `most`: 200 say as much.

    >>> thin([1, 3, 5, 7, 9], 3)
    [2.0, 6.0, 9.0]
    """
    width = math.ceil(len(values) / most) if values else 1
    return [sum(part) / len(part) for part in [values[i : i + width] for i in range(0, len(values), width)]]


def chart(title: str, lines: Sequence[tuple[str, str, Sequence, Sequence]], n_steps: int, told: str) -> str:
    """Return a line chart: words as HTML, lines as SVG text in their own units; panels.css scales both to one size.

    Parameters
    ----------
    title : str
        What the vertical axis shows.
    lines : sequence of tuple
        What each is, how it looks, and the coordinates of its points, of which those that are not finite are left out.
        Looks are `"fine"`, `"marked"` (a dot on each point) and `"dashed"`: told apart by more than colour.
    n_steps : int
        The horizontal axis goes from 0 to here from the beginning, so that a line that grows does not move.
    told : str
        The sentence that says what is to be seen, for those who do not see it.
    """
    finite = [y for *_, ys in lines for y in ys if math.isfinite(y)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    margin = 0.05 if high - low < 1e-9 else 0.0
    ticks = _TICKS.tick_values(low - margin, high + margin)  # from below the lowest to above the highest
    low, high, width = ticks[0], ticks[-1], max(1, n_steps)
    decimals = max(0, -math.floor(math.log10(ticks[1] - low) + 1e-9))
    drawn = beside = key = ""
    for tick in ticks:
        drawn += f'<path class="tick" d="M0 {-tick:.9g}H{width}"/>'
        beside += f'<span style="top:{100 * (high - tick) / (high - low):.1f}%">{tick:,.{decimals}f}</span>'
    for label, look, xs, ys in lines:
        placed = [f"{x:.9g} {-y:.9g}" for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        drawn += f'<polyline class="{look}" points="{",".join(placed)}"/>'
        if look == "marked":  # a line without length has round ends, which no scaling turns into ovals
            drawn += f'<path class="dots" d="{"".join(f"M{place}h0" for place in placed)}"/>'
        key += f'<span class="{look}">{escape(label)}</span>'
    below = f"<span>0</span><span>step</span><span>{count(n_steps)}</span>"
    view = f'viewBox="0 {-high:.9g} {width} {high - low:.9g}" preserveAspectRatio="none"'
    plot = f'{beside}<svg role="img" aria-label="{escape(told)}" {view}>{drawn}</svg><p>{below}</p>'
    return f'<figure><b>{escape(title)}</b><div class="plot">{plot}</div><div class="key">{key}</div></figure>'
