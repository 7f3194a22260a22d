"""An exercise judges the run itself: it measures again, it refuses smoke runs, and it never takes a typed number."""

from __future__ import annotations

import functools

import pytest
import tiny

from ftkit import exercises
from ftkit.exercises import Criterion, Exercise, Grade, exercise
from ftkit.plan import Plan
from ftkit.training import fit

LESSONS = sorted(p.stem.removeprefix("lesson_") for p in exercises.CONTENT.glob("lesson_*.py"))


@functools.cache
def run():
    return fit(tiny.base(), tiny.splits(), Plan(train="head", epochs=2, keep="last"), on_event=None)


def head_moved(run):
    """The head moved."""
    return Criterion(what="The head moved.", met=run.moved["head"] > 0, found=f"{run.moved['head']:.2f}")


def embeddings_moved(run):
    """The embeddings moved."""
    return Criterion(what="The embeddings moved.", met=run.moved["embeddings"] > 0, found="exactly 0")


def breaks(run):
    """A block 40 is there.

    More words that no learner reads.
    """
    return Criterion(what="", met=run.moved["block 40"] > 0, found="")


def made(*criteria, **changes):
    given = {"question": "Move the head.", "hints": ("Look.", "Look again."), "solution_code": "\nrun = 1 < 2\n"}
    return Exercise(lesson="77", criteria=criteria, **{**given, "least": {}, **changes})


def test_a_run_that_has_everything_passes():
    grade = made(head_moved).check(run())
    assert grade.passed and grade.criteria[0].met
    assert "done" in grade.summary()


def test_a_run_that_lacks_something_is_told_what():
    grade = made(head_moved, embeddings_moved).check(run())
    assert not grade.passed
    assert grade.summary().startswith("Exercise 77: not yet. 1 of 2 met")
    assert grade.frame()["met"].tolist() == ["yes", "not yet"]
    assert grade.frame()["found"].tolist()[1] == "exactly 0"


@pytest.mark.parametrize("given", [None, 0.93, "0.93", {"accuracy": 1.0}, [1, 2]])
def test_a_typed_number_is_no_run(given):
    grade = made(head_moved).check(given)
    assert not grade.passed and not grade.criteria
    assert "ft.fit" in grade.summary() and ("None" if given is None else type(given).__name__) in grade.summary()


@pytest.mark.parametrize(
    ("least", "word"),
    [
        ({"training rows": 61}, "60 training rows, and needs 61 or more"),
        ({"training rows": 60, "optimizer steps": 5}, "This run has 4 optimizer steps, and needs 5 or more"),
        ({"parameters in its encoder": 1_000_000}, "parameters in its encoder, and needs 1,000,000 or more"),
    ],
)
def test_a_smoke_run_is_not_graded_and_is_told_why(least, word):
    grade = made(head_moved, least=least).check(run())
    assert not grade.passed and not grade.criteria
    assert word in grade.refused and "not graded" in grade.summary()


def test_a_run_of_exactly_the_least_size_is_graded():
    assert made(head_moved, least={"training rows": 60, "optimizer steps": 4}).check(run()).passed
    assert run().n_steps == 4


def test_a_criterion_that_does_not_fit_the_run_is_not_met_and_nothing_is_raised():
    grade = made(head_moved, breaks).check(run())
    assert not grade.passed
    assert grade.criteria[1].what == "A block 40 is there."
    assert "could not be measured" in grade.criteria[1].found and "block 40" in grade.criteria[1].found


def test_an_exercise_without_criteria_cannot_be_passed():
    assert not made().check(run()).passed
    assert not Grade(lesson="77", criteria=(Criterion(what="a", met=True, found="b"),), refused="small").passed


def test_hints_come_one_at_a_time_and_then_say_that_they_are_used_up():
    task = made(head_moved)
    told = [task.hint().summary() for _ in range(4)]
    assert told[0] == "Hint 1 of 2: Look." and told[1] == "Hint 2 of 2: Look again."
    assert told[2] == told[3] and "solution()" in told[2]


def test_a_solution_is_shown_as_code_and_escaped():
    solution = made(head_moved).solution()
    assert solution.code == "run = 1 < 2"
    assert "<code>run = 1 &lt; 2</code>" in solution._repr_html_()
    assert "run = 1 < 2" in repr(solution)


def test_a_question_shows_itself_and_what_the_check_takes():
    shown = repr(made(head_moved, least={"training rows": 1000, "optimizer steps": 50}))
    assert "Move the head." in shown and "1,000 training rows" in shown and "50 optimizer steps" in shown
    assert "run = " not in shown, "the solution is not given away"


def test_an_unknown_lesson_says_which_there_are():
    with pytest.raises(ValueError, match="'99' has no exercise"):
        exercise("99")


def test_outside_a_clone_an_exercise_says_that_it_needs_one(monkeypatch, tmp_path):
    monkeypatch.setattr(exercises, "CONTENT", tmp_path)
    with pytest.raises(ValueError, match="in a clone of ftkit"):
        exercise("01")


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_lessons_exercise_can_be_asked_for_anew(lesson):
    first = exercise(lesson)
    assert first.lesson == lesson and first.question and first.hints and first.criteria
    assert first.least.keys() == exercises.sizes(run()).keys() and first.least["parameters in its encoder"] == 1_000_000
    first.hint()
    assert exercise(lesson).hint().summary().startswith("Hint 1 of")
    compile(first.solution().code, f"lesson {lesson}", "exec")


@pytest.mark.parametrize("lesson", LESSONS)
def test_each_criterion_has_an_answer_for_a_run_of_any_shape(lesson):
    for criterion in exercise(lesson).criteria:
        judged = exercises._judge(criterion, run())
        assert judged.what and judged.found


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_tiny_run_is_refused_by_each_lessons_exercise(lesson):
    assert exercise(lesson).check(run()).refused


@pytest.mark.slow
@pytest.mark.needs_assets("minilm", "icd10cm")
@pytest.mark.parametrize("lesson", LESSONS)
def test_each_lessons_solution_passes_its_own_check(lesson):
    names = {}
    exec(exercise(lesson).solution().code, names)
    grade = exercise(lesson).check(names["run"])
    assert grade.passed, repr(grade)
