"""Look into a pretrained model: which texts it finds alike, and a text's way through the blocks."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from ftkit import plots
from ftkit.data import Rows
from ftkit.display import Picture, Record, count, shorten
from ftkit.pretrained.base import Base, in_batches, pool_tokens, several


class Nearest(Record):
    """The texts whose vectors point most nearly where the query's does.

    Parameters
    ----------
    query : str
        What was looked for.
    texts, labels : tuple of str
        The nearest texts, the nearest first, and their labels (empty without labelled rows).
    similarities : tuple of float
        Their cosine similarities to the query, -1 to 1.
    n_all : int
        How many texts were compared.
    median : float
        The middle similarity of all texts: what unrelated ones have.
    """

    query: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    similarities: tuple[float, ...]
    n_all: int
    median: float

    def summary(self) -> str:
        best = f"{shorten(self.texts[0])!r}, with a cosine similarity of {self.similarities[0]:.2f}"
        told = f"Of {count(self.n_all)} texts the nearest to {shorten(self.query)!r} is {best}"
        return f"{told}; half of all texts are below {self.median:.2f}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        columns = {"similarity": [f"{s:.2f}" for s in self.similarities], "text": list(map(shorten, self.texts))}
        if self.labels:
            columns["label"] = self.labels
        return [(f"Nearest to: {shorten(self.query)}", pd.DataFrame(columns))]


def nearest(base: Base, query: str, texts: Sequence[str] | Rows, n: int = 5) -> Nearest:
    """Return the `n` texts that the model finds most like the query, by the cosine of their vectors.

    Parameters
    ----------
    base : Base
        A sentence encoder, such as `minilm`.
    query : str
        Any text.
    texts : sequence of str, or Rows
        What to search; rows show their labels, too.
    n : int
        How many to return, 1 or more.

    Returns
    -------
    Nearest

    Raises
    ------
    ValueError
        If `n` is less than 1, or there are no texts.

    Examples
    --------
    >>> nearest(load_pretrained("minilm"), "heart attack", data.train, n=3)  # doctest: +SKIP

    Notes
    -----
    N. Reimers and I. Gurevych, Sentence-BERT (EMNLP 2019): sentences of like meaning get vectors of like direction.
    """

    rows = texts if isinstance(texts, Rows) else None
    texts = tuple(several(rows.texts if rows else texts))
    if n < 1 or not texts:
        raise ValueError(f"n is {n} and there are {len(texts)} texts; both must be 1 or more")
    vectors, (wanted,) = base.encode(texts), base.encode([query])
    cosines = vectors @ wanted / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(wanted))
    best = np.argsort(-cosines, kind="stable")[:n]
    labels = tuple(rows.take(best).named_labels()) if rows else ()
    found, alike, median = tuple(texts[i] for i in best), tuple(cosines[best].tolist()), float(np.median(cosines))
    return Nearest(query=query, texts=found, labels=labels, similarities=alike, n_all=len(texts), median=median)


def stages(base: Base) -> tuple[str, ...]:
    """Return the names of the places where a text's vectors can be looked at: after the embeddings, and each block."""
    return ("embeddings", *(g for g in base.groups if g.startswith("block ")))


def _through(base: Base, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return token vectors (batch, tokens, hidden) after each stage; a last norm counts as part of the last block."""
    out = base.encoder(**batch, output_hidden_states=True)
    return [*out.hidden_states[:-1], out.last_hidden_state]


def hidden_states(base: Base, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
    """Return one vector for each text after each stage of the frozen encoder, in evaluation mode.

    Parameters
    ----------
    base : Base
        The last stage's vectors are those of `base.encode`.
    texts : sequence of str
    batch_size : int
        Texts at a time; memory grows with it.

    Returns
    -------
    numpy.ndarray of float32, shape (n_stages, len(texts), hidden_size), in the order of `stages`

    Raises
    ------
    TypeError
        If `texts` is a single string.
    """

    n_stages = len(stages(base))
    base.encoder.eval()

    def pooled(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([pool_tokens(h, batch["attention_mask"], base.pooling) for h in _through(base, batch)], dim=1)

    with torch.inference_mode():
        found = in_batches(base, base.tokenize(texts), pooled, n_stages * base.hidden_size, batch_size)
    return found.reshape(len(found), n_stages, base.hidden_size).transpose(1, 0, 2)


class Trace(Record):
    """One text followed through a model, with what is there at each stage.

    Parameters
    ----------
    text : str
        The text.
    steps : tuple of (str, str, tuple of int)
        Stage, what happens there in words, and the shape of what comes out of it.
    moved : dict of str to float
        How far each block moved the pieces' vectors: one minus the cosine with the stage before, mean over pieces.
    """

    text: str
    steps: tuple[tuple[str, str, tuple[int, ...]], ...]
    moved: dict[str, float]

    def summary(self) -> str:
        n, hidden = self.steps[2][2]  # of the embeddings, after the letters and the tokens
        most = max(self.moved, key=self.moved.get)
        through = f"passes {len(self.moved)} blocks that keep this shape, and ends as one vector of {hidden} numbers"
        told = f"{shorten(self.text)!r} becomes {n} pieces of {hidden} numbers each, {through}."
        return f"{told} {most.capitalize()} turns the pieces' vectors furthest."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        times, cosine = "\u00a0×\u00a0", {block: f"{1 - far:.2f}" for block, far in self.moved.items()}
        rows = [(s, times.join(map(str, shape)), what, cosine.get(s, "")) for s, what, shape in self.steps]
        frame = pd.DataFrame(rows, columns=["stage", "shape", "what happens", "cosine to before"])
        return [("The way through; the cosine compares a block's rows with those before it", frame)]

    def picture(self) -> Picture:
        ax = plots.bars(list(self.moved), list(self.moved.values()), label="how far: 1 - cosine with the stage before")
        least, most = min(self.moved, key=self.moved.get), max(self.moved, key=self.moved.get)
        return ax.figure, f"How far each block turns the pieces' vectors: {most} furthest, {least} least."


def trace(base: Base, text: str) -> Trace:
    """Follow one text through tokenizer, embeddings, every block and pooling.

    Parameters
    ----------
    base : Base
        It is only read.
    text : str
        Any text.

    Returns
    -------
    Trace

    Notes
    -----
    A. Vaswani et al., Attention Is All You Need (NeurIPS 2017), for the blocks.
    """

    (ids,) = base.tokenize([text])
    base.encoder.eval()
    with torch.inference_mode():
        found = _through(base, {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()})
    shape, heads = tuple(found[0].shape[1:]), base.encoder.config.num_attention_heads
    words = {
        "embeddings": "each number picks its row of the table; its place in the text is added",
        "block 0": f"each piece looks at all pieces ({heads} ways at once), then is rewritten on its own",
    }
    how = "the mean of the pieces' vectors" if base.pooling == "mean" else "the vector of the first piece"
    steps = [("text", "as it was written", (len(text),)), ("tokens", "a number for each piece", (len(ids),))]
    steps += [(s, words.get(s, "the same again, with weights of its own"), shape) for s in stages(base)]
    steps.append(("pooling", f"{how}: one vector for the text", shape[1:]))
    moved = [1 - torch.cosine_similarity(a, b, dim=-1).mean().item() for a, b in pairwise(found)]
    return Trace(text=text, steps=tuple(steps), moved=dict(zip(stages(base)[1:], moved, strict=True)))
