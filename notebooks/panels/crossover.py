"""Which strategy for my amount of data? Measured cell by cell, and asked in a panel (lesson 08)."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from ipywidgets import HTML, BoundedIntText, Dropdown

from ftkit import plots
from ftkit.data import Rows
from ftkit.display import Picture, Record, escape, figure_html, percent, seconds, table_html
from ftkit.evaluation import Predictor
from ftkit.report import Curve, score_curve
from ftkit.widgets.panel import announced
from ftkit.widgets.training import WorkPanel

#: What makes a predictor of some rows of a class and a seed, by name.
Makers = Mapping[str, Callable[[int, int], Predictor]]
#: What earlier panels measured on the same rows, as the cells of a `Crossover`.
_MEASURED: dict[str, dict[tuple[str, int, int], tuple[float, float]]] = {}


class Crossover(Record):
    """Several strategies with several amounts of data: which one for how much?

    Parameters
    ----------
    curves : mapping of int to Curve
        For each number of training rows of a class, ascending, a curve whose values are the strategies, the simplest
        one first, over the seeds that all of them were measured with.
    """

    curves: Mapping[int, Curve]

    @property
    def seconds(self) -> float:
        """Seconds that making all of them took."""
        return float(sum(curve.seconds.sum() for curve in self.curves.values()))

    def answer(self, n: int, against: str | None = None) -> str:
        """Say which strategy is best with `n` rows of a class, whether the seeds can tell, and where lines cross.

        The nearest amount that was measured stands for `n`. The best one is compared with the second best and with
        `against`, by default the first strategy, which should be the simplest.
        """
        if not self.curves:
            return "Nothing can be compared yet: it takes a seed that was measured with all strategies."
        size = min(self.curves, key=lambda size: abs(math.log(size / n)))
        here, near = self.curves[size], "" if size == n else f", the nearest to {n} that was measured"
        told = f"{here.best} is ahead" if here.told_apart else f"cannot tell {here.best} from {here.second}"
        right = f"{here.best}, with {percent(here.means.max())} of {here.scored_on} right"
        told = f"With {size} rows of a class{near}: {told}. Highest mean over {len(here.seeds)} seeds: {right}."
        for other in dict.fromkeys((here.second, against or here.values[0])):
            if other != here.best:
                name = f"the second best, {other}" if other == here.second else other
                told += f" {here.above(other, name)} {self._crossed(here.best, other)}"
        return told

    def _crossed(self, one: str, other: str) -> str:
        gaps = [(n, curve.difference(one, other)[0]) for n, curve in self.curves.items()]
        where = [f"between {a} and {b}" for (a, before), (b, after) in itertools.pairwise(gaps) if before * after < 0]
        return f"The lines of {one} and {other} cross {' and '.join(where) or 'nowhere'}."

    def summary(self) -> str:
        if not self.curves:
            return "Nothing was measured yet."
        best = ", ".join(f"{curve.best} with {n}" for n, curve in self.curves.items())
        scored_on = next(iter(self.curves.values())).scored_on
        return f"Highest mean by rows of a class: {best} ({seconds(self.seconds)}, on {scored_on})."

    def frame(self) -> pd.DataFrame:
        """Return one row for each amount, strategy and seed: `rows of a class`, `value`, `seed`, `score`, `seconds`."""
        frames = {n: curve.frame() for n, curve in self.curves.items()}
        return pd.concat(frames, names=["rows of a class", None]).reset_index(0) if frames else pd.DataFrame()

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        frames = {n: curve.tables()[0][1] for n, curve in self.curves.items()}
        caption = "Accuracy by rows of a class"
        return [(caption, pd.concat(frames, names=["rows", None]).reset_index(0))] if frames else []

    def picture(self) -> Picture | None:
        if not self.curves:
            return None
        names = next(iter(self.curves.values())).values
        scores = {name: [100 * curve.scores[i] for curve in self.curves.values()] for i, name in enumerate(names)}
        ax = plots.curves(list(self.curves), scores, x_label="rows of a class", label="accuracy (%)")
        return ax.figure, f"A line is the mean over seeds, a faint mark is one of them. {self.summary()}"


def crossover(strategies: Makers, sizes: Sequence[int], rows: Rows, seeds: Sequence[int] = (0, 1, 2)) -> Crossover:
    """Measure several strategies with several amounts of data, each with the same seeds and on the same rows.

    Parameters
    ----------
    strategies : mapping of str to function of rows of a class and a seed
        Each returns a predictor, such as a run; the simplest one first.
    sizes, seeds : sequence of int
    rows : Rows
        Where to score: `data.valid`, since a strategy is to be chosen. They are opened once a predictor.
    """

    def curve(n: int) -> Curve:
        make, names = lambda name, seed: strategies[name](n, seed), list(strategies)
        return score_curve(make, names, rows, seeds=seeds, x_label="strategy")

    return Crossover(curves={n: curve(n) for n in sorted(sizes)})


class CrossoverPanel(WorkPanel):
    """Measure several strategies with several amounts of data, and ask which one is best for yours.

    Parameters
    ----------
    strategies : mapping of str to function of rows of a class and a seed
        Each returns a predictor, such as a run; the simplest one first. What was measured is kept under this name.
    sizes : sequence of int
        Training rows of a class.
    rows : Rows
        Where to score: `data.valid`, since a strategy is to be chosen. They are opened once a cell.
    seeds : sequence of int

    Attributes
    ----------
    value : Crossover
        What was measured so far, by this panel or by an earlier one on the same rows.
    """

    css_class = "ftkit-crossover"

    def __init__(self, strategies: Makers, sizes: Sequence[int], rows: Rows, seeds: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__(f"{rows.source} {rows.name}", "Measure what is missing", "Stop after this one")
        self._strategies, self._sizes, self._rows, self._seeds = strategies, sorted(sizes), rows, tuple(seeds)
        self._cells = _MEASURED.setdefault(rows.fingerprint(), {})
        own = "Rows of a class that you have"
        self.n = self.control(BoundedIntText, own, self._show, value=max(sizes), min=1, max=1_000_000)
        self.against = self.control(Dropdown, "Compare with", self._show, options=list(strategies))
        care = " These are test rows: what is chosen by them looks better on them than it is. Take valid rows."
        opened = f"Each measurement opens the {len(rows)} {rows.name} rows once.{care if rows.name == 'test' else ''}"
        self._answer, self._found, note = HTML(), HTML(), HTML(f"<p><small>{escape(opened)}</small></p>")
        controls = (self.start_button, self.stop_button, self.status, note, self.n, self.against)
        self.box.children = (*controls, self._answer, self._found, self.shown_code, self.style)
        self._draw()

    @property
    def value(self) -> Crossover:
        """What was measured so far with all strategies."""
        return Crossover(curves={n: curve for n in self._sizes if (curve := self._curve(n))})

    @property
    def code(self) -> str:
        """The calls that measure and answer the same."""
        call = f"found = crossover(strategies, {self._sizes}, rows, seeds={self._seeds})"
        asked = f"found.answer({self.n.value}, against={self.against.value!r})"
        return f"from panels.crossover import crossover\n{call}\n{asked}"

    def work(self, plan: None) -> None:
        """Measure what is missing, cell by cell; in a thread or not, so only traits are assigned."""
        for seed, n, name in itertools.product(self._seeds, self._sizes, self._strategies):
            if (name, n, seed) not in self._cells and not self.stopping:
                cell = {"values": [n], "rows": self._rows, "seeds": [seed], "x_label": "rows of a class"}
                told = f"Measuring {name} with {n} rows of a class, seed {seed}."
                one = self.alone(told, score_curve, self._strategies[name], **cell)
                self._cells[name, n, seed] = one.scores.item(), one.seconds.item()
                self._draw()

    def _curve(self, n: int) -> Curve | None:
        """Return the strategies side by side, over the seeds that all of them were measured with."""
        names = tuple(self._strategies)
        seeds = tuple(seed for seed in self._seeds if all((name, n, seed) in self._cells for name in names))
        cells = np.array([[self._cells[name, n, seed] for seed in seeds] for name in names])
        told = {"x_label": "strategy", "scored_on": f"the {len(self._rows)} {self._rows.name} rows"}
        return Curve(values=names, seeds=seeds, scores=cells[..., 0], seconds=cells[..., 1], **told) if seeds else None

    def _draw(self) -> None:
        """Show what was measured."""
        found = self.value
        tables = "".join(table_html(frame, caption) for caption, frame in found.tables())
        self._found.value = tables + (figure_html(*found.picture()) if found.curves else "")
        self.say(found.summary())
        self._show()
        self.tell_listeners()

    def _show(self) -> None:
        """Answer what the controls ask."""
        self._answer.value = announced(escape(self.value.answer(self.n.value, self.against.value)))
        self.show_code()
