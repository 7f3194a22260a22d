"""Near-duplicates: texts that are almost the same, within a split and, which is worse, across two (lesson 02)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ftkit.data.rows import PARTS, Rows
from ftkit.data.splits import Splits
from ftkit.data.splitting import normalised
from ftkit.display import Record, count, percent, shorten
from ftkit.findings import Finding

RUN = 5  # characters; long enough to hold a piece of meaning, short enough to survive a typing error nearby
#: A set of one form letter a thousand times over has half a million pairs; more than these are not kept.
MAX_PAIRS = 1_000_000
_AT_A_TIME = 256  # rows compared with all others in one product, so that memory grows with the rows, not their square


class NearDuplicates(Record):
    """Pairs of rows whose texts are almost the same.

    Parameters
    ----------
    data : Splits
        What was searched.
    threshold : float
        The similarity from which two texts count as near-duplicates.
    pairs : np.ndarray
        (n_pairs, 2) int64: positions in `data.joined()`, the smaller first; the most similar pair first.
    similarity : np.ndarray
        (n_pairs,) float64: the share of runs of characters that both texts of a pair have.
    complete : bool
        False if the search ended early because there were too many pairs; every count is then "at least".
    """

    data: Splits
    threshold: float
    pairs: np.ndarray
    similarity: np.ndarray
    complete: bool = True

    @property
    def _part(self) -> np.ndarray:
        return np.repeat([0, 1, 2], [len(p) for p in self.data.parts])

    @property
    def across(self) -> np.ndarray:
        """Which pairs stand in two splits, (n_pairs,) of truth values."""
        return np.ptp(self._part[self.pairs], axis=1) > 0

    @property
    def leaking(self) -> tuple[str, ...]:
        """Ids of the rows to take out so that no pair is left across splits: test keeps its rows, then valid."""
        return self.data.joined().take(np.unique(self.pairs[self.across, 0])).ids

    def twins(self, name: str, within: str = "train") -> Rows:
        """Return the rows of one split that have a near-duplicate in another.

        Parameters
        ----------
        name, within : str
            The two splits, such as `"test"` and `"train"`; for the same one twice, rows with a twin beside them.
        """
        if unknown := sorted({name, within} - set(PARTS)):
            raise ValueError(f"there is no split {unknown[0]!r}; there are {', '.join(PARTS)}")
        part, (mine, theirs) = self._part, (PARTS.index(name), PARTS.index(within))
        both = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        found = both[(part[both[:, 0]] == mine) & (part[both[:, 1]] == theirs), 0]
        return self.data.parts[mine].take(np.unique(found) - np.flatnonzero(part == mine)[0])

    def of(self, row_id: str) -> pd.DataFrame:
        """Return the near-duplicates of one row: id, split, label, similarity and text, the most similar first."""
        every = self.data.joined()
        at = every.ids.index(row_id)
        mine = (self.pairs == at).any(axis=1)
        others, alike = self.pairs[mine].sum(axis=1) - at, self.similarity[mine]
        rows, splits = every.take(others), [PARTS[i] for i in self._part[others]]
        labels, texts = rows.named_labels(), list(rows.texts)
        return pd.DataFrame({"Id": rows.ids, "Split": splits, "Label": labels, "Similarity": alike, "Text": texts})

    @property
    def findings(self) -> tuple[Finding, ...]:
        """FT028, if a valid or a test row has a near-duplicate in another split."""
        if not self.across.any():
            return ()
        found = [(part.name, len(part), n) for part in self.data.parts[1:] if (n := len(self.twins(part.name)))]
        told = " and ".join(f"{count(n)} of {count(of)} {name} rows ({percent(n / of)})" for name, of, n in found)
        what = f"{told} have a near-duplicate in train" if told else "valid and test share near-duplicates"
        return (Finding(code="FT028", message=f"{self.data.name}: {what} (similarity {self.threshold:g} or more)."),)

    def summary(self) -> str:
        pairs = f"{'' if self.complete else 'at least '}{count(len(self.pairs))} pairs of texts"
        share = f"share {100 * self.threshold:.0f} % or more of their runs of {RUN} characters"
        n, n_test = len(self.twins("test")), len(self.data.test)
        test = f"{count(n)} of {count(n_test)} test rows ({percent(n / n_test)}) have a near-duplicate in train"
        return f"{self.data.name}: {pairs} {share}, {count(self.across.sum())} of them across splits; {test}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        part, rows = self._part[self.pairs], []
        for mine, theirs in ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1)):
            name, other, n_rows = PARTS[mine], PARTS[theirs], count(len(self.data.parts[mine]))
            n_pairs = ((part[:, 0] == theirs) & (part[:, 1] == mine)).sum()
            where = f"in {name}" if mine == theirs else f"{name} and {other}"
            rows.append((where, count(n_pairs), f"{count(len(self.twins(name, other)))} of {n_rows} {name} rows"))
        counts = pd.DataFrame(rows, columns=["Where", "Pairs", "Rows with a twin there"])
        return [("Near-duplicates", counts), *self._examples()]

    def _examples(self) -> list[tuple[str, pd.DataFrame]]:
        """Return a table of some pairs, those across splits first, no row twice; none if there are no pairs."""
        every, found, seen = self.data.joined(), [], set()
        for k in np.argsort(~self.across, kind="stable"):
            if len(found) < 5 and seen.isdisjoint(pair := self.pairs[k]):
                seen.update(pair)
                rows, splits = every.take(pair), ", ".join(PARTS[i] for i in self._part[pair])
                labels = " / ".join(dict.fromkeys(rows.named_labels()))
                found.append((f"{self.similarity[k]:.2f}", splits, labels, *_where_they_part(rows.texts)))
        shown = pd.DataFrame(found, columns=["Similarity", "Splits", "Labels", "One text", "The other"])
        return [("Some of them, those across splits first", shown)] if found else []


def _where_they_part(pair: Sequence[str], before: int = 40, shown: int = 110) -> list[str]:
    """Return an excerpt of each text, from shortly before the first difference on."""
    texts = [" ".join(text.split()) for text in pair]
    alike = zip(*(text.lower() for text in texts), strict=False)
    start = max(0, next((i for i, (a, b) in enumerate(alike) if a != b), min(map(len, texts))) - before)
    return [("…" if start else "") + shorten(text[start:], shown) for text in texts]


def near_duplicates(data: Splits, *, threshold: float = 0.8) -> NearDuplicates:
    """Find the texts that are almost the same: pairs that share most of their runs of five characters.

    The similarity is the number of runs that both texts have, divided by the number that either has (Jaccard's), of
    texts without case and with white space collapsed. Every pair is compared, none is missed.

    Parameters
    ----------
    data : Splits
        All three splits are searched together. Ten thousand short texts take a few seconds.
    threshold : float
        Above 0, up to 1. At 0.8 two texts differ by a word or two in a sentence.

    Raises
    ------
    ValueError
        If the threshold is out of range.

    Notes
    -----
    A. Broder, On the resemblance and containment of documents (SEQUENCES 1997).
    """
    from scipy.sparse import triu
    from sklearn.feature_extraction.text import HashingVectorizer

    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must be above 0 and at most 1")
    # Of a longer text, only the beginning is compared: a model reads hardly more, and the memory stays bounded.
    compared = (f" {normalised(text)[:2_000]} " for text in data.joined().texts)
    as_written = {"analyzer": "char", "ngram_range": (RUN, RUN), "lowercase": False, "norm": None, "dtype": np.int32}
    # (n, 2**20), 1 where a text has a run
    runs = HashingVectorizer(**as_written, binary=True, alternate_sign=False).transform(compared)
    by_run, size, found = runs.T.tocsr(), np.diff(runs.indptr), []
    for start in range(0, runs.shape[0], _AT_A_TIME):
        shared = triu(runs[start : start + _AT_A_TIME] @ by_run, k=start + 1)  # each pair once, none with itself
        i, j = shared.row + start, shared.col
        alike = shared.data / (size[i] + size[j] - shared.data)
        found.append(np.stack([i, j, alike])[:, alike >= threshold - 1e-9])
        if not (complete := sum(f.shape[1] for f in found) <= MAX_PAIRS):
            break
    one, other, alike = np.concatenate(found, axis=1)[:, :MAX_PAIRS]
    order = np.lexsort((other, one, -alike))
    pairs = np.stack([one, other], axis=1)[order].astype(np.int64)
    return NearDuplicates(data=data, threshold=threshold, pairs=pairs, similarity=alike[order], complete=complete)
