"""What frozen blocks make of a text: computed once, kept on disk, mapped into memory (lesson 04).

Frozen blocks below the lowest group that trains, in evaluation mode, answer the same in every epoch, for every seed
and in every sweep. So they are asked once a text. What they answer depends on the weights, the tokens and the dtype
alone, not on who asked first: texts are always computed in batches of one shape, alone with others of their length.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ftkit.cache.parts import above, blocks_of, digest, up_to
from ftkit.cache.shelf import ROWS, checked, index, make_room, numbers, write
from ftkit.display import Record
from ftkit.findings import FtkitError
from ftkit.pretrained import Base, pool
from ftkit.sources import cache_root

__all__ = ["Activations", "Prefix", "above", "activations", "blocks_of", "digest", "missing"]


class Prefix(Record):
    """The part of a base that a plan leaves frozen from below.

    Parameters
    ----------
    base : Base
    depth : int
        How many blocks from below are frozen, and all embeddings with them; at least 1.
    pooled : bool
        Whether nothing of the encoder trains, so that one vector a text is all there is to keep.
    dtype : str
        `"float32"`, kept as it is, or `"bfloat16"` for autocast, kept in 16 bits.
    """

    base: Base
    depth: int
    pooled: bool
    dtype: str

    @property
    def folder(self) -> Path:
        """Where its activations lie: named after the weights, their configuration, the dtype and the versions."""
        parts = [digest(self.base.encoder, self.depth), self.base.encoder.config.to_json_string(use_diff=False)]
        parts += [self.base.pooling if self.pooled else "tokens", str(self.depth), self.dtype]
        parts += [metadata.version("torch"), metadata.version("transformers"), "index"]  # what lies beside the numbers
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
        return cache_root() / "activations" / f"{self.base.encoder.config.model_type}-{self.depth}-{name}"

    @property
    def stored(self) -> type[np.floating]:
        """The type on disk: float16 beside bfloat16 (11 significant bits, where that one has 8)."""
        return np.float16 if self.dtype == "bfloat16" else np.float32

    def length(self, n_tokens: int) -> int:
        """Return the length that a text is padded to; it does not depend on where a base cuts its texts."""
        return self.base.padded(n_tokens, getattr(self.base.encoder.config, "max_position_embeddings", None) or 1 << 30)

    def n_rows(self, ids: Sequence[Sequence[int]]) -> int:
        """Return how many vectors are kept of tokenized texts."""
        return len(ids) if self.pooled else sum(map(len, ids))

    def n_bytes(self, ids: Sequence[Sequence[int]]) -> int:
        """Return what tokenized texts take on disk."""
        return self.n_rows(ids) * self.base.hidden_size * self.stored(0).nbytes

    def compute(self, ids: Sequence[Sequence[int]], encoder: torch.nn.Module) -> list[np.ndarray]:
        """Return what at most `ROWS` texts of like length are kept as: each (tokens, hidden), or (1, hidden) if pooled.

        All are padded to one length, and their number filled up to `ROWS`: the shape decides the last bits.
        """
        base, device = self.base, next(encoder.parameters()).device
        batch = base.batch([*ids, *[ids[0]] * (ROWS - len(ids))], self.length(len(ids[0])))
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            encoder.eval()
            found = pool(encoder, batch, base.pooling)[:, None] if self.pooled else up_to(encoder, self.depth, batch)
        with np.errstate(over="ignore"):
            found = found.float().cpu().numpy().astype(self.stored)
        if np.isfinite(found).all():
            return [found[i, : 1 if self.pooled else len(tokens)] for i, tokens in enumerate(ids)]
        raise FtkitError("FT060", f"what {base.name} makes of a text does not fit into {self.stored.__name__}.")


class Activations(Record):
    """The activations of some texts, in their order, mapped from disk.

    Parameters
    ----------
    prefix : Prefix
    numbers : numpy.ndarray, shape (rows, hidden_size)
        All numbers of the prefix, mapped.
    entries : numpy.ndarray of `ENTRY`, shape (n,)
        Where each text lies among them.
    n_built, built_s : int, float
        How many texts were computed for this, and the seconds that took; the others lay there.
    """

    prefix: Prefix
    numbers: np.ndarray
    entries: np.ndarray
    n_built: int
    built_s: float

    @property
    def text_s(self) -> float:
        """Seconds that a text takes to compute, measured when it was."""
        return float(self.entries["took_s"].mean())

    @property
    def digest(self) -> str:
        """The sha256 of everything that is mapped: equal for equal texts, whoever computed them."""
        return hashlib.sha256(self.entries["key"].tobytes() + self.entries["crc"].tobytes()).hexdigest()

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return rows as a batch for `Classifier`: `vectors`, or padded `hidden` with its mask and depth."""
        starts, lengths = (self.entries[field][rows] for field in ("start", "length"))
        parts = [self.numbers[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        kept = np.concatenate(parts, dtype=np.float32)
        if self.prefix.pooled:
            return {"vectors": torch.from_numpy(kept)}
        real = np.arange(self.prefix.base.padded(lengths.max())) < lengths[:, None]
        hidden = np.zeros((*real.shape, kept.shape[1]), dtype=np.float32)
        hidden[real] = kept
        mask = torch.from_numpy(real).long()
        return {"hidden": torch.from_numpy(hidden), "attention_mask": mask, "depth": self.prefix.depth}


def missing(prefix: Prefix, ids: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return those of some tokenized texts that are not on disk; a look at the index, without their checksums."""
    there = np.zeros(len(ids), bool)
    with contextlib.suppress(Exception):  # damage: `activations` will say so, and compute all of them
        there = np.isin(_keys(ids), index(prefix.folder)["key"])
    return [tokens for tokens, found in zip(ids, there, strict=True) if not found]


def _keys(ids: Sequence[Sequence[int]]) -> np.ndarray:
    made = (hashlib.blake2b(np.asarray(i, np.int32).tobytes(), digest_size=16).digest() for i in ids)
    return np.fromiter(made, "S16", len(ids))


def activations(
    prefix: Prefix,
    ids: Sequence[Sequence[int]],
    encoder: torch.nn.Module | None = None,
    *,
    before_batch: Callable[[], None] = lambda: None,
    before_writing: Callable[[int, int], None] = lambda n_texts, n_bytes: None,
) -> Activations:
    """Return the activations of tokenized texts; those that are not on disk yet are computed and written.

    Two processes that need the same take turns, and the second finds what the first has written. What is damaged or
    half-written is noticed by its checksum, and computed again.

    Parameters
    ----------
    prefix : Prefix
    ids : sequence of token ids, one for each text
    encoder : torch.nn.Module, optional
        A copy of the base's, with the same weights below; by default the base's own.
    before_batch : function
        Called before each batch; what it raises ends the work, and nothing half-written is kept.
    before_writing : function of a number of texts and of bytes
        Called before anything is computed, if something has to be.

    Raises
    ------
    FtkitError
        FT060, if the disk or the limit has no room for them, or the folder cannot be written.
    """
    from filelock import FileLock

    def compute(some: Sequence[Sequence[int]]) -> list[np.ndarray]:
        before_batch()
        return prefix.compute(some, encoder or prefix.base.encoder)

    keys, folder = _keys(ids), prefix.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            os.utime(folder)
            entries, began = checked(prefix, keys), time.perf_counter()
            # Each once, in the order in which they were given, so that what is trained together lies together.
            first = np.unique(keys, return_index=True)[1]
            first = np.sort(first[~np.isin(keys[first], entries["key"])])
            if len(first):
                wanted = [ids[i] for i in first]
                make_room(folder, n_bytes := prefix.n_bytes(wanted))
                before_writing(len(wanted), n_bytes)
                entries = write(prefix, entries, keys[first], wanted, compute)
            entries = entries[np.searchsorted(entries["key"], keys)]
            cost = {"n_built": len(first), "built_s": time.perf_counter() - began}
            return Activations(prefix=prefix, numbers=numbers(prefix, entries), entries=entries, **cost)
    except OSError as error:
        raise FtkitError("FT060", f"{folder.parent} could not be written: {error.strerror or error}.") from error
