"""Pure drawing: arrays and frames in, matplotlib Axes out, `ax=None` everywhere; never pyplot, never global state.

Functions make a `Figure` of their own when no Axes is given, so they are safe in threads and in widget callbacks.
Differences never rest on colour alone: position, hatching or a label says the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#2a6fbb", "#d9782d", "#b9bec6"  # told apart in the common forms of colour blindness


def axes(width: float = 6.4, height: float = 3.0) -> Axes:
    """Return the Axes of a new Figure of `width` by `height` inches, with no box around it."""
    from matplotlib.figure import Figure

    ax = Figure(figsize=(width, height), layout="constrained").add_subplot()
    _open(ax)
    return ax


def _open(ax: Axes) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _names(ax: Axes, names: Sequence[str], limit: int = 44) -> None:
    from ftkit.display import shorten

    # A `$` in somebody's label would otherwise be read as mathematics.
    ax.set_yticks(range(len(names)), [shorten(n, limit).replace("$", r"\$") for n in names], fontsize=8.5)
    ax.invert_yaxis()


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
    _names(ax, names)
    ax.set_xlabel(label, parse_math=False)
    return ax


def intervals(
    names: Sequence[str],
    estimates: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    *,
    label: str,
    reference: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw each estimate as a dot with its interval as a line, the first on top.

    Parameters
    ----------
    names, estimates, lows, highs : sequences of the same length
        What is estimated, the estimate, and the ends of its interval.
    label : str
        What the values are, with their unit.
    reference : float, optional
        A value to mark with a dashed line, such as a difference of zero.
    ax : Axes, optional
        Where to draw; a new figure if None.
    """
    ax = ax or axes(height=0.9 + 0.34 * len(names))
    places = range(len(names))
    ax.hlines(places, lows, highs, color=BLUE, linewidth=2.5)
    ax.plot(estimates, places, "o", color=BLUE, markersize=7)
    for place, estimate in zip(places, estimates, strict=True):
        ax.annotate(
            f"{estimate:.1f}", (estimate, place), xytext=(0, 7), textcoords="offset points", ha="center", size=8
        )
    if reference is not None:
        ax.axvline(reference, color="black", linestyle="--", linewidth=1)
    _names(ax, names)
    ax.set_ylim(len(names) - 0.4, -0.7)
    ax.set_xlabel(label, parse_math=False)
    return ax


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
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss (nats)")
    ax.legend(frameon=False, fontsize=8.5)
    return ax


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
    ax.barh(
        range(len(names)),
        [c / 1e6 for c in counts],
        color=[ORANGE if t else GREY for t in trained],
        hatch=["//" if t else "" for t in trained],
        edgecolor="white",
        height=0.8,
    )
    for place, (n, t) in enumerate(zip(counts, trained, strict=True)):
        ax.annotate("trains" if t else "frozen", (n / 1e6, place), xytext=(4, -3), textcoords="offset points", size=8)
    _names(ax, names)
    ax.invert_yaxis()
    ax.set_xlabel("parameters (millions)")
    return ax
