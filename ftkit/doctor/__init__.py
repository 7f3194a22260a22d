"""What this machine can do: cores, memory, disk, versions, and the number format in which it trains fastest.

In a container, what counts is what the container may use, not what the machine has: limits are read from the control
groups (cgroups, version 1 and 2), and speed is measured, because no list of processors is complete.
"""

import contextlib
import functools
import json
import platform
import shutil
import threading
import time
import timeit
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from huggingface_hub import constants, get_session

from ftkit import __version__
from ftkit.display import Record, fact, size
from ftkit.doctor.limits import cpu_quota, give_back_memory, memory_bytes, n_cores, n_threads, peak_rss_bytes, rss_bytes
from ftkit.findings import Finding
from ftkit.sources import cache_root

__all__ = ["Machine", "check_machine", "fastest_dtype", "give_back_memory", "memory_bytes", "n_threads"]
__all__ += ["peak_rss_bytes", "rss_bytes", "versions"]

PACKAGES = ("torch", "transformers", "safetensors", "huggingface_hub", "datasets", "numpy", "scikit-learn")


class Machine(Record):
    """What this machine can do.

    Parameters
    ----------
    system : str
        Operating system and kind of processor.
    versions : dict of str
        Versions of Python and of the packages that matter, by name.
    n_cores : int
        Cores this process can be scheduled on.
    n_threads : int
        Threads worth using: the cores, or fewer where a container may use only part of them.
    memory_limit_bytes, memory_available_bytes : int
        Memory this process may use in all, and what is left of it now.
    disk_free_bytes : int
        Free space where the cache is.
    gpu : str or None
        Name of the first GPU that PyTorch can use.
    offline : bool or None
        Whether the Hub is out of reach; None if nobody looked.
    float32_flops, bfloat16_flops : float
        Measured operations a second of a matrix product on the processor.
    autocast_speedup : float
        Measured time of a training step of a small layer in float32, over the same with autocast to bfloat16.
    fastest_dtype : str
        `"float32"`, or `"bfloat16"` if autocast is at least 1.2 times as fast.
    findings : tuple of Finding
        What a careful colleague would point out.
    """

    system: str = fact("System")
    versions: dict[str, str]
    n_cores: int = fact("Cores seen")
    n_threads: int = fact("Threads to use")
    memory_limit_bytes: int = fact("Memory limit", size)
    memory_available_bytes: int = fact("Memory free", size)
    disk_free_bytes: int = fact("Disk free for the cache", size)
    gpu: str | None = fact("GPU", lambda name: name or "none")
    offline: bool | None = fact("Hub in reach", {None: "not looked", True: "no", False: "yes"}.get)
    float32_flops: float = fact("Matrix product, float32", lambda flops: f"{flops / 1e9:,.0f} GFLOP/s")
    bfloat16_flops: float = fact("Matrix product, bfloat16", lambda flops: f"{flops / 1e9:,.0f} GFLOP/s")
    autocast_speedup: float = fact("Training step, autocast against float32", "{:.2f} times as fast".format)
    fastest_dtype: str
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        threads = f"{self.n_threads} thread{'s' if self.n_threads > 1 else ''}"
        free = f"{size(self.memory_available_bytes)} of {size(self.memory_limit_bytes)} memory free"
        return f"This machine trains with {threads}, {free}, fastest in {self.fastest_dtype}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        of_packages = pd.DataFrame(self.versions.items(), columns=["Package", "Version"])
        facts = ("This machine", self.facts("What", "How much"))
        return [*self.found("Code", "Finding", "Here"), facts, ("Versions", of_packages)]


def check_machine(*, network: bool = False) -> Machine:
    """Look at this machine, and measure it for about a second.

    Parameters
    ----------
    network : bool
        Also find out whether the Hub answers, for two seconds at most.

    Examples
    --------
    >>> check_machine().fastest_dtype in ("float32", "bfloat16")
    True
    """
    float32, bfloat16, speedup = measured_speed()
    build, gpu = _gpu()
    cores, (limit, available), free = n_cores(), memory_bytes(), _disk_free_bytes()
    shortages = (
        ("FT040", limit < 2e9, f"{size(limit)} may be used in all."),
        ("FT041", build and gpu is None, f"PyTorch was built for {build}, but finds no GPU."),
        ("FT042", free < 1e9, f"{size(free)} are free where the cache is."),
        ("FT043", cpu_quota() < cores, f"{cores} cores are seen, but only the time of {cpu_quota():g} may be used."),
    )
    found = tuple(Finding(code=code, message=message) for code, short, message in shortages if short)
    is_ = {"system": f"{platform.system()} {platform.machine()}", "versions": versions(), "gpu": gpu, "findings": found}
    has = {"memory_limit_bytes": limit, "memory_available_bytes": available, "disk_free_bytes": free, "n_cores": cores}
    does = {"float32_flops": float32, "bfloat16_flops": bfloat16, "autocast_speedup": speedup}
    offline = constants.HF_HUB_OFFLINE or (_is_offline() if network else None)
    return Machine(**is_, **has, **does, n_threads=n_threads(), offline=offline, fastest_dtype=_remember(speedup))


