"""Which row goes where: seeded, stratified, and never the same text or the same group in two parts.

Pure functions of texts, labels and groups. Two rows that share a text (normalised) or a group form one *unit*; a unit
is given as a whole to the part that lacks its labels most, so that a split leaks nothing and stays balanced.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components


def normalised(text: str) -> str:
    """Return `text` as duplicates are recognised by: NFKC, case folded, white space collapsed.

    >>> normalised("  Fracture of\\tFEMUR ") == normalised("fracture of femur")
    True
    """
    # Plain ASCII is its own NFKC form; saying so makes long English texts several times faster.
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split())


def one_hot(labels: np.ndarray, n_labels: int) -> csr_array | np.ndarray:
    """Return labels as an (n, n_labels) array of 0 and 1, sparse; labels of kind "multiple" already are one."""
    if labels.ndim == 2:
        return labels
    return csr_array((np.ones(len(labels), np.uint8), labels, np.arange(len(labels) + 1)), (len(labels), n_labels))


def hashed(values: Iterable[str]) -> np.ndarray:
    """Return 128 bits for each text, (n, 2) int64: the same for equal texts, in this process only.

    Python's own hash, twice, the second time of a longer text: as random as if drawn, under a key of this process.
    Among a hundred million different texts two that are alike come up with a chance of 1 in 10 ** 22.
    """
    flat = np.fromiter((half for v in values for half in (hash(v), hash(f"{v}\0"))), np.int64)
    return flat.reshape(-1, 2)


def first_equal(keys: np.ndarray) -> np.ndarray:
    """Return the position of the first row that equals each row, (n,) int64.

    >>> first_equal(np.array([7, 9, 7, 9, 8])).tolist()
    [0, 1, 0, 1, 4]
    """
    columns, new = np.atleast_2d(keys.T), np.ones(len(keys), dtype=bool)
    order = np.lexsort(columns)  # stable: of equal rows the first comes first
    new[1:] = (columns[:, order[1:]] != columns[:, order[:-1]]).any(axis=0)
    first = np.empty(len(keys), dtype=np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    return first


def units(texts: Sequence[str], groups: Sequence[str] | None = None) -> np.ndarray:
    """Return the unit of each row, (n,) int: rows are one unit if a chain of equal texts or groups joins them.

    >>> units(["a", "A ", "b", "c"], ["1", "2", "2", "3"]).tolist()
    [0, 0, 0, 1]
    """
    return joined(hashed(map(normalised, texts)), None if groups is None else hashed(groups))


def joined(texts: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return `units` of numbers that stand for the texts and the groups, each (n,) or (n, k) int."""
    same_text, same_group = (
        None if keys is None else np.unique(first_equal(keys), return_inverse=True)[1] for keys in (texts, groups)
    )
    if same_group is None or not len(texts):
        return same_text
    n_groups = same_group.max() + 1
    nodes = n_groups + same_text.max() + 1
    edges = csr_array((np.ones(len(texts)), (same_group, n_groups + same_text)), shape=(nodes, nodes))
    component = connected_components(edges, directed=False)[1]
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
    rng = np.random.default_rng(seed)
    n_units, n_rows = unit.max() + 1, len(unit)
    of_unit = csr_array((np.ones(n_rows, dtype=np.int32), (unit, np.arange(n_rows))), shape=(n_units, n_rows))
    content = of_unit @ csr_array(wanted)  # the rows of each label in each unit, where there are any
    total = content.sum(0)
    target = np.outer(shares, total)
    target[1:] = np.maximum(target[1:], np.minimum(floor, total))
    target[0] = total - target[1:].sum(0)
    sizes = np.bincount(unit, minlength=n_units)
    lack, room = target.copy(), np.asarray(shares) * n_rows
    part_of = np.empty(n_units, dtype=np.int64)
    # A rare label weighs more than a frequent one, or a unit with both would be placed for the sake of the frequent.
    weight = 1 / np.maximum(total, 1)
    order = rng.permutation(n_units)
    for u in order[np.argsort(-sizes[order], kind="stable")]:
        here = slice(content.indptr[u], content.indptr[u + 1])
        label, n = content.indices[here], content.data[here]
        need = lack[:, label] @ (n * weight[label])
        best = np.flatnonzero(need >= need.max() - 1e-12)
        part = best[np.argmax(room[best])]
        part_of[u] = part
        lack[part, label] -= n
        room[part] -= sizes[u]
    return part_of[unit]


def at_most(wanted: np.ndarray, cap: int, seed: int) -> np.ndarray:
    """Return the sorted rows of a seeded draw with about `cap` rows of each label; a smaller draw lies within a larger.

    >>> at_most(np.eye(2, dtype=np.uint8)[[0, 0, 0, 1]], cap=2, seed=0).size
    3
    """
    wanted, kept = csr_array(wanted), []
    have = np.zeros(wanted.shape[1], dtype=np.int64)
    for i in np.random.default_rng(seed).permutation(wanted.shape[0]):
        label = wanted.indices[wanted.indptr[i] : wanted.indptr[i + 1]]
        if (have[label] < cap).any():
            have[label] += 1
            kept.append(i)
    return np.sort(np.asarray(kept, dtype=np.int64))
