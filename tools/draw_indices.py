"""Draws the fixed splits of `health/diagnoses` and writes them: `.venv/bin/python tools/draw_indices.py`.

Test and valid hold disease categories that train never saw. Within a chapter, rows are taken from its categories in
turn, one each, so that they spread over as many categories as there are: rows of one category are near-copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ftkit import sources
from ftkit.data.rows import Rows
from ftkit.data.sets import parse

NAME = "health/diagnoses"
PER_CHAPTER = {"test": 80, "valid": 40, "train": 200}
_SHARES = {"test": 0.25, "valid": 0.125}  # of a chapter's categories, the same proportions as of its rows
DRAWS = 3


def draw(rows: Rows, seed: int) -> str:
    """Return one draw as CSV text with the columns id and split.

    Parameters
    ----------
    rows : Rows
        The whole set, with its categories as groups.
    seed : int
        The number of the draw, 0 or more.
    """
    rng = np.random.default_rng([2026, seed])
    chapters: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, (label, category) in enumerate(zip(rows.labels, rows.groups or (), strict=True)):
        chapters[int(label)][category].append(i)
    chosen: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for label in sorted(chapters):
        for name, at in _chapter(chapters[label], rng).items():
            chosen[name] += at
    lines = [f"{rows.ids[i]},{name}\n" for name, at in chosen.items() for i in sorted(at)]
    return "id,split\n" + "".join(lines)


def _chapter(categories: dict[str, list[int]], rng: np.random.Generator) -> dict[str, list[int]]:
    """Deal a chapter's categories out to the splits; of up to 50 dealings, take the first that yields all the rows."""
    best: dict[str, list[int]] = {}
    for _ in range(50):
        order = [str(c) for c in rng.permutation(sorted(categories))]
        dealt, start = {}, 0
        for name, share in _SHARES.items():
            stop = start + max(1, round(share * len(order)))
            while stop < len(order) and sum(len(categories[c]) for c in order[start:stop]) < PER_CHAPTER[name]:
                stop += 1
            dealt[name], start = order[start:stop], stop
        dealt["train"] = order[start:]
        rows = {n: _in_turn([categories[c] for c in cs], PER_CHAPTER[n], rng) for n, cs in dealt.items()}
        best = max(best, rows, key=lambda r: sum(map(len, r.values())))
        if all(len(rows[n]) == wanted for n, wanted in PER_CHAPTER.items()):
            break
    return best


def _in_turn(piles: Sequence[Sequence[int]], wanted: int, rng: np.random.Generator) -> list[int]:
    """Take one row of each pile, then a second of each, until there are enough."""
    shuffled = [rng.permutation(pile).tolist() for pile in piles]
    taken: list[int] = []
    for turn in range(max(map(len, shuffled), default=0)):
        taken += [pile[turn] for pile in shuffled if len(pile) > turn]
    return taken[:wanted]


def main() -> None:
    """Write all draws into the folder of the data."""
    rows = parse(NAME)
    for number in range(DRAWS):
        path = sources.data_root() / "indices" / f"{NAME.replace('/', '-')}-{number}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(draw(rows, number), encoding="utf-8", newline="")


if __name__ == "__main__":
    main()
