"""One measurement, in a process of its own: `python -m benchmarks.one JOB RESULT`, both JSON files.

The clock runs from the moment when model and rows are in memory until the tuned model can answer; scoring comes after.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def status() -> dict[str, int]:
    """Return this process's memory in bytes: its most so far, now, and what of it is no file."""
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    kept = {"VmHWM:": "peak_rss_bytes", "VmRSS:": "rss_bytes", "RssAnon:": "anon_bytes"}
    return {kept[words[0]]: 1024 * int(words[1]) for words in lines if words and words[0] in kept}


def measure(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a job and return what was measured."""
    peer = importlib.import_module(f"benchmarks.peers.{job['module']}")
    rows = json.loads(Path(job["rows"]).read_text(encoding="utf-8"))
    loaded = peer.load(job)
    before, began = status(), time.monotonic()
    tuned = peer.tune(loaded, rows, job)
    ended, after = time.monotonic(), status()
    result = {
        "began": began,
        "ended": ended,
        "seconds": ended - began,
        "rss_before_bytes": before["rss_bytes"],
        "peak_rss_bytes": after["peak_rss_bytes"],
        "told": dict(tuned.told),
    }
    for part in ("valid", "test"):
        answers, labels = list(tuned.answer(rows[part]["texts"])), rows[part]["labels"]
        result[f"accuracy_{part}"] = sum(a == y for a, y in zip(answers, labels, strict=True)) / len(labels)
    return result | {"answers": letters(answers)}


def letters(numbers: Sequence[int]) -> str:
    """Return class numbers as a string, a letter each: short in a file, and easy to compare.

    >>> letters([0, 1, 20])
    'ABU'
    """
    return "".join(chr(ord("A") + number) for number in numbers)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text()))), encoding="utf-8")
