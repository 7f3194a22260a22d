"""Which row goes where: seeded, stratified, and never the same text or the same group in two parts.

Pure functions of texts, labels and groups. Two rows that share a text (normalised) or a group form one *unit*; a unit
is given as a whole to the part that lacks its labels most, so that a split leaks nothing and stays balanced.
"""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np
import pandas as pd


def normalised(text: str) -> str:
    """Return `text` as duplicates are recognised by: NFKC, case folded, white space collapsed.

    >>> normalised("  Fracture of\\tFEMUR ") == normalised("fracture of femur")
    True
    """
    # Plain ASCII is its own NFKC form; saying so makes long English texts several times faster.
    return " ".join((text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()).split())


def wording(text: str) -> str:
    """Return a short hash of `text` normalised: texts that count as equal have one wording, however long they are.

    >>> len(wording("a")), wording("Fracture") == wording(" fracture")
    (32, True)
    """
    # A text may hold half a surrogate pair, which UTF-8 cannot write.
    return hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def one_hot(labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Return labels as an (n, n_labels) array of 0 and 1; labels of kind "multiple" already are one."""
    return labels.astype(np.uint8) if labels.ndim == 2 else np.eye(n_labels, dtype=np.uint8)[labels]


def units(texts: Sequence[str], groups: Sequence[str] | None = None) -> np.ndarray:
    """Return the unit of each row, (n,) int: rows are one unit if a chain of equal texts or groups joins them.

    >>> units(["a", "A ", "b", "c"], ["1", "2", "2", "3"]).tolist()
    [0, 0, 0, 1]
    """
    same_text = pd.factorize(np.array([wording(t) for t in texts], dtype=object))[0]
    if groups is None or not len(texts):
        return same_text
    from scipy.sparse import coo_array, csgraph

    # A graph of groups and, after as many as there can be, texts; each row is an edge from its group to its text.
    same_group, n = pd.factorize(np.array(groups, dtype=object))[0], len(texts)
    edges = coo_array((np.ones(n), (same_group, n + same_text)), shape=(2 * n, 2 * n))
    component = csgraph.connected_components(edges, directed=False)[1]
    return np.unique(component[same_group], return_inverse=True)[1]


def allocate(wanted: np.ndarray, unit: np.ndarray, shares: Sequence[float], seed: int, floor: int = 1) -> np.ndarray:
    """Return the part of each row, (n,) int: units are dealt out so that every part has its share of every label.

    The largest units go first, each to the part that is furthest below its target for the unit's labels (the greedy
    rule of iterative stratification, Sechidis et al. 2011, applied to whole units).

    Parameters
    ----------
    wanted : (n, n_labels) array of 0 and 1
        The labels of each row.
    unit : (n,) array of int
        Rows of one unit stay together.
    shares : sequence of float
        The share of the rows each part should receive; sums to 1.
    seed : int
        Decides between equals.
    floor : int
        The fewest rows of each label that every part but the first should have.
    """
    _, unit, sizes = np.unique(unit, return_inverse=True, return_counts=True)  # gaps closed: some rows lack some units
    content = np.zeros((len(sizes), wanted.shape[1]))
    np.add.at(content, unit, wanted)
    total = content.sum(0)
    lack, room = np.outer(shares, total), np.asarray(shares) * len(unit)
    lack[1:] = np.maximum(lack[1:], np.minimum(floor, total))
    lack[0] = total - lack[1:].sum(0)
    part_of = np.empty(len(sizes), dtype=np.int64)
    # A rare label weighs more than a frequent one, or a unit with both would be placed for the sake of the frequent.
    weight = 1 / np.maximum(total, 1)
    order = np.random.default_rng(seed).permutation(len(sizes))
    for u in order[np.argsort(-sizes[order], kind="stable")]:
        need = lack @ (content[u] * weight)
        best = np.flatnonzero(need >= need.max() - 1e-12)
        part = part_of[u] = best[np.argmax(room[best])]
        lack[part] -= content[u]
        room[part] -= sizes[u]
    return part_of[unit]


def at_most(wanted: np.ndarray, cap: int, seed: int) -> np.ndarray:
    """Return the sorted rows of a seeded draw with about `cap` rows of each label; a smaller draw lies within a larger.

    >>> at_most(np.eye(2, dtype=np.uint8)[[0, 0, 0, 1]], cap=2, seed=0).size
    3
    """
    have, kept = np.zeros(wanted.shape[1], dtype=np.int64), []
    for i in np.random.default_rng(seed).permutation(len(wanted)):
        if np.any(have[wanted[i] > 0] < cap):
            have += wanted[i]
            kept.append(i)
    return np.sort(np.asarray(kept, dtype=np.int64))
