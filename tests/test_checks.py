"""Checks say what they looked for; cut texts, doubtful labels, small and unequal classes are found, and only those."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import tiny

from ftkit.checks import (
    Checked,
    check_comparison,
    check_data,
    flip_labels,
    label_issues,
    personal_data,
    token_lengths,
)
from ftkit.checks.checked import FEW_ROWS
from ftkit.data import Rows, Splits
from ftkit.findings import Finding
from ftkit.plan import Plan


@pytest.fixture(scope="module")
def base():
    return tiny.base()


class Telling:
    """Stands for a base whose features tell the class, so that a doubt can only come from the label."""

    max_tokens = 32
    tokenizer = tiny.tokenizer()

    def encode(self, texts, **_):
        rng = np.random.default_rng(0)
        hits = [[any(w in t.split() for w in words) for words in tiny.CLASSES.values()] for t in texts]
        return np.array(hits, dtype=np.float32) + rng.normal(0, 0.05, (len(texts), 3)).astype(np.float32)


def with_counts(*counts: int) -> Splits:
    """Return splits whose train has so many rows of each class, in words that no two rows share."""
    parts, rng = {}, np.random.default_rng(0)
    for name, sizes in {"train": counts, "valid": [2] * len(counts), "test": [2] * len(counts)}.items():
        labels = np.repeat(np.arange(len(sizes)), sizes)
        texts = tuple("".join(map(chr, rng.integers(97, 123, 30))) for _ in labels)
        parts[name] = Rows(
            name=name, texts=texts, labels=labels, label_names=tuple("abcdefgh"[: len(counts)]), source="words"
        )
    return Splits(name="words", **parts)


def test_a_check_says_what_it_looked_for_and_what_it_found() -> None:
    checked = Checked(what="x", looked_for=("FT029", "FT021"), findings=(Finding(code="FT029", message="a lot."),))
    assert checked.looked_for == ("FT021", "FT029") and "found FT029" in checked.summary()
    assert checked.frame()["Here"].tolist() == ["not found", "a lot."]


def test_a_finding_that_was_not_looked_for_is_a_mistake_in_the_check() -> None:
    with pytest.raises(ValueError, match="FT029"):
        Checked(what="x", looked_for=("FT021",), findings=(Finding(code="FT029", message="."),))


def test_lengths_are_counted_before_the_cut(base) -> None:
    rows = Rows(name="train", texts=("heart", "heart " * 40), labels=[0, 1], label_names=("a", "b"))
    found = token_lengths(base, rows)
    assert found.n_tokens.tolist() == [3, 42]  # with the two special tokens
    assert found.share_cut == 0.5 and found.share_lost == pytest.approx(10 / 45)
    assert "42 tokens would leave 95 %" in found.findings[0].message


def test_the_cut_is_shown_where_the_model_stops_reading(base) -> None:
    text = " ".join(["heart"] * 30 + ["lung", "bone"] * 5)  # 32 tokens with the special ones: 30 words are read
    found = token_lengths(base, Rows(name="train", texts=(text, "bone"), labels=[0, 1], label_names=("a", "b")))
    ((row_id, read, lost),) = found.cuts
    assert row_id == "train-0" and set(read.split()) == {"heart"} and lost.split()[:2] == ["lung", "bone"]
    assert base.tokenizer.decode(base.tokenize([text])[0][1:-1]).endswith(read)


def test_texts_that_are_cut_often_are_a_finding_and_few_are_not(base) -> None:
    few, many = (
        Rows(name="train", texts=tuple(["heart " * 40] * n + ["lung"] * (100 - n)), labels=[0] * 100, label_names="ab")
        for n in (5, 6)
    )
    assert token_lengths(base, few).findings == ()
    assert [f.code for f in token_lengths(base, many).findings] == ["FT029"]


def test_lengths_show_a_table_and_a_histogram(base) -> None:
    found = token_lengths(base, tiny.rows("train", 30, seed=0))
    assert found.frame()["max_tokens"].tolist()[0] == "32 (now)"
    figure, alt = found.picture()
    assert figure.axes[0].patches and "go beyond 32" in alt


def test_no_bar_of_the_histogram_is_half_this_side_of_the_limit_and_half_that(base) -> None:
    texts = tuple("heart " * n for n in (5, 20, 29, 30, 31, 40, 5000))
    rows = Rows(name="train", texts=texts, labels=[0] * 7, label_names=("a", "b"))
    ax = token_lengths(base, rows).picture()[0].axes[0]
    whole, cut = ([b for b in container if b.get_height()] for container in ax.containers)
    assert sum(b.get_height() for b in whole) == 4 and sum(b.get_height() for b in cut) == 3
    assert max(b.get_x() + b.get_width() for b in whole) <= 32.5 + 1e-6 <= min(b.get_x() for b in cut) + 2e-6
    assert "or more" in ax.get_xlabel()


def test_no_rows_have_no_lengths(base) -> None:
    with pytest.raises(ValueError, match="no train texts"):
        token_lengths(base, tiny.rows("train", 3, seed=0).take([]))


@pytest.mark.parametrize("grouped", [False, True])
def test_flipped_labels_are_found_and_lead_the_list(grouped: bool) -> None:
    data = tiny.splits(n_train=120, grouped=grouped)
    noisy, wrong = flip_labels(data, 0.1, seed=1)
    found = label_issues(Telling(), noisy)
    assert len(wrong) == 12 and found.recall(wrong) > 0.9 and found.precision(wrong) > 0.9
    assert set(found.ids[:10]) <= set(wrong)
    true = dict(zip(data.train.ids, data.train.named_labels(), strict=True))
    assert all(true[i] == s for i, s in found.frame()[["Id", "Suggested"]].head(10).itertuples(index=False))
    assert [f.code for f in found.findings] == ["FT090"]


def test_right_labels_raise_no_doubt() -> None:
    found = label_issues(Telling(), tiny.splits())
    assert found.ids == () and found.findings == () and found.tables() == [] and found.recall(["x"]) == 0.0


def test_a_row_is_judged_by_a_model_that_never_saw_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.linear_model

    data, seen = tiny.splits(n_train=60, grouped=True), []
    base = Telling()
    features = {tuple(f): g for f, g in zip(base.encode(data.train.texts), data.train.groups, strict=True)}
    real = sklearn.linear_model.LogisticRegression

    class Watched(real):
        def fit(self, x, y):
            self.learned_from = {features.get(tuple(row)) for row in x}
            return super().fit(x, y)

        def predict_proba(self, x):
            asked = {features.get(tuple(row)) for row in x} - {None}
            seen.append((len(x), self.learned_from & asked))
            return super().predict_proba(x)

    monkeypatch.setattr("ftkit.checks.labels.fit_probe", lambda base, data: (None, 1.0))
    monkeypatch.setattr(sklearn.linear_model, "LogisticRegression", Watched)
    label_issues(base, data)
    assert sum(n for n, _ in seen) == 60 and all(not shared for _, shared in seen)


def test_flipping_changes_exactly_the_rows_it_names_and_only_in_train() -> None:
    data = tiny.splits()
    noisy, wrong = flip_labels(data, 0.25, seed=2)
    changed = np.flatnonzero(noisy.train.labels != data.train.labels)
    assert tuple(data.train.ids[i] for i in changed) == wrong and len(wrong) == 15
    assert noisy.valid is data.valid and noisy.test is data.test
    assert flip_labels(data, 0.25, seed=2)[1] == wrong != flip_labels(data, 0.25, seed=3)[1]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_of_flips_out_of_range_is_named(share: float) -> None:
    with pytest.raises(ValueError, match="share is"):
        flip_labels(tiny.splits(), share)


def test_several_labels_a_row_are_refused_in_a_sentence(base) -> None:
    data = tiny.splits(kind="multiple")
    with pytest.raises(ValueError, match="several labels"):
        label_issues(base, data)
    with pytest.raises(ValueError, match="several labels"):
        flip_labels(data, 0.1)


@pytest.mark.parametrize("k", [1, 11])
def test_the_number_of_folds_must_fit_the_groups(base, k: int) -> None:
    with pytest.raises(ValueError, match=f"k is {k}; it must be from 2 to 10"):
        label_issues(base, tiny.splits(n_train=60, grouped=True), k=k)


def test_good_data_pass_and_the_check_says_what_it_looked_for(base) -> None:
    checked = check_data(base, with_counts(30, 25))
    assert checked.findings == () and checked.looked_for == ("FT028", "FT029", "FT091", "FT092", "FT093")


@pytest.mark.parametrize(
    ("counts", "codes"),
    [
        ((FEW_ROWS, 9 * FEW_ROWS), []),
        ((FEW_ROWS, 10 * FEW_ROWS), ["FT091"]),
        ((FEW_ROWS - 1, 30), ["FT092"]),
        ((3, 30), ["FT091", "FT092"]),
    ],
)
def test_small_and_unequal_classes_are_found(base, counts, codes) -> None:
    assert [f.code for f in check_data(base, with_counts(*counts)).findings] == codes


def test_near_duplicates_cut_texts_and_what_was_repaired_are_told_together(base) -> None:
    data = with_counts(30, 25)
    long = " ".join("".join(map(chr, word)) for word in np.random.default_rng(9).integers(97, 123, (40, 6)))
    train = replace(data.train, texts=(*(f"{long} {i}" for i in range(5)), *data.train.texts[5:]))
    test = replace(data.test, texts=(f"{long} left", *data.test.texts[1:]))
    repaired = (Finding(code="FT010", message="one row."),)
    test = replace(test, texts=(*test.texts[:-1], "write to a.b@example.org"))
    checked = check_data(base, replace(data, train=train, test=test, findings=repaired))
    assert [f.code for f in checked.findings] == ["FT010", "FT028", "FT093", "FT029"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("Write to jo.o'neill+x@mail.example.co.uk, please", "e-mail address"),
        ("paid with 4111 1111 1111 1111 today", "card number"),
        ("paid with 378282246310005.", "card number"),
        ("to DE89 3704 0044 0532 0130 00, thanks", "account number (IBAN)"),
        ("to NL91ABNA0417164300", "account number (IBAN)"),
        ("call +49 (0)30 123456", "telephone number"),
        ("call (415) 555-0132 now", "telephone number"),
        ("seen by Dr. J. Okafor-Lind yesterday", "name after a title"),
    ],
)
def test_personal_data_are_found_by_their_form(text: str, what: str) -> None:
    found = personal_data(Rows(name="train", texts=(text, "nothing"), labels=[0, 1], label_names=("a", "b")))
    assert what in found.frame()["What"].tolist()
    assert [f.code for f in found.findings] == ["FT093"]
    assert set(found.frame()["Id"]) == {"train-0"}
    begins = next(begins for kind, _, begins in found.hits if kind == what)
    assert len(begins) == 4 and text not in repr(found), "what was found is not shown whole"


@pytest.mark.parametrize(
    "text",
    [
        "paid with 4111 1111 1111 1112 today",  # one digit off
        "to DE89 3704 0044 0532 0130 01",
        "Fracture S72.001A of 12345 in 2019-2020",
        "order 2024-11-02-0001 at 10:30, dr. who",
        "10 000 000 000 rows @ 5 a piece, a@b",
        "Prof says so. MR imaging",
    ],
)
def test_other_numbers_and_words_are_left_alone(text: str) -> None:
    found = personal_data(Rows(name="train", texts=(text, "x"), labels=[0, 1], label_names=("a", "b")))
    assert found.hits == () and found.findings == () and "nothing has the form" in found.summary()


def test_a_hostile_text_does_not_hold_up_the_search() -> None:
    texts = ("a" * 50_000, "1" * 50_000, "+" + "1 " * 25_000, "Dr. " + "A. " * 20_000, "a." * 25_000 + "@")
    rows = Rows(name="train", texts=texts, labels=[0, 1, 0, 1, 0], label_names=("a", "b"))
    began = time.perf_counter()
    personal_data(rows)
    assert time.perf_counter() - began < 5


def test_a_comparison_at_unequal_steps_or_at_one_rate_is_told(base) -> None:
    data, plan = with_counts(30, 34), Plan(train="top 1", batch_size=32, epochs=2)
    codes = lambda *plans: [f.code for f in check_comparison(plans, data).findings]  # noqa: E731
    lora = plan.but(method="lora")
    assert codes(plan, lora.but(lr=1e-3)) == []
    assert codes(plan, plan.but(lr=1e-3)) == [], "one thing at several rates is a search"
    assert codes(plan, plan.but(train="head")) == [], "a head has a rate of its own"
    assert codes(plan, lora) == ["FT078"]
    assert codes(plan, lora.but(lr=1e-3, epochs=4)) == ["FT077"]
    assert codes(plan, lora.but(batch_size=64)) == ["FT077", "FT078"]
    assert codes(plan.but(batch_size=40), lora.but(lr=1e-3, batch_size=60)) == [], "as many steps"
    assert "2 steps (top 1, LoRA" in check_comparison([plan, lora.but(batch_size=64)], data).findings[0].message


@pytest.mark.needs_assets("minilm", "icd10cm")
@pytest.mark.slow
def test_most_labels_flipped_in_real_diagnoses_are_found_over_three_seeds() -> None:
    from ftkit.data import load_data
    from ftkit.pretrained import load_pretrained

    base, data = load_pretrained("minilm", max_tokens=32), load_data("health/diagnoses", per_class=40)
    recalls = []
    for seed in range(3):
        noisy, wrong = flip_labels(data, 0.05, seed)
        recalls.append(label_issues(base, noisy, seed=seed).recall(wrong))
    assert min(recalls) > 0.5
