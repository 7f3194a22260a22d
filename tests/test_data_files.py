"""A learner's own files: every form is read, every slip is mended and reported, or refused in one clear sentence."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ftkit as ft
from ftkit.data import Splits, files, load_data

PAIRS = [(f"text number {i}, so to say", "good" if i % 2 else "bad") for i in range(40)]
TABLE = pd.DataFrame(PAIRS, columns=["text", "label"])


def csv_of(frame: pd.DataFrame, **options) -> str:
    return frame.to_csv(index=False, **options)


def with_column(name: str, values: list) -> pd.DataFrame:
    return TABLE.assign(**{name: pd.Series(values, dtype=object)})


def codes(data: Splits) -> list[str]:
    return [f.code for f in data.findings]


def said(data: Splits, code: str) -> str:
    return " ".join(f.message for f in data.findings if f.code == code)


def texts(data: Splits) -> set[str]:
    return {t for part in data.parts for t in part.texts}


def n_rows(data: Splits) -> int:
    return sum(map(len, data.parts))


# --- Forms ------------------------------------------------------------------------------------------------------------


def write_dict(path: Path) -> None:
    path.write_text(json.dumps(TABLE.to_dict("list")))


FORMS: dict[str, Callable[[Path], None]] = {
    "a.csv": lambda p: TABLE.to_csv(p, index=False),
    "a.tsv": lambda p: TABLE.to_csv(p, index=False, sep="\t"),
    "a.json": lambda p: TABLE.to_json(p, orient="records"),
    "columns.json": write_dict,
    "named.json": lambda p: p.write_text(json.dumps({"data": TABLE.to_dict("records")})),
    "a.jsonl": lambda p: TABLE.to_json(p, orient="records", lines=True),
    "a.xlsx": lambda p: TABLE.to_excel(p, index=False),
    "a.parquet": lambda p: TABLE.to_parquet(p, index=False),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_kind_of_file_gives_the_same_splits(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name)
    data = load_data(tmp_path / name)
    assert data.fingerprint() == load_data(PAIRS).fingerprint()
    assert codes(data) == []
    assert data.name == name


def test_a_path_may_be_text(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "a.csv", index=False)
    assert load_data(str(tmp_path / "a.csv"), name="mine").name == "mine"


def test_a_data_frame_and_a_dataset_give_the_same_splits() -> None:
    from datasets import ClassLabel, Dataset

    dataset = Dataset.from_pandas(TABLE).cast_column("label", ClassLabel(names=["bad", "good"]))
    expected = load_data(PAIRS).fingerprint()
    assert load_data(TABLE.sample(frac=1, random_state=0).sort_index()).fingerprint() == expected
    assert load_data(dataset).fingerprint() == expected


@pytest.mark.parametrize("given", [("train", "validation", "test"), ("train", "test"), ("train", "dev"), ("train",)])
def test_the_splits_of_a_dataset_dict_are_kept(given: tuple[str, ...]) -> None:
    from datasets import Dataset, DatasetDict

    start = {"train": 0, "validation": 28, "dev": 28, "test": 32}
    stop = {"train": 28, "validation": 32, "dev": 32, "test": 40}
    cut = {n: TABLE.iloc[start[n] : stop[n]].reset_index(drop=True) for n in given}
    data = load_data(DatasetDict({n: Dataset.from_pandas(part) for n, part in cut.items()}))
    assert n_rows(data) == sum(map(len, cut.values()))
    assert all(part.counts.min() > 0 for part in data.parts)
    if "test" in given:
        assert set(data.test.texts) == set(cut["test"]["text"])
    if len(given) == 3:
        assert set(data.valid.texts) == set(cut["validation"]["text"])


def test_a_leak_between_given_splits_is_removed_from_train() -> None:
    from datasets import Dataset, DatasetDict

    test = pd.concat([TABLE.iloc[30:], TABLE.iloc[[0]].assign(text="TEXT number  0, so to say")], ignore_index=True)
    cut = {"train": TABLE.iloc[:30].reset_index(drop=True), "test": test}
    data = load_data(DatasetDict({n: Dataset.from_pandas(part) for n, part in cut.items()}))
    assert "row 1," in said(data, "FT021")
    assert len(data.test) == 11


def test_a_train_split_that_is_all_in_test_leaves_no_rows() -> None:
    from datasets import Dataset, DatasetDict

    with pytest.raises(ft.FtkitError, match="leaves no rows for train") as error:
        load_data(DatasetDict({"train": Dataset.from_pandas(TABLE), "test": Dataset.from_pandas(TABLE)}))
    assert error.value.code == "FT009"


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        (3, "FT003", "A int is not a form"),
        ([("a", "b"), "c"], "FT007", "Row 2 of the list"),
        ({"a": 1}, "FT003", "A dict is not"),
        ("no such thing", "FT023", "neither a data set nor a file"),
    ],
)
def test_other_objects_are_refused(source: object, code: str, says: str) -> None:
    with pytest.raises(ft.FtkitError, match=says) as error:
        load_data(source)
    assert error.value.code == code


# --- Files that cannot be read ----------------------------------------------------------------------------------------

ZIP = b"PK\x03\x04 not really"
REFUSED_FILES = [
    ("empty.csv", b"", "FT002", "0 bytes"),
    ("blank.csv", b" \n\n\t\n", "FT002", "nothing but white space"),
    ("bom.csv", b"\xef\xbb\xbf", "FT002", "nothing but white space"),
    ("header.csv", b"text,label\n", "FT009", "3 rows below its header, found 0"),
    ("one.csv", b"text,label\na,b\n", "FT009", "found 1;"),
    ("commas.csv", b"text,label\na,b\none, two, three,b\n", "FT007", "line 3"),
    ("quote.csv", b'text,label\n"a,b\nc,d\n', "FT007", "cannot be read as a table"),
    ("bad.json", b'[{"text": "a",]', "FT007", "line 1: not valid JSON"),
    ("bad.jsonl", b'{"text": "a", "label": "b"}\n{"text": \n', "FT007", "bad.jsonl, line 2"),
    ("deep.json", b"[" * 200_000, "FT007", "not valid JSON"),
    ("number.json", b"3", "FT007", "list of rows"),
    ("strings.json", b'["a", "b"]', "FT007", "list of rows"),
    ("empty.json", b"[]", "FT009", "3 rows below its header, found 0"),
    ("a.xlsx", ZIP, "FT007", "cannot be read as xlsx"),
    ("a.parquet", ZIP, "FT007", "cannot be read as parquet"),
    ("a.arrow", ZIP, "FT007", "cannot be read as arrow"),
    ("a.pkl", b"\x80\x04.", "FT003", "expected .csv"),
    ("a.xls", b"\xd0\xcf", "FT003", "expected .csv"),
]


@pytest.mark.parametrize(("name", "content", "code", "says"), REFUSED_FILES, ids=[f[0] for f in REFUSED_FILES])
def test_a_file_that_cannot_be_read_is_refused(name: str, content: bytes, code: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ft.FtkitError, match=says) as error:
        load_data(tmp_path / name)
    assert error.value.code == code
    assert name in error.value.message
    assert "\n" not in error.value.message


def test_a_missing_file_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "reviews.csv", index=False)
    with pytest.raises(ft.FtkitError, match=r"did you mean 'reviews\.csv'") as error:
        load_data(tmp_path / "review.csv")
    assert error.value.code == "FT001"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ft.FtkitError, match="is a folder"):
        load_data(tmp_path)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    with pytest.raises(ft.FtkitError, match="expected at most 500 MB"):
        load_data(tmp_path / "huge.csv")


# --- Encodings, separators, headers -----------------------------------------------------------------------------------

ACCENTED = TABLE.assign(text=[f"Die Prüfung {i} für Müller ist schön gewesen – „très“ déjà vu" for i in range(40)])
PLAIN = ACCENTED.assign(text=[f"Die Prüfung {i} für Müller ist schön gewesen" for i in range(40)])


@pytest.mark.parametrize(
    ("encoding", "frame"),
    [
        ("utf-8-sig", ACCENTED),
        ("utf-16", ACCENTED),
        ("cp1252", TABLE.assign(text=[f"it’s fine, number {i}" for i in range(40)])),
        ("utf-16-le", PLAIN),
        ("cp1252", ACCENTED),
        ("cp1252", PLAIN),
        ("latin-1", PLAIN),
    ],
)
def test_other_encodings_are_recognised_and_reported(encoding: str, frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(csv_of(frame).encode(encoding))
    data = load_data(tmp_path / "a.csv", text="text")
    assert texts(data) == set(frame["text"])
    assert codes(data) == ["FT004"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Это очень хороший товар, номер {}, спасибо большое"),
        ("cp1250", "Bardzo dobry produkt numer {}, jestem zadowolony, szkoda że przyszedł tak późno, ale będę używać"),
        ("gb18030", "这是一个很好的产品，编号{}，非常感谢，我们下次还会再来购买"),
    ],
)
def test_other_scripts_are_not_taken_for_windows_1252(encoding: str, text: str, tmp_path: Path) -> None:
    frame = TABLE.assign(text=[text.format(i) for i in range(40)])
    (tmp_path / "a.csv").write_bytes(csv_of(frame).encode(encoding))
    assert texts(load_data(tmp_path / "a.csv")) == set(frame["text"])


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_other_separators_are_recognised_and_reported(separator: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_of(TABLE, sep=separator))
    data = load_data(tmp_path / "a.csv")
    assert data.fingerprint() == load_data(PAIRS).fingerprint()
    assert "separates" in said(data, "FT005")


@pytest.mark.parametrize(
    "header", [" text ,label", "text,label\r", "\ufefftext, label", "text,\u200b label".replace("\u200b", "\ufeff")]
)
def test_a_header_with_invisible_characters_is_cleaned(header: str, tmp_path: Path) -> None:
    body = csv_of(TABLE).partition("\n")[2]
    (tmp_path / "a.csv").write_bytes(f'"{header.replace(",", chr(34) + "," + chr(34))}"\n{body}'.encode())
    data = load_data(tmp_path / "a.csv", text="text", label="label")
    assert codes(data) in (["FT006"], ["FT004", "FT006"])
    assert n_rows(data) == 40


def test_windows_line_ends_are_nothing_to_report(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(csv_of(TABLE).replace("\n", "\r\n").encode())
    assert codes(load_data(tmp_path / "a.csv")) == []


def test_the_first_of_several_sheets_is_read_and_reported(tmp_path: Path) -> None:
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        TABLE.to_excel(book, sheet_name="first", index=False)
        TABLE.to_excel(book, sheet_name="second", index=False)
    assert "2 sheets; the first, 'first'" in said(load_data(tmp_path / "a.xlsx"), "FT005")


# --- Columns ----------------------------------------------------------------------------------------------------------


def test_usual_names_are_guessed_and_reported() -> None:
    data = load_data(TABLE.rename(columns={"text": "Review", "label": "Sentiment"}))
    assert data.fingerprint() == load_data(PAIRS).fingerprint()
    assert "'Review' as the text and 'Sentiment' as the label" in said(data, "FT005")


def test_a_column_is_found_whatever_its_case() -> None:
    assert n_rows(load_data(TABLE.rename(columns={"text": "Wording"}), text="wording")) == 40


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (["text", "label"], {"text": "txet"}, "no column 'txet'; it has 'text', 'label'; did you mean 'text'"),
        (["sentense", "label"], {}, "named like a text.*did you mean text='sentense'"),
        (["one", "two"], {}, "No column of the DataFrame is named like a text; it has 'one', 'two'; say which"),
        (["text", "two"], {}, "named like a label"),
        (["text", "label"], {"group": "patient"}, "no column 'patient'"),
        (["text", "label"], {"text": "text", "label": "text"}, "cannot be text and label at once"),
        (["text", "label"], {"label": "label", "group": "label"}, "cannot be label and group at once"),
        (["text", "text"], {"text": "text", "label": "text"}, "2 columns named 'text'"),
    ],
)
def test_a_column_that_cannot_be_known_is_refused(names: list[str], options: dict, says: str) -> None:
    with pytest.raises(ft.FtkitError, match=says) as error:
        load_data(TABLE.set_axis(names, axis=1), **options)
    assert error.value.code == "FT008"


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label,label\n" + "a,b,c\n" * 9)
    with pytest.raises(ft.FtkitError, match=r"a\.csv has 2 columns named 'label'"):
        load_data(tmp_path / "a.csv")


# --- Texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["", "   ", "\n\t", None, float("nan"), pd.NA, pd.NaT, "NaN", "null", "\ufeff"])
def test_blank_texts_are_dropped_and_numbered(blank: object) -> None:
    data = load_data([*PAIRS, (blank, "good"), (blank, "bad")])
    assert n_rows(data) == 40
    assert "rows 41, 42" in said(data, "FT010")


def test_blank_cells_of_a_file_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_of(TABLE) + ',good\n"  ",bad\n')
    assert "rows 41, 42" in said(load_data(tmp_path / "a.csv"), "FT010")


@pytest.mark.parametrize("number", [7, 2.5, np.int64(7), True])
def test_a_few_numbers_are_taken_as_texts(number: object) -> None:
    data = load_data([*PAIRS, (number, "good")])
    assert str(number) in texts(data)
    assert "row 41" in said(data, "FT011")


@pytest.mark.parametrize("write", [int, str], ids=["numbers", "digits"])
def test_a_column_of_numbers_is_no_text(write: type) -> None:
    with pytest.raises(ft.FtkitError, match="column 'text': expected texts, found numbers in 40 of 40") as error:
        load_data([(write(i), "ab"[i % 2]) for i in range(40)])
    assert error.value.code == "FT011"


@pytest.mark.parametrize("cell", [["a", "b"], {"a": 1}, b"bytes", np.array(["a"]), ("a",), {"a"}])
def test_a_list_is_no_text(cell: object) -> None:
    with pytest.raises(ft.FtkitError, match="column 'text', row 41: expected a text, found a") as error:
        load_data([*PAIRS, (cell, "good")])
    assert error.value.code == "FT012"


@pytest.mark.slow
def test_a_cell_of_fifty_megabytes_is_cut_within_little_memory(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv_of(TABLE) + '"' + "long text " * 5_000_000 + '",good\n')
    tracemalloc.start()
    data = load_data(tmp_path / "a.csv")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "row 41" in said(data, "FT013")
    assert max(map(len, texts(data))) == 1_000_000
    assert peak < 400e6


def test_unreadable_characters_are_replaced() -> None:
    data = load_data([*PAIRS, ("half \ud800 and \x00 nothing", "good")])
    assert "half \ufffd and \ufffd nothing" in texts(data)
    assert "row 41" in said(data, "FT025")


def test_html_stays_as_it_is_written() -> None:
    attack = "<img src=x onerror=alert(1)> &amp; <b>bold</b>"
    assert attack in texts(load_data([*PAIRS, (attack, "good")]))


# --- Labels -----------------------------------------------------------------------------------------------------------


def test_spellings_of_a_label_are_merged_and_reported() -> None:
    written = ["Good", " good", "good", "good", "good", "GOOD ", "bad", "bad\t", "very  bad", "Very bad", "Very bad"]
    data = load_data([(f"t {i}", label) for i, label in enumerate(written * 5)])
    assert data.label_names == ("bad", "good", "Very bad")
    assert "'Good' as 'good'" in said(data, "FT015")


def test_labels_that_need_nothing_are_not_reported() -> None:
    assert codes(load_data(PAIRS)) == []


@pytest.mark.parametrize("values", [[1.0, 2.0, 10.0], ["1.0", "2", "10"], [1, 2, 10], [np.float64(1), 2.0, 10]])
def test_whole_numbers_are_labels_in_their_order(values: list) -> None:
    assert load_data([(f"t {i}", values[i % 3]) for i in range(60)]).label_names == ("1", "2", "10")


def test_truth_values_are_labels() -> None:
    assert load_data([(f"t {i}", i % 2 == 0) for i in range(40)]).label_names == ("False", "True")


@pytest.mark.parametrize("blank", ["", " ", None, float("nan")])
def test_rows_without_a_label_are_dropped(blank: object) -> None:
    data = load_data([*PAIRS, ("another", blank)])
    assert n_rows(data) == 40
    assert "row 41" in said(data, "FT014")


def test_a_list_is_no_single_label() -> None:
    with pytest.raises(ft.FtkitError, match=r"row 1: expected one label, found a list.*kind='multiple'") as error:
        load_data([("a", ["x", "y"])] * 9)
    assert error.value.code == "FT012"


@pytest.mark.parametrize("cell", [{"a": 1}, b"x"])
def test_an_object_is_no_label(cell: object) -> None:
    with pytest.raises(ft.FtkitError, match="row 41: expected one label, found a"):
        load_data([*PAIRS, ("another", cell)])


def test_one_class_is_refused() -> None:
    with pytest.raises(ft.FtkitError, match=r"two or more classes.*found 'same' \(20\)") as error:
        load_data([(f"t {i}", "same") for i in range(20)])
    assert error.value.code == "FT017"


def test_a_class_with_a_single_row_is_dropped_and_reported() -> None:
    data = load_data([*PAIRS, ("another", "ugly")])
    assert data.label_names == ("bad", "good")
    assert "'ugly'" in said(data, "FT016")
    assert "another" not in texts(data)


def test_a_class_in_two_groups_cannot_be_split() -> None:
    rare = pd.DataFrame({"text": [f"r {i}" for i in range(20)], "label": "rare", "group": ["x", "y"] * 10})
    data = load_data(pd.concat([TABLE.assign(group=[f"g{i}" for i in range(40)]), rare]), group="group")
    assert "'rare'" in said(data, "FT016")


@pytest.mark.parametrize(
    "labels",
    [[f"id-{i}" for i in range(10_000)], [i / 7 for i in range(10_000)], [f"{i % 5000}" for i in range(20_000)]],
    ids=["identifiers", "measurements", "thousands"],
)
def test_ten_thousand_labels_are_no_classes(labels: list) -> None:
    with pytest.raises(ft.FtkitError, match=r"different labels in .* rows, which look like") as error:
        load_data([(f"t {i}", label) for i, label in enumerate(labels)])
    assert error.value.code == "FT018"


# --- Repeated and contradicting rows, groups --------------------------------------------------------------------------


def test_repeated_texts_are_dropped_and_numbered() -> None:
    data = load_data([*PAIRS, ("  TEXT number 1,\nso to say", "good")])
    assert n_rows(data) == 40
    assert "row 41" in said(data, "FT019")


def test_a_text_with_two_labels_is_dropped_altogether() -> None:
    data = load_data([*PAIRS, ("text number 1, so to say", "bad")])
    assert n_rows(data) == 39
    assert "rows 2, 41" in said(data, "FT020")


def test_a_row_without_a_group_stands_alone() -> None:
    groups = [None if i == 3 else f"g{i // 2}" for i in range(40)]
    data = load_data(with_column("patient", groups), group="patient")
    assert "row 4" in said(data, "FT024")
    assert n_rows(data) == 40


def test_a_split_that_lacks_a_class_is_reported() -> None:
    from datasets import Dataset, DatasetDict

    only_bad = TABLE[TABLE["label"] == "bad"].iloc[:3]
    rest = TABLE.drop(only_bad.index)
    cut = {n: Dataset.from_pandas(part, preserve_index=False) for n, part in (("train", rest), ("test", only_bad))}
    assert "test has no row with the label 'good'" in said(load_data(DatasetDict(cut)), "FT027")


def test_too_few_rows_after_repair_are_refused() -> None:
    with pytest.raises(ft.FtkitError, match="found none"):
        load_data([("", "a"), ("", "b"), ("", "c")])


# --- Several labels, and ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [None, ";", "|", " ; "])
def test_several_labels_come_as_lists_or_separated(separator: str | None) -> None:
    sets = [["red", "blue"], ["blue"], ["green", "red"]]
    cells = [s if separator is None else separator.join(s) for s in sets]
    data = load_data([(f"t {i}", cells[i % 3]) for i in range(60)], kind="multiple")
    assert (data.kind, data.label_names) == ("multiple", ("blue", "green", "red"))
    assert data.train.labels.shape == (len(data.train), 3)
    assert sum(p.counts for p in data.parts).tolist() == [40, 20, 40]
    assert np.allclose([p.counts / len(p) for p in data.parts], [2 / 3, 1 / 3, 2 / 3], atol=0.15)


def test_several_labels_come_from_arrays_too() -> None:
    from datasets import Dataset

    rows = {"text": [f"t {i}" for i in range(30)], "label": [["a", "b"] if i % 2 else ["b"] for i in range(30)]}
    assert load_data(Dataset.from_dict(rows), kind="multiple").label_names == ("a", "b")


def test_an_empty_list_is_a_row_with_no_label() -> None:
    data = load_data([(f"t {i}", [["a"], ["b"], []][i % 3]) for i in range(30)], kind="multiple")
    assert n_rows(data) == 30


def test_numbers_rank_themselves() -> None:
    data = load_data([(f"t {i}", [10, 2, 1][i % 3]) for i in range(30)], kind="ordered")
    assert (data.kind, data.label_names) == ("ordered", ("1", "2", "10"))
    assert data.train.labels.ndim == 1


def test_words_are_ranked_by_order() -> None:
    words = ["mild", "severe", "Moderate"]
    data = load_data(
        [(f"t {i}", words[i % 3]) for i in range(30)], kind="ordered", order=("mild", "moderate", "severe", "fatal")
    )
    assert data.label_names == ("mild", "Moderate", "severe")


@pytest.mark.parametrize(
    ("order", "says"), [(None, "give order="), (("mild", "severe"), "label 'fatal' is not in order")]
)
def test_words_without_a_rank_are_refused(order: tuple | None, says: str) -> None:
    with pytest.raises(ft.FtkitError, match=says) as error:
        load_data([(f"t {i}", ["mild", "severe", "fatal"][i % 3]) for i in range(30)], kind="ordered", order=order)
    assert error.value.code == "FT022"
