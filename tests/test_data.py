"""What `Rows` and `Splits` promise, and what the named sets hold: nothing leaks, everything repeats."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter

import numpy as np
import pytest

import ftkit as ft
from draw_indices import DRAWS, NAME, PER_CHAPTER, draw
from ftkit import sources
from ftkit.data import Card, Rows, Splits, data_sets, load_data
from ftkit.data.sets import parse
from ftkit.data.splitting import allocate, normalised, units

NAMES = ("train", "valid", "test")


def rows(name: str = "train", n: int = 12, start: int = 0, **fields) -> Rows:
    """Return n rows in two classes, numbered from `start`."""
    values = {"texts": [f"text {start + i}" for i in range(n)], "labels": [i % 2 for i in range(n)]}
    return Rows(name=name, label_names=("no", "yes"), **values | fields)


def splits(**fields) -> Splits:
    return Splits(name="toy", train=rows(), valid=rows("valid", 4, 100), test=rows("test", 6, 200), **fields)


def grouped_pairs(n_groups: int = 60):
    """A table in which each of `n_groups` has one to five rows, all of one class."""
    import pandas as pd

    size = [1 + g % 5 for g in range(n_groups)]
    found = [(f"case {g} note {i}", "abc"[g % 3], f"g{g}") for g in range(n_groups) for i in range(size[g])]
    return pd.DataFrame(found, columns=["text", "label", "group"])


# --- Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"labels": [0, 1]}, "labels has the shape"),
        ({"labels": [2] * 12}, "from 0 to 1"),
        ({"labels": [-1] * 12}, "from 0 to 1"),
        ({"kind": "several"}, "kind is 'several'"),
        ({"kind": "multiple"}, "need \\(12, 2\\)"),
        ({"ids": ("a",) * 12}, "unique"),
        ({"groups": ("a",)}, "groups has 1 entries"),
    ],
)
def test_rows_that_disagree_with_themselves_are_refused(fields: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rows(**fields)


def test_labels_of_rows_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        rows().labels[0] = 1


def test_take_keeps_what_belongs_to_a_row_together() -> None:
    part = rows(groups=[f"g{i}" for i in range(12)]).take([5, 2])
    assert (part.texts, part.labels.tolist(), part.groups) == (("text 5", "text 2"), [1, 0], ("g5", "g2"))
    assert part.ids == ("train-5", "train-2")
    assert rows().take(np.arange(12) < 3).texts == ("text 0", "text 1", "text 2")


def test_opening_a_part_counts_for_the_whole() -> None:
    test = rows("test")
    assert test.take([0, 1]).open().opened == 1
    assert test.open() is test
    assert test.opened == 2
    assert rows("test").opened == 0
    assert "opened 2 times" in test.summary()


def test_a_fingerprint_follows_texts_labels_and_names() -> None:
    same, other = rows().fingerprint(), [rows(n=11), rows(labels=[1] * 12), rows(texts=["x"] * 12)]
    assert rows("test").fingerprint() == same
    assert same not in {r.fingerprint() for r in other}
    assert rows(texts=["\ud800"] * 12).fingerprint()


def test_several_labels_are_named_and_counted() -> None:
    r = Rows(name="t", texts=("a", "b"), labels=[[1, 1], [0, 0]], label_names=("x", "y"), kind="multiple")
    assert r.named_labels() == ["x; y", ""]
    assert r.counts.tolist() == [1, 1]


def test_head_shows_text_and_label() -> None:
    head = rows().head(2)
    assert head["Text"].tolist() == ["text 0", "text 1"]
    assert head["Label"].tolist() == ["no", "yes"]


# --- Splits -----------------------------------------------------------------------------------------------------------


def test_a_text_in_two_splits_is_refused() -> None:
    with pytest.raises(ft.FtkitError, match="'TEXT 0' of 'toy' is in both train and test") as error:
        Splits(name="toy", train=rows(), valid=rows("valid", 4, 100), test=rows("test", texts=["TEXT  0"] + ["x"] * 11))
    assert error.value.code == "FT021"


def test_a_group_in_two_splits_is_refused() -> None:
    with pytest.raises(ft.FtkitError, match="group 'g'"):
        Splits(
            name="toy",
            train=rows(groups=["g"] * 12),
            valid=rows("valid", 4, 100, groups=["g"] * 4),
            test=rows("test", 6, 200),
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"texts": (), "labels": ()}, "no rows"),
        ({"label_names": ("yes", "no", "maybe")}, "differs from train"),
        ({"ids": tuple(f"train-{i}" for i in range(4))}, "id"),
    ],
)
def test_splits_that_do_not_fit_together_are_refused(change: dict, says: str) -> None:
    valid = {
        "name": "valid",
        "texts": [f"v{i}" for i in range(4)],
        "labels": [0, 1, 0, 1],
        "label_names": ("no", "yes"),
    }
    with pytest.raises((ValueError, ft.FtkitError), match=says):
        Splits(name="toy", train=rows(), valid=Rows(**valid | change), test=rows("test", 6, 200))


def test_splits_show_their_sizes_labels_and_a_picture() -> None:
    shown = splits()
    assert shown.summary() == "toy: 12 train, 4 valid and 6 test rows in 2 classes."
    assert [caption for caption, _ in shown.tables()] == ["Rows per split", "Rows per label"]
    assert shown.frame()["Rows"].tolist() == ["12", "4", "6"]
    assert shown.picture() is None, "bars of one length say no more than the table"
    uneven = dataclasses.replace(shown, train=shown.train.take([0, 1, 2, 4, 6]))
    assert "from 4 (no) to 1 (yes)" in uneven.picture()[1] and "<img alt=" in uneven._repr_html_()
    assert (shown.n_classes, shown.n_labels, shown.kind) == (2, 2, "single")


def test_what_a_text_holds_is_escaped_when_shown() -> None:
    attack = "<img src=x onerror=alert(1)>"
    data = load_data([(f"{attack} {i}", attack if i % 2 else "b") for i in range(20)])
    assert all(text.startswith(attack) for text in data.train.texts)
    assert attack not in data._repr_html_() + data.train._repr_html_() + data.train.head()._repr_html_()


# --- How rows are dealt out -------------------------------------------------------------------------------------------


def test_units_chain_texts_and_groups() -> None:
    assert units(["a", "b", "B", "c", "d"], ["1", "1", "2", "2", "3"]).tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(("one", "other"), [("ﬁne", "fine"), ("STRASSE", "straße"), (" a\n b", "A b"), ("１２", "12")])
def test_texts_are_compared_without_case_width_and_white_space(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


def test_a_split_is_stratified() -> None:
    labels = np.repeat([0, 1, 2], [200, 60, 10])
    part = allocate(np.eye(3, dtype=np.uint8)[labels], np.arange(270), (0.7, 0.1, 0.2), seed=1)
    found = [np.bincount(labels[part == i], minlength=3).tolist() for i in range(3)]
    assert np.allclose(found, [[140, 42, 7], [20, 6, 1], [40, 12, 2]], atol=1)


def test_a_class_of_three_is_in_every_split() -> None:
    data = load_data([(f"a {i}", "a") for i in range(40)] + [(f"b {i}", "b") for i in range(3)])
    assert [p.counts[1] for p in data.parts] == [1, 1, 1]


def test_a_split_follows_its_seed() -> None:
    pairs = [(f"t {i}", "ab"[i % 2]) for i in range(50)]
    first, again, other = (load_data(pairs, seed=s).fingerprint() for s in (0, 0, 1))
    assert first == again != other


def test_shares_of_the_split_can_be_chosen() -> None:
    data = load_data([(f"t {i}", "ab"[i % 2]) for i in range(100)], split=(0.5, 0.25, 0.25))
    assert [len(p) for p in data.parts] == pytest.approx([50, 25, 25], abs=2)


def test_groups_stay_whole_and_classes_balanced() -> None:
    data = load_data(grouped_pairs(), group="group")
    where = {(g, p.name) for p in data.parts for g in p.groups}
    assert len(where) == 60
    share = np.array([p.counts for p in data.parts]) / sum(p.counts for p in data.parts)
    assert np.allclose(share, np.array([[0.7], [0.1], [0.2]]), atol=0.06)


def test_folds_pool_to_every_row_once() -> None:
    data = load_data([(f"t {i}", "aab"[i % 3]) for i in range(60)])
    everything = {i for p in data.parts for i in p.ids}
    folds = list(data.folds(5, repeats=2, seed=3))
    assert len(folds) == 10
    for repeat in (folds[:5], folds[5:]):
        assert Counter(i for f in repeat for i in f.test.ids) == Counter(everything)
        assert all({i for p in f.parts for i in p.ids} == everything for f in repeat)
    assert set(folds[0].test.ids) != set(folds[5].test.ids)
    assert all(np.allclose(f.test.counts, [8, 4], atol=1) for f in folds)


def test_folds_respect_groups_and_repeat_by_seed() -> None:
    data = load_data(grouped_pairs(), group="group")
    for fold, again in zip(data.folds(4), data.folds(4), strict=True):
        assert not set(fold.test.groups) & (set(fold.train.groups) | set(fold.valid.groups))
        assert fold.fingerprint() == again.fingerprint()


def test_folds_do_not_share_the_count_of_openings() -> None:
    folds = list(splits().folds(2))
    folds[0].test.open()
    assert folds[1].test.opened == 0


@pytest.mark.parametrize("k", [1, 23])
def test_folds_need_a_unit_each(k: int) -> None:
    with pytest.raises(ValueError, match="from 2 to 22"):
        next(splits().folds(k))


def test_fewer_rows_are_part_of_more() -> None:
    data = load_data([(f"t {i}", "ab"[i % 2]) for i in range(400)])
    few, more = data.limit(10), data.limit(40)
    assert few.train.counts.tolist() == [10, 10]
    assert few.valid.counts.tolist() == [5, 5]
    assert set(few.train.ids) < set(more.train.ids) < set(data.train.ids)
    assert few.test is data.test
    assert load_data([(f"t {i}", "ab"[i % 2]) for i in range(400)], per_class=10).fingerprint() == few.fingerprint()
    with pytest.raises(ValueError, match="per_class is 0"):
        data.limit(0)


# --- The named sets ---------------------------------------------------------------------------------------------------

EACH_SET = [
    pytest.param(name, marks=pytest.mark.needs_assets(sources.catalog()["data"][name]["files"])) for name in data_sets()
]


def test_the_catalogue_lists_six_sets_with_cards() -> None:
    assert list(data_sets()) == [
        "legal/licenses",
        "legal/notices",
        "health/drug-reviews",
        "health/diagnoses",
        "commerce/electronics",
        "finance/merchants",
    ]
    assert all(name in repr(data_sets()) for name in data_sets())


@pytest.mark.parametrize("name", data_sets())
def test_a_card_says_source_licence_labels_and_caveats(name: str) -> None:
    card = data_sets()[name]
    assert isinstance(card, Card)
    assert card.licence
    assert card.source
    assert len(card.counts) > 1
    facts = dict(card.frame().itertuples(index=False, name=None))
    assert len(facts["Beware"]) > 50
    assert all(label in repr(card) for label in card.counts)
    assert f"`{name}`" in card.body.splitlines()[0]


@pytest.mark.parametrize("name", EACH_SET)
def test_a_card_counts_what_the_files_hold(name: str) -> None:
    card, found = data_sets()[name], parse(name)
    assert card.counts == dict(zip(found.label_names, found.counts.tolist(), strict=True))
    assert (card.n_rows, bool(card.grouped_by)) == (len(found), found.groups is not None)
    groups = f" in {len(set(found.groups)):,} groups" if found.groups else ""
    assert f"{len(found):,} rows{groups}" in card.body
    assert len({normalised(text) for text in found.texts}) == len(found)


@pytest.mark.parametrize("name", EACH_SET)
def test_a_named_set_loads_with_every_class_in_every_split(name: str) -> None:
    data = load_data(name)
    assert data.card is data_sets()[name]
    assert min(part.counts.min() for part in data.parts) > 0
    assert bool(data.train.groups) == bool(data.card.grouped_by)
    assert all(part.source == name for part in data.parts)


@pytest.mark.needs_assets("icd10cm")
def test_diagnoses_are_drawn_to_the_same_bytes() -> None:
    whole = parse(NAME)
    for number in range(DRAWS):
        stored = (sources.data_root() / "indices" / f"health-diagnoses-{number}.csv").read_bytes()
        assert draw(whole, number).encode() == stored


@pytest.mark.needs_assets("icd10cm")
@pytest.mark.parametrize("number", range(DRAWS))
def test_diagnoses_test_categories_were_never_seen(number: int) -> None:
    data = load_data(NAME, draw=number)
    assert [p.counts.tolist() for p in data.parts] == [[PER_CHAPTER[n]] * 21 for n in NAMES]
    seen = [set(p.groups) for p in data.parts]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    # Spread: no category gives more than a third of a chapter's test rows, or near-copies would decide the score.
    per_category = Counter(zip(data.test.labels.tolist(), data.test.groups, strict=True))
    assert max(per_category.values()) <= 80 / 3
    assert all(i.split("#")[0][:3] == g for i, g in zip(data.test.ids, data.test.groups, strict=True))


def test_stored_draws_differ() -> None:
    tests = []
    for number in range(DRAWS):
        path = sources.data_root() / "indices" / f"health-diagnoses-{number}.csv"
        with path.open(newline="") as lines:
            tests.append({row["id"] for row in csv.DictReader(lines) if row["split"] == "test"})
    assert all(len(t) == 1680 for t in tests)
    assert len(tests[0] & tests[1]) < 840


@pytest.mark.needs_assets("icd10cm")
def test_diagnoses_with_sixteen_rows_a_chapter() -> None:
    few = load_data(NAME, per_class=16)
    assert [len(p) for p in few.parts] == [16 * 21, 5 * 21, 1680]
    assert few.test.fingerprint() == load_data(NAME).test.fingerprint()


@pytest.mark.needs_assets("icd10cm")
def test_chapter_names_are_words() -> None:
    assert all(re.fullmatch(r"[a-z, ]+", name) for name in load_data(NAME).label_names)


@pytest.mark.needs_assets("icd10cm")
def test_a_draw_that_is_not_stored_is_refused() -> None:
    with pytest.raises(ValueError, match="draws 0 to 2"):
        load_data(NAME, draw=3)


@pytest.mark.needs_assets("licensedcode")
def test_no_licence_gives_more_than_fifteen_notices() -> None:
    assert max(Counter(parse("legal/notices").groups).values()) == 15


@pytest.mark.needs_assets("drug-reviews")
def test_reviews_hold_no_html_entities() -> None:
    assert not [text for text in parse("health/drug-reviews").texts if re.search(r"&#?\w+;", text)]


def test_a_misspelt_set_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ft.FtkitError, match="did you mean 'health/diagnoses'") as error:
        load_data("health/diagnosis")
    assert error.value.code == "FT023"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"text": "review"}, "own columns"),
        ({"kind": "several"}, "kind is"),
        ({"split": (0.5, 0.5, 0.5)}, "sum to 1"),
        ({"split": (1.0, 0.0, 0.0)}, "above 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_data(NAME, **options)
