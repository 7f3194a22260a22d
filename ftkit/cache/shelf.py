"""Activations on disk: files that are mapped, each with an index and checksums that are written last."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftkit.display import size
from ftkit.findings import Finding, FtkitError

if TYPE_CHECKING:
    from ftkit.cache import Prefix

#: Rows of the batches that activations are computed in; one that is not full is filled with copies of a row.
ROWS = 32
#: What all activations may take on disk; `FTKIT_CACHE_BYTES` says otherwise. The least recently used go first.
LIMIT_BYTES = 4_000_000_000


class Shelf:
    """A prefix's folder: files of activations, each with an index that is written last."""

    def __init__(self, prefix: Prefix, wanted: Mapping[str, Any]) -> None:
        self.prefix, self.text_s = prefix, 0.0
        self.found: dict[str, tuple[np.ndarray, int, int]] = {}
        self.crc: dict[str, int] = {}
        for left in prefix.folder.iterdir():  # by a process that was killed: the lock is ours
            if ".part" in left.name or (left.suffix == ".npy" and not left.with_suffix(".json").exists()):
                left.unlink()
        for index in sorted(prefix.folder.glob("*.json")):
            self._read(index, wanted)

    def _read(self, index: Path, wanted: Mapping[str, Any]) -> None:
        try:
            told = json.loads(index.read_text(encoding="utf-8"))
            data = np.load(index.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            here = {key: (start, length, crc) for key, start, length, crc in told["texts"] if key in wanted}
            for start, length, crc in here.values():
                if start + length > len(data) or zlib.crc32(data[start : start + length]) != crc:
                    raise ValueError(f"rows {start} to {start + length} are not as they were written")
            self.text_s = told["text_s"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            for path in (index, index.with_suffix(".npy")):
                path.unlink(missing_ok=True)
            message = f"{index.name} in {index.parent.name}: {error}. It is computed again."
            warnings.warn(Finding(code="FT065", message=message).summary(), stacklevel=4)
            return
        self.found |= {key: (data, start, length) for key, (start, length, _) in here.items()}
        self.crc |= {key: crc for key, (_, _, crc) in here.items()}

    def write(self, missing: Mapping[str, Sequence[int]], before_batch: Callable[[], None]) -> None:
        """Compute what is missing, into one new file; memory does not grow with it."""
        prefix, began, texts, at = self.prefix, time.perf_counter(), [], 0
        path = prefix.folder / f"{uuid.uuid4().hex}.npy"
        shape = (prefix.n_bytes(list(missing.values())) // prefix.base.hidden_size // prefix.stored(0).nbytes,)
        part = path.with_suffix(".part.npy")
        try:
            data = np.lib.format.open_memmap(part, "w+", prefix.stored, (*shape, prefix.base.hidden_size))
            for keys in _alike(prefix, missing):
                before_batch()
                for key, rows in zip(keys, prefix.compute([missing[key] for key in keys]), strict=True):
                    data[at : at + len(rows)] = rows
                    texts.append((key, at, len(rows), zlib.crc32(rows)))
                    at += len(rows)
            data.flush()
            del data
            self.text_s = (time.perf_counter() - began) / len(missing)
            told = part.with_suffix(".json")
            told.write_text(json.dumps({"texts": texts, "text_s": self.text_s}), encoding="utf-8")
            part.replace(path)
            told.replace(path.with_suffix(".json"))
        finally:
            for left in prefix.folder.glob("*.part*"):
                left.unlink()
        data = np.load(path, mmap_mode="r", allow_pickle=False)
        self.found |= {key: (data, start, length) for key, start, length, _ in texts}
        self.crc |= {key: crc for key, _, _, crc in texts}


def _alike(prefix: Prefix, texts: Mapping[str, Sequence[int]]) -> Iterator[list[str]]:
    """Yield the names of texts that are padded to the same length, at most `ROWS` at a time."""
    by_length: dict[int, list[str]] = {}
    for key, tokens in texts.items():
        by_length.setdefault(prefix.length(len(tokens)), []).append(key)
    for _, keys in sorted(by_length.items()):
        for start in range(0, len(keys), ROWS):
            yield keys[start : start + ROWS]


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
