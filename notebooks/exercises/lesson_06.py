"""Lesson 06: a rate below the range test's, a healthy curve, more than the probe, and test left alone."""

from __future__ import annotations

from ftkit.checks import read_curve
from ftkit.exercises import Criterion, Exercise, module
from ftkit.record import Run
from ftkit.search import rate_range

#: The lesson compares two on test; a third look would choose by it.
LOOKS = 2

QUESTION = (
    "Find a plan for health/diagnoses without opening test again. Its learning rate has to be below what a range test "
    "of that plan suggests, its curves have to be healthy, and it has to answer at least one point more of valid than "
    "the frozen probe."
)
HINTS = (
    "rate_range(base, data, plan) takes any plan. Run it for yours, and divide what it suggests.",
    "Few rows hardly beat the probe. health/diagnoses has 200 rows a chapter; a hundred make the difference plain.",
    "The head and the top two blocks, a third of both suggested rates (.suggested is a plan), four epochs.",
)
SOLUTION = """
import ftkit as ft
from ftkit.search import rate_range

base = ft.load_pretrained("minilm", max_tokens=32)
data = ft.load_data("health/diagnoses", per_class=100)

fastest = ft.check_machine().fastest_dtype
plan = ft.Plan(train="top 2", lr=3e-4, head_lr=3e-3, keep="last", dtype=fastest)
upper = rate_range(base, data, plan).suggested
run = ft.fit(base, data, upper.but(lr=upper.lr / 3, head_lr=upper.head_lr / 3))
"""


def rate_below_the_suggestion(run: Run) -> Criterion:
    """The rate is below what a range test of the same plan suggests."""
    found = rate_range(run.base, run.data, run.plan)
    rate, most = getattr(run.plan, found.field), found.suggestion
    suggested = f"the test suggests {most:.2g}" if most else "the test suggests nothing"
    return Criterion(
        what="The rate is below what a range test of the same plan suggests.",
        met=most is not None and rate < most,
        found=f"{found.field} is {rate:.2g}; {suggested}.",
    )


def curves_are_healthy(run: Run) -> Criterion:
    """Its loss curves are healthy."""
    reading = read_curve(run)
    return Criterion(
        what="Its loss curves are healthy.", met=reading.verdict == "healthy", found=f"They are {reading.verdict}."
    )


def test_was_left_alone(run: Run) -> Criterion:
    """Test was opened no more often than in the lesson."""
    opened = run.data.test.opened
    return Criterion(
        what=f"Test was opened no more than the {LOOKS} times of the lesson.",
        met=opened <= LOOKS,
        found=f"It was opened {opened} times.",
    )


EXERCISE = Exercise(
    lesson="06",
    question=QUESTION,
    hints=HINTS,
    solution_code=SOLUTION,
    criteria=(
        rate_below_the_suggestion,
        curves_are_healthy,
        module("04").more_than_the_probe,
        test_was_left_alone,
    ),
    least={"training rows": 400, "optimizer steps": 30, "parameters in its encoder": 1_000_000},
)
