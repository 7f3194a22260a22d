"""Lesson 05: a block that stands still, and yet looks elsewhere."""

from __future__ import annotations

from ftkit import baseline
from ftkit.display import percent
from ftkit.drift import freeze_proof, what_moved
from ftkit.evaluation import evaluate
from ftkit.exercises import Criterion, Exercise
from ftkit.record import Run

#: A tenth of one percent of a token's attention is far above rounding, and far below what one epoch of a block does.
LEAST_SHIFT = 0.001

QUESTION = (
    "Make a run in which the last block is frozen, to the bit, and yet looks elsewhere in its texts than it did "
    "before. The freeze proof has to hold, and the run has to get more of valid right than the frozen probe does."
)
HINTS = (
    "A block reads what the block below it writes. Which groups can change what block 5 reads?",
    "train=('head', 'block 4') freezes block 5, and lets the one below it move.",
    "A start from the probe needs only small gains to beat it: start='probe', lr=3e-4, two epochs, and some 50 rows a "
    "chapter or more.",
)
SOLUTION = """
import ftkit as ft

base = ft.load_pretrained("minilm", max_tokens=32)
data = ft.load_data("health/diagnoses", per_class=100)

fastest = ft.check_machine().fastest_dtype
plan = ft.Plan(train=("head", "block 3", "block 4"), lr=3e-4, epochs=2, start="probe", dtype=fastest)
run = ft.fit(base, data, plan)
ft.freeze_proof(run), ft.what_moved(run)
"""


def _last_block(run: Run) -> str:
    return [g for g in run.base.groups if g.startswith("block ")][-1]


def last_block_stood_still(run: Run) -> Criterion:
    """The weights of the last block are the base's, bit for bit."""
    block = _last_block(run)
    names, now = run.base.groups[block], dict(run.model.encoder.named_parameters())
    before = dict(run.base.encoder.named_parameters())
    changed = sum((before[n] != now[n]).sum().item() for n in names)
    total = sum(before[n].numel() for n in names)
    found = f"{changed:,} of the {total:,} weights of {block} differ from the base's."
    return Criterion(what="The weights of the last block are the base's, bit for bit.", met=changed == 0, found=found)


def last_block_looks_elsewhere(run: Run) -> Criterion:
    """The attention of the last block has shifted, on texts of valid."""
    block = _last_block(run)
    shift = what_moved(run).groups.set_index("group").loc[block, "attention_shift"]
    found = f"{percent(shift)} of the attention in {block} goes to other tokens than in the base."
    return Criterion(
        what="The attention of the last block has shifted, on texts of valid.",
        met=bool(shift >= LEAST_SHIFT),
        found=found,
    )


def proof_holds(run: Run) -> Criterion:
    """Plan, optimizer and weights agree in every group."""
    proof = freeze_proof(run)
    return Criterion(what="Plan, optimizer and weights agree in every group.", met=proof.holds, found=proof.summary())


def gets_more_right_than_the_probe(run: Run) -> Criterion:
    """More rows of valid are right than with a frozen probe."""
    rows = run.data.valid
    probe, tuned = evaluate(baseline.probe(run.base, run.data), rows), evaluate(run, rows)
    found = f"{percent(tuned.accuracy)} of {len(rows)} rows, and {percent(probe.accuracy)} with the probe."
    return Criterion(
        what="More rows of valid are right than with a frozen probe.",
        met=tuned.accuracy > probe.accuracy,
        found=found,
    )


EXERCISE = Exercise(
    lesson="05",
    question=QUESTION,
    hints=HINTS,
    solution_code=SOLUTION,
    criteria=(last_block_stood_still, last_block_looks_elsewhere, proof_holds, gets_more_right_than_the_probe),
    least={"training rows": 1000, "optimizer steps": 30, "parameters in its encoder": 1_000_000},
)
