"""What ftkit can load by name: each set's card (source, licence, labels, caveats) as a record, and the list of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

import pandas as pd
from matplotlib.figure import Figure

from ftkit import plots, sources
from ftkit.display import Record, count, fact, record, shorten

_CAVEAT = re.compile(r"^- (.+)$", re.MULTILINE)
_COUNT_ROW = re.compile(r"^\| (.+?) \| ([\d,]+) \|$", re.MULTILINE)


@record
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
        labels = {"Label": list(self.counts), "Rows": [count(n) for n in self.counts.values()]}
        return [
            ("What it is", self.facts("", "In words")),
            ("Rows per label in the whole set", pd.DataFrame(labels)),
        ]

    def picture(self) -> tuple[Figure, str]:
        return label_bars(self.counts, "rows")


def label_bars(counts: Mapping[str, int], what: str, shown: int | None = None) -> tuple[Figure, str]:
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


@record
class DataSets(Record, Mapping):
    """The named sets, as a mapping of name to `Card`."""

    cards: Mapping[str, Card]

    def __getitem__(self, name: str) -> Card:
        return self.cards[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.cards)

    def __len__(self) -> int:
        return len(self.cards)

    def summary(self) -> str:
        return f"{len(self)} data sets can be loaded by name."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [(c.name, c.task, count(c.n_rows), len(c.counts), c.grouped_by or "–") for c in self.values()]
        return [("Data sets", pd.DataFrame(rows, columns=["Name", "Task", "Rows", "Classes", "Grouped by"]))]


@functools.cache
def data_sets() -> DataSets:
    """Return the cards of all sets that `load_data` knows by name; nothing is fetched.

    >>> data_sets()["health/diagnoses"].draws
    3
    """
    return DataSets(cards={name: _card(name, entry) for name, entry in sources.catalog()["data"].items()})


def _card(name: str, entry: Mapping) -> Card:
    body = (sources.data_root() / "cards" / f"{name.replace('/', '-')}.md").read_text(encoding="utf-8")
    pin = sources.catalog()["files"][entry["files"]]
    counts = {label: int(n.replace(",", "")) for label, n in _COUNT_ROW.findall(body)}
    told = {field: value for field, value in entry.items() if field in Card.__dataclass_fields__}
    told["source"] = f"{pin['wheel']} {pin['version']}; {entry['source']}"
    return Card(name=name, counts=counts, body=body, **told)
