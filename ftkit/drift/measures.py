"""How far two models are apart: by their weights, by what they make of the same texts, and by where they look."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ftkit import methods
from ftkit.pretrained import Base

_BATCH = 32  # texts at a time: attention is kept for every pair of tokens, in every head of every block


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
        Each row of the last axis sums to one.

    Returns
    -------
    torch.Tensor, shape (batch, tokens), from 0 (looks where it looked) to 1 (looks at other tokens only)
    """
    return 0.5 * (after - before).abs().sum(dim=-1).mean(dim=1)


def relative_change(
    names: Sequence[str], before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]
) -> float:
    """Return the length of the change of some tensors relative to their length before; exactly 0.0 if none changed."""
    pairs = [(before[n].detach(), after[n].detach()) for n in names]
    change, length = (
        math.hypot(*(torch.linalg.vector_norm(t, dtype=torch.float64).item() for t in tensors))
        for tensors in ([b - a for a, b in pairs], [a for a, _ in pairs])
    )
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


class Shifts(NamedTuple):
    """What changed between two encoders on the same texts."""

    cka: list[float]  # embeddings, then each block
    chance: list[float]  # the same with the texts of one side in another order
    attention: list[float]  # each block; empty where an encoder does not tell its attention


def shifts(base: Base, tuned: torch.nn.Module, texts: Sequence[str]) -> Shifts:
    """Run both encoders over the same texts, in the same batches, and measure how far they are apart.

    Parameters
    ----------
    base : Base
        The pretrained model, with tokenizer and pooling.
    tuned : torch.nn.Module
        An encoder of the same shape.
    texts : sequence of str
        Two or more.
    """
    ids = sorted(base.tokenize(texts), key=len)
    views = [_looking(encoder) for encoder in (base.encoder, tuned)]
    stages: tuple[list, list] = ([], [])
    moved: list[torch.Tensor] = []
    n_tokens = 0
    for start in range(0, len(ids), _BATCH):
        batch = base.batch(ids[start : start + _BATCH])
        real = batch["attention_mask"].bool()
        with torch.inference_mode():
            outs = [view(**batch, output_hidden_states=True, output_attentions=True) for view in views]
        for kept, out in zip(stages, outs, strict=True):
            kept.append(torch.stack([_pooled(h, real, base.pooling) for h in out.hidden_states]))
        pairs = zip(*(out.attentions or () for out in outs), strict=True)
        moved.append(torch.stack([attention_shift(a, b)[real].sum() for a, b in pairs] or [torch.zeros(())]))
        n_tokens += int(real.sum())
    before, after = (torch.cat(kept, dim=1).float().numpy() for kept in stages)  # (stages, texts, hidden)
    other = np.random.default_rng(0).permutation(len(ids))
    return Shifts(
        cka=[linear_cka(x, y) for x, y in zip(before, after, strict=True)],
        chance=[linear_cka(x, y[other]) for x, y in zip(before, after, strict=True)],
        attention=(torch.stack(moved).sum(0) / n_tokens).tolist() if outs[0].attentions else [],
    )


def _pooled(hidden: torch.Tensor, real: torch.Tensor, pooling: str) -> torch.Tensor:
    if pooling == "cls":
        return hidden[:, 0]
    mask = real.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def _looking(encoder: torch.nn.Module) -> torch.nn.Module:
    """Return a view of an encoder that tells its attention; the weights are shared, so it costs no memory.

    Fast attention never writes its weights down. The slow way does, and is chosen in the configuration, which the
    encoder itself must keep as it is.
    """
    shared = {id(t): t for t in (*encoder.parameters(), *encoder.buffers())}
    view = copy.deepcopy(encoder, shared).eval()
    view.set_attn_implementation("eager")
    return view
