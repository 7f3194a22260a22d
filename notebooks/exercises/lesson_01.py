"""Lesson 01: one block may move; which one is worth it?"""

from __future__ import annotations

from ftkit import baseline
from ftkit.display import points
from ftkit.drift import freeze_proof
from ftkit.evaluation import evaluate
from ftkit.exercises import Criterion, Exercise
from ftkit.pretrained import load_pretrained
from ftkit.record import Run
from ftkit.report import BETTER, compare

QUESTION = (
    "The probes gain most after the last block. Does a block below it pay as well? Let the head and one block other "
    "than the last move, and nothing else, so that the run beats the frozen probe on valid by more than chance."
)
HINTS = (
    "train=('head', 'block 3') lets the head and block 3 move. Blocks are counted from zero, from the text upwards.",
    "A probe says what can be read off a stage. A block further down has more blocks above it that take up what it "
    "learns.",
    "Keep everything of the plan but the block (start='probe', lr=3e-4, two epochs), try blocks 0, 2 and 4, and set "
    "each beside the frozen probe: ft.compare(frozen, my_run.on_valid).",
)
SOLUTION = """
import ftkit as ft

base = ft.load_pretrained("minilm", max_tokens=32)
data = ft.load_data("health/diagnoses", per_class=200)
frozen = ft.evaluate(ft.probe(base, data), data.valid)

fastest = ft.check_machine().fastest_dtype
plan = ft.Plan(train=("head", "block 2"), lr=3e-4, epochs=2, start="probe", dtype=fastest)
run = ft.fit(base, data, plan)
ft.compare(frozen, run.on_valid)
"""


def starts_from_minilm(run: Run) -> Criterion:
    """The run starts from the pretrained minilm, unchanged."""
    learned = load_pretrained("minilm").encoder.state_dict()
    given = run.base.encoder.state_dict()
    same = given.keys() == learned.keys() and all(given[n].equal(w) for n, w in learned.items())
    found = "bit for bit the pinned weights." if same else f"other weights ({run.base.origin})."
    return Criterion(what="The run starts from the pretrained minilm, unchanged.", met=same, found=found)


def one_lower_block_moved(run: Run) -> Criterion:
    """Exactly one block has moved, not the last one, and nothing else but the head."""
    groups = freeze_proof(run).frame()
    moved = [g for g in groups["group"][groups["weights_moved"] != 0] if g != "head"]
    last = [g for g in groups["group"] if g.startswith("block ")][-1]
    return Criterion(
        what="Exactly one block has moved, not the last one, and nothing else but the head.",
        met=len(moved) == 1 and moved[0].startswith("block ") and moved[0] != last,
        found=f"{', '.join(moved) or 'no group of the encoder'} moved, compared with the base weight by weight.",
    )


def beats_the_frozen_probe(run: Run) -> Criterion:
    """On valid the run is better than a frozen probe on the same rows, by more than chance."""
    rows = run.data.valid
    verdict = compare(evaluate(baseline.probe(run.base, run.data), rows), evaluate(run, rows))
    low, high = verdict.interval("accuracy")
    found = (
        f"{verdict.verdict}: {points(verdict.difference())} points on {len(rows)} rows of valid "
        f"(95 % interval {points(low)} to {points(high)}, p = {verdict.p_value:.3f})."
    )
    what = "On valid the run is better than a frozen probe on the same rows, by more than chance."
    return Criterion(what=what, met=verdict.verdict == BETTER, found=found)


EXERCISE = Exercise(
    lesson="01",
    question=QUESTION,
    hints=HINTS,
    solution_code=SOLUTION,
    criteria=(starts_from_minilm, one_lower_block_moved, beats_the_frozen_probe),
    least={"training rows": 2000, "optimizer steps": 60, "parameters in its encoder": 1_000_000},
)
