"""Does tuning beat a frozen probe on `health/diagnoses`, by more than chance? Three draws, three seeds, one plan.

    python -m benchmarks.diagnoses            the claim: test accuracy of probe and tuned model (`make claim`)
    python -m benchmarks.diagnoses --choose   how the plan was chosen: candidates on valid; test stays closed

Each of the three committed draws has its own train, valid and test categories of disease. Intervals resample
categories, not rows, and a category that is in the test rows of two draws counts in both at once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import ftkit as ft
from ftkit.evaluation import interval_of, resample_weights
from ftkit.record import environment
from ftkit.report import Comparison

DRAWS = (0, 1, 2)
MAX_TOKENS = 32  # 99 of 100 wordings are shorter
PLAN = ft.Plan(train="blocks", lr=1e-4, epochs=5, start="probe", dtype="bfloat16")
#: What was compared on the valid rows of the first draw; the lesson takes the best that fits its two minutes.
CANDIDATES = (
    PLAN.but(train="top 4", lr=2e-4, epochs=2),
    PLAN.but(train="top 2", lr=3e-4, epochs=3),
    PLAN.but(train="top 4", lr=2e-4, epochs=3),
    PLAN,
)
RESULTS = Path(__file__).parent / "results"


def choose() -> dict:
    """Train every candidate on the first draw and return accuracies on its valid rows; test stays closed."""
    base, data = ft.load_pretrained("minilm", max_tokens=MAX_TOKENS), ft.load_data("health/diagnoses", draw=0)
    rows = []
    for plan in CANDIDATES:
        run = ft.fit(base, data, plan, on_event=None)
        before, after = run.history[0]["accuracy"], run.history[run.best_epoch]["accuracy"]
        rows.append({"plan": plan.code(), "valid_probe": before, "valid_tuned": after, "train_s": run.train_s})
        print(f"{plan.code():<82} valid {before:.4f} -> {after:.4f}  {run.train_s:.0f} s", flush=True)
    assert data.test.opened == 0
    return {"draw": 0, "candidates": rows, "environment": environment(PLAN.dtype)}


def claim(few: int) -> dict:
    """Train the plan on every draw and return how it compares with the probe, on all rows and on `few` a class."""
    base = ft.load_pretrained("minilm", max_tokens=MAX_TOKENS)
    results = {}
    for per_class, plan in ((200, PLAN), (few, PLAN.but(start="zero", epochs=2 * PLAN.epochs))):
        comparisons, rows = [], []
        for draw in DRAWS:
            data, began = ft.load_data("health/diagnoses", draw=draw, per_class=per_class), time.perf_counter()
            makers = {"tfidf": ft.tfidf(data), "probe": ft.probe(base, data)}
            run = ft.fit(base, data, plan.but(seed=draw), on_event=None)
            scored = {name: ft.evaluate(p, data.test) for name, p in {**makers, "tuned": run}.items()}
            comparisons.append(ft.compare(scored["probe"], scored["tuned"]))
            accuracies = {f"accuracy_{name}": e.accuracy for name, e in scored.items()}
            macro_f1s = {f"macro_f1_{name}": e.macro_f1 for name, e in scored.items()}
            rows.append(
                {"draw": draw, **accuracies, **macro_f1s, "train_s": run.train_s, "verdict": comparisons[-1].verdict}
            )
            print(
                f"{per_class} a class, draw {draw} ({time.perf_counter() - began:.0f} s): {comparisons[-1].summary()}",
                flush=True,
            )
        low, high = pooled_interval(comparisons)
        mean = float(np.mean([c.difference() for c in comparisons]))
        print(
            f"{per_class} a class: tuned minus probe {100 * mean:+.1f} points, "
            f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}\n"
        )
        results[str(per_class)] = {
            "plan": plan.code(),
            "n_test": len(data.test),
            "mean_difference": mean,
            "interval_95": [low, high],
            "draws": rows,
        }
    return {"per_class": results, "environment": environment(PLAN.dtype)}


def pooled_interval(comparisons: Sequence[Comparison]) -> tuple[float, float]:
    """Return the interval of the mean difference in accuracy, resampling categories over all draws together."""
    groups = [np.asarray(c.before.rows.groups) for c in comparisons]
    names = np.unique(np.concatenate(groups))
    weights = resample_weights(len(names))
    differences = []
    for comparison, group in zip(comparisons, groups, strict=True):
        place = np.searchsorted(names, group)
        gain = np.bincount(place, comparison.after.correct - comparison.before.correct, minlength=len(names))
        differences.append((weights @ gain) / (weights @ np.bincount(place, minlength=len(names))))
    return interval_of(np.mean(differences, axis=0))


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true", help="compare candidate plans on valid instead")
    parser.add_argument("--few", type=int, default=16, help="rows a class in the second experiment (default 16)")
    arguments = parser.parse_args()
    result, name = (choose(), "diagnoses_choice") if arguments.choose else (claim(arguments.few), "diagnoses")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
