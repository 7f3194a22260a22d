"""Pure drawing: arrays and frames in, matplotlib Axes out; never pyplot, never global state.

Functions make a `Figure` of their own when no Axes is given, so they are safe in threads and in widget callbacks.
Differences never rest on colour alone: position, hatching or a label says the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit.display import shorten

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2a6fbb", "#d9782d", "#b9bec6"  # told apart in the common forms of colour blindness


def axes(width: float = 6.4, height: float = 3.0, **grid: Any) -> Any:
    """Return the Axes of a new Figure of `width` by `height` inches, with no box around it.

    With `grid`, as `Figure.subplots` takes it (such as `ncols`), an array of several.
    """
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained").subplots(**grid)
    for ax in np.ravel(made):
        ax.spines[["top", "right"]].set_visible(False)
    return made


def _names(ax: Axes, names: Sequence[str], label: str = "") -> Axes:
    # Names and labels are never parsed: a `$` in one does not begin a formula.
    ax.set_yticks(range(len(names)), [shorten(name, 44) for name in names], fontsize=8.5, parse_math=False)
    ax.set_xlabel(label, parse_math=False)
    return ax


def _labelled(ax: Axes, x_label: str, y_label: str, *, legend: bool = True) -> Axes:
    ax.set_xlabel(x_label, parse_math=False)
    ax.set_ylabel(y_label, parse_math=False)
    if legend:
        for text in ax.legend(frameon=False, fontsize=8.5).get_texts():
            text.set_parse_math(False)
    return ax


def bars(names: Sequence[str], values: Sequence[float], *, label: str, ax: Axes | None = None) -> Axes:
    """Draw one horizontal bar for each name, the first on top.

    Parameters
    ----------
    names, values : sequences of the same length
        What each bar stands for, and its length.
    label : str
        What the values are, with their unit.
    ax : Axes, optional
        Where to draw; a new figure if None.
    """
    ax = ax or axes(height=0.7 + 0.22 * len(names))
    ax.barh(range(len(names)), values, color=BLUE, height=0.72)
    ax.invert_yaxis()
    return _names(ax, names, label)


def intervals(
    names: Sequence[str], values: np.ndarray, *, label: str, reference: float | None = None, ax: Axes | None = None
) -> Axes:
    """Draw each estimate as a dot with its interval as a line, the first on top.

    Parameters
    ----------
    names : sequence of str
        What is estimated.
    values : numpy.ndarray, shape (n_names, 3)
        Of each the estimate, and the low and the high end of its interval.
    label : str
        What the values are, with their unit.
    reference : float, optional
        A value to mark with a dashed line, such as a difference of zero.
    ax : Axes, optional
        Where to draw; a new figure if None.
    """
    ax = ax or axes(height=0.9 + 0.34 * len(names))
    for y, (estimate, low, high) in enumerate(values):
        ax.hlines(y, low, high, color=BLUE, linewidth=2.5)
        ax.plot(estimate, y, "o", color=BLUE, markersize=7)
        ax.annotate(f"{estimate:.1f}", (estimate, y), (0, 7), textcoords="offset points", ha="center", size=8)
    if reference is not None:
        ax.axvline(reference, color="black", linestyle="--", linewidth=1)
    ax.set_ylim(len(names) - 0.4, -0.7)
    return _names(ax, names, label)


def history(frame: pd.DataFrame, *, best_epoch: int, ax: Axes | None = None) -> Axes:
    """Draw training and validation loss by epoch, with the epoch whose weights were kept marked.

    Parameters
    ----------
    frame : DataFrame
        Columns `epoch`, `train_loss`, `valid_loss`, one row an epoch; epoch 0 is the state before the first step.
    best_epoch : int
        The epoch whose weights were kept.
    ax : Axes, optional
        Where to draw; a new figure if None.
    """
    ax = ax or axes()
    ax.plot(frame["epoch"], frame["train_loss"], "o-", color=BLUE, label="training loss")
    ax.plot(frame["epoch"], frame["valid_loss"], "s--", color=ORANGE, label="validation loss")
    ax.axvline(best_epoch, color="black", linestyle=":", linewidth=1, label="weights kept")
    ax.set_xticks(frame["epoch"])
    return _labelled(ax, "epoch", "loss (nats)")


def _moving(moves: Sequence[bool]) -> dict[str, Any]:
    """The look of bars: what moves is orange and hatched, what is frozen grey."""
    colours = [ORANGE if m else GREY for m in moves]
    return {"color": colours, "hatch": ["//" if m else "" for m in moves], "edgecolor": "white"}


def layers(names: Sequence[str], counts: Sequence[int], trained: Sequence[bool], *, ax: Axes | None = None) -> Axes:
    """Draw a model as a stack, the input at the bottom: each group's parameters, filled and hatched where it trains.

    Parameters
    ----------
    names, counts, trained : sequences of the same length, in the order of the computation
        The groups of a model, their numbers of parameters, and whether each may move.
    ax : Axes, optional
        Where to draw; a new figure if None.
    """
    ax = ax or axes(height=0.7 + 0.27 * len(names))
    bars = ax.barh(range(len(names)), [c / 1e6 for c in counts], height=0.8, **_moving(trained))
    ax.bar_label(bars, ["trains" if t else "frozen" for t in trained], padding=4, size=8)
    return _names(ax, names, "parameters (millions)")


def stack_beside_bars(names: Sequence[str], states: Sequence[str], columns: Mapping[str, Sequence[float]]) -> Figure:
    """Draw a model as a stack of boxes, the input at the bottom, and beside it a column of bars for each measure.

    Parameters
    ----------
    names, states : sequences of the same length, in the order of the computation
        The groups of a model, and the state written into each box; `"frozen"` is grey, any other filled and hatched.
    columns : mapping of str to sequence of float
        For each measure, named with its unit, a value a group; NaN draws nothing.
        Zero is written as exactly 0, since an empty place could as well mean a small value.
    """
    height, ratios = 0.8 + 0.31 * len(names), [1.1, *[2] * len(columns)]
    stack, *others = axes(2.2 + 2.1 * len(columns), height, ncols=len(ratios), sharey=True, width_ratios=ratios)
    places, look = range(len(names)), _moving([state != "frozen" for state in states])
    boxes, behind = stack.barh(places, 1, height=0.86, **look), {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
    stack.bar_label(boxes, states, label_type="center", size=7.5, bbox=behind)
    stack.set_xticks([])
    stack.spines["bottom"].set_visible(False)
    for ax, (label, values) in zip(others, columns.items(), strict=True):
        bars = ax.barh(places, values, height=0.7, **look)
        ax.bar_label(bars, ["exactly 0" if v == 0 else f"{v:.2g}" for v in values], padding=3, size=7.5)
        ax.set_xlim(0, 1.35 * np.nanmax(values, initial=0) or 1)
        ax.set_xlabel(label, parse_math=False, fontsize=8.5)
        ax.tick_params(axis="x", labelsize=7.5)
    return _names(stack, names).figure


def curve(
    values: Sequence[Any], scores: np.ndarray, *, x_label: str, label: str, reference: tuple[str, float] | None = None
) -> Axes:
    """Draw every score as a dot over the value it belongs to, and a line through the means of numbers.

    Parameters
    ----------
    values : sequence
        Numbers, drawn to scale (a logarithmic one where they are all positive and span a factor of ten or more), or
        names, drawn side by side, each with a bar at its mean.
    scores : numpy.ndarray, shape (n_values, n_repeats)
    x_label, label : str
        What the values and the scores are, with their units.
    reference : tuple of str and float, optional
        A name and a score to mark with a dashed line.
    """
    ax = axes()
    numbers = all(isinstance(v, int | float) for v in values)
    places = list(values) if numbers else list(range(len(values)))
    if numbers and min(places) > 0 and max(places) >= 10 * min(places):
        ax.set_xscale("log")
        ax.minorticks_off()
    mean = "-" if numbers else "_"  # a line would promise something between two names
    ax.plot(places, scores.mean(axis=1), mean, color=BLUE, linewidth=1.5, markersize=28, markeredgewidth=1.5)
    ax.plot(places, scores, "o", color=BLUE, markersize=5, alpha=0.6, markeredgewidth=0)
    if not numbers:
        ax.set_xlim(-0.5, len(values) - 0.5)
    if reference:
        ax.axhline(reference[1], color="black", linestyle="--", linewidth=1, label=reference[0])
    ax.set_xticks(places, [str(v) for v in values], fontsize=8.5, parse_math=False)
    return _labelled(ax, x_label, label, legend=reference is not None)


def histogram(values: Sequence[float], *, label: str, mark: tuple[str, float]) -> Axes:
    """Draw how often whole numbers occur, those beyond a mark hatched.

    Parameters
    ----------
    values : sequence of float
        Whole numbers from 0 on. The largest one in twenty may all stand in the last bar, so that a few do not squeeze
        the rest; the axis then says so.
    label : str
        What the values are, with their unit.
    mark : tuple of str and float
        A name and a value to mark with a dashed line.
    """
    ax, values, (name, limit) = axes(), np.asarray(values, dtype=float), mark
    edge = max(np.quantile(values, 0.95), 1.5 * limit)
    # Bars end at the mark and not around it: none is half this and half that.
    step = limit / max(1, round(limit * 30 / edge))
    edges = np.arange(np.ceil(edge / step) + 1) * step + 0.5
    shown = np.clip(values, edges[0], edges[-1])
    ax.hist(shown[values <= limit], edges, color=BLUE)
    ax.hist(shown[values > limit], edges, color=ORANGE, hatch="//", edgecolor="white", label="beyond it")
    ax.axvline(limit + 0.5, color="black", linestyle="--", linewidth=1, label=name)
    more = f" (last bar: {edges[-2]:,.0f} or more)" if values.max() > edges[-1] else ""
    return _labelled(ax, label + more, "texts")


def loss_by_rate(frame: pd.DataFrame, *, marks: Mapping[str, float], label: str, ax: Axes | None = None) -> Axes:
    """Draw each step's loss as a dot over a growing rate, with the smoothed loss and lines at the rates that matter.

    Parameters
    ----------
    frame : DataFrame
        Columns `rate`, `loss`, `smoothed`, one row a step.
    marks : mapping of str to float
        A name for each rate to mark, three at most.
    label : str
        Which rate it is.
    ax : Axes, optional
        Where to draw; a new figure if None.
    """
    ax = ax or axes()
    ax.semilogx(frame["rate"], frame["loss"], "o", color=GREY, markersize=3.5, label="each step")
    ax.semilogx(frame["rate"], frame["smoothed"], "-", color=BLUE, label="smoothed")
    for (name, rate), style in zip(marks.items(), ("--", ":", "-."), strict=False):
        ax.axvline(rate, color="black", linestyle=style, linewidth=1, label=name)
    return _labelled(ax, label, "loss (nats)")


def parallel(columns: Mapping[str, Sequence[Any]], *, dashed: Sequence[bool], ax: Axes | None = None) -> Axes:
    """Draw rows as lines across one upright scale a column (parallel coordinates), the first of them thick.

    Parameters
    ----------
    columns : mapping of str to sequence
        For each column a value a row. Numbers lie between the smallest and the largest (logarithmically where they are
        positive and a factor of ten apart), other values at a place each.
    dashed : sequence of bool
        Of each row, whether its line is dashed.
    ax : Axes, optional
        Where to draw; a new figure if None.
    """
    ax, places = ax or axes(width=1.6 + 1.3 * len(columns)), []
    for x, values in enumerate(columns.values()):
        numbers, names = all(type(v) in (int, float) for v in values), list(dict.fromkeys(map(str, values)))
        at = np.array(values if numbers else [names.index(str(v)) for v in values], float)
        at = np.log(at) if numbers and 0 < 10 * at.min() <= at.max() else at
        places.append((at - at.min()) / (np.ptp(at) or 1))
        for place, value in zip(places[-1], values, strict=True):
            if not numbers or place in (0, 1):
                told = f"{value:.3g}" if numbers else shorten(value, 18)
                ax.annotate(told, (x, place), (4, 3), textcoords="offset points", size=8, parse_math=False)
        ax.axvline(x, color=GREY, linewidth=1)
    for i, line in reversed(list(enumerate(np.transpose(places)))):
        look = {"color": BLUE, "linewidth": 1.2} if i else {"color": ORANGE, "linewidth": 3.5}
        ax.plot(line, "--" if dashed[i] else "-", **look)
    ax.set_xticks(range(len(columns)), list(columns), parse_math=False)
    ax.set_yticks([])
    return ax


def curves(values: Sequence[float], scores: Mapping[str, Sequence[Sequence[float]]], x_label: str, label: str) -> Axes:
    """Draw a line for each name through the means of its scores, and every score as a faint mark.

    `scores` holds for each name the repeats at each of `values`, which are positive and drawn on a logarithmic scale.
    Names are told apart by stroke and marker, not by colour alone.
    """
    ax, colours = axes(), itertools.cycle(["dimgrey", ORANGE, BLUE, "black"])
    looks = itertools.cycle("^: s-- o- d-. v: P-- X-".split())
    for (name, repeats), colour, look in zip(scores.items(), colours, looks, strict=False):
        ax.plot(values, [np.mean(own) for own in repeats], look, color=colour, label=str(name))
        for value, own in zip(values, repeats, strict=True):
            ax.plot([value] * len(own), own, look[0], color=colour, alpha=0.4)
    ax.set(xscale="log", xticks=values, xticklabels=[str(value) for value in values])
    ax.minorticks_off()
    return _labelled(ax, x_label, label)
