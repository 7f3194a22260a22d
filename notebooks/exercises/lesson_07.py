"""Lesson 07: very few weights, a model that can be folded back, and still more than the probe."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np

from ftkit import methods
from ftkit.display import count
from ftkit.exercises import Criterion, Exercise, module
from ftkit.record import Run

MOST_WEIGHTS = 60_000
#: Probabilities of a merged model may differ in their last digits.
ALIKE = 1e-4

QUESTION = (
    "Make a run on health/diagnoses in which at most 60,000 weights move, the head's among them, by a method that can "
    "be folded back into the model, and that answers at least one point more of valid than the frozen probe."
)
HINTS = (
    "A preview counts before you pay: plan.preview(base, data.n_classes).n_trained. What does the rank do to it?",
    "Few moving weights need large steps. And few rows hardly beat the probe: a hundred a chapter make it plain.",
    "LoRA of rank 8 in the top two blocks, from the probe, with lr=3e-3, three epochs.",
)
SOLUTION = """
import ftkit as ft

base = ft.load_pretrained("minilm", max_tokens=32)
data = ft.load_data("health/diagnoses", per_class=100)

fastest = ft.check_machine().fastest_dtype
plan = ft.Plan(train="top 2", method="lora", rank=8, lr=3e-3, epochs=3, start="probe", dtype=fastest)
run = ft.fit(base, data, plan)
"""


def few_weights_moved(run: Run) -> Criterion:
    """At most 60,000 weights moved, and some below the head."""
    below = [group for group, far in run.moved.items() if far and group != "head"]
    n = run.plan.preview(run.base, run.data.n_classes).n_trained
    return Criterion(
        what=f"At most {count(MOST_WEIGHTS)} weights could move, and some below the head did.",
        met=n <= MOST_WEIGHTS and bool(below),
        found=f"{count(n)} weights; below the head, {', '.join(below) or 'nothing'} moved.",
    )


def can_be_folded_back(run: Run) -> Criterion:
    """Merged into its base, it has the base's form and gives the same answers."""
    model = copy.copy(run.model)  # shares all but the encoder, so that the run stays as it is
    model._modules = {**run.model._modules, "encoder": methods.merge(run.model)}
    merged, base = (dict(m.named_parameters()) for m in (model.encoder, run.base.encoder))
    as_base = {n: p.shape for n, p in merged.items()} == {n: p.shape for n, p in base.items()}
    texts = run.data.valid.texts
    before, after = (r.predict_proba(texts) for r in (run, dataclasses.replace(run, model=model)))
    change = float(np.abs(before - after).max())
    return Criterion(
        what="Merged into its base, it has the base's form and gives the same answers.",
        met=as_base and change < ALIKE,
        found=f"Probabilities differ by up to {change:.0e}; the form is {'the same' if as_base else 'another'}.",
    )


EXERCISE = Exercise(
    lesson="07",
    question=QUESTION,
    hints=HINTS,
    solution_code=SOLUTION,
    criteria=(few_weights_moved, can_be_folded_back, module("04").more_than_the_probe),
    least={"training rows": 400, "optimizer steps": 30, "parameters in its encoder": 1_000_000},
)
