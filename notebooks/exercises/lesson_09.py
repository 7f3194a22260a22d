"""Lesson 09: a folder that gives the same answers, in little space, and is worth having."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ftkit import bundle, record
from ftkit.display import size
from ftkit.exercises import Criterion, Exercise, module
from ftkit.record import Run

MOST_BYTES = 500_000

QUESTION = (
    "Make a run on health/diagnoses whose saved folder takes at most 500 kB, gives the same answers when it is read "
    "back, and answers at least one point more of valid than the frozen probe."
)
HINTS = (
    "What is in the folder is what moved. How many weights may that be, at four bytes each?",
    "Lesson 07 has methods that move a few thousand weights of a block. The rows of valid, too, are in the folder.",
    "LoRA of rank 8 in the top two blocks, from the probe, a hundred rows a chapter, lr=3e-3, three epochs.",
)
SOLUTION = module("07").SOLUTION  # what moves little takes little room


def small_when_saved(run: Run) -> Criterion:
    """The saved folder is small."""
    with tempfile.TemporaryDirectory() as folder:
        n_bytes = sum(path.stat().st_size for path in record.save(run, Path(folder)).iterdir())
    return Criterion(
        what=f"The saved folder takes at most {size(MOST_BYTES)}.",
        met=n_bytes <= MOST_BYTES,
        found=f"It takes {size(n_bytes)}.",
    )


def the_same_when_read_back(run: Run) -> Criterion:
    """Read back, it gives the same answers."""
    texts = run.data.valid.texts
    with tempfile.TemporaryDirectory() as folder:
        again = bundle.load(record.save(run, Path(folder)), run.base)
        same = np.array_equal(again.predict_proba(texts), run.predict_proba(texts))
    return Criterion(
        what="Read back, it gives the same probabilities, in every bit.",
        met=same,
        found="They are the same." if same else "They differ.",
    )


EXERCISE = Exercise(
    lesson="09",
    question=QUESTION,
    hints=HINTS,
    solution_code=SOLUTION,
    criteria=(small_when_saved, the_same_when_read_back, module("04").more_than_the_probe),
    least={"training rows": 400, "optimizer steps": 30, "parameters in its encoder": 1_000_000},
)