@functools.cache
def measured_speed() -> tuple[float, float, float]:
    """Return operations a second in float32 and in bfloat16, and how much faster autocast trains a small layer.

    Measured once in a process, with `n_threads()`, for about a second.
    """
    with torch.random.fork_rng(devices=[]):
        square, inputs = torch.randn(512, 512), torch.randn(512, 384)
        layer = torch.nn.Sequential(torch.nn.Linear(384, 1536), torch.nn.GELU(), torch.nn.Linear(1536, 384))

    def step(autocast: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = layer(inputs).square().mean()
        loss.backward()
        layer.zero_grad()

    with torch.enable_grad(), contextlib.ExitStack() as after:
        after.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(n_threads())
        slow, fast = _medians_s(step, (False, True))
        float32, bfloat16 = 2 * 512**3 / _medians_s(lambda matrix: matrix @ matrix, (square, square.bfloat16()))
    return float32, bfloat16, slow / fast


def fastest_dtype() -> str:
    """Return the number format in which this machine trains faster: measured once, then remembered in the cache.

    It stays the same for this processor, number of threads and version of torch, so that equal plans give equal
    weights tomorrow, too. `check_machine()` measures it anew.
    """
    with contextlib.suppress(OSError):
        return json.loads(_remembered().read_text(encoding="utf-8"))
    return _remember(measured_speed()[2])


def _remembered() -> Path:
    processor = f"{platform.machine()}-{torch.backends.cpu.get_cpu_capability()}"
    return cache_root() / f"dtype-{processor}-{n_threads()}-{torch.__version__}.json".replace(" ", "")


def _remember(speedup: float) -> str:
    fastest = "bfloat16" if speedup > 1.2 else "float32"  # a smaller gain is not worth the rounding
    with contextlib.suppress(OSError):  # where nothing can be kept, each process measures
        _remembered().parent.mkdir(parents=True, exist_ok=True)
        _remembered().write_text(json.dumps(fastest), encoding="utf-8")
    return fastest


def _medians_s(function: Callable, inputs: Sequence, budget_s: float = 0.3) -> np.ndarray:
    """Return the median time for each input; they take turns, so that other work on the machine slows all alike."""
    turns, ends = [], time.perf_counter() + budget_s
    while len(turns) < 4 or time.perf_counter() < ends:
        turns.append([timeit.timeit(functools.partial(function, i), number=1) for i in inputs])
    return np.median(turns[1:], axis=0)  # the first call also sets things up


def _disk_free_bytes() -> int:
    folder = cache_root().absolute()
    return shutil.disk_usage(next(f for f in (folder, *folder.parents) if f.exists())).free


def versions() -> dict[str, str]:
    """Return the versions of Python, ftkit and the packages that matter, by name."""
    return {"python": platform.python_version(), "ftkit": __version__} | {p: metadata.version(p) for p in PACKAGES}


def _gpu() -> tuple[str | None, str | None]:
    """Return what kind of GPU PyTorch was built for, and the name of one that it can use."""

    build = "CUDA" if torch.version.cuda else "ROCm" if torch.version.hip else None
    if torch.cuda.is_available():
        return build, torch.cuda.get_device_name(0)
    return build, "Apple GPU" if torch.backends.mps.is_available() else None


def _is_offline(limit_s: float = 2.0) -> bool:
    answered = threading.Event()
    # A thread of its own, as looking up a name can hang for longer than any timeout that can be given.
    threading.Thread(target=_ask_hub, args=(answered, limit_s), daemon=True).start()
    return not answered.wait(limit_s)


def _ask_hub(answered: threading.Event, limit_s: float) -> None:
    with contextlib.suppress(Exception):  # no answer is the answer
        get_session().head(constants.ENDPOINT, timeout=limit_s).raise_for_status()
        answered.set()
