"""Activations on disk: files that are mapped, each with an index and checksums that are written last."""

import json
import os
import shutil
import time
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ftkit.display import size
from ftkit.findings import Finding, FtkitError

if TYPE_CHECKING:
    from ftkit.cache import Prefix

#: Rows of the batches that activations are computed in; one that is not full is filled with copies of a row.
ROWS = 32
#: What all activations may take on disk; `FTKIT_CACHE_BYTES` says otherwise. The least recently used go first.
LIMIT_BYTES = 4_000_000_000


#: Where a text's activations are: its key, the rows of the file that hold them, and their checksum.
ENTRY = np.dtype([("key", "S16"), ("start", "i8"), ("length", "i4"), ("crc", "u4")])


class Shelf:
    """A prefix's folder: files of activations, each with a table of its texts, and a JSON file that is written last.

    All is kept in arrays, some 30 bytes a text: Python's own objects would take ten times that.

    Parameters
    ----------
    prefix : Prefix
    keys : numpy.ndarray of S16, shape (n,)
        The texts that are wanted, each once.

    Attributes
    ----------
    files : list of numpy.memmap
    place : numpy.ndarray of `ENTRY`, shape (n,)
        Where each wanted text lies.
    file : numpy.ndarray of int, shape (n,)
        In which of the files; -1 for none.
    """

    def __init__(self, prefix: "Prefix", keys: np.ndarray) -> None:
        self.prefix, self.keys, self.text_s = prefix, keys, 0.0
        self.files: list[np.ndarray] = []
        self.file, self.place = np.full(len(keys), -1), np.zeros(len(keys), ENTRY)
        for left in prefix.folder.iterdir():  # by a process that was killed: the lock is ours
            if ".part" in left.name or not left.with_suffix(".json").exists():
                left.unlink()
        for told in sorted(prefix.folder.glob("*.json")):
            self._read(told)

    def _read(self, path: Path) -> None:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            written = path.with_suffix(".table").read_bytes()
            if zlib.crc32(written) != told["table_crc"]:
                raise ValueError("its table is not as it was written")
            table = np.frombuffer(written, ENTRY)
            data = np.load(path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            at = np.minimum(np.searchsorted(table["key"], self.keys), len(table) - 1)
            here = np.flatnonzero((table["key"][at] == self.keys) & (self.file < 0))
            for _, start, length, crc in table[at[here]].tolist():
                if start + length > len(data) or zlib.crc32(data[start : start + length]) != crc:
                    raise ValueError(f"rows {start} to {start + length} are not as they were written")
            self.text_s = told["text_s"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            for suffix in (".json", ".npy", ".table"):
                path.with_suffix(suffix).unlink(missing_ok=True)
            message = f"{path.name} in {path.parent.name}: {error}. It is computed again."
            warnings.warn(Finding(code="FT065", message=message).summary(), stacklevel=4)
            return
        self._take(data, here, table[at[here]])

    def _take(self, data: np.ndarray, numbers: np.ndarray, entries: np.ndarray) -> None:
        self.file[numbers], self.place[numbers] = len(self.files), entries
        self.files.append(data)

    def write(
        self, ids: Sequence[Sequence[int]], numbers: np.ndarray, encoder: nn.Module, before_batch: Callable[[], None]
    ) -> None:
        """Compute the texts of some numbers, into one new file; memory does not grow with them.

        Parameters
        ----------
        ids : sequence of token ids
            Those of `numbers`, in their order.
        numbers : numpy.ndarray of int
            Positions in `keys`.
        encoder : torch.nn.Module
        before_batch : function
        """
        prefix, began, at = self.prefix, time.perf_counter(), 0
        table = np.zeros(len(numbers), ENTRY)
        table["key"] = self.keys[numbers]
        path = prefix.folder / f"{uuid.uuid4().hex}.npy"
        part = path.with_suffix(".part.npy")
        try:
            shape = (prefix.n_bytes(ids) // prefix.base.hidden_size // prefix.stored(0).nbytes, prefix.base.hidden_size)
            data = np.lib.format.open_memmap(part, "w+", prefix.stored, shape)
            for rows in _alike(prefix, ids):
                before_batch()
                for row, found in zip(rows, prefix.compute([ids[row] for row in rows], encoder), strict=True):
                    data[at : at + len(found)] = found
                    table[row] = (table["key"][row], at, len(found), zlib.crc32(found))
                    at += len(found)
            data.flush()
            del data
            self.text_s = (time.perf_counter() - began) / len(numbers)
            by_key = np.sort(table, order="key")
            told = {"text_s": self.text_s, "table_crc": zlib.crc32(by_key.tobytes())}
            part.with_suffix(".table").write_bytes(by_key.tobytes())
            part.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")
            for suffix in (".npy", ".table", ".json"):
                part.with_suffix(suffix).replace(path.with_suffix(suffix))
        finally:
            for left in prefix.folder.glob("*.part*"):
                left.unlink()
        self._take(np.load(path, mmap_mode="r", allow_pickle=False), numbers, table)


def _alike(prefix: "Prefix", ids: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """Yield the numbers of texts that are padded to the same length, at most `ROWS` at a time."""
    lengths = np.fromiter((prefix.length(len(tokens)) for tokens in ids), np.int32, len(ids))
    for length in np.unique(lengths):
        alike = np.flatnonzero(lengths == length)
        yield from (alike[start : start + ROWS] for start in range(0, len(alike), ROWS))


def make_room(folder: Path, n_bytes: int) -> None:
    """Remove what was not used for longest, until `n_bytes` more are within the limit; never what is in use here."""
    limit = int(os.environ.get("FTKIT_CACHE_BYTES", LIMIT_BYTES))
    others = sorted((f for f in folder.parent.iterdir() if f.is_dir() and f != folder), key=lambda f: f.stat().st_mtime)
    held = {f: sum(p.stat().st_size for p in f.iterdir()) for f in (*others, folder)}
    while others and sum(held.values()) + n_bytes > limit:
        held.pop(others[0])
        shutil.rmtree(others.pop(0), ignore_errors=True)
    if sum(held.values()) + n_bytes > limit:
        raise FtkitError("FT060", f"{size(n_bytes)} more would pass the limit of {size(limit)} for activations.")
    if n_bytes > 0.95 * (free := shutil.disk_usage(folder).free):
        raise FtkitError("FT060", f"{size(n_bytes)} are needed in {folder.parent}, and {size(free)} are free.")
