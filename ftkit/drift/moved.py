"""What a run moved: the weights of each group and layer, what they make of the same texts, and where they look."""

import copy
import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from ftkit import methods, plots, tasks
from ftkit.display import Picture, Record, percent
from ftkit.plan import Plan, Preview
from ftkit.pretrained import Base, stages
from ftkit.pretrained.base import pool_tokens
from ftkit.record import Run

#: What a length of a `Drift` measures, with its unit.
WEIGHTS, VECTORS, ATTENTION = "weights moved (%)", "representation: 1 - CKA", "attention shift"
Tensors = Mapping[str, torch.Tensor]
_BATCH = 32  # texts at a time: attention is kept for every pair of tokens, in every head of every block


class Drift(Record):
    """How far a tuned model is from the one it started as, group by group and layer by layer.

    Parameters
    ----------
    name : str
        What was trained.
    plan : Plan
        And how.
    groups : DataFrame
        One row a group, in the order of the computation: `group`; `planned` (`"moves"`, `"frozen"`,
        `"moves in part"`); `n_weights`; `weights_moved`, the length of the change relative to the weights' own (0.01
        is one percent, exactly 0.0 if no bit changed); `cka`, how alike the texts' vectors after this group are in
        base and tuned model (1.0: the same); `cka_chance`, the same with the texts in another order; and
        `attention_shift`, the share of attention that went to other tokens. NaN where there is nothing to measure.
    layers : DataFrame
        One row for each kind of layer in a group: `group`, `layer`, `n_weights`, `weights_moved`.
    n_texts : int
        Texts on which representations and attention were compared.
    """

    name: str
    plan: Plan
    groups: pd.DataFrame
    layers: pd.DataFrame
    n_texts: int

    def frame(self) -> pd.DataFrame:
        """Return the groups, in numbers."""
        return self.groups

    def layers_of(self, group: str) -> pd.DataFrame:
        """Return the layers of one group."""
        return self.layers[self.layers["group"] == group].reset_index(drop=True)

    def lengths(self) -> dict[str, pd.Series]:
        """Return for each measure how far the groups went; NaN where there is nothing to measure.

        The weights of a head have none: it is new, so that there is no length from before to compare with.
        """
        weights = 100 * self.groups["weights_moved"].where(self.groups["group"] != "head")
        return {WEIGHTS: weights, VECTORS: 1 - self.groups["cka"], ATTENTION: self.groups["attention_shift"]}

    def summary(self) -> str:
        moved = self.groups.set_index("group")["weights_moved"]
        below, still = moved.drop("head"), moved.index[moved == 0]
        if not below.any():
            return f"{self.name}: below the head no weight moved, and every text has the vector that it had."
        most = f"below the head, {below.idxmax()} moved most, by {percent(below.max())}"
        zero = f"; exactly 0 in {', '.join(still)}" if len(still) else ""
        alike = f"the vectors of {self.n_texts} texts have a CKA of {self.groups['cka'].dropna().iloc[-1]:.3f}"
        return f"{self.name}: {most}{zero}. At the top, {alike} with the base's."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        groups = self.groups
        shown = groups[["group", "planned"]].assign(**{"weights moved": groups["weights_moved"].map(in_words)})
        if self.plan.start == "zero":  # the length of zeros is none to compare with
            shown.loc[groups["group"] == "head", "weights moved"] = "new, from zeros"
        shown["CKA with the base"] = [_digits(c, exact=1) for c in groups["cka"]]
        shown["CKA by chance"] = [_digits(c) for c in groups["cka_chance"]]
        shown["attention shift"] = [_digits(a, exact=0) for a in groups["attention_shift"]]
        told = self.layers.set_index(["group", "layer"])["weights_moved"].map(in_words).unstack(fill_value="")
        wide = told.reindex(index=self.layers["group"].unique(), columns=_LAYERS).dropna(axis=1).reset_index()
        return [("What moved, group by group (the input comes first)", shown), ("Weights moved, by layer", wide)]

    def picture(self) -> Picture:
        figure = plots.stack_beside_bars(self.groups["group"], self.groups["planned"], self.lengths())
        return figure, f"The model as a stack, input at the bottom, and how far each part moved. {self.summary()}"


_LAYERS = ("word pieces", "positions", "sentence kinds", "projection", "attention", "feed-forward", "norms", "new")


def in_words(share: float) -> str:
    """Return a relative change of weights in percent; what is exactly zero is said to be so."""
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
        texts = [every[i] for i in np.linspace(0, len(every) - 1, min(128, len(every))).astype(int)]
    groups, after = tasks.classifier_groups(run.model), dict(run.model.named_parameters())
    before = {f"encoder.{n}": p for n, p in methods.start(run.base.encoder, run.plan).named_parameters()}
    shift = shifts(run.base, run.model.encoder, texts).set_axis(stages(run.base))
    preview = run.plan.preview(run.base, run.model.head.out_features)
    layers, moved = [], {"head": run.moved["head"]}
    for group in run.base.groups:
        names = groups[group]
        moved[group] = relative_change(names, before, after)
        for layer in dict.fromkeys(map(layer_of, names)):
            own = [n for n in names if layer_of(n) == layer]
            layers.append((group, layer, sum(after[n].numel() for n in own), relative_change(own, before, after)))
    columns = {"planned": planned_words(preview), "n_weights": preview.sizes, "weights_moved": moved}
    frame = pd.DataFrame(columns, index=pd.Index(groups, name="group")).join(shift).reset_index()
    parts = pd.DataFrame(layers, columns=["group", "layer", "n_weights", "weights_moved"])
    return Drift(name=run.name, plan=run.plan, groups=frame, layers=parts, n_texts=len(texts))


