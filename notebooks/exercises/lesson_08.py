"""Lesson 08: better by more than chance, as sure as it should be, and nothing known to be lost elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np

from ftkit.baseline import probe, tfidf
from ftkit.data import load_data
from ftkit.display import points
from ftkit.evaluation import evaluate
from ftkit.exercises import Criterion, Exercise, module
from ftkit.record import Run
from ftkit.report import BETTER, WORSE, compare

#: Even a model that is exactly as sure as it should be shows two or three points on so many rows.
MOST_ERROR, N_BINS = 0.05, 10

QUESTION = (
    "Make a run on health/diagnoses that is better than TF-IDF by more than chance, whose calibration error on the "
    "valid rows of the lessons is at most 5 points, and after which a probe on merchants is not known to be worse than "
    "before. Leave test alone."
)
HINTS = (
    "Look at the reliability of your run: does it say too much, or too little? A temperature is not part of a run.",
    "From a probe of many rows it begins too sure. A head of zeros begins modest, and grows surer with every epoch.",
    "100 rows a chapter, the top two blocks, start='zero', lr=3e-4, head_lr=3e-3, two epochs.",
)
SOLUTION = """
import ftkit as ft

base = ft.load_pretrained("minilm", max_tokens=32)
data = ft.load_data("health/diagnoses", per_class=100)

fastest = ft.check_machine().fastest_dtype
run = ft.fit(base, data, ft.Plan(train="top 2", lr=3e-4, head_lr=3e-3, epochs=2, keep="last", dtype=fastest))
"""


def better_than_counting_words(run: Run) -> Criterion:
    """The verdict against TF-IDF is better."""
    rows = load_data("health/diagnoses").valid  # all of it: the run's own valid rows may be few
    found = compare(evaluate(tfidf(run.data), rows), evaluate(run, rows))
    return Criterion(
        what=f"The verdict against TF-IDF is better, on the {len(rows)} valid rows of the lessons.",
        met=found.verdict == BETTER,
        found=found.summary(),
    )


def as_sure_as_it_should_be(run: Run) -> Criterion:
    """The calibration error is small."""
    rows = load_data("health/diagnoses").valid
    proba = run.predict_proba(rows.texts)
    sure, right = proba.max(axis=1), proba.argmax(axis=1) == rows.labels
    bins = np.minimum((sure * N_BINS).astype(int), N_BINS - 1)
    error = sum(abs(sure[bins == b].sum() - right[bins == b].sum()) for b in range(N_BINS)) / len(rows)
    modest = "too sure" if sure.mean() > right.mean() else "too modest"
    return Criterion(
        what=f"The calibration error is at most {100 * MOST_ERROR:.0f} points, on the same rows.",
        met=bool(error <= MOST_ERROR),
        found=f"It is {100 * error:.1f} points; on the whole the model is {modest}.",
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
    criteria=(
        better_than_counting_words,
        as_sure_as_it_should_be,
        nothing_known_to_be_lost,
        module("06").test_was_left_alone,
    ),
    least={"training rows": 400, "optimizer steps": 30, "parameters in its encoder": 1_000_000},
)
