"""A pretrained encoder with its tokenizer as a `Base`: its groups, its tokens, its vectors."""

import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np
import pandas as pd
import torch

from ftkit import plots
from ftkit.display import Picture, Record, count, size
from ftkit.findings import FtkitError

#: Lengths are padded to multiples of this, short ones to multiples of half of it: the CPU's kernels are built anew for
#: every new shape, and few shapes are several times faster than many, for a few padding tokens more.
PAD_TO, SHORT = 8, 32
#: Vectors that a `Base` remembers (at 384 numbers each, 30 MB), so that probe and LP-FT encode the same texts once.
KEPT_ROWS = 20_000
_BLOCK = re.compile(r"(?:^|\.)(?:layer|layers|h|blocks?)\.(\d+)\.")
_EMBEDDING = re.compile(r"embed|wte|wpe|relative_attention_bias")


class Base(Record):
    """A pretrained encoder with its tokenizer: what was learned before your data came.

    A `Base` is never changed by training: `fit` works on a copy.

    Parameters
    ----------
    name : str
        The name it was loaded by.
    encoder : torch.nn.Module
        A transformers encoder; gives hidden states of shape (batch, tokens, hidden).
    tokenizer : transformers.PreTrainedTokenizerBase
        Its tokenizer.
    pooling : str
        How token vectors become one text vector: `"mean"` over the real tokens, or `"cls"`, the first token's.
    max_tokens : int
        Longer texts are cut to this many tokens.
    origin : str
        Where the weights come from: a pinned file's name, a Hub name with its commit, or a folder.
    """

    name: str
    encoder: torch.nn.Module
    tokenizer: Any
    pooling: str
    max_tokens: int
    origin: str
    _encoded: dict[tuple, np.ndarray] = field(default_factory=dict, init=False)  # a changed copy starts anew

    @property
    def hidden_size(self) -> int:
        """Length of a text's vector."""
        return self.encoder.config.hidden_size

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The encoder's parameter names by group, in the order of the computation (see `group_parameters`)."""
        return group_parameters(self.encoder)

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the encoder."""
        return sum(p.numel() for p in self.encoder.parameters())

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, special tokens included, cut to `max_tokens`."""
        # What is on disk is never in memory as a whole, and a token that comes again is the same number, not its copy.
        read, ids, known = iter(several(texts)), [], {}
        while some := list(itertools.islice(read, 1_000)):
            found = self.tokenizer(some, truncation=True, max_length=self.max_tokens)["input_ids"]
            ids += [[known.setdefault(i, i) for i in text] for text in found]
        return ids

    def padded(self, length: int, limit: int | None = None) -> int:
        """Return the length that texts of up to `length` tokens are padded to; `limit` is `max_tokens` by default."""
        step = PAD_TO // 2 if length <= SHORT else PAD_TO
        return min(-(-length // step) * step, max(limit or self.max_tokens, length))

    def batch(self, ids: Sequence[Sequence[int]], length: int | None = None) -> dict[str, torch.Tensor]:
        """Return token ids as padded tensors `input_ids` and `attention_mask`, each of shape (batch, tokens)."""

        length = length or self.padded(max(map(len, ids)))
        padding = [self.tokenizer.pad_token_id or 0] * length
        inputs = np.array([[*row, *padding[len(row) :]] for row in ids], dtype=np.int64)
        mask = np.arange(length) < np.array([[len(row)] for row in ids])
        return {"input_ids": torch.from_numpy(inputs), "attention_mask": torch.from_numpy(mask).long()}

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, before_batch: Callable | None = None) -> np.ndarray:
        """Return one vector for each text, from the frozen encoder in evaluation mode; the last few calls are kept.

        Parameters
        ----------
        texts : sequence of str
        batch_size : int
            Texts at a time; memory grows with it, the result does not depend on it beyond rounding.
        before_batch : function, optional
            Called before each batch; what it raises ends the work (a panel's stop button does).

        Returns
        -------
        numpy.ndarray of float32, shape (len(texts), hidden_size)
        """

        # The key is the whole call, not the text: batch mates change the last bits, and a result must not depend on
        # what was asked before.
        if (key := (tuple(texts), batch_size)) not in self._encoded:
            self.encoder.eval()
            pooled = functools.partial(pool, self.encoder, pooling=self.pooling)
            with torch.inference_mode():
                vectors = in_batches(self, self.tokenize(texts), pooled, self.hidden_size, batch_size, before_batch)
            vectors.flags.writeable = False
            while self._encoded and sum(map(len, self._encoded.values())) + len(vectors) > KEPT_ROWS:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[key] = vectors
        return self._encoded[key]

    def summary(self) -> str:
        kind, blocks = self.encoder.config.model_type, sum(g.startswith("block ") for g in self.groups)
        what = f"a {kind} encoder with {count(self.n_parameters)} parameters in {blocks} blocks"
        return f"{self.name}: {what}; a text of up to {self.max_tokens} tokens becomes {self.hidden_size} numbers."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        sizes = group_sizes(self.encoder, self.groups)
        rows = [(g, count(n), f"{100 * n / self.n_parameters:.1f} %", size(4 * n)) for g, n in sizes.items()]
        columns = ["group", "parameters", "share", "float32"]
        return [("Groups, in the order of the computation", pd.DataFrame(rows, columns=columns))]

    def picture(self) -> Picture:
        sizes = group_sizes(self.encoder, self.groups)
        ax = plots.bars(list(sizes), [n / 1e6 for n in sizes.values()], label="parameters (millions)")
        largest = max(sizes, key=sizes.get)
        held = f"the largest, {largest}, holds {100 * sizes[largest] / self.n_parameters:.0f} % of them"
        return ax.figure, f"Parameters in each group of {self.name}; {held}."


def group_parameters(encoder: torch.nn.Module) -> dict[str, tuple[str, ...]]:
    """Sort an encoder's parameters into ordered groups: `embeddings`, `block 0` … `block n`, `final`.

    One naming rule serves BERT, RoBERTa, DistilBERT, ModernBERT, ELECTRA and their relatives: a parameter inside the
    list of blocks belongs to its block, an earlier one to the embeddings, any other (a last norm, a pooler) to the
    final group. Each parameter is in exactly one group; empty groups are left out.

    Raises
    ------
    FtkitError
        FT036, if no list of blocks is found.
    """
    found: dict[str, list[str]] = {}
    for name, _ in encoder.named_parameters():
        match = _BLOCK.search(name)
        group = f"block {int(match[1])}" if match else "embeddings" if _EMBEDDING.search(name) else "final"
        found.setdefault(group, []).append(name)
    blocks = sorted((g for g in found if g.startswith("block ")), key=lambda g: int(g.split()[1]))
    if not blocks:
        named = f"{type(encoder).__name__} has no parameter named like 'layer.0', 'layers.0', 'h.0' or 'block.0'"
        raise FtkitError("FT036", f"{named}, so ftkit cannot find its blocks; load an encoder such as BERT.")
    return {g: tuple(found[g]) for g in ("embeddings", *blocks, "final") if g in found}


def group_sizes(module: torch.nn.Module, groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the number of parameters in each group."""
    sizes = {n: p.numel() for n, p in module.named_parameters()}
    return {g: sum(sizes[n] for n in names) for g, names in groups.items()}


def pool(encoder: torch.nn.Module, batch: Mapping[str, torch.Tensor], pooling: str) -> torch.Tensor:
    """Return text vectors (batch, hidden): the mean of the real tokens' vectors, or the first token's."""
    return pool_tokens(encoder(**batch).last_hidden_state, batch["attention_mask"], pooling)


def pool_tokens(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return text vectors (batch, hidden) of token vectors (batch, tokens, hidden) from whichever stage."""
    if pooling == "cls":
        return hidden[:, 0]
    mask = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def in_batches(
    base: Base, ids: Sequence, function: Callable, width: int, batch_size: int,
    before_batch: Callable | None = None, batch_of: Callable | None = None, turn: tuple[int, int] = (0, 1),
) -> np.ndarray:  # fmt: skip
    """Return `function(batch)` for all texts as one array (n, width), rows in their order; like lengths go together.

    `batch_of` makes the batch of some row numbers, where it is not made of their tokens. `turn` is (k, n) for the
    k-th of n processes that share the batches; the rows of the others stay zeros.
    """

    order = np.argsort([len(i) for i in ids], kind="stable")
    out = np.zeros((len(ids), width), dtype=np.float32)
    starts = range(0, len(order), batch_size)
    # All processes compute equally many, if need be one twice: a model dealt out over them needs them all each time.
    for number in range(turn[0], -(-len(starts) // turn[1]) * turn[1], turn[1]):
        if before_batch:
            before_batch()
        rows = order[starts[number % len(starts)] :][:batch_size]
        found = function(batch_of(rows) if batch_of else base.batch([ids[i] for i in rows])).float().cpu().numpy()
        if number < len(starts):
            out[rows] = found
    return out


def several(texts: Sequence[str]) -> Sequence[str]:
    """Return texts as they are; raise `TypeError` for a single one."""
    if isinstance(texts, str):
        raise TypeError("expected a list of texts, found a single one; write [text]: a string is read letter by letter")
    return texts
