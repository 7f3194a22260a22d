"""What follows from the measurements: medians, ratios, verdicts on accuracy, and which targets were reached."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import experiments as what
from benchmarks.experiments import EXPERIMENTS, SIZES, TRAINER
from ftkit.data import Rows
from ftkit.evaluation import Evaluation
from ftkit.report import Comparison

FIGURES = (
    "seconds",
    "start_s",
    "peak_rss_bytes",
    "rss_before_bytes",
    "peak_anon_bytes",
    "accuracy_valid",
    "accuracy_test",
)


def row_of(run: Mapping[str, Any]) -> str:
    """Return the row of a table that a run belongs to.

    >>> row_of({"variant": "ftkit float32", "warm": True})
    'ftkit float32, warm'
    """
    return run["variant"] + (", warm" if run["warm"] else "")


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return for each experiment and row the median of every figure, the seconds of each repeat, and any failure."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        found.setdefault(run["experiment"], {}).setdefault(row_of(run), []).append(run)
    return {name: {row: _median(own) for row, own in rows.items()} for name, rows in found.items()}


def _median(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if failed := [run["failed"] for run in runs if "failed" in run]:
        return {"failed": failed[0], "n_failed": len(failed), "n": len(runs)}
    middle = {figure: statistics.median(run[figure] for run in runs) for figure in FIGURES}
    return {"n": len(runs), **middle, "each_s": [run["seconds"] for run in runs]}


def ratios(found: Mapping[str, Mapping[str, Any]], ours: str) -> dict[str, dict[str, Any]]:
    """Return for each experiment how ftkit stands against `Trainer`: against the better of its two settings.

    Parameters
    ----------
    found : mapping
        What `medians` returns.
    ours : str
        ftkit's row in the number format that is faster here.
    """
    told = {}
    for name, rows in found.items():
        whole = {row: figures for row, figures in rows.items() if "failed" not in figures}
        settings = [row for row in TRAINER if row in whole]
        if ours not in whole or not settings:
            continue
        fastest = min(settings, key=lambda row: whole[row]["seconds"])
        smallest = min(settings, key=lambda row: whole[row]["peak_rss_bytes"])
        mine, theirs = whole[ours], whole[fastest]
        told[name] = {
            "against": fastest,
            "times_as_fast": theirs["seconds"] / mine["seconds"],
            "each": [b / a for a, b in zip(mine["each_s"], theirs["each_s"], strict=False)],
            "peak_memory": mine["peak_rss_bytes"] / whole[smallest]["peak_rss_bytes"],
            "smallest": smallest,
        }
        for row, key in ((f"{ours}, warm", "warm"), ("Trainer by hand", "by_hand")):
            if row in whole:
                pair = (theirs, whole[row]) if key == "warm" else (whole[row], mine)
                told[name][key] = pair[0]["seconds"] / pair[1]["seconds"]
    return told


def accuracies(
    result: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]], ours: str
) -> dict[str, dict[str, Any]]:
    """Return for each experiment the difference in mean test accuracy, ftkit minus `Trainer`, and the verdict on it.

    The interval resamples groups of test rows, over all seeds together; it is the one that `ft.compare` shows.
    """
    labels, groups = result["truth"]["labels"], tuple(result["truth"]["groups"])
    n = max(labels) + 1
    test = Rows(
        name="test",
        texts=tuple(f"row {i}" for i in range(len(labels))),
        labels=labels,
        label_names=tuple(f"class {i}" for i in range(n)),
        groups=groups,
    )

    def scored(name: str, row: str) -> Evaluation:
        runs = [r for r in result["runs"] if r["experiment"] == name and row_of(r) == row]
        answers = np.array([[ord(letter) - ord("A") for letter in run["answers"]] for run in runs])
        return Evaluation(name=row, proba=np.eye(n)[answers], rows=test)

    told = {}
    for name, ratio in ratios(found, ours).items():
        if EXPERIMENTS[name].n_rows:  # other test rows
            continue
        compared = Comparison(before=scored(name, ratio["against"]), after=scored(name, ours))
        told[name] = {
            "against": ratio["against"],
            "n_seeds": len(compared.after.proba),
            "ftkit": compared.after.accuracy,
            "trainer": compared.before.accuracy,
            "difference": compared.difference(),
            "interval_95": list(compared.interval()),
            "verdict": compared.verdict,
        }
    return told


def shares(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what training everything reaches of the machine's rate of matrix products, by row.

    6 operations for each weight in a matrix and each token that is no padding, over the seconds of all steps without
    the optimizer's. Those seconds hold more than products: batches, losses, clipping.
    """
    limits = [run["told"] for run in runs if run["experiment"] == "limit" and "failed" not in run]
    told: dict[str, dict[str, Any]] = {}
    if not limits:
        return told
    rate = {name: statistics.median(limit[name] for limit in limits) for name in what.SHARE_TARGETS}
    operations = 6 * limits[0]["n_matrix_weights"] * limits[0]["n_tokens"]
    for run in runs:
        if run["experiment"] == "everything" and run.get("told", {}).get("steps_s"):
            products_s = run["told"]["steps_s"] - run["told"]["optimizer_s"]
            reached = operations * run["epochs"] / products_s
            told.setdefault(row_of(run), []).append((run["dtype"], reached, products_s, run["told"]["optimizer_s"]))
    return {
        row: {
            "dtype": each[0][0],
            "limit": rate[each[0][0]],
            "reached": statistics.median(e[1] for e in each),
            "share": statistics.median(e[1] for e in each) / rate[each[0][0]],
            "forward_and_backward_s": statistics.median(e[2] for e in each),
            "optimizer_s": statistics.median(e[3] for e in each),
        }
        for row, each in told.items()
    }


