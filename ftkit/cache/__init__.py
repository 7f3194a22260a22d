"""What frozen blocks make of a text: computed once, kept on disk, mapped into memory (lesson 04).

Frozen blocks below the lowest group that trains, in evaluation mode, answer the same in every epoch, for every seed
and in every sweep. So they are asked once a text. What they answer depends on the weights, the tokens and the dtype
alone, not on who asked first: texts are always computed in batches of one shape, alone with others of their length.
"""

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
from ftkit.cache.shelf import ENTRY, ROWS, Shelf, make_room
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
        parts += [metadata.version("torch"), metadata.version("transformers"), "tables"]  # what lies beside the numbers
        name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
        return cache_root() / "activations" / f"{self.base.encoder.config.model_type}-{self.depth}-{name}"

    @property
    def stored(self) -> type[np.floating]:
        """The type on disk: float16 beside bfloat16 (11 significant bits, where that one has 8)."""
        return np.float16 if self.dtype == "bfloat16" else np.float32

    def length(self, n_tokens: int) -> int:
        """Return the length that a text is padded to; it does not depend on where a base cuts its texts."""
        return self.base.padded(n_tokens, getattr(self.base.encoder.config, "max_position_embeddings", None) or 1 << 30)

    def n_bytes(self, ids: Sequence[Sequence[int]]) -> int:
        """Return what tokenized texts take on disk."""
        return (len(ids) if self.pooled else sum(map(len, ids))) * self.base.hidden_size * self.stored(0).nbytes

    def compute(self, ids: Sequence[Sequence[int]], encoder: torch.nn.Module) -> list[np.ndarray]:
        """Return what at most `ROWS` texts of like length are kept as: each (tokens, hidden), or (1, hidden) if pooled.

        All are padded to one length, and their number filled up to `ROWS`: the shape decides the last bits.
        """
        device = next(encoder.parameters()).device
        batch = self.base.batch([*ids, *[ids[0]] * (ROWS - len(ids))], self.length(len(ids[0])))
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            encoder.eval()
            if self.pooled:
                found = pool(encoder, batch, self.base.pooling)[:, None]
            else:
                found = up_to(encoder, self.depth, batch)
        with np.errstate(over="ignore"):
            found = found.float().cpu().numpy().astype(self.stored)
        if np.isfinite(found).all():
            return [found[i, : 1 if self.pooled else len(tokens)] for i, tokens in enumerate(ids)]
        raise FtkitError("FT060", f"what {self.base.name} makes of a text does not fit into {self.stored.__name__}.")


class Activations:
    """The activations of some texts, in their order, mapped from disk.

    Attributes
    ----------
    prefix : Prefix
    n_built, built_s : int, float
        How many texts were computed for this, and the seconds that took; the others lay there.
    text_s : float
        Seconds a text takes to compute, measured when it was.
    digest : str
        The sha256 of everything that is mapped: equal for equal texts, whoever computed them.
    """

    def __init__(self, shelf: Shelf, numbers: np.ndarray) -> None:
        self.prefix, self.text_s, self._files = shelf.prefix, shelf.text_s, shelf.files
        self._file, self._place = shelf.file[numbers], shelf.place[numbers]
        self.digest = hashlib.sha256(self._place["key"].tobytes() + self._place["crc"].tobytes()).hexdigest()
        self.n_built, self.built_s = 0, 0.0

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return rows as a batch for `Classifier`: `vectors`, or padded `hidden` with its mask and depth."""
        parts = []
        for i in rows:
            _, start, length, _ = self._place[i].tolist()
            parts.append(self._files[self._file[i]][start : start + length])
        if self.prefix.pooled:
            return {"vectors": torch.from_numpy(np.concatenate(parts).astype(np.float32))}
        length = self.prefix.base.padded(max(map(len, parts)))
        hidden = np.zeros((len(rows), length, self.prefix.base.hidden_size), dtype=np.float32)
        mask = torch.zeros((len(rows), length), dtype=torch.int64)
        for row, part in enumerate(parts):
            hidden[row, : len(part)], mask[row, : len(part)] = part, 1
        return {"hidden": torch.from_numpy(hidden), "attention_mask": mask, "depth": self.prefix.depth}


def missing(prefix: Prefix, ids: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """Return those of some tokenized texts that are not on disk; a look at the tables, without the checksums."""
    kept = [np.frombuffer(table.read_bytes(), ENTRY)["key"] for table in prefix.folder.glob("*.table")]
    there = np.isin(_keys(ids), np.concatenate(kept)) if kept else np.zeros(len(ids), bool)
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

    keys, first, numbers = np.unique(_keys(ids), return_index=True, return_inverse=True)
    folder = prefix.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            os.utime(folder)
            shelf = Shelf(prefix, keys)
            # In the order in which they were given, so that what is trained together lies together.
            missing = np.flatnonzero(shelf.file < 0)
            missing = missing[np.argsort(first[missing])]
            began = time.perf_counter()
            if len(missing):
                wanted = [ids[i] for i in first[missing]]
                make_room(folder, n_bytes := prefix.n_bytes(wanted))
                before_writing(len(missing), n_bytes)
                shelf.write(wanted, missing, encoder or prefix.base.encoder, before_batch)
    except OSError as error:
        raise FtkitError("FT060", f"{folder.parent} could not be written: {error.strerror or error}.") from error
    kept = Activations(shelf, numbers)
    kept.n_built, kept.built_s = len(missing), time.perf_counter() - began
    return kept
