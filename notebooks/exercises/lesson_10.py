"""Lesson 10: a file of one's own, judged by more than one split, and no better than it is."""

from __future__ import annotations

from ftkit import baseline
from ftkit.checks import check_baselines
from ftkit.data import data_sets, near_duplicates
from ftkit.display import percent
from ftkit.evaluation import evaluate
from ftkit.exercises import Criterion, Exercise
from ftkit.record import Run

#: More near-copies of train among the rows of valid than this are a leak.
MOST_TWINS = 0.05

QUESTION = (
    "Make a run on a file of your own, or on one that you find, with at least 200 rows. Hardly any row may have a "
    "near-copy on the other side, and the check against a frozen probe has to find nothing: tuning was worth it, by "
    "more than chance."
)
HINTS = (
    "ft.load_data takes a path, text= and label=. If rows belong together, group= keeps them on one side.",
    "data.without(near_duplicates(data).leaking) takes near-copies out.",
    "If no plan beats the probe by more than chance, that is the answer for this file. Take another, or more rows.",
)
SOLUTION = """
import tempfile
from pathlib import Path

import pandas as pd

import ftkit as ft
from ftkit.data import near_duplicates

rows = ft.load_data("health/diagnoses", per_class=100).joined()  # stands in for a file of yours
file = Path(tempfile.mkdtemp()) / "mine.csv"
table = pd.DataFrame({"wording": rows.texts, "chapter": rows.named_labels(), "category": rows.groups})
table.to_csv(file, index=False)

base = ft.load_pretrained("minilm", max_tokens=32)
data = ft.load_data(file, text="wording", label="chapter", group="category", split=(0.6, 0.2, 0.2))
data = data.without(near_duplicates(data).leaking)
fastest = ft.check_machine().fastest_dtype
run = ft.fit(base, data, ft.Plan(train="top 2", lr=3e-4, epochs=3, start="probe", dtype=fastest))
"""


def a_file_of_ones_own(run: Run) -> Criterion:
    """The rows are not one of the sets that come with the lessons."""
    named = run.data.name in data_sets()
    return Criterion(
        what="The rows are not one of the sets that come with the lessons.",
        met=not named and run.data.card is None,
        found=f"They are called {run.data.name}.",
    )


def no_copies_across(run: Run) -> Criterion:
    """Hardly a row of valid has a near-copy in train."""
    share = len(near_duplicates(run.data).twins("valid")) / len(run.data.valid)
    return Criterion(
        what=f"At most {percent(MOST_TWINS)} of the rows of valid have a near-copy in train.",
        met=share <= MOST_TWINS,
        found=f"{percent(share)} have one.",
    )


def worth_it(run: Run) -> Criterion:
    """The check against a frozen probe finds nothing, on valid."""
    rows = run.data.valid
    found = check_baselines(evaluate(baseline.probe(run.base, run.data), rows), evaluate(run, rows))
    told = " ".join(f.message for f in found.findings)
    return Criterion(
        what="The check against a frozen probe finds nothing, on valid.",
        met=not found.findings,
        found=told or "It found nothing: tuning was worth it.",
    )


EXERCISE = Exercise(
    lesson="10",
    question=QUESTION,
    hints=HINTS,
    solution_code=SOLUTION,
    criteria=(a_file_of_ones_own, no_copies_across, worth_it),
    least={"training rows": 140, "optimizer steps": 10, "parameters in its encoder": 1_000_000},
)
