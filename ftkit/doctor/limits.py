"""How much of the machine this process may use: cores, time on them, and memory.

In a container the limits stand in control groups (cgroups), version 1 or 2. `root` is where the file system starts.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

_ROOT = Path("/")


def n_cores() -> int:
    """Return the number of cores this process can be scheduled on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = _ROOT) -> float:
    """Return how many cores' time the control groups allow; infinite if they set no limit."""
    shares = [float("inf")]
    for folder in _groups(root, "cpu"):
        version_1 = [_text(folder / f"cpu.cfs_{what}_us") for what in ("quota", "period")]
        quota, period = _text(folder / "cpu.max").split() or version_1
        if quota.isdigit() and period.isdigit() and int(period):
            shares.append(int(quota) / int(period))
    return min(shares)


def n_threads(root: Path = _ROOT) -> int:
    """Return what to give `torch.set_num_threads`: cores, or the container's share of them, or `OMP_NUM_THREADS`.

    >>> 1 <= n_threads() <= n_cores()
    True
    """
    wished = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(min(n_cores(), cpu_quota(root), int(wished) if wished.isdigit() else float("inf"))))


def memory_bytes(root: Path = _ROOT) -> tuple[int, int]:
    """Return how much memory this process may use in all, and how much of it is left now.

    The container's limit counts, or what the machine has; what is only kept to read files faster counts as free.
    """
    machine = psutil.virtual_memory()
    limits = [(machine.total, machine.total - machine.available)]
    for folder in _groups(root, "memory"):
        limit = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")
        if limit.isdigit():
            used = _text(folder / "memory.current") or _text(folder / "memory.usage_in_bytes") or 0
            stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
            cached = stat.get("total_inactive_file") or stat.get("inactive_file", 0)  # in version 1, and in 2
            limits.append((int(limit), int(used) - int(cached)))
    return min(limit for limit, _ in limits), max(0, min(limit - used for limit, used in limits))


def rss_bytes() -> int:
    """Return the memory this process holds now (its resident set)."""
    return psutil.Process().memory_info().rss


def peak_rss_bytes() -> int:
    """Return the most memory this process has held so far."""
    for line in _text(_ROOT / "proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    if os.name == "nt":
        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def give_back_memory() -> None:
    """Hand memory that was freed back to the system, where the C library (glibc) would keep it for later.

    Without it, each run of a notebook starts on top of what the one before left behind, a few hundred megabytes.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another system, another C library
        ctypes.CDLL(None).malloc_trim(0)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield this process's control group and all above it, in both versions: a limit on any of them holds."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        mounts = ("", "unified") if number == "0" else (controllers, controller)
        if number == "0" or controller in controllers.split(","):
            # Inside a container the path may be the host's: the folders that do not exist have no limit to read.
            below = Path(path.strip("/"))
            yield from (root / "sys/fs/cgroup" / mount / up for mount in mounts for up in (below, *below.parents))


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
