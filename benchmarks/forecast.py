"""How near do forecasts come? Nine plans for `health/diagnoses`, each forecast and then run in a process of its own.

    python -m benchmarks.forecast                   all plans, into results/forecast.json
    python -m benchmarks.forecast --per-class 8     fewer rows, so that it takes less time

A process of its own, because a peak of memory is that of a process; an empty cache of activations, because what it
holds is no work. Wanted: time within 25 %, memory within 20 %, on a machine that does nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ftkit as ft
from ftkit.record import environment

MAX_TOKENS = 32  # 99 of 100 wordings are shorter
PLANS = {
    "head": ft.Plan(train="head", epochs=3),
    "top 1": ft.Plan(train="top 1", epochs=3),
    "top 2": ft.Plan(train="top 2", epochs=3),
    "all, float32": ft.Plan(train="all", epochs=2),
    "all, bfloat16": ft.Plan(train="all", epochs=2, dtype="bfloat16"),
    "gradual": ft.Plan(train="blocks", epochs=3, gradual=True),
    "bias only": ft.Plan(train="blocks", epochs=2, tensors="bias"),
    "batch of 8": ft.Plan(train="top 4", epochs=2, batch_size=8),
    "batch of 64": ft.Plan(train="top 4", epochs=2, batch_size=64),
}
RESULTS = Path(__file__).parent / "results"


def run_one(name: str, per_class: int) -> dict:
    """Forecast a plan and run it, in this process; return both, and the errors in percent."""
    base, data = ft.load_pretrained("minilm", max_tokens=MAX_TOKENS), ft.load_data("health/diagnoses").limit(per_class)
    with tempfile.TemporaryDirectory() as empty:
        os.environ["FTKIT_CACHE"] = empty
        began = time.perf_counter()
        forecast = ft.estimate(base, data, PLANS[name])
        took_s = time.perf_counter() - began
        run = ft.fit(base, data, PLANS[name], on_event=None)
    row = {"name": name, "plan": run.plan.code(), "n_train": len(data.train), "forecast_took_s": round(took_s, 2)}
    for quantity in ("train_s", "peak_bytes"):
        told, measured = getattr(forecast, quantity), getattr(run, quantity)
        low, high = forecast.ranges[quantity]
        row[quantity] = {
            "forecast": told, "low": low, "high": high, "measured": measured,
            "error_percent": round(100 * (told / measured - 1), 1), "within": low <= measured <= high,
        }  # fmt: skip
    return row


def run_apart(name: str, per_class: int) -> dict:
    """Do the same in a new process."""
    call = [sys.executable, "-m", "benchmarks.forecast", "--one", name, "--per-class", str(per_class)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=RESULTS.parents[1])
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-class", type=int, default=20, help="training rows for each of the 21 chapters")
    parser.add_argument("--one", choices=PLANS, help="one plan, in this process; its figures as JSON")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_one(asked.one, asked.per_class)))
        return
    rows = []
    for name in PLANS:
        rows.append(row := run_apart(name, asked.per_class))
        time_, peak = row["train_s"], row["peak_bytes"]
        print(
            f"{name:<14} time {time_['forecast']:6.1f} s, measured {time_['measured']:6.1f} s "
            f"({time_['error_percent']:+5.0f} %)   memory {peak['forecast'] / 1e6:5.0f} MB, measured "
            f"{peak['measured'] / 1e6:5.0f} MB ({peak['error_percent']:+4.0f} %)   in {row['forecast_took_s']:.1f} s",
            flush=True,
        )
        told = {"load_average": os.getloadavg()[0], "environment": environment("float32"), "plans": rows}
        (RESULTS / "forecast.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
