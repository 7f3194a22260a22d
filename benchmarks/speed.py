"""How fast, and in how much memory, ftkit tunes beside its peers, and beside what the machine could do (`make bench`).

    python -m benchmarks.speed                  all of it: three repeats, about an hour on two cores
    python -m benchmarks.speed --only head      one experiment (may be given twice); the others' results are kept
    python -m benchmarks.speed --quick          every adapter once on few rows: does it run? (results in build/bench)
    python -m benchmarks.speed --choose         learning rates for tools without one, on rows that are not measured;
                                                with --only, for all tools of an experiment
    python -m benchmarks.speed --page           the page and its pictures again, from the results alone

Each measurement has a process of its own (`benchmarks.one`), with as many threads as there are cores. Tools take turns
within a repeat, in another order in each. Results are written after every measurement.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, machine
from benchmarks.experiments import EXPERIMENTS, VARIANTS
from benchmarks.page import write_page
from benchmarks.summary import row_of, summary

RESULTS, QUICK = Path(__file__).parent / "results", Path("build") / "bench"
#: What must be equal for figures to stand side by side.
SAME = ("processor", "n_threads", "fastest_dtype", "versions")


def turns(names: Sequence[str], repeats: int, dtype: str) -> Iterator[tuple[int, str, str, bool]]:
    """Yield repeat, experiment, variant, and whether the run is to find what the one before it has kept.

    >>> [(repeat, variant, warm) for repeat, _, variant, warm in turns(["top 1"], 1, "float32")][:3]
    [(0, 'ftkit float32', False), (0, 'ftkit float32', True), (0, 'ftkit bfloat16', False)]
    """
    for repeat in range(repeats):
        for name in names:
            experiment = EXPERIMENTS[name]
            own = [v for v in experiment.variants(dtype) if repeat < min(experiment.repeats, VARIANTS[v].repeats)]
            first = repeat % max(1, len(own))
            for variant in (*own[first:], *own[:first]):
                yield repeat, name, variant, False
                if variant == f"ftkit {dtype}" and experiment.warm:
                    yield repeat, name, variant, True


def measure(names: Sequence[str], repeats: int, *, quick: bool) -> Path:
    """Measure, writing what is known after each measurement, and return where it stands."""
    path, here = (QUICK if quick else RESULTS) / "speed.json", machine(1 if quick else 5)
    path.parent.mkdir(parents=True, exist_ok=True)
    runs = [] if set(names) == set(EXPERIMENTS) else others(path, names, here)
    rates = json.loads((RESULTS / "rates.json").read_text(encoding="utf-8"))["rates"]
    began, dtype, plans = time.monotonic(), here["fastest_dtype"], []
    with tempfile.TemporaryDirectory(prefix="ftkit-bench-") as folder:
        bench = Bench(Path(folder), quick=quick)
        test = json.loads(bench.rows().read_text(encoding="utf-8"))["test"]
        result = {"machine": here, "quick": quick, "truth": {part: test[part] for part in ("labels", "groups")}}
        for repeat, name, variant, warm in turns(names, repeats, dtype):
            rate = rate_for(name, VARIANTS[variant].module, rates)
            job = bench.job(name, variant, seed=repeat, rate=rate, dtype=dtype, plans=plans)
            found = bench.run(job, keep_cache=warm)
            plans = found.get("told", {}).get("plans", plans)  # what ftkit's sweep drew, its peers train as well
            run = {"experiment": name, "variant": variant, "warm": warm, "repeat": repeat, "seed": repeat}
            run |= {"lr": rate, "epochs": job["epochs"], "dtype": job["options"]["dtype"]}
            runs.append(run | found)
            result["runs"] = runs
            whole = json.dumps({**result, "summary": summary(result)}, indent=1)
            path.write_text(whole + "\n", encoding="utf-8")
            told = found.get("failed") or f"{found['seconds']:7.2f} s {found['peak_rss_bytes'] / 1e6:6.0f} MB"
            print(f"{time.monotonic() - began:5.0f} s  {repeat} {name:<11} {row_of(run):<24} {told}", flush=True)
    return path


def others(path: Path, names: Sequence[str], here: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the runs of experiments that are not measured anew; refuse those of another machine."""
    if not path.exists():
        return []
    before = json.loads(path.read_text(encoding="utf-8"))
    if changed := [key for key in SAME if before["machine"][key] != here[key]]:
        sys.exit(f"{path} was measured with other {', '.join(changed)}: measure all of it, or move it away.")
    return [run for run in before["runs"] if run["experiment"] not in names]


def rate_for(name: str, module: str, rates: Mapping[str, Any]) -> float | None:
    """Return the learning rate that was chosen for a tool; None for one that has none."""
    experiment = EXPERIMENTS[name]
    if experiment.rate or module in ("sklearn", "matrices") or (module == "setfit" and name == "head"):
        return experiment.rate
    try:
        return rates[experiment.rates_of or name][module]["lr"]
    except KeyError:
        sys.exit(
            f"No learning rate was chosen for {module} in {name!r}: --choose --only {experiment.rates_of or name!r}"
        )


def choose(names: Sequence[str], *, again: bool) -> None:
    """Try each tool's learning rates on a draw that is not measured, and keep the best of each, after each tool.

    A tool that has its rate already is tried `again` only where that is asked for.
    """
    path, dtype = RESULTS / "rates.json", machine(1)["fastest_dtype"]
    kept = json.loads(path.read_text(encoding="utf-8"))["rates"] if path.exists() else {}
    with tempfile.TemporaryDirectory(prefix="ftkit-bench-") as folder:
        bench = Bench(Path(folder), choosing=True)
        for name in (name for name in names if EXPERIMENTS[name].rates):
            # One variant stands for all of its tool: the last, which is the fastest.
            variants = {VARIANTS[v].module: v for v in EXPERIMENTS[name].variants(dtype)}
            for module, variant in variants.items():
                has_none = module == "sklearn" or (module == "setfit" and name == "head")
                if has_none or (module in kept.get(name, ()) and not again):
                    continue
                tried = {}
                for rate in VARIANTS[variant].rates or EXPERIMENTS[name].rates:
                    found = bench.run(bench.job(name, variant, seed=0, rate=rate, dtype=dtype), keep_cache=True)
                    if "failed" not in found:
                        tried[rate] = found["accuracy_test"]  # of what are valid rows here, see `drawn`
                    told = found.get("failed") or f"{tried[rate]:.4f}  ({found['seconds']:.1f} s)"
                    print(f"{name:<11} {module:<22} {rate:g}: {told}", flush=True)
                if not tried:
                    continue
                best = max(tried, key=tried.get)
                kept.setdefault(name, {})[module] = {"lr": best, "tried": {f"{r:g}": a for r, a in tried.items()}}
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps({"rates": kept}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Do what the words ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=EXPERIMENTS, help="an experiment; may be given again")
    parser.add_argument("--repeats", type=int, default=3, help="seeds, one a repeat (default 3)")
    parser.add_argument("--quick", action="store_true", help="few rows, one repeat: does everything run?")
    parser.add_argument("--choose", action="store_true", help="choose learning rates instead of measuring")
    parser.add_argument("--page", action="store_true", help="only write the page again")
    words = parser.parse_args()
    names = words.only or list(EXPERIMENTS)
    if words.choose:
        choose(names, again=bool(words.only))
        return
    path = RESULTS / "speed.json"
    if not words.page:
        path = measure(names, 1 if words.quick else words.repeats, quick=words.quick)
    print(write_page(path))


if __name__ == "__main__":
    main()