def targets(found: Mapping[str, Any], against: Mapping[str, Any], share: Mapping[str, Any], ours: str) -> list[dict]:
    """Return every target with what was reached, in the order of the page; None where nothing was measured.

    Parameters
    ----------
    found, against, share : mapping
        What `medians`, `ratios` and `shares` return.
    ours : str
    """
    told = []

    def add(text: str, sign: str, limit: float, reached: float | None, unit: str = "times") -> None:
        yes = None if reached is None else reached >= limit if sign == "≥" else reached <= limit
        told.append({"target": text, "sign": sign, "limit": limit, "reached": reached, "unit": unit, "yes": yes})

    for name, limit in what.SPEED_TARGETS.items():
        add(f"speed, {EXPERIMENTS[name].title}", "≥", limit, against.get(name, {}).get("times_as_fast"))
    for name, experiment in EXPERIMENTS.items():
        if set(TRAINER) <= set(experiment.peers):
            text = f"peak memory, {experiment.title}"
            add(text, "≤", what.MEMORY_TARGET, against.get(name, {}).get("peak_memory"))
    for dtype, limit in what.SHARE_TARGETS.items():
        reached = share.get(f"ftkit {dtype}", {}).get("share")
        add(f"share of the matrix rate, everything, {dtype}", "≥", limit, reached, "share")
    few, most = (found.get(f"rows {n}", {}) for n in (SIZES[0], SIZES[-1]))
    for row, word in ((ours, "cold"), (f"{ours}, warm", "warm")):
        both = [rows.get(row, {}).get("peak_anon_bytes") for rows in (few, most)]
        text = f"anonymous memory at {SIZES[-1]:,} rows against {SIZES[0]:,}, {word}: change"
        add(text, "≤", what.ANON_TARGET, abs(both[1] / both[0] - 1) if all(both) else None, "share")
    for row, word in ((ours, "cold"), (f"{ours}, warm", "warm")):
        for a, b in itertools.pairwise(SIZES):
            both = [found.get(f"rows {n}", {}).get(row, {}).get("seconds") for n in (a, b)]
            text = f"time for {b:,} rows against {a:,}, {word}"
            add(text, "≤", b / a, both[1] / both[0] if all(both) else None)
    return told


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that is computed from the runs."""
    ours = f"ftkit {result['machine']['fastest_dtype']}"
    found, share = medians(result["runs"]), shares(result["runs"])
    against = ratios(found, ours)
    return {
        "ours": ours,
        "medians": found,
        "ratios": against,
        "accuracies": accuracies(result, found, ours),
        "shares": share,
        "targets": targets(found, against, share, ours),
    }
