"""Looks at results: whether tuning has beaten what is simple, and whether test was opened too often (lesson 03)."""

from __future__ import annotations

from collections.abc import Sequence

from ftkit.checks import Checked
from ftkit.display import percent, points
from ftkit.evaluation import Evaluation
from ftkit.findings import Finding
from ftkit.report import BETTER, WORSE, compare

#: A few baselines, a tuned model and a second look at each are eight scores; more begins to be choosing on test.
FEW_LOOKS = 8
_WORSE = "The simple one is better: do not tune here."
_LEVEL = "Chance alone could do that: keep the simple one until tuning has shown more."


def check_baselines(simple: Evaluation | Sequence[Evaluation], tuned: Evaluation) -> Checked:
    """Look whether a tuned model beats simple baselines by more than chance, and how often test was opened.

    Parameters
    ----------
    simple : Evaluation or sequence of them
        Baselines that cost next to nothing, such as the majority class and TF-IDF.
    tuned : Evaluation
        The tuned model (`run.on_valid` while choosing), on the same rows.

    Returns
    -------
    Checked
        With FT071 for each baseline that was not beaten, and FT072 where *test* was opened more than eight times.

    Raises
    ------
    FtkitError
        FT070, if they were not scored on the same rows.
    """
    several, found = [simple] if isinstance(simple, Evaluation) else list(simple), []
    for result in (compare(one, tuned) for one in several):
        low, high = result.interval()
        told = (
            f"{result.before.name} has {percent(result.before.accuracy)}, {tuned.name} {percent(tuned.accuracy)}: a "
            f"change of {points(result.difference())} points (95 % interval {points(low)} to {points(high)}) on the "
            f"{len(tuned.rows)} {tuned.rows.name} rows. {_WORSE if result.verdict == WORSE else _LEVEL}"
        )
        if result.verdict != BETTER:
            found.append(Finding(code="FT071", message=told))
    opened = max(e.opened for e in (*several, tuned))
    if tuned.rows.name == "test" and opened > FEW_LOOKS:
        enough = f"{FEW_LOOKS} are enough for a few baselines, a tuned model and a second look at each."
        found.append(Finding(code="FT072", message=f"test was opened {opened} times, and {enough}"))
    what = f"{tuned.name} against {', '.join(e.name for e in several)}"
    return Checked(what=what, looked_for=("FT071", "FT072"), findings=tuple(found))
