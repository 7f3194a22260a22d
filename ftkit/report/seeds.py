"""One way of training with several seeds, scored as repeats, without keeping more than one model in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ftkit.data import Rows
from ftkit.evaluation import Evaluation, Predictor


def over_seeds(
    make: Callable[[int], Predictor], *parts: Rows, seeds: Sequence[int] = (0, 1, 2), name: str | None = None
) -> tuple[Evaluation, ...]:
    """Train once a seed, score each on several sets of rows, and keep the answers only.

    One run can be luck: an evaluation with a repeat a seed goes into `compare` as it is.

    Parameters
    ----------
    make : function of a seed
        Returns a predictor, such as a run.
    *parts : Rows
        One or more sets of rows; each is opened once.
    seeds : sequence of int
    name : str, optional
        What to call the evaluations; by default the predictor's own name.

    Returns
    -------
    tuple of Evaluation
        One for each of `parts`, with a repeat for each seed.

    Raises
    ------
    ValueError
        If there is no seed.
    """
    if not len(seeds):
        raise ValueError("seeds: expected at least one")
    answers: list[list[np.ndarray]] = [[] for _ in parts]
    for seed in seeds:
        predictor = make(seed)
        name = name or getattr(predictor, "name", type(predictor).__name__)
        for kept, rows in zip(answers, parts, strict=True):
            kept.append(np.asarray(predictor.predict_proba(rows.texts), dtype=np.float64))
        del predictor  # before the next one is made
    return tuple(
        Evaluation(name=name, proba=np.stack(kept), rows=rows, opened=rows.open().opened)
        for kept, rows in zip(answers, parts, strict=True)
    )
