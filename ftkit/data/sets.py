"""One parser for each named set: from the pinned files to clean rows, before they are split."""

from __future__ import annotations

import csv
import hashlib
import html
import io
import re
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from ftkit import sources
from ftkit.data.rows import Rows
from ftkit.data.splitting import normalised


class Entry(NamedTuple):
    """One labelled text as its source has it."""

    id: str
    text: str
    label: str
    group: str


_FEWEST_LICENCES = 15  # a category of notices needs so many licences, or each split would hold but a few
_MOST_NOTICES = 15  # of one licence; the popular ones have hundreds of near-copies
_CUT_SHORT = {"Bipolar Disorde": "Bipolar Disorder", "ibromyalgia": "Fibromyalgia"}  # letters lost at the source
_FEWEST_TITLES = 8  # of a sub-category


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
    entries = _PARSERS[name](sources.fetch(entry["files"]))
    label_names = entry.get("chapters", {}).values() or sorted({e.label for e in entries})
    number = {label: i for i, label in enumerate(label_names)}
    return Rows(
        name="all",
        texts=tuple(e.text for e in entries),
        labels=[number[e.label] for e in entries],
        label_names=tuple(label_names),
        groups=tuple(e.group for e in entries) if entry.get("grouped_by") else None,
        ids=tuple(e.id for e in entries),
        source=name,
    )


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """Return the first entry of each wording, leaving out wordings that stand under more than one label.

    >>> [e.id for e in distinct([Entry("1", "a", "x", ""), Entry("2", "A ", "x", ""), Entry("3", "b", "x", "")])]
    ['1', '3']
    """
    first: dict[str, Entry] = {}
    torn = set()
    for entry in entries:
        key = normalised(entry.text)
        if first.setdefault(key, entry).label != entry.label:
            torn.add(key)
    return [entry for key, entry in first.items() if key and key not in torn]


def _diagnoses(folder: Path) -> list[Entry]:
    names, entries = sources.catalog()["data"]["health/diagnoses"]["chapters"], []
    for chapter in ElementTree.parse(folder / "tabular.xml").getroot().iter("chapter"):
        if (label := names.get(chapter.findtext("name", ""))) is None:
            continue
        for diagnosis in chapter.iter("diag"):
            code = diagnosis.findtext("name", "")
            entries.append(Entry(code, diagnosis.findtext("desc", ""), label, code[:3]))
            for k, note in enumerate(diagnosis.findall("inclusionTerm/note"), start=1):
                entries.append(Entry(f"{code}#{k}", note.text or "", label, code[:3]))
    return distinct(entries)


def _front_matter(archive: Path) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the stem, the one-line fields and the body of each file in a zip of YAML-headed texts."""
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            head, _, body = files.read(name).decode("utf-8").removeprefix("---\n").partition("\n---\n")
            yield Path(name).stem, dict(re.findall(r"^(\w+): *(.+?) *$", head, re.MULTILINE)), body.strip()


def _licenses(folder: Path) -> list[Entry]:
    entries = [
        # Versions of one licence ("gpl-2.0", "gpl-3.0-plus") are near-copies: the family is what stands before them.
        Entry(key, body, fields["category"], re.split(r"-v?\d", key)[0])
        for key, fields, body in _front_matter(folder / "licenses.zip")
        if len(body) >= 50
        and fields.get("language", "en") == "en"
        and fields.get("is_deprecated") != "yes"
        # Entries of the category "Unstated License" stand for a licence that is not there: one of 16 has a text.
        and fields["category"] != "Unstated License"
    ]
    return distinct(entries)


def _notices(folder: Path) -> list[Entry]:
    category = {key: fields["category"] for key, fields, _ in _front_matter(folder / "licenses.zip")}
    of_licence: dict[str, list[Entry]] = defaultdict(list)
    found = [
        # Double braces mark the words that a licence scanner requires; no notice in the wild has them.
        Entry(stem, body.replace("{{", "").replace("}}", ""), category[key], key)
        for stem, fields, body in _front_matter(folder / "rules.zip")
        if fields.get("is_license_notice") == "yes"
        and fields.get("is_deprecated") != "yes"
        and fields.get("language", "en") == "en"
        and (key := fields.get("license_expression", "")) in category
    ]
    for entry in distinct(found):
        of_licence[entry.group].append(entry)
    licences = Counter(entries[0].label for entries in of_licence.values())
    return [
        entry
        for entries in of_licence.values()
        if licences[entries[0].label] >= _FEWEST_LICENCES
        # The order of hashes: as good as a random draw, and the same everywhere.
        for entry in sorted(entries, key=lambda e: hashlib.sha256(e.id.encode()).digest())[:_MOST_NOTICES]
    ]


def _drug_reviews(folder: Path) -> list[Entry]:
    entries = []
    with zipfile.ZipFile(folder / "drugsCom.zip") as files:
        for name in ("drugsComTrain.tsv", "drugsComTest.tsv"):
            for row in csv.DictReader(io.StringIO(files.read(name).decode("utf-8")), delimiter="\t"):
                text = html.unescape(row["review"]).strip().strip('"').strip()
                condition = _CUT_SHORT.get(row["condition"], row["condition"])
                entries.append(Entry(row[""], text, condition, ""))
    entries = distinct(entries)
    frequent = {label for label, _ in Counter(e.label for e in entries if e.label).most_common(10)}
    return [e for e in entries if e.label in frequent]


def _electronics(folder: Path) -> list[Entry]:
    rows = enumerate(_table(folder / "electronics_dataset.csv"), start=1)
    entries = distinct([Entry(f"product-{i}", r["Title"].strip(), r["Sub Category"].strip(), "") for i, r in rows])
    titles = Counter(e.label for e in entries)
    return [e for e in entries if titles[e.label] >= _FEWEST_TITLES]


def _merchants(folder: Path) -> list[Entry]:
    # The standard leaves 3000 to 3999 to the networks; their own ranges say what they use them for.
    ranges = [*_table(folder / "private_ranges.csv"), *_table(folder / "iso18245_ranges.csv")]
    entries = []
    for network in ("iso18245_official", "visa", "mastercard", "amex", "alipay", "stripe", "usda"):
        seen: Counter[str] = Counter()
        for row in _table(folder / f"{network}_list.csv"):
            code = row["MCC"]
            label = next(r["DESCRIPTION"] for r in ranges if r["MCC START"] <= code <= r["MCC END"])
            seen[code] += 1
            again = f"#{seen[code]}" if seen[code] > 1 else ""
            if not label.startswith("Reserved"):
                entries.append(Entry(f"{network.split('_')[0]}-{code}{again}", row["DESCRIPTION"].strip(), label, code))
    return distinct(entries)


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


_PARSERS: dict[str, Callable[[Path], list[Entry]]] = {
    "legal/licenses": _licenses,
    "legal/notices": _notices,
    "health/drug-reviews": _drug_reviews,
    "health/diagnoses": _diagnoses,
    "commerce/electronics": _electronics,
    "finance/merchants": _merchants,
}
