"""The crossover panel: which strategy for my amount of data? Measured cell by cell (lesson 08)."""

import itertools
from collections.abc import Sequence

import numpy as np
from ipywidgets import HTML, BoundedIntText, Dropdown

from ftkit.data import Rows
from ftkit.display import escape, figure_html, table_html
from ftkit.report.seeds import Crossover, Curve, Makers, score_curve
from ftkit.widgets.panel import announced
from ftkit.widgets.training import WorkPanel

#: What earlier panels measured on the same rows, as the cells of a `Crossover`.
_MEASURED: dict[str, dict[tuple[str, int, int], tuple[float, float]]] = {}


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
        return f"from ftkit.report.seeds import crossover\n{call}\n{asked}"

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
