"""Small live charts as SVG text: a matplotlib figure takes 80 ms and would hold up the training it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ftkit.display import escape

_WIDTH, _HEIGHT = 380, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 30, 34
#: More points than this are drawn as the means of neighbours: a line of 200 points says as much.
_MOST_POINTS = 200
# Told apart by their stroke and markers as well; each stands out on white and on near-black.
_LOOKS = {
    "fine": 'stroke="#808080" stroke-width="1.2"',
    "marked": 'stroke="#d9782d" stroke-width="1.8"',
    "dashed": 'stroke="currentColor" stroke-width="1.2" stroke-dasharray="5 4"',
}


class Series(NamedTuple):
    """One line of a chart.

    Parameters
    ----------
    label : str
        What it is, for the key.
    x, y : sequence of float
        Its points; those that are not finite are left out.
    look : str
        `"fine"`, `"marked"` (a dot on each point) or `"dashed"`.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    look: str


def thin(values: Sequence[float], most: int = _MOST_POINTS) -> list[float]:
    """Return `values`, or the means of equally many neighbours where there are more than `most`.

    >>> thin([1, 3, 5, 7, 9], 3)
    [2.0, 6.0, 9.0]
    """
    width = math.ceil(len(values) / most) if values else 1
    parts = [values[i : i + width] for i in range(0, len(values), width)]
    return [sum(part) / len(part) for part in parts]


def chart(series: Sequence[Series], *, title: str, x_label: str, x_most: float, told: str) -> str:
    """Return a line chart as SVG text.

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
    points = [[(x, y) for x, y in zip(s.x, s.y, strict=True) if math.isfinite(x) and math.isfinite(y)] for s in series]
    ys = [y for line in points for _, y in line]
    low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    ticks = _ticks(low, high)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(1.0, x / max(x_most, 1e-9))
        return across, _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - y) / (high - low)

    def text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'

    def dot(x: float, y: float) -> str:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#d9782d"/>'

    right, below = _WIDTH - _RIGHT, _HEIGHT - 18
    drawn = [text(_LEFT, 14, title, more=' font-size="13" font-weight="600"')]
    for tick in ticks:
        _, down = at(0, tick)
        drawn.append(f'<path d="M{_LEFT} {down:.1f}H{right}" stroke="currentColor" stroke-opacity=".15"/>')
        drawn.append(text(_LEFT - 6, down + 4, f"{tick:,.{decimals}f}", "end"))
    drawn += [text(_LEFT, below, "0"), text(right, below, f"{x_most:,.0f}", "end")]
    drawn.append(text((_LEFT + right) / 2, below, x_label, "middle"))
    start = _LEFT
    for s, line in zip(series, points, strict=True):
        placed, key = [at(x, y) for x, y in line], [(start, _HEIGHT - 5), (start + 18, _HEIGHT - 5)]
        for shown in (placed, key):
            if len(shown) > 1:
                path = "L".join(f"{x:.1f} {y:.1f}" for x, y in shown)
                drawn.append(f'<path d="M{path}" fill="none" {_LOOKS[s.look]}/>')
        if s.look == "marked":
            drawn += [dot(x, y) for x, y in (*placed, (start + 9, _HEIGHT - 5))]
        drawn.append(text(start + 23, _HEIGHT - 1, s.label))
        start += 34 + 6.2 * len(s.label)
    return (
        f'<svg role="img" aria-label="{escape(told)}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'style="flex:1 1 19em;max-width:30em;overflow:visible;color:inherit" '
        f'font-family="inherit" font-size="11.5" fill="currentColor">{"".join(drawn)}</svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers from at most `low` to at least `high`."""
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
