"""What this machine can do: cores, memory, disk, versions, and the number format in which it trains fastest.

In a container, what counts is what the container may use, not what the machine has: limits are read from the control
groups (cgroups, version 1 and 2), and speed is measured, because no list of processors is complete.
"""

from __future__ import annotations

import functools
import platform
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from importlib import metadata

import pandas as pd
import torch

from ftkit import __version__
from ftkit.display import Record, record, size
from ftkit.doctor.limits import (
    anonymous_bytes, cpu_quota, memory_bytes, n_cores, n_threads, peak_rss_bytes, rss_bytes,
)  # fmt: skip
from ftkit.findings import Finding
from ftkit.sources import cache_root

__all__ = [
    "Machine", "anonymous_bytes", "doctor", "fastest_dtype", "measured_speed", "memory_bytes", "n_threads",
    "peak_rss_bytes", "rss_bytes", "versions",
]  # fmt: skip


PACKAGES = ("torch", "transformers", "safetensors", "huggingface_hub", "datasets", "numpy", "scikit-learn")


@record
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
    offline : bool or None
        Whether the Hub is out of reach; None if nobody looked.
    gpu : str or None
        Name of the first GPU that PyTorch can use.
    float32_flops, bfloat16_flops : float
        Measured operations a second of a matrix product on the processor.
    autocast_speedup : float
        Measured time of a training step of a small layer in float32, over the same with autocast to bfloat16.
    fastest_dtype : str
        `"float32"`, or `"bfloat16"` if autocast is at least 1.2 times as fast.
    findings : tuple of Finding
        What a careful colleague would point out.
    """

    system: str
    versions: dict[str, str]
    n_cores: int
    n_threads: int
    memory_limit_bytes: int
    memory_available_bytes: int
    disk_free_bytes: int
    offline: bool | None
    gpu: str | None
    float32_flops: float
    bfloat16_flops: float
    autocast_speedup: float
    fastest_dtype: str
    findings: tuple[Finding, ...]

    def summary(self) -> str:
        threads = f"{self.n_threads} thread{'s' if self.n_threads > 1 else ''}"
        free = f"{size(self.memory_available_bytes)} of {size(self.memory_limit_bytes)} memory free"
        return f"This machine trains with {threads}, {free}, fastest in {self.fastest_dtype}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [
            ("System", self.system),
            ("Cores seen", str(self.n_cores)),
            ("Threads to use", str(self.n_threads)),
            ("Memory limit", size(self.memory_limit_bytes)),
            ("Memory free", size(self.memory_available_bytes)),
            ("Disk free for the cache", size(self.disk_free_bytes)),
            ("GPU", self.gpu or "none"),
            ("Hub in reach", {None: "not looked", True: "no", False: "yes"}[self.offline]),
            ("Matrix product, float32", f"{self.float32_flops / 1e9:,.0f} GFLOP/s"),
            ("Matrix product, bfloat16", f"{self.bfloat16_flops / 1e9:,.0f} GFLOP/s"),
            ("Training step, autocast against float32", f"{self.autocast_speedup:.2f} times as fast"),
        ]
        tables = [
            ("This machine", pd.DataFrame(rows, columns=["What", "How much"])),
            ("Versions", pd.DataFrame(self.versions.items(), columns=["Package", "Version"])),
        ]
        if self.findings:
            found = [(f.code, f.title, f.message) for f in self.findings]
            tables.insert(0, ("Findings", pd.DataFrame(found, columns=["Code", "Finding", "Here"])))
        return tables


def doctor(*, network: bool = False) -> Machine:
    """Look at this machine, and measure it for about a second.

    Parameters
    ----------
    network : bool
        Also find out whether the Hub answers, for two seconds at most.

    Examples
    --------
    >>> doctor().fastest_dtype in ("float32", "bfloat16")
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
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        versions=versions(),
        n_cores=cores,
        n_threads=n_threads(),
        memory_limit_bytes=limit,
        memory_available_bytes=available,
        disk_free_bytes=free,
        offline=_is_offline() if network else True if _told_offline() else None,
        gpu=gpu,
        float32_flops=float32,
        bfloat16_flops=bfloat16,
        autocast_speedup=speedup,
        fastest_dtype=fastest_dtype(),
        findings=tuple(Finding(code=code, message=message) for code, short, message in shortages if short),
    )


@functools.cache
def measured_speed() -> tuple[float, float, float]:
    """Return operations a second in float32 and in bfloat16, and how much faster autocast trains a small layer.

    Measured once in a process, with `n_threads()`, for about a second.
    """
    from torch import nn

    before, dtypes = torch.get_num_threads(), (torch.float32, torch.bfloat16)
    torch.set_num_threads(n_threads())
    try:
        with torch.random.fork_rng(devices=[]):
            n = 512
            squares = {d: torch.randn(n, n).to(d) for d in dtypes}
            layer, inputs = nn.Sequential(nn.Linear(384, 1536), nn.GELU(), nn.Linear(1536, 384)), torch.randn(512, 384)

        def step(autocast: bool) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = layer(inputs).square().mean()
            loss.backward()
            layer.zero_grad()

        with torch.enable_grad():
            steps = _medians_s([functools.partial(step, autocast) for autocast in (False, True)])
        products = _medians_s([functools.partial(torch.matmul, squares[d], squares[d]) for d in dtypes])
    finally:
        torch.set_num_threads(before)
    return 2 * n**3 / products[0], 2 * n**3 / products[1], steps[0] / steps[1]


def fastest_dtype() -> str:
    """Return the number format in which this machine trains fastest, as `measured_speed` found."""
    return "bfloat16" if measured_speed()[2] > 1.2 else "float32"  # a smaller gain is not worth the rounding


def _medians_s(functions: list[Callable[[], object]], budget_s: float = 0.3) -> list[float]:
    """Return the median time of each function; they take turns, so that other work on the machine slows all alike."""
    for function in functions:
        function()  # the first call also sets things up
    times: list[list[float]] = [[] for _ in functions]
    ends = time.perf_counter() + budget_s
    while len(times[0]) < 3 or (time.perf_counter() < ends and len(times[0]) < 50):
        for function, taken in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


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


def _told_offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def _is_offline(limit_s: float = 2.0) -> bool:
    if _told_offline():
        return True
    answered = threading.Event()
    # A thread of its own, as looking up a name can hang for longer than any timeout that can be given.
    threading.Thread(target=_ask_hub, args=(answered, limit_s), daemon=True).start()
    return not answered.wait(limit_s)


def _ask_hub(answered: threading.Event, limit_s: float) -> None:
    import urllib.request

    from huggingface_hub import constants

    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        with urllib.request.urlopen(request, timeout=limit_s):
            answered.set()
    except (OSError, ValueError):
        pass  # no answer is the answer
