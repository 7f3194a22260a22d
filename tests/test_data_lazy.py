"""Texts that stay on disk: the same rows, the same findings and the same results as in memory, in far less of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiny
from pyarrow import ipc

import ftkit as ft
from ftkit.data import Splits, files, load_data, near_duplicates
from ftkit.data.rows import LazyTexts

CLEAN = pd.DataFrame(
    {
        "text": [f"text number {i}, so to say" for i in range(60)],
        "label": [("bad", "good", "fair")[i % 3] for i in range(60)],
    }
)
#: One of each thing that can be wrong with a row.
TROUBLED = pd.DataFrame(
    [
        ("", "good", "g"),
        ("  ", "bad", "g"),
        ("null", "bad", "g"),
        (None, "bad", "g"),
        ("no label", None, "g"),
        ("TEXT number  3, so to say", "bad", "h3"),
        ("text number 4, so to say", "bad", "h4"),
        ("12", "good", "twelve"),
        ("half \x00 of it", "GOOD ", "half"),
        ("a" * 1_000_100, "good", "long"),
        ("the only ugly one", "ugly", "ugly"),
        ("nobody's", "good", ""),
    ],
    columns=["text", "label", "group"],
)
BOTH = pd.concat([CLEAN.assign(group=[f"h{i}" for i in range(60)]), TROUBLED], ignore_index=True)


def write_arrow(frame: pd.DataFrame, path: Path, form=ipc.new_stream) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with form(str(path), table.schema) as out:
        out.write_table(table, max_chunksize=7)


def on_disk(frame: pd.DataFrame, folder: Path):
    """Return the rows as a memory-mapped Dataset."""
    from datasets import Dataset, load_from_disk

    Dataset.from_pandas(frame, preserve_index=False).save_to_disk(folder)
    return load_from_disk(folder)


def written(frame: pd.DataFrame, folder: Path) -> dict[str, object]:
    """Return the rows in every form that stays on disk."""
    frame.to_parquet(folder / "rows.parquet", index=False, row_group_size=25)
    write_arrow(frame, folder / "rows.arrow")
    write_arrow(frame, folder / "file.arrow", ipc.new_file)
    forms = {name: folder / name for name in ("rows.parquet", "rows.arrow", "file.arrow")}
    return forms | {"Dataset": on_disk(frame, folder / "saved")}


def said(data: Splits, name: str) -> list[tuple[str, str]]:
    return [(f.code, f.message.replace(name, "it")) for f in data.findings]


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    path = tmp_path_factory.mktemp("lazy") / "rows.parquet"
    CLEAN.to_parquet(path, index=False)
    return load_data(path)


@pytest.mark.parametrize("form", ["rows.parquet", "rows.arrow", "file.arrow", "Dataset"])
def test_what_is_wrong_with_rows_is_found_on_disk_as_in_a_csv(form: str, tmp_path: Path) -> None:
    BOTH.to_csv(tmp_path / "rows.csv", index=False)
    expected = load_data(tmp_path / "rows.csv", group="group", name="same")
    found = load_data(written(BOTH, tmp_path)[form], group="group", name="same")
    assert {f.code for f in expected.findings} == {
        "FT010", "FT013", "FT014", "FT015", "FT016", "FT019", "FT020", "FT024", "FT025",
    }  # fmt: skip
    assert said(found, "the Dataset" if form == "Dataset" else form) == said(expected, "rows.csv")
    assert found.fingerprint() == expected.fingerprint()
    for mine, theirs in zip(found.parts, expected.parts, strict=True):
        assert isinstance(mine.texts, LazyTexts) and isinstance(theirs.texts, tuple)
        assert mine.texts == theirs.texts and theirs.texts == mine.texts
        assert (mine.ids, mine.groups) == (theirs.ids, theirs.groups)


def test_leaks_between_given_splits_are_found_on_disk_as_in_memory(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    parts = {"train": CLEAN.iloc[:40], "validation": CLEAN.iloc[38:50], "test": CLEAN.iloc[[0, *range(50, 60)]]}
    memory = DatasetDict({n: Dataset.from_pandas(p, preserve_index=False) for n, p in parts.items()})
    disk = DatasetDict({n: on_disk(p, tmp_path / n) for n, p in parts.items()})
    found, expected = load_data(disk), load_data(memory)
    assert said(found, "") == said(expected, "")
    assert "rows 1, 39, 40," in found.findings[0].message and [len(p) for p in found.parts] == [37, 12, 11]
    assert found.fingerprint() == expected.fingerprint() and isinstance(found.joined().texts, tuple | LazyTexts)


def test_a_dataset_that_was_shuffled_and_filtered_is_read_in_its_own_order(tmp_path: Path) -> None:
    chosen = on_disk(CLEAN, tmp_path / "saved").shuffle(seed=0).filter(lambda row: row["label"] != "fair")
    data = load_data(chosen)
    assert data.fingerprint() == load_data(chosen.to_pandas()).fingerprint()
    assert set(data.joined().texts) == set(chosen["text"]) and isinstance(data.train.texts, LazyTexts)


def test_a_stream_is_read_into_memory() -> None:
    from datasets import Dataset

    data = load_data(Dataset.from_pandas(CLEAN).to_iterable_dataset())
    assert data.fingerprint() == load_data(CLEAN).fingerprint() and isinstance(data.train.texts, tuple)


@pytest.mark.parametrize("column", [[["a"], ["b"]] * 9, [b"a", b"b"] * 9, [1, 2] * 9, [{"a": 1}, {"a": 2}] * 9])
def test_a_column_that_holds_no_texts_is_refused_as_ever(column: list, tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": column, "label": ["a", "b"] * 9})
    write_arrow(frame, tmp_path / "rows.arrow")
    with pytest.raises(ft.FtkitError, match=r"expected a text, found a|found numbers in 18 of 18"):
        load_data(tmp_path / "rows.arrow")


def test_bytes_that_are_no_utf8_are_refused_in_one_sentence(tmp_path: Path) -> None:
    broken = pa.array([b"\xff\xfe", b"b", b"c"]).view(pa.string())
    table = pa.table({"text": broken, "label": ["a", "b", "c"]})
    with ipc.new_stream(str(tmp_path / "rows.arrow"), table.schema) as out:
        out.write_table(table)
    with pytest.raises(ft.FtkitError, match=r"FT007 rows\.arrow cannot be read as arrow: .*UTF8"):
        load_data(tmp_path / "rows.arrow")


def test_labels_may_be_categories_numbers_or_lists(tmp_path: Path) -> None:
    for kind, labels, names in (
        ("single", pd.Categorical(CLEAN["label"]), ("bad", "fair", "good")),
        ("ordered", [i % 3 + 1 for i in range(60)], ("1", "2", "3")),
        ("single", [None if i == 0 else float(i % 2) for i in range(60)], ("0", "1")),
        ("multiple", [["a", "b"] if i % 2 else ["b"] for i in range(60)], ("a", "b")),
    ):
        CLEAN.assign(label=labels).to_parquet(tmp_path / "rows.parquet", index=False)
        data = load_data(tmp_path / "rows.parquet", kind=kind)
        assert data.label_names == names and isinstance(data.train.texts, LazyTexts)


def test_the_size_of_what_stays_on_disk_is_not_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    for form, source in written(CLEAN, tmp_path).items():
        assert sum(map(len, load_data(source).parts)) == 60, form
    CLEAN.to_csv(tmp_path / "rows.csv")
    with pytest.raises(ft.FtkitError, match="save it as Parquet"):
        load_data(tmp_path / "rows.csv")


def test_no_copy_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    CLEAN.to_parquet(tmp_path / "rows.parquet")
    data = load_data(tmp_path / "rows.parquet")
    (tmp_path / "rows.parquet").unlink()
    assert list((tmp_path / "cache").iterdir()) == [] and len(set(data.joined().texts)) == 60


def test_a_lazy_sequence_is_a_sequence(lazy: Splits) -> None:
    texts, known = lazy.train.texts, tuple(lazy.train.texts)
    assert len(texts) == len(known) and texts[0] == known[0] and texts[-1] == known[-1]
    assert texts[np.int64(3)] == known[3] and texts[2:5] == known[2:5] and list(reversed(texts)) == list(known[::-1])
    assert known[4] in texts and texts.index(known[4]) == 4 and texts != known[1:] and texts != known[::-1]
    one = texts[:1]
    assert sum([texts, one], ()) == known + known[:1] and isinstance(sum([texts, one], ()), LazyTexts)
    assert sum([("more",), texts, ("yet more",)], ()) == ("more", *known, "yet more")
    with pytest.raises(IndexError):
        texts[len(texts)]
    assert repr(texts) == f"<{len(texts)} texts, read when asked for>"


def test_rows_and_splits_on_disk_do_all_that_others_do(lazy: Splits) -> None:
    memory = replace(lazy, **{p.name: replace(p, texts=tuple(p.texts)) for p in lazy.parts})
    for made in (
        lambda d: d.joined(),
        lambda d: d.joined().take([5, 2]),
        lambda d: d.train.where(label="good", contains="TEXT  number"),
        lambda d: d.limit(5),
        lambda d: list(d.folds(3))[1],
        lambda d: d.shuffled(1),
        lambda d: d.without(d.train.ids[:2]),
    ):
        on_disk, in_memory = made(lazy), made(memory)
        assert on_disk.fingerprint() == in_memory.fingerprint() and repr(on_disk) == repr(in_memory)
        assert isinstance(getattr(on_disk, "train", on_disk).texts, LazyTexts)
    assert lazy.train.take([]).fingerprint() == memory.train.take([]).fingerprint()
    assert repr(near_duplicates(lazy)) == repr(near_duplicates(memory))


def test_a_leak_made_by_hand_is_refused(lazy: Splits) -> None:
    copied = replace(lazy.train.take([0]), ids=("copy",))
    with pytest.raises(ft.FtkitError, match=r"'text number .*, so to say' of .* is in both train and valid"):
        replace(lazy, valid=copied)


def test_all_that_takes_texts_takes_lazy_ones(tmp_path: Path) -> None:
    clean = tiny.splits()
    rows = clean.joined()
    frame = pd.DataFrame({"text": rows.texts, "label": rows.named_labels()})
    frame.to_parquet(tmp_path / "rows.parquet")
    results = []
    for source in (tmp_path / "rows.parquet", frame):
        data, base = load_data(source, name="same"), tiny.base()
        run = ft.fit(base, data, ft.Plan(train="top 1", lr=1e-2, epochs=1), on_event=None)
        scores = [ft.evaluate(p, data.test) for p in (ft.baseline.majority(data), ft.baseline.tfidf(data), run)]
        results.append([run.weights_sha256, *(s.summary() for s in scores), ft.compare(*scores[1:]).summary()])
    assert results[0] == results[1]


MEASURE = """
import re, sys
import datasets, scipy.sparse.csgraph  # what is imported on the way is no part of the data
from ftkit.data import load_data

def anonymous():
    return 1024 * int(re.search(r"^Anonymous: +([0-9]+)", open("/proc/self/smaps_rollup").read(), re.M)[1])

load_data(sys.argv[1]).fingerprint()
before = anonymous()
data = load_data(sys.argv[2])
fold = next(data.folds(3))
data.fingerprint()
print(anonymous() - before, sum(len(t) for part in data.parts for t in part.texts))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells the memory of a process so")
def test_fifty_thousand_long_texts_take_little_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 7)) for _ in range(2000)])
    texts = [" ".join(words[rng.integers(0, 2000, 130)]) for _ in range(50_000)]
    frame = pd.DataFrame({"text": texts, "label": ["a", "b"] * 25_000})
    frame.to_parquet(tmp_path / "big.parquet")
    frame.iloc[:100].to_parquet(tmp_path / "small.parquet")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small.parquet"), str(tmp_path / "big.parquet")]
    grown, size = map(int, subprocess.check_output(command, text=True).split())
    assert size > 50e6 and grown < size / 2, "19 MB for 52 MB of texts; as much for four times as long texts"
