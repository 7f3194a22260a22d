"""Lesson 08: better by more than chance, nothing known to be lost elsewhere, and test left alone."""

from __future__ import annotations

import dataclasses

from ftkit.baseline import probe
from ftkit.data import load_data
from ftkit.display import points
from ftkit.evaluation import evaluate
from ftkit.exercises import Criterion, Exercise, Least, module
from ftkit.record import Run
from ftkit.report import BETTER, WORSE, compare

QUESTION = (
    "Make a run on health/diagnoses whose verdict against the frozen probe is better, on the valid rows of the "
    "lessons, and after which a probe on merchants is not known to be worse than before. Leave test alone."
)
HINTS = (
    "The verdict says how large the gain is, and its interval how large it would have to be. What makes a gain larger?",
    "More rows do: health/diagnoses has 200 a chapter. What is forgotten grows with how much may move, and how far.",
    "150 rows a chapter, the top two blocks, start='probe', lr=3e-4, three epochs.",
)
SOLUTION = """
import ftkit as ft

base = ft.load_pretrained("minilm", max_tokens=32)
data = ft.load_data("health/diagnoses", per_class=150)

fastest = ft.check_machine().fastest_dtype
run = ft.fit(base, data, ft.Plan(train="top 2", lr=3e-4, epochs=3, start="probe", dtype=fastest))
"""


def better_than_the_probe(run: Run) -> Criterion:
    """The verdict against the frozen probe is better."""
    rows = load_data("health/diagnoses").valid  # all of it: the run's own valid rows may be few
    found = compare(evaluate(probe(run.base, run.data), rows), evaluate(run, rows))
    return Criterion(
        what=f"The verdict against the frozen probe is better, on the {len(rows)} valid rows of the lessons.",
        met=found.verdict == BETTER,
        found=found.summary(),
    )


def nothing_known_to_be_lost(run: Run) -> Criterion:
    """A probe on merchants is not known to be worse than before."""
    other = load_data("finance/merchants", per_class=20)
    tuned = dataclasses.replace(run.base, encoder=run.model.encoder)
    found = compare(*(evaluate(probe(base, other), other.test) for base in (run.base, tuned)))
    change, (low, high) = found.difference(), found.interval()
    return Criterion(
        what="A probe on merchants is not known to be worse than before.",
        met=found.verdict != WORSE,
        found=f"It changed by {points(change)} points ({points(low)} to {points(high)}): {found.verdict}.",
    )


EXERCISE = Exercise(
    lesson="08",
    question=QUESTION,
    hints=HINTS,
    solution_code=SOLUTION,
    criteria=(better_than_the_probe, nothing_known_to_be_lost, module("06").test_was_left_alone),
    least=Least(n_train=400, n_steps=30),
)
