"""Decisions stay with their texts, through files that people edit; they change train and nothing else."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny

from ftkit.checks.labels import DROP, KEEP, Decisions
from ftkit.data import Rows, Splits
from ftkit.data.splitting import wording
from ftkit.findings import FtkitError

COLUMNS = ["wording", "row", "given", "decision", "text"]


@pytest.fixture
def data() -> Splits:
    return tiny.splits()


@pytest.fixture
def made(data) -> Decisions:
    """Of train: row 0 is kept, 1 is dropped, 2 and 3 become bone (2 is bone already)."""
    first = Decisions().decide(data.train.take([0]), KEEP).decide(data.train.take([1]), DROP)
    return first.decide(data.train.take([2, 3]), ["bone", "bone"])


def told(decisions: Decisions) -> dict[str, str]:
    """What was decided about each row."""
    return dict(zip(decisions.frame()["row"], decisions.frame()["decision"], strict=True))


def parts(splits: Splits) -> list[dict[str, str]]:
    return [dict(zip(p.texts, p.named_labels(), strict=True)) for p in splits.parts]


def test_deciding_gives_a_new_record_that_says_what_was_decided(data, made):
    assert told(made) == {"train-0": KEEP, "train-1": DROP, "train-2": KEEP, "train-3": "bone"}
    again = made.decide(data.train.take([1]), "heart").decide(data.train.take([3]), "")
    assert told(again) == {"train-0": KEEP, "train-2": KEEP, "train-1": "heart"}
    assert len(told(made)) == 4, "it was not changed"
    assert made.summary() == "Decided: 2 to keep, 1 to drop, 1 with another label."
    assert made.frame()["given"].tolist() == ["heart", "lung", "bone", "heart"]
    assert made.frame()["text"].tolist() == list(data.train.texts[:4]) and "latest first" in repr(made)
    assert Decisions().tables() == [] and "0 to keep" in Decisions().summary()


def test_an_unknown_label_is_refused_with_the_row_and_a_guess(data):
    with pytest.raises(ValueError, match=r"row 'train-5' .*'haert' is no decision; did you mean 'heart'\?"):
        Decisions().decide(data.train.take([5]), "haert")
    with pytest.raises(ValueError, match="write \\(keep\\), \\(drop\\), or one of heart, lung, bone"):
        Decisions().decide(data.train.take([5]), "xyzzy")
    with pytest.raises(ValueError):  # one for each row, or one for all
        Decisions().decide(data.train.take([5, 6]), ["heart"])


def test_train_is_mended_and_nothing_else(data, made):
    mended = made.mended(data)
    train, valid, test = parts(data)
    del train[data.train.texts[1]]
    train[data.train.texts[3]] = "bone"
    assert parts(mended) == [train, valid, test]
    assert mended.valid is data.valid and mended.test is data.test
    assert "train-1" not in mended.train.ids and len(mended.train.ids) == 59
    assert parts(Decisions().mended(data)) == parts(data)


def test_decisions_hold_for_other_ids_and_in_other_splits(data, made):
    renamed = replace(data, train=replace(data.train, ids=tuple(f"x{i}" for i in range(60))))
    assert parts(made.mended(renamed)) == parts(made.mended(data))
    other, moved = data.train.texts[3], data.train.texts[1].upper()
    seen = []
    for splits in data.folds(k=3):
        mended = made.mended(splits)
        assert mended.valid is splits.valid and mended.test is splits.test, "they may hold decided rows"
        train = parts(mended)[0]
        assert train.get(other, "bone") == "bone" and data.train.texts[1] not in train
        seen.append(other in train)
    assert sorted(seen) == [False, True, True] or sum(seen) >= 1
    loud = replace(data.train, texts=tuple(t.upper() for t in data.train.texts))
    assert moved not in made.mended(replace(data, train=loud)).train.texts, "case and blanks do not matter"


def test_several_labels_a_row_are_refused_as_by_label_issues(made):
    with pytest.raises(ValueError, match="several labels a row"):
        made.mended(tiny.splits(kind="multiple"))


def test_a_train_split_that_would_be_empty_is_an_error(data):
    with pytest.raises(ValueError, match="no rows"):
        Decisions().decide(data.train, DROP).mended(data)


ODD = ("=1+1", "+49 170", "-5 degrees", "@home", "'tis", 'he said "no", twice', "a\nb;c", "half \ud800 pair", "ŝ €")


@pytest.fixture
def odd() -> Splits:
    """Texts, ids and labels that a spreadsheet would compute, or cut in two."""
    names = ("=yes", "-1", "keep", "a, b", "'no")
    train = Rows(
        name="train", texts=ODD, ids=ODD, labels=[i % 5 for i in range(len(ODD))], label_names=names, source="odd"
    )
    others = [Rows(name=n, texts=[n], labels=[0], label_names=names) for n in ("valid", "test")]
    return Splits(name="odd", train=train, valid=others[0], test=others[1])


def test_what_is_written_is_read_again_whatever_is_in_it(odd, tmp_path):
    names = odd.label_names
    made = Decisions().decide(odd.train, [names[(i + 1) % 5] for i in range(len(ODD))])
    made.write(tmp_path / "d.csv")
    read = Decisions.read(tmp_path / "d.csv")
    assert read.frame()["decision"].tolist() == made.frame()["decision"].tolist()
    assert read.frame()["row"].tolist() == [o.replace("\ud800", "?") for o in ODD], "to be read, not to be found by"
    assert read.frame().index.tolist() == [wording(o) for o in ODD]
    assert parts(read.mended(odd)) == parts(made.mended(odd))
    read.write(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "d.csv").read_bytes()


def test_no_cell_in_the_file_is_a_formula(odd, tmp_path):
    made = Decisions().decide(odd.train, ["=yes", "-1", "keep", "a, b", "'no", *["=yes"] * 4])
    made.write(tmp_path / "d.csv")
    raw = (tmp_path / "d.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf"), "a spreadsheet program takes it for UTF-8"
    head, *body = list(csv.reader(raw.decode("utf-8-sig").splitlines()))
    assert head == COLUMNS and len(body) == len(ODD)
    assert not [cell for row in body for cell in row if cell[:1] in "=+-@" and cell]
    assert body[0][1] == body[0][4] == "'=1+1" and body[2][1] == "'-5 degrees"


def test_a_file_that_a_person_saved_again_is_read(data, made, tmp_path):
    made.write(path := tmp_path / "d.csv")
    rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    rows[1][3], rows[2][3], rows[3][3] = " lung ", "", "(drop)"
    order = [1, 0, 2, 3, 4]
    lines = [";".join(row[i] for i in order) for row in rows]
    path.write_text("".join(f"{line}\r\n" for line in lines), encoding="cp1252", newline="")
    assert told(Decisions.read(path)) == {"train-0": "lung", "train-2": DROP, "train-3": "bone"}
    mended = Decisions.read(path).mended(data)
    assert parts(mended)[0][data.train.texts[0]] == "lung" and len(mended.train) == 59


def test_a_label_that_nobody_knows_is_told_with_its_row(data, made, tmp_path):
    made.write(path := tmp_path / "d.csv")
    path.write_text(path.read_text(encoding="utf-8-sig").replace(",bone,", ",bonne,"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"row 'train-3' .*'bonne' is no decision; did you mean 'bone'\?"):
        Decisions.read(path).mended(data)


DAMAGE = {
    "cut off": lambda text: text[: len(text) // 2],
    "cut off at the last cell": lambda text: text.rstrip().rpartition(",")[0],
    "a column lost": lambda text: "\n".join(line.rpartition(",")[0] for line in text.splitlines()),
    "a column more": lambda text: "\n".join(f"{line},x" for line in text.splitlines()),
    "a key changed": lambda text: text.replace(text.splitlines()[1][:6], "1.2E+9"),
    "emptied": lambda text: "",
    "another table": lambda text: "text,label\na,b\n",
    "no table": lambda text: '"a',
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_told_and_left_as_it_is(made, tmp_path, how):
    made.write(path := tmp_path / "d.csv")
    path.write_text(DAMAGE[how](path.read_text(encoding="utf-8-sig")), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(FtkitError, match="FT00"):
        Decisions.read(path)
    with pytest.raises(FtkitError, match="FT00"):
        made.write(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["d.csv"]


def test_what_is_no_file_of_decisions_is_named(made, tmp_path):
    (tmp_path / "reviews.csv").write_text("text,label\ngood,yes\n")
    with pytest.raises(FtkitError, match=r"reviews\.csv is no file of decisions"):
        made.write(tmp_path / "reviews.csv")
    with pytest.raises(FtkitError, match="FT001"):
        Decisions.read(tmp_path / "none.csv")


def test_a_write_that_fails_leaves_what_was_there(data, made, tmp_path, monkeypatch):
    made.write(path := tmp_path / "d.csv")
    before = path.read_bytes()

    def full(self, content):
        with self.open("wb") as out:
            out.write(content[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        made.decide(data.train.take([9]), DROP).write(path)
    assert path.read_bytes() == before


def test_a_file_without_decisions_is_one_too(tmp_path):
    Decisions().write(path := tmp_path / "d.csv")
    assert path.read_text(encoding="utf-8-sig").strip() == ",".join(COLUMNS)
    assert told(Decisions.read(path)) == {}


def test_another_process_reads_the_same(made, tmp_path):
    made.write(tmp_path / "d.csv")
    code = "import sys; from ftkit.checks.labels import Decisions; print(repr(Decisions.read(sys.argv[1])))"
    seen = subprocess.check_output([sys.executable, "-c", code, tmp_path / "d.csv"], text=True)
    assert seen.strip() == repr(made).strip()
