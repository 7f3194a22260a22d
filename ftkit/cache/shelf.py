"""Activations on disk: one file of numbers that only grows and is mapped, and an index that is written last."""

import contextlib
import os
import shutil
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ftkit.display import size
from ftkit.findings import Finding, FtkitError

if TYPE_CHECKING:
    from ftkit.cache import Prefix

#: Rows of the batches that activations are computed in; one that is not full is filled with copies of a row.
ROWS = 32
#: What all activations may take on disk; `FTKIT_CACHE_BYTES` says otherwise. The least recently used go first.
LIMIT_BYTES = 4_000_000_000
#: Where a text's activations are: its key, the rows of the numbers that hold them, their checksum, and the seconds it
#: took to compute them. In an array that is 36 bytes a text; Python's own objects would take ten times that.
ENTRY = np.dtype([("key", "S16"), ("start", "i8"), ("length", "i4"), ("crc", "u4"), ("took_s", "f4")])


def index(folder: Path) -> np.ndarray:
    """Return where the texts of a folder lie, as an array of `ENTRY` that is sorted by key."""
    if not (path := folder / "index.npz").exists():
        return np.zeros(0, ENTRY)
    with path.open("rb") as file, np.load(file, allow_pickle=False) as told:  # a zip file: its checksum is compared
        return told["entries"]


def numbers(prefix: "Prefix", entries: np.ndarray) -> np.ndarray:
    """Return the numbers as far as entries speak of them, shape (rows, hidden_size), mapped from disk."""
    shape = (int((entries["start"] + entries["length"]).max(initial=0)), prefix.base.hidden_size)
    return np.memmap(prefix.folder / "numbers", prefix.stored, "r", shape=shape) if shape[0] else np.zeros(shape)


def checked(prefix: "Prefix", keys: np.ndarray) -> np.ndarray:
    """Return the index of a prefix, if it tells the truth of some texts; otherwise warn, and begin an empty one."""
    try:
        entries = index(prefix.folder)
        data = numbers(prefix, entries)
        for _, start, length, crc, _ in entries[np.isin(entries["key"], keys)].tolist():
            if zlib.crc32(data[start : start + length]) != crc:
                raise ValueError(f"rows {start} to {start + length} are not as they were written")
    except Exception as error:  # what reads zip files, arrays and maps raises a dozen kinds for damage
        for path in prefix.folder.iterdir():  # not written over: others may have them mapped
            path.unlink()
        message = f"{prefix.folder.name}: {error}. It is computed again."
        warnings.warn(Finding(code="FT065", message=message).summary(), stacklevel=3)
        entries = index(prefix.folder)
    _cut(prefix, entries)  # by a process that was killed: the lock is ours
    return entries


def _cut(prefix: "Prefix", entries: np.ndarray) -> None:
    """Drop what was written behind the last entry; where that is mapped, Windows does not let go of it until later."""
    with contextlib.suppress(OSError), (prefix.folder / "numbers").open("ab") as file:
        file.truncate(numbers(prefix, entries).nbytes)


def write(prefix: "Prefix", entries: np.ndarray, keys: np.ndarray, ids: Sequence, compute: Callable) -> np.ndarray:
    """Compute texts, put them behind those that are there, and return the new index; memory does not grow with them.

    Parameters
    ----------
    prefix : Prefix
    entries : numpy.ndarray of `ENTRY`
        What is there.
    keys, ids : numpy.ndarray of S16, sequence of token ids
        The new texts.
    compute : function
        Takes the token ids of some texts, and returns what is kept of each.
    """
    began, at, new = time.perf_counter(), len(numbers(prefix, entries)), np.zeros(len(ids), ENTRY)
    shape = (at + prefix.n_rows(ids), prefix.base.hidden_size)
    try:
        data = np.memmap(prefix.folder / "numbers", prefix.stored, "r+", shape=shape)
        for rows in _alike(prefix, ids):
            for row, found in zip(rows, compute([ids[row] for row in rows]), strict=True):
                data[at : at + len(found)] = found
                new[row] = (keys[row], at, len(found), zlib.crc32(found), 0)
                at += len(found)
        data.flush()
        new["took_s"] = (time.perf_counter() - began) / len(ids)
        both = np.sort(np.append(entries, new), order="key")
        np.savez(part := prefix.folder / "part.npz", entries=both)
        part.replace(prefix.folder / "index.npz")
        entries = both
    finally:
        _cut(prefix, entries)
    return entries


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