def planned_words(preview: Preview) -> dict[str, str]:
    """Return for each group what the plan says: `"moves"`, `"frozen"` or `"moves in part"`."""
    sizes = preview.sizes
    return {g: "frozen" if not n else "moves" if n == sizes[g] else "moves in part" for g, n in preview.moving.items()}


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Return how alike two representations of the same texts are: 1 the same up to rotation and scale, 0 unrelated.

    Parameters
    ----------
    x, y : numpy.ndarray, shape (n_texts, n_features); the numbers of features may differ
        Row i of both stands for the same text.

    Raises
    ------
    ValueError
        If the numbers of texts differ, or there are fewer than two.

    Notes
    -----
    S. Kornblith et al., Similarity of Neural Network Representations Revisited (ICML 2019). With few texts and many
    features even unrelated representations score well above 0, so compare with the same texts in another order.

    >>> x = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]])
    >>> linear_cka(x, x), round(linear_cka(x, 3 * x[:, ::-1] + 7), 6)
    (1.0, 1.0)
    """
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"x and y: expected as many rows, two or more; found {len(x)} and {len(y)}")
    if np.array_equal(x, y):
        return 1.0  # exactly, where rounding would leave a digit
    x, y = (a.astype(np.float64) - a.mean(axis=0, dtype=np.float64) for a in (x, y))
    length = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(min(1.0, np.linalg.norm(y.T @ x) ** 2 / length)) if length > 0 else 0.0


def attention_shift(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return what share of each token's attention went elsewhere: the total variation distance, mean over heads.

    Parameters
    ----------
    before, after : torch.Tensor, shape (batch, heads, tokens, tokens)
        Each row of the last axis sums to one. Where `after` has a prefix before the tokens, its last axis is longer.

    Returns
    -------
    torch.Tensor, shape (batch, tokens), from 0 (looks where it looked) to 1 (looks at other tokens only)
    """
    before = torch.nn.functional.pad(before, (after.shape[-1] - before.shape[-1], 0))
    return 0.5 * (after - before).abs().sum(dim=-1).mean(dim=1)


@torch.no_grad()
def relative_change(names: Sequence[str], before: Tensors, after: Tensors) -> float:
    """Return the length of the change of some tensors relative to their length before; exactly 0.0 if none changed."""
    norm = torch.linalg.vector_norm
    change = math.hypot(*(norm(after[n] - before[n], dtype=torch.float64) for n in names))
    length = math.hypot(*(norm(before[n], dtype=torch.float64) for n in names))
    # What starts from zeros has no length to compare with: its change is told as a whole (100 %).
    return change / length if length else float(change > 0)


def layer_of(name: str) -> str:
    """Return the kind of layer that a parameter of an encoder belongs to.

    >>> layer_of("encoder.layer.5.attention.self.query.weight"), layer_of("encoder.layer.5.output.LayerNorm.bias")
    ('attention', 'norms')
    """
    if methods.is_new(name):
        return "new"
    if re.search(r"norm|\bln_", name, re.IGNORECASE):
        return "norms"
    if re.search(r"embed|\bw[tp]e\b", name):
        kinds = {"position": "positions", "wpe": "positions", "token_type": "sentence kinds", "project": "projection"}
        return next((kind for part, kind in kinds.items() if part in name), "word pieces")
    return "attention" if re.search(r"att", name, re.IGNORECASE) else "feed-forward"


def shifts(base: Base, tuned: torch.nn.Module, texts: Sequence[str]) -> pd.DataFrame:
    """Run both encoders over the same texts, in the same batches, and measure how far they are apart.

    Parameters
    ----------
    base : Base
        The pretrained model, with tokenizer and pooling.
    tuned : torch.nn.Module
        An encoder of the same shape.
    texts : sequence of str
        Two or more.

    Returns
    -------
    DataFrame
        A row for the embeddings and for each block: `cka`; `cka_chance`, the same with the texts of one side in another
        order; `attention_shift`, NaN for the embeddings, and where an encoder does not tell its attention.
    """
    ids = sorted(base.tokenize(texts), key=len)
    views = [_looking(encoder) for encoder in (base.encoder, tuned)]
    vectors, moved = [], []
    for start in range(0, len(ids), _BATCH):
        batch = base.batch(ids[start : start + _BATCH])
        real = batch["attention_mask"].bool()
        with torch.inference_mode():
            outs = [view(**batch, output_hidden_states=True, output_attentions=True) for view in views]
        pooled = [pool_tokens(hidden, real, base.pooling) for out in outs for hidden in out.hidden_states]
        vectors.append(torch.stack(pooled).unflatten(0, (2, -1)))  # (base or tuned, stages, texts, hidden)
        pairs = zip(*(out.attentions or () for out in outs), strict=True)
        moved.append([attention_shift(a, b)[real].sum().item() for a, b in pairs])
    before, after = torch.cat(vectors, dim=2).float().numpy()
    other = np.random.default_rng(0).permutation(len(ids))
    alike = [(linear_cka(x, y), linear_cka(x, y[other])) for x, y in zip(before, after, strict=True)]
    elsewhere = pd.Series([np.nan, *(np.sum(moved, axis=0) / sum(map(len, ids)))], name="attention_shift")
    return pd.DataFrame(alike, columns=["cka", "cka_chance"]).join(elsewhere)


def _looking(encoder: torch.nn.Module) -> torch.nn.Module:
    """Return a view of an encoder that tells its attention; the weights are shared, so it costs no memory.

    Fast attention never writes its weights down. The slow way does, and is chosen in the configuration, which the
    encoder itself must keep as it is.
    """
    view = copy.deepcopy(encoder, {id(t): t for t in (*encoder.parameters(), *encoder.buffers())}).eval()
    view.set_attn_implementation("eager")
    return view
