"""What a run moved: the weights of each group and layer, what they make of the same texts, and where they look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ftkit import methods, plots, tasks
from ftkit.display import Record, percent, record
from ftkit.drift.measures import layer_of, relative_change, shifts
from ftkit.drift.proof import planned_words
from ftkit.pretrained import group_sizes
from ftkit.record import Run

N_TEXTS = 128


@record
class Drift(Record):
    """How far a tuned model is from the one it started as, group by group and layer by layer.

    Parameters
    ----------
    name : str
        What was trained.
    groups : DataFrame
        One row a group, in the order of the computation: `group`; `planned` (`"moves"`, `"frozen"`,
        `"moves in part"`); `n_weights`; `weights_moved`, the length of the change relative to the weights' own (0.01
        is one percent, exactly 0.0 if no bit changed); `cka`, how alike the texts' vectors after this group are in
        base and tuned model (1.0: the same); `cka_chance`, the same with the texts in another order; and
        `attention_shift`, the share of attention that went to other tokens. NaN where there is nothing to measure.
    layers : DataFrame
        One row for each kind of layer in a group: `group`, `layer` (`"new"`: what the plan's method added),
        `n_weights`, `weights_moved`.
    n_texts : int
        Texts on which representations and attention were compared.
    """

    name: str
    groups: pd.DataFrame
    layers: pd.DataFrame
    n_texts: int

    def frame(self) -> pd.DataFrame:
        """Return the groups, in numbers."""
        return self.groups

    def layers_of(self, group: str) -> pd.DataFrame:
        """Return the layers of one group."""
        return self.layers[self.layers["group"] == group].reset_index(drop=True)

    def summary(self) -> str:
        still = self.groups[self.groups["weights_moved"] == 0]
        inner = self.groups[self.groups["group"] != "head"]
        if not (inner["weights_moved"] > 0).any():
            return f"{self.name}: below the head no weight moved, and every text has the vector that it had."
        most = inner.loc[inner["weights_moved"].idxmax()]
        told = f"{self.name}: below the head, {most['group']} moved most, by {percent(most['weights_moved'])}"
        zero = f"; exactly 0 in {', '.join(still['group'])}" if len(still) else ""
        last = inner["cka"].dropna().iloc[-1]
        return (
            f"{told}{zero}. At the top, the vectors of {self.n_texts} texts have a CKA of {last:.3f} with the base's."
        )

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        shown = pd.DataFrame(
            {
                "group": self.groups["group"],
                "planned": self.groups["planned"],
                "weights moved": [_moved(m) for m in self.groups["weights_moved"]],
                "CKA with the base": [_digits(c, exact=1) for c in self.groups["cka"]],
                "CKA by chance": [_digits(c) for c in self.groups["cka_chance"]],
                "attention shift": [_digits(a, exact=0) for a in self.groups["attention_shift"]],
            }
        )
        wide = self.layers.pivot(index="group", columns="layer", values="weights_moved")
        wide = wide.reindex(index=list(dict.fromkeys(self.layers["group"])), columns=list(_LAYERS)).dropna(how="all")
        wide = wide.loc[:, wide.notna().any()].map(lambda m: "" if np.isnan(m) else _moved(m)).reset_index()
        return [("What moved, group by group (the input comes first)", shown), ("Weights moved, by layer", wide)]

    def picture(self) -> tuple[Figure, str]:
        figure = plots.stack_beside_bars(
            list(self.groups["group"]),
            list(self.groups["planned"]),
            {
                "weights moved (%)": list(100 * self.groups["weights_moved"].where(self.groups["group"] != "head")),
                "representation: 1 - CKA": list(1 - self.groups["cka"]),
                "attention shift": list(self.groups["attention_shift"]),
            },
        )
        return figure, f"The model as a stack, input at the bottom, and how far each part moved. {self.summary()}"


_LAYERS = ("word pieces", "positions", "sentence kinds", "projection", "attention", "feed-forward", "norms", "new")


def _moved(share: float) -> str:
    return f"{100 * share:.3g} %" if share else "0 (exactly)"


def _digits(value: float, exact: float | None = None) -> str:
    return "" if np.isnan(value) else f"{exact} (exactly)" if value == exact else f"{value:.3f}"


def what_moved(run: Run, texts: Sequence[str] | None = None) -> Drift:
    """Measure what a run moved: weights by group and layer, and on the same texts representations and attention.

    Parameters
    ----------
    run : Run
        The tuned model, and the base it started from.
    texts : sequence of str, optional
        Two or more; by default 128 of the run's valid rows, spread over all of them. No label is looked at.

    Notes
    -----
    Representations: linear CKA of the texts' vectors after each group (S. Kornblith et al., ICML 2019). Attention:
    the total variation distance between where each token looks in base and tuned model, mean over tokens and heads.
    """

    if texts is None:
        every = run.data.valid.texts
        texts = [every[i] for i in np.linspace(0, len(every) - 1, min(N_TEXTS, len(every))).astype(int)]
    shift = shifts(run.base, run.model.encoder, texts)
    groups = tasks.classifier_groups(run.model)
    sizes, words = group_sizes(run.model, groups), planned_words(run.plan, groups)
    before = {f"encoder.{n}": p for n, p in methods.start(run.base.encoder, run.plan).named_parameters()}
    after = dict(run.model.named_parameters())
    stage = iter(range(len(shift.cka)))
    rows, layers = [], []
    for group, names in groups.items():
        at = next(stage, None) if group == "embeddings" or group.startswith("block ") else None
        looks = at is not None and group != "embeddings" and shift.attention
        rows.append(
            {
                "group": group,
                "planned": words[group],
                "n_weights": sizes[group],
                "weights_moved": run.moved[group] if group == "head" else relative_change(names, before, after),
                "cka": shift.cka[at] if at is not None else np.nan,
                "cka_chance": shift.chance[at] if at is not None else np.nan,
                "attention_shift": shift.attention[at - 1] if looks else np.nan,
            }
        )
        if group == "head":
            continue
        for layer in dict.fromkeys(map(layer_of, names)):
            own = [n for n in names if layer_of(n) == layer]
            n_weights = sum(after[n].numel() for n in own)
            moved = relative_change(own, before, after)
            layers.append({"group": group, "layer": layer, "n_weights": n_weights, "weights_moved": moved})
    return Drift(name=run.name, groups=pd.DataFrame(rows), layers=pd.DataFrame(layers), n_texts=len(texts))
