"""How each named set is read: from its pinned files to clean rows, before they are split.

A reader takes the folder of a set's files and returns a table with the columns `id`, `text`, `label` and, where
rows belong together, `group`: repeated wordings once, contradicting ones not at all. To add a set, write its section
in catalog.toml, its card in cards/, and its reader here.
"""

import hashlib
import html
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import pandas as pd

from ftkit import sources
from ftkit.data.splitting import normalised

_CURRENT = "language == 'en' and is_deprecated != 'yes'"  # of licences and the rules that find them
_FEWEST_LICENCES = 15  # a category of notices needs so many licences, or each split would hold but a few
_MOST_NOTICES = 15  # of one licence; the popular ones have hundreds of near-copies
_CUT_SHORT = {"Bipolar Disorde": "Bipolar Disorder", "ibromyalgia": "Fibromyalgia"}  # letters lost at the source
_FEWEST_TITLES = 8  # of a sub-category


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """Return the first row of each wording, leaving out wordings that stand under more than one label.

    >>> distinct(pd.DataFrame({"text": ["a", "A ", "b", "c", "C"], "label": ["x", "x", "x", "x", "y"]})).index.tolist()
    [0, 2]
    """
    wording = table["text"].map(normalised)
    torn = table.groupby(wording)["label"].transform("nunique") > 1
    return table[(wording != "") & ~wording.duplicated() & ~torn]


def _diagnoses(folder: Path) -> pd.DataFrame:
    names, rows = sources.catalog()["data"]["health/diagnoses"]["chapters"], []
    for chapter in ElementTree.parse(folder / "tabular.xml").getroot().iter("chapter"):
        label = names.get(chapter.findtext("name", ""))
        for diagnosis in chapter.iter("diag"):
            code, notes = diagnosis.findtext("name", ""), diagnosis.findall("inclusionTerm/note")
            rows.append((code, diagnosis.findtext("desc"), label, code[:3]))
            rows += [(f"{code}#{k}", note.text, label, code[:3]) for k, note in enumerate(notes, start=1)]
    return distinct(pd.DataFrame(rows, columns=["id", "text", "label", "group"]).dropna())


def _front_matter(archive: Path) -> pd.DataFrame:
    """Return the one-line fields of each file in a zip of YAML-headed texts; its stem as `id`, its body as `text`."""
    rows = []
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            head, _, body = files.read(name).decode("utf-8").removeprefix("---\n").partition("\n---\n")
            fields = dict(re.findall(r"^(\w+): *(.+?) *$", head, re.MULTILINE))
            rows.append(fields | {"id": Path(name).stem, "text": body.strip()})
    return pd.DataFrame(rows).fillna({"language": "en"})


def _licenses(folder: Path) -> pd.DataFrame:
    table = _front_matter(folder / "licenses.zip").query(_CURRENT)
    # Entries of the category "Unstated License" stand for a licence that is not there: one of 16 has a text.
    table = table[(table["text"].str.len() >= 50) & (table["category"] != "Unstated License")]
    # Versions of one licence ("gpl-2.0", "gpl-3.0-plus") are near-copies: the family is what stands before them.
    return distinct(table.assign(label=table["category"], group=table["id"].str.replace(r"-v?\d.*", "", regex=True)))


def _notices(folder: Path) -> pd.DataFrame:
    category = _front_matter(folder / "licenses.zip").set_index("id")["category"]
    rules = _front_matter(folder / "rules.zip").query(f"{_CURRENT} and is_license_notice == 'yes'")
    licence = rules["license_expression"]
    # Double braces mark the words that a licence scanner requires; no notice in the wild has them.
    texts = rules["text"].str.replace(r"\{\{|\}\}", "", regex=True)
    table = distinct(rules.assign(text=texts, label=licence.map(category), group=licence).dropna(subset="label"))
    table = table[table.groupby("label")["group"].transform("nunique") >= _FEWEST_LICENCES]
    # The order of hashes: as good as a random draw, and the same everywhere.
    drawn = [hashlib.sha256(i.encode()).hexdigest() for i in table["id"]]
    of_licence = table.assign(drawn=drawn).groupby("group", sort=False)
    return pd.concat(notices.sort_values("drawn").head(_MOST_NOTICES) for _, notices in of_licence)


def _drug_reviews(folder: Path) -> pd.DataFrame:
    with zipfile.ZipFile(folder / "drugsCom.zip") as files:
        parts = [_table(files.open(f"drugsCom{part}.tsv"), sep="\t") for part in ("Train", "Test")]
    table = pd.concat(parts, ignore_index=True)
    texts = table["review"].map(html.unescape).str.strip().str.strip('"').str.strip()
    labels = table["condition"].replace(_CUT_SHORT)
    table = distinct(pd.DataFrame({"id": table.iloc[:, 0], "text": texts, "label": labels}))
    return table[table["label"].isin(table["label"][table["label"] != ""].value_counts().index[:10])]


def _electronics(folder: Path) -> pd.DataFrame:
    table = _table(folder / "electronics_dataset.csv")
    ids = "product-" + (table.index + 1).astype(str)
    texts, labels = table["Title"].str.strip(), table["Sub Category"].str.strip()
    table = distinct(pd.DataFrame({"id": ids, "text": texts, "label": labels}))
    return table[table.groupby("label")["id"].transform("size") >= _FEWEST_TITLES]


def _merchants(folder: Path) -> pd.DataFrame:
    # The standard leaves 3000 to 3999 to the networks; their own ranges say what they use them for.
    ranges = pd.concat([_table(folder / f"{whose}_ranges.csv") for whose in ("private", "iso18245")]).to_dict("records")
    networks = ("iso18245_official", "visa", "mastercard", "amex", "alipay", "stripe", "usda")
    table = pd.concat([_table(folder / f"{n}_list.csv").assign(network=n.split("_")[0]) for n in networks])
    codes = table["MCC"]
    labels = [next(r["DESCRIPTION"] for r in ranges if r["MCC START"] <= c <= r["MCC END"]) for c in codes]
    again = table.groupby(["network", "MCC"]).cumcount().map(lambda n: f"#{n + 1}" if n else "")
    ids, texts = table["network"] + "-" + codes + again, table["DESCRIPTION"].str.strip()
    table = pd.DataFrame({"id": ids, "text": texts, "label": labels, "group": codes})
    return distinct(table[~table["label"].str.startswith("Reserved")])


def _table(source: Path | IO[bytes], sep: str = ",") -> pd.DataFrame:
    return pd.read_csv(source, sep=sep, dtype=str, keep_default_na=False, encoding="utf-8-sig")


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "legal/licenses": _licenses,
    "legal/notices": _notices,
    "health/drug-reviews": _drug_reviews,
    "health/diagnoses": _diagnoses,
    "commerce/electronics": _electronics,
    "finance/merchants": _merchants,
}
