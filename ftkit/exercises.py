"""Exercises that grade a run: a question, hints one at a time, a solution, and a check that measures (all lessons).

A lesson's exercise stands beside the lesson, as `EXERCISE` in `notebooks/exercises/lesson_NN.py`. It judges what the
learner made, not what the learner says: each criterion looks at the weights, the plan or the answers on *valid*. None
of them opens *test*.
"""

from collections.abc import Callable, Mapping
from dataclasses import field
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from ftkit.display import Note, Record, count
from ftkit.record import Run

CONTENT = Path(__file__).resolve().parent.parent / "notebooks" / "exercises"


class Criterion(Record):
    """One thing that an exercise asks for, and what was found in a run.

    Parameters
    ----------
    what : str
        What is asked for, in words that can be read before and after the run.
    met : bool
        Whether the run has it.
    found : str
        What was measured, with its number.
    """

    what: str
    met: bool
    found: str


class Grade(Record):
    """What a check found.

    Parameters
    ----------
    lesson : str
        Which exercise was checked, such as `"04"`.
    criteria : tuple of Criterion
        Everything that was asked for; empty where the run could not be graded.
    refused : str
        Why it was not graded, if it was not.
    """

    lesson: str
    criteria: tuple[Criterion, ...] = ()
    refused: str = ""

    @property
    def passed(self) -> bool:
        """Whether the run was graded and has everything that was asked for."""
        return bool(self.criteria) and not self.refused and all(c.met for c in self.criteria)

    def summary(self) -> str:
        told = f"{sum(c.met for c in self.criteria)} of {len(self.criteria)} met"
        told = f"done. {told}." if self.passed else f"not yet. {told}; the table says what is missing."
        return f"Exercise {self.lesson}: {f'not graded. {self.refused}' if self.refused else told}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [("yes" if c.met else "not yet", c.what, c.found) for c in self.criteria]
        frame = pd.DataFrame(rows, columns=["met", "asked for", "found"])
        return [("What was asked for, and what was found", frame)] if rows else []


class Exercise(Record):
    """A task for the learner's own run.

    Parameters
    ----------
    lesson : str
        The lesson's number, such as `"04"`.
    question : str
        What to do, in a few sentences.
    hints : tuple of str
        From a nudge to nearly the answer.
    solution_code : str
        Python that runs by itself (imports and loading included) and assigns `run`, a run that passes.
    criteria : tuple of functions
        Each takes a run and returns a `Criterion`; its docstring's first line says what it asks for.
    least : mapping of str to int
        How large a run has to be, in the words of `sizes`: a check that a smoke run passes teaches nothing.
    """

    lesson: str
    question: str
    hints: tuple[str, ...]
    solution_code: str
    criteria: tuple[Callable[[Run], Criterion], ...]
    least: Mapping[str, int]
    _told: list[str] = field(default_factory=list, init=False)  # each exercise() begins anew

    def check(self, run: Any) -> Grade:
        """Measure a run against what is asked for, and say what was found; a run of any kind gets an answer.

        Parameters
        ----------
        run : Run
            What `ft.fit` returned (a training panel has it as `.value`).

        Returns
        -------
        Grade
        """
        if isinstance(run, Run):
            has, least = sizes(run), self.least.items()
            small = [f"{count(has[what])} {what}, and needs {count(n)} or more" for what, n in least if has[what] < n]
            why = "A run this small shows that the cells work, and nothing about tuning."
            refused = f"This run has {'; '.join(small)}. {why}" if small else ""
        else:
            what = "None (nothing was trained yet?)" if run is None else f"an object of type {type(run).__name__}"
            refused = f"The check needs a run, as ft.fit(base, data, plan) returns it; this is {what}."
        criteria = () if refused else tuple(_judge(criterion, run) for criterion in self.criteria)
        return Grade(lesson=self.lesson, criteria=criteria, refused=refused)

    def hint(self) -> Note:
        """Return the next hint; each call gives one more."""
        n, last = len(self._told), len(self.hints)
        if n == last:
            return Note(text=f"That was the last of {last} hints. task.solution() shows one way to do it.")
        self._told.append(self.hints[n])
        return Note(text=f"Hint {n + 1} of {last}: {self.hints[n]}")

    def solution(self) -> Note:
        """Return one way to solve it, as code to read after trying, and to run; it assigns `run`."""
        text = "One way to do it. It runs by itself in an empty cell; other ways are as good."
        return Note(text=text, code=self.solution_code.strip("\n"))

    def summary(self) -> str:
        least = " and ".join(f"{count(n)} {what}" for what, n in self.least.items())
        return f"Exercise {self.lesson}. {self.question} The check takes a run with at least {least}."


def sizes(run: Run) -> dict[str, int]:
    """Return how large a run is, in the words in which an exercise says how large it has to be."""
    n_rows, n_parameters = len(run.data.train), run.base.n_parameters
    return {"training rows": n_rows, "optimizer steps": run.n_steps, "parameters in its encoder": n_parameters}


def _judge(criterion: Callable[[Run], Criterion], run: Run) -> Criterion:
    # A run of another shape than the exercise has in mind (other data, another model) is an answer, not a crash.
    try:
        return criterion(run)
    except Exception as error:
        what = (criterion.__doc__ or criterion.__name__.replace("_", " ")).strip().splitlines()[0]
        return Criterion(what=what, met=False, found=f"could not be measured on this run: {error}")


def module(lesson: str) -> ModuleType:
    """Return the module of a lesson's exercise, read anew; raise ValueError if there is none."""
    there = sorted(p.stem.removeprefix("lesson_") for p in CONTENT.glob("lesson_*.py"))
    if lesson not in there:
        those = f"there is one for {', '.join(there)}" if there else "they come with the lessons, in a clone of ftkit"
        raise ValueError(f"lesson {lesson!r} has no exercise; {those}")
    spec = util.spec_from_file_location(f"lesson_{lesson}", CONTENT / f"lesson_{lesson}.py")
    spec.loader.exec_module(found := util.module_from_spec(spec))
    return found


def exercise(lesson: str) -> Exercise:
    """Return the exercise of a lesson, its hints unread.

    Parameters
    ----------
    lesson : str
        The lesson's number, such as `"04"`.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are, or says that they come with a clone.

    >>> exercise("99")
    Traceback (most recent call last):
    ValueError: ...
    """
    return module(lesson).EXERCISE
