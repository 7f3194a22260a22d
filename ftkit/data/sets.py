"""The named sets: a card of each, and its rows before they are split, as `data/readers.py` reads its pinned files."""

import functools
import re
from collections.abc import Mapping
from importlib import util

import pandas as pd

from ftkit import plots, sources
from ftkit.data.rows import Rows
from ftkit.display import Picture, Record, count, fact, shorten

_CAVEAT = re.compile(r"^- (.+)$", re.MULTILINE)


class Card(Record):
    """Where a data set comes from, what it holds, and what to beware of.

    Parameters
    ----------
    name : str
        As `load_data` takes it.
    title, task, source, licence : str
        What it is, what is asked of a model, where its bytes come from, and on which terms.
    counts : mapping of str to int
        Rows of each label in the whole set, before it is split.
    grouped_by : str
        What a group is; empty if rows are independent.
    draws : int
        How many fixed splits are stored; 0 if it is split when loaded.
    body : str
        The card as written, in Markdown.
    """

    name: str
    title: str
    task: str = fact("Task")
    source: str = fact("Source")
    licence: str = fact("Licence")
    counts: Mapping[str, int]
    grouped_by: str = fact("Grouped by", lambda group: group or "nothing: rows are independent", default="")
    draws: int = fact("Split", lambda n: f"{n} fixed draws" if n else "drawn when loaded, by seed", default=0)
    body: str = fact("Beware", lambda body: " ".join(_CAVEAT.findall(body.partition("## Caveats")[2])), default="")

    @property
    def n_rows(self) -> int:
        """Rows in the whole set."""
        return sum(self.counts.values())

    def summary(self) -> str:
        return f"{self.name}: {self.title}; {count(self.n_rows)} rows in {len(self.counts)} classes."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        labels = pd.DataFrame({"Label": self.counts.keys(), "Rows": map(count, self.counts.values())})
        return [("What it is", self.facts("", "In words")), ("Rows per label in the whole set", labels)]

    def picture(self) -> Picture:
        return label_bars(self.counts, "rows")


def label_bars(counts: Mapping[str, int], what: str, shown: int | None = None) -> Picture:
    """Return a bar for each label, the largest on top, and the sentence that describes the picture.

    Parameters
    ----------
    counts : mapping of str to int
        Rows of each label.
    what : str
        What is counted.
    shown : int, optional
        Of more labels than this, only the largest are drawn.
    """
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])[:shown]
    (first, most), (last, fewest) = ranked[0], ranked[-1]
    alt = f"{what.capitalize()} per label: from {count(most)} ({shorten(first)}) to {count(fewest)} ({shorten(last)})."
    return plots.bars(*zip(*ranked, strict=True), label=what).figure, alt


class DataSets(Record, dict, init=False):
    """The named sets: a `Card` by its name."""

    def summary(self) -> str:
        return f"{len(self)} data sets can be loaded by name."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [(c.name, c.task, count(c.n_rows), len(c.counts), c.grouped_by or "–") for c in self.values()]
        return [("Data sets", pd.DataFrame(rows, columns=["Name", "Task", "Rows", "Classes", "Grouped by"]))]


def data_sets() -> DataSets:
    """Return the cards of all sets that `load_data` knows by name; nothing is fetched.

    >>> data_sets()["health/diagnoses"].draws
    3
    """
    return DataSets((name, _card(name)) for name in sources.catalog()["data"])


@functools.cache
def _card(name: str) -> Card:
    entry = sources.catalog()["data"][name]
    body = (sources.data_root() / "cards" / f"{name.replace('/', '-')}.md").read_text(encoding="utf-8")
    pin = sources.catalog()["files"][entry["files"]]
    counts = {label: int(n.replace(",", "")) for label, n in re.findall(r"^\| (.+?) \| ([\d,]+) \|$", body, re.M)}
    told = {field: value for field, value in entry.items() if field in Card.__dataclass_fields__}
    told["source"] = f"{pin['wheel']} {pin['version']}; {entry['source']}"
    return Card(name=name, counts=counts, body=body, **told)


def parse(name: str) -> Rows:
    """Return all rows of a named set, before splitting: repeated wordings once, contradicting ones not at all.

    Parameters
    ----------
    name : str
        A name that `data_sets()` lists.

    Raises
    ------
    FtkitError
        If its files are neither in the cache nor within reach.
    """
    entry = sources.catalog()["data"][name]
    # Readers stand, and ship, with the cards and the catalogue.
    spec = util.spec_from_file_location("ftkit_readers", sources.data_root() / "readers.py")
    spec.loader.exec_module(found := util.module_from_spec(spec))
    table = found.READERS[name](sources.fetch(entry["files"]))
    names = list(entry.get("chapters", {}).values()) or sorted(set(table["label"]))
    labels = {"labels": table["label"].map(names.index), "label_names": names}
    groups = table["group"] if entry.get("grouped_by") else None
    return Rows(name="all", texts=table["text"], groups=groups, ids=table["id"], source=name, **labels)
