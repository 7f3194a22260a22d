"""Lesson 04: few weights, few layers, and still more than the probe."""

from __future__ import annotations

from ftkit.baseline import probe
from ftkit.data import load_data
from ftkit.display import count, percent
from ftkit.drift import freeze_proof
from ftkit.evaluation import evaluate
from ftkit.exercises import Criterion, Exercise
from ftkit.record import Run

MOST_WEIGHTS = 4_000_000
FROZEN_BLOCKS = 3
GAIN = 0.01  # one point; whether that is more than chance is the question of a later lesson


def few_weights_moved(run: Run) -> Criterion:
    """At most 4 million weights moved."""
    proof = freeze_proof(run).groups
    moved = list(proof.loc[proof["weights_moved"] > 0, "group"])
    n = sum(run.plan.preview(run.base, run.data.n_classes).moving[g] for g in moved)
    return Criterion(
        what=f"At most {count(MOST_WEIGHTS)} weights moved, and some below the head.",
        met=n <= MOST_WEIGHTS and set(moved) > {"head"},
        found=f"{count(n)} weights moved, in {', '.join(moved) or 'no group'}.",
    )


def lower_part_stood_still(run: Run) -> Criterion:
    """The embeddings and the three lowest blocks did not move at all."""
    moved = freeze_proof(run).groups.set_index("group")["weights_moved"]
    low = ["embeddings", *(f"block {i}" for i in range(FROZEN_BLOCKS))]
    gone = [g for g in low if moved[g] > 0]
    return Criterion(
        what="The embeddings and the three lowest blocks are exactly as they were.",
        met=not gone,
        found=f"{', '.join(gone)} moved." if gone else "Not one bit of them differs.",
    )


def more_than_the_probe(run: Run) -> Criterion:
    """On valid, at least one point more than the frozen probe of the same rows."""
    rows = load_data("health/diagnoses").valid  # all of it: the run's own valid rows may be few
    rows = rows.take(range(0, len(rows), 2))
    own, its_probe = (evaluate(p, rows).accuracy for p in (run, probe(run.base, run.data)))
    gain = f"{100 * GAIN:.0f} point"
    return Criterion(
        what=f"At least {gain} more than the frozen probe, on the {len(rows)} valid rows of the lesson.",
        met=own - its_probe >= GAIN,
        found=f"{percent(own)} of them right; the probe of the same training rows has {percent(its_probe)}.",
    )


EXERCISE = Exercise(
    lesson="04",
    question=(
        "Make a run on health/diagnoses that moves at most 4 million weights, leaves the embeddings and the three "
        "lowest blocks exactly as they were, and still answers at least one point more of valid than the frozen probe."
    ),
    hints=(
        "Look at the preview: how many weights has one block? How many blocks can you afford?",
        "A head that starts at zero first has to catch up with the probe. There is a field that starts it there.",
        "Train the top two blocks from the probe, with lr=2e-4, for four or five epochs.",
    ),
    solution_code="""
import ftkit as ft

base = ft.load_pretrained("minilm", max_tokens=32)
data = ft.load_data("health/diagnoses", per_class=40)
run = ft.fit(base, data, ft.Plan(train="top 2", lr=3e-4, epochs=5, start="probe", keep="last"))
""",
    criteria=(few_weights_moved, lower_part_stood_still, more_than_the_probe),
    least={"training rows": 400, "optimizer steps": 30, "parameters in its encoder": 1_000_000},
)
