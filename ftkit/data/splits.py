"""Train, valid and test rows as one record, proven not to leak: `Splits`, with its folds and its smaller versions."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pandas as pd

from ftkit.data.rows import PARTS, Rows
from ftkit.data.sets import Card, label_bars
from ftkit.data.splitting import allocate, at_most, one_hot, units, wording
from ftkit.display import Picture, Record, count, shorten
from ftkit.findings import Finding, FtkitError

_SHOWN = 30  # labels in a table or a picture; more would bury the sentence above them


class Splits(Record):
    """Rows for training, for choosing, and for one last look; no text and no group is in two of them.

    Parameters
    ----------
    name : str
        The data set.
    train, valid, test : Rows
        None of them empty; of one kind and with the same label names.
    card : Card, optional
        Where the data comes from, for sets of the catalogue.
    findings : tuple of Finding
        What was noticed and repaired while reading.
    seed : int
        What the split was drawn with.

    Raises
    ------
    FtkitError
        FT021 if a text or a group is in two splits.
    ValueError
        If a split is empty, or the splits disagree on their labels, or an id is in two of them.
    """

    name: str
    train: Rows
    valid: Rows
    test: Rows
    card: Card | None = None
    findings: tuple[Finding, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        # Not part.name: rows taken out of train by hand are still called train, wherever they are put.
        for name, part in zip(PARTS, self.parts, strict=True):
            if not len(part):
                raise ValueError(f"Splits.{name} of {self.name!r} has no rows; each split needs at least one")
            if (part.kind, part.label_names) != (self.kind, self.label_names):
                raise ValueError(f"Splits.{name} of {self.name!r} differs from train in kind or label names")
        for what, key in (("id", str), ("text", wording), ("group", str)):
            seen: dict[str, str] = {}
            for name, part in zip(PARTS, self.parts, strict=True):
                for value in getattr(part, f"{what}s") or ():
                    if (other := seen.setdefault(key(value), name)) != name:
                        told = f"The {what} {shorten(value, 60)!r} of {self.name!r} is in both {other} and {name}"
                        raise FtkitError("FT021", f"{told}; remove it from one of them, or let ftkit split the rows.")

    parts = property(attrgetter(*PARTS), doc="`train`, `valid` and `test`, in this order.")
    kind = property(attrgetter("train.kind"), doc='What the labels are: `"single"`, `"multiple"` or `"ordered"`.')
    label_names = property(attrgetter("train.label_names"), doc="The name of each label, in order of their numbers.")
    # The literature of single labels speaks of classes.
    n_labels = n_classes = property(attrgetter("train.n_labels"), doc="How many labels there are to choose from.")

    def limit(self, per_class: int, seed: int = 0) -> "Splits":
        """Return splits with at most about `per_class` train rows a label; the test rows stay as they are.

        Valid shrinks in proportion, to no fewer than 5 rows a label where it has them. With one seed, fewer rows are
        always part of more rows, so that a learning curve adds to what it had.

        Parameters
        ----------
        per_class : int
            1 or more.
        seed : int
            Decides which rows.
        """
        if per_class < 1:
            raise ValueError(f"per_class is {per_class}; it must be at least 1")
        caps = {"train": per_class, "valid": max(5, round(per_class * len(self.valid) / len(self.train)))}
        few = {name: at_most(one_hot(getattr(self, name).labels, self.n_labels), n, seed) for name, n in caps.items()}
        return replace(self, **{name: getattr(self, name).take(at) for name, at in few.items()})

    def folds(self, k: int = 5, repeats: int = 1, seed: int = 0) -> Iterator["Splits"]:
        """Yield `k` splits, each testing another fold of all rows; a repeat tests every row once.

        Folds are stratified and keep groups whole. Of the other rows, the same share becomes valid as in these splits.

        Parameters
        ----------
        k : int
            Folds, 2 or more.
        repeats : int
            How often all rows are dealt out anew, 1 or more.
        seed : int
            Decides the dealing.
        """
        every = self.joined()
        unit = units(every.texts, every.groups)
        if not 2 <= k <= unit.max() + 1:
            raise ValueError(f"k is {k}; it must be from 2 to {unit.max() + 1}, the number of groups or distinct texts")
        wanted = one_hot(every.labels, self.n_labels)
        share = len(self.valid) / (len(self.train) + len(self.valid))
        for repeat in range(repeats):
            fold = allocate(wanted, unit, [1 / k] * k, seed + repeat, floor=0)
            again = f", repeat {repeat + 1}" if repeats > 1 else ""
            for i in range(k):
                part, rest = np.full(len(every), PARTS.index("test")), fold != i
                part[rest] = allocate(wanted[rest], unit[rest], (1 - share, share), seed)
                name = f"{self.name}, fold {i + 1} of {k}{again}"
                yield replace(self, name=name, seed=seed + repeat, **every.dealt(part))

    def joined(self) -> Rows:
        """Return the rows of all three splits as one, train first and test last."""
        texts, groups, ids = (sum((getattr(p, k) or () for p in self.parts), ()) for k in ("texts", "groups", "ids"))
        groups = groups if all(p.groups is not None for p in self.parts) else None
        labels = np.concatenate([p.labels for p in self.parts])
        return replace(self.train, name="all", texts=texts, labels=labels, groups=groups, ids=ids, _opened=[0])

    def shuffled(self, seed: int = 0) -> "Splits":
        """Return the same rows dealt out at random, their groups forgotten: what a leak looks like.

        Most tutorials split like this. Near-copies then stand on both sides, and the score rises for the wrong
        reason. The splits have about the sizes they had, and stay balanced by label; equal texts stay together.

        Parameters
        ----------
        seed : int
            Decides the dealing.
        """
        every = replace(self.joined(), groups=None)
        shares = [len(p) / len(every) for p in self.parts]
        part_of = allocate(one_hot(every.labels, self.n_labels), units(every.texts), shares, seed)
        return replace(self, name=f"{self.name}, shuffled", seed=seed, **every.dealt(part_of))

    def without(self, ids: Iterable[str]) -> "Splits":
        """Return splits that lack the rows of these ids: near-duplicates, rows that nobody can label.

        Parameters
        ----------
        ids : iterable of str
            Ids of rows; one that is in none of the splits is an error.

        Raises
        ------
        ValueError
            If an id is unknown, or a split would be left empty.
        """
        gone = set(ids)
        if unknown := sorted(gone - {i for p in self.parts for i in p.ids}):
            raise ValueError(f"{self.name} has no row {unknown[0]!r}")
        return replace(self, **{p.name: p.take([k for k, i in enumerate(p.ids) if i not in gone]) for p in self.parts})

    def fingerprint(self) -> str:
        """Return the sha256 (hex) of the three splits' fingerprints."""
        return hashlib.sha256("".join(part.fingerprint() for part in self.parts).encode()).hexdigest()

    def summary(self) -> str:
        train, valid, test = (count(len(part)) for part in self.parts)
        what = {"single": "classes", "multiple": "labels", "ordered": "grades"}[self.kind]
        grouped = "; no group is in two splits" if self.train.groups else ""
        return f"{self.name}: {train} train, {valid} valid and {test} test rows in {self.n_labels} {what}{grouped}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        sizes = pd.DataFrame({"Split": [p.name for p in self.parts], "Rows": [count(len(p)) for p in self.parts]})
        if self.train.groups:
            sizes["Groups"] = [count(len(set(p.groups))) for p in self.parts]
        sizes["Opened for scoring"] = [p.opened for p in self.parts]
        labels = {"Label": self.label_names} | {p.name.capitalize(): map(count, p.counts) for p in self.parts}
        more = f" (the first {_SHOWN} of {self.n_labels})" if self.n_labels > _SHOWN else ""
        by_label = (f"Rows per label{more}", pd.DataFrame(labels).head(_SHOWN))
        return [("Rows per split", sizes), by_label, *self.found("Code", "Title", "Here")]

    def picture(self) -> Picture | None:
        counts = dict(zip(self.label_names, self.train.counts.tolist(), strict=True))
        # Bars of one length say no more than the table.
        return label_bars(counts, "train rows", _SHOWN) if len(set(counts.values())) > 1 else None
