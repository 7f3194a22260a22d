"""Near-duplicates are found across splits, whichever row comes first; a shuffle forgets groups; rows can be chosen."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import tiny

from ftkit.data import Rows, Splits, near_duplicates
from ftkit.findings import FtkitError

LONG = "the quick brown fox jumps over the lazy dog and runs along the river until the night"
OTHERS = (
    "a completely different sentence on quarterly revenue",
    "boil the potatoes for twenty minutes in salted water",
    "reset your password under settings, then security",
    "trains to the coast leave every hour from platform nine",
    "the committee postponed its vote on the new bridge",
)


def splits(train, valid, test, *, groups=None) -> Splits:
    """Return splits with these texts and two labels in turn."""
    parts = {}
    for name, texts in {"train": train, "valid": valid, "test": test}.items():
        parts[name] = Rows(
            name=name,
            texts=texts,
            labels=np.arange(len(texts)) % 2,
            label_names=("no", "yes"),
            groups=None if groups is None else groups[name],
        )
    return Splits(name="small", **parts)


def leaky() -> Splits:
    return splits([LONG, OTHERS[0], f"{OTHERS[1]}!"], [OTHERS[2], OTHERS[1]], [f"{LONG}.", OTHERS[3], OTHERS[4]])


def jaccard(a: str, b: str) -> float:
    one, other = ({t[i : i + 5] for i in range(len(t) - 4)} for t in (f" {a} ", f" {b} "))
    return len(one & other) / len(one | other)


def test_a_text_with_one_sign_more_is_a_near_duplicate_across_splits() -> None:
    found = near_duplicates(leaky())
    assert [(found.data.joined().ids[i], found.data.joined().ids[j]) for i, j in found.pairs] == [
        ("train-0", "test-0"),
        ("train-2", "valid-1"),
    ]
    assert found.across.all() and found.complete
    assert found.similarity == pytest.approx([jaccard(LONG, f"{LONG}."), jaccard(OTHERS[1], f"{OTHERS[1]}!")])
    assert [f.code for f in found.findings] == ["FT028"]
    assert "1 of 2 valid rows (50.0 %) and 1 of 3 test rows (33.3 %)" in found.findings[0].message


def test_without_the_leaking_rows_nothing_is_left_to_find_and_test_keeps_its_rows() -> None:
    data = leaky()
    found = near_duplicates(data)
    assert found.leaking == ("train-0", "train-2")
    clean = data.without(found.leaking)
    assert clean.train.ids == ("train-1",) and clean.test.ids == data.test.ids and clean.valid.ids == data.valid.ids
    assert not near_duplicates(clean).across.any() and near_duplicates(clean).findings == ()


def test_between_valid_and_test_it_is_valid_that_gives_way_and_that_is_told_too() -> None:
    found = near_duplicates(splits([OTHERS[0]], [LONG, OTHERS[1]], [f"{LONG}!"]))
    assert found.leaking == ("valid-0",)
    assert "valid and test share" in found.findings[0].message


def test_near_duplicates_within_a_split_are_counted_and_are_no_leak() -> None:
    found = near_duplicates(splits([LONG, f"{LONG}!"], [OTHERS[0]], [OTHERS[1]]))
    assert len(found.pairs) == 1 and found.findings == () and found.leaking == ()
    assert found.twins("train", "train").ids == ("train-0", "train-1")
    assert found.frame()["Pairs"].tolist() == ["1", "0", "0", "0", "0", "0"]


def test_the_copies_of_one_row_are_listed_with_split_label_and_similarity() -> None:
    found = near_duplicates(leaky())
    assert found.of("test-0")[["Id", "Split", "Label"]].values.tolist() == [["train-0", "train", "no"]]
    assert found.of("train-0")["Id"].tolist() == ["test-0"] and found.of("train-1").empty
    assert found.twins("test").ids == ("test-0",) and found.twins("valid").ids == ("valid-1",)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_every_pair_is_found_and_none_invented(threshold: float) -> None:
    rng = np.random.default_rng(0)
    words = ["alpha", "beta", "gamma", "delta"]
    texts = list(dict.fromkeys(" ".join(rng.choice(words, 6)) for _ in range(60)))
    data = splits(texts[:30], texts[30:40], texts[40:])
    expected = {
        (i, j)
        for i in range(len(texts))
        for j in range(i + 1, len(texts))
        if jaccard(texts[i], texts[j]) >= threshold - 1e-9
    }
    found = near_duplicates(data, threshold=threshold)
    assert {tuple(p) for p in found.pairs.tolist()} == expected
    assert np.all(np.diff(found.similarity) <= 0)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1])
def test_a_threshold_out_of_range_is_named(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold is"):
        near_duplicates(leaky(), threshold=threshold)


def test_texts_too_short_to_compare_are_nobodys_twins() -> None:
    assert not len(near_duplicates(splits(["a", "bc"], ["d"], ["e"])).pairs)


def test_ten_thousand_short_texts_take_seconds_and_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, 7)) for _ in range(1000)]
    texts = [f"{' '.join(rng.choice(words, 6))} {i}" for i in range(10_000)]
    start = time.perf_counter()
    near_duplicates(splits(texts[:7000], texts[7000:8000], texts[8000:]))
    assert time.perf_counter() - start < 30  # 2 s on a quiet machine
    few = splits(texts[:2000], texts[2000:2500], texts[2500:3000])
    tracemalloc.start()  # slows Python down several times, so it watches fewer rows
    near_duplicates(few)
    assert tracemalloc.get_traced_memory()[1] < 150e6
    tracemalloc.stop()


def test_a_set_of_copies_ends_the_search_early_and_says_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftkit.data.duplicates.MAX_PAIRS", 20)
    texts = [f"{LONG} {i}" for i in range(30)]
    found = near_duplicates(splits(texts[:10], texts[10:20], texts[20:]))
    assert len(found.pairs) == 20 and not found.complete and "at least 20 pairs" in found.summary()


def test_markup_in_texts_and_labels_is_shown_as_text() -> None:
    bad = "<img src=x onerror=alert(1)> that is the whole story of this very long review"
    data = splits([bad, OTHERS[0]], [OTHERS[1]], [f"{bad}!", OTHERS[2]])
    data = replace(
        data, **{p.name: replace(p, label_names=("<b>no</b>", "yes")) for p in data.parts}, name="<script>x</script>"
    )
    shown = near_duplicates(data)._repr_html_()
    assert "<img src=x" not in shown and "<b>no" not in shown and "<script>" not in shown
    assert "&lt;script&gt;" in shown and "&lt;b&gt;no" in shown


def test_shuffling_forgets_the_groups_and_deals_the_same_rows() -> None:
    data = tiny.splits(grouped=True)
    dealt = data.shuffled(seed=3)
    assert dealt.train.groups is None and set(dealt.joined().ids) == set(data.joined().ids)
    assert [len(p) for p in dealt.parts] == [len(p) for p in data.parts]
    group = dict(zip(data.joined().ids, data.joined().groups, strict=True))
    shared = {group[i] for i in dealt.train.ids} & {group[i] for i in dealt.test.ids}
    assert shared, "rows of one group now stand on both sides: the leak"
    assert dealt.test.counts.tolist() == data.test.counts.tolist()


def test_shuffling_is_seeded_and_counts_openings_anew() -> None:
    data = tiny.splits()
    data.test.open()
    assert data.shuffled(1).fingerprint() == data.shuffled(1).fingerprint() != data.shuffled(2).fingerprint()
    assert data.shuffled().test.opened == 0 and data.test.opened == 1


def test_joined_rows_come_in_the_order_of_the_splits() -> None:
    data = tiny.splits(grouped=True)
    every = data.joined()
    assert every.ids == data.train.ids + data.valid.ids + data.test.ids and len(every.groups) == len(every)


def test_taking_out_rows_that_are_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="no row 'nobody'"):
        tiny.splits().without(["nobody"])


def test_taking_out_rows_keeps_the_count_of_openings() -> None:
    data = tiny.splits()
    less = data.without(data.test.ids[:1])
    data.test.open()
    assert less.test.opened == 1 and len(less.test) == len(data.test) - 1


def test_rows_are_chosen_by_label_and_by_text() -> None:
    rows = tiny.rows("train", 30, seed=0)
    chosen = rows.where(label="lung")
    assert set(chosen.named_labels()) == {"lung"} and len(chosen) == 10
    assert rows.where(contains="TRAIN7 ").ids == ("train-7",) and not len(rows.where(contains="no such words"))
    assert rows.where(label="lung", contains="train7").ids == ("train-7",)
    assert rows.where(label="heart", contains="train7").ids == ()
    assert rows.where().ids == rows.ids


def test_with_several_labels_a_row_counts_for_each_of_them() -> None:
    rows = Rows(
        name="train", texts=("a", "b", "c"), labels=[[1, 1], [0, 1], [0, 0]], label_names=("x", "y"), kind="multiple"
    )
    assert rows.where(label="y").texts == ("a", "b") and rows.where(label="x").texts == ("a",)


def test_a_misspelt_label_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'lung'"):
        tiny.rows("train", 3, seed=0).where(label="lungs")


def test_looking_at_a_part_of_test_is_looking_at_test() -> None:
    rows = tiny.rows("test", 6, seed=0)
    rows.where(label="lung").open()
    assert rows.opened == 1


def test_an_example_begins_shortly_before_the_words_that_differ() -> None:
    start = f"{LONG}, {', '.join(OTHERS)}, and from here on it is "
    data = splits([f"{start}RED, like a brick"], [OTHERS[0]], [f"{start}blue, like a brick"])
    shown = near_duplicates(data).tables()[1][1].iloc[0]
    assert shown["One text"].startswith("…") and shown["One text"].endswith("it is RED, like a brick")
    assert shown["The other"].endswith("it is blue, like a brick") and len(shown["One text"]) < 80


def test_splits_cut_by_hand_out_of_one_split_are_refused_where_they_share_a_group() -> None:
    rows = tiny.rows("train", 30, seed=0, grouped=True)
    with pytest.raises(FtkitError, match="FT021 The group 'train-0' of 'by hand' is in both train and valid"):
        Splits(
            name="by hand", **{name: rows.take(range(i, 30, 3)) for i, name in enumerate(("train", "valid", "test"))}
        )


@pytest.mark.needs_assets("licensedcode")
@pytest.mark.slow
def test_on_the_notices_a_shuffle_puts_ten_times_as_many_twins_into_test() -> None:
    from ftkit.data import load_data

    data = load_data("legal/notices")
    honest, shuffled = (len(near_duplicates(d).twins("test")) for d in (data, data.shuffled()))
    assert shuffled > 5 * honest and shuffled > 0.2 * len(data.test)
