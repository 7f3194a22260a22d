"""What tuning has to beat: each baseline learns from train, chooses on valid, and never looks at test."""

from __future__ import annotations

import copy
import dataclasses
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from ftkit import baseline, tasks
from ftkit.baseline import STRENGTHS, BlockProbes
from ftkit.data import Rows, Splits
from ftkit.evaluation import evaluate
from ftkit.findings import FtkitError

TEXTS = ["heart of the left", "acute bone fracture", "lung and airway", "with other chronic"]


@pytest.fixture(scope="module")
def base():
    return tiny.base()


def _without_test(data: Splits) -> SimpleNamespace:
    """The same data with no test split to look at."""
    return SimpleNamespace(
        train=data.train, valid=data.valid, label_names=data.label_names, n_labels=data.n_labels, kind=data.kind
    )


def _all(base, data) -> list[baseline.Baseline]:
    return [baseline.majority(data), baseline.tfidf(data), baseline.zero_shot(base, data), baseline.probe(base, data)]


@pytest.mark.parametrize("kind", ["single", "multiple", "ordered"])
def test_every_baseline_answers_every_kind_of_label_without_a_test_split(base, kind):
    data = tiny.splits(kind=kind)
    for made in _all(base, _without_test(data)):
        proba = made.predict_proba(TEXTS)
        assert proba.shape == (4, 3), made.name
        assert np.isfinite(proba).all() and (proba >= 0).all() and (proba <= 1).all(), made.name
        if kind != "multiple":
            assert np.allclose(proba.sum(axis=1), 1), made.name
        assert 0 <= evaluate(made, data.valid).accuracy <= 1


def test_no_baseline_opens_a_split(base):
    data = tiny.splits()
    _all(base, data)
    assert [rows.opened for rows in data.parts] == [0, 0, 0]


def test_the_majority_knows_the_shares_of_the_classes_and_nothing_else():
    train = dataclasses.replace(tiny.rows("train", 10, seed=0), labels=np.array([2] * 6 + [0] * 4))
    data = SimpleNamespace(train=train)
    assert baseline.majority(data).predict_proba(["heart", "bone"]).tolist() == [[0.4, 0, 0.6]] * 2
    assert "'bone'" in baseline.majority(data).summary()


def test_tfidf_learns_words_that_tell_the_classes_apart():
    data = tiny.splits(n_train=200)
    assert evaluate(baseline.tfidf(data), data.test).accuracy > 0.9


def test_the_vocabulary_is_that_of_train():
    data = tiny.splits()
    other = Splits(
        name="tiny",
        train=data.train,
        valid=dataclasses.replace(data.valid, texts=tuple(f"{t} unheard" for t in data.valid.texts)),
        test=dataclasses.replace(data.test, texts=tuple(f"{t} unheard" for t in data.test.texts)),
    )
    one, two = baseline.tfidf(data), baseline.tfidf(other)
    assert one.note == two.note and "words and pairs" in one.note  # it says how many
    assert np.array_equal(one.predict_proba(data.test.texts), one.predict_proba(other.test.texts))
    assert np.array_equal(one.predict_proba(TEXTS), two.predict_proba(TEXTS))


def test_texts_without_words_are_refused():
    data = tiny.splits()
    empty = dataclasses.replace(data.train, texts=tuple(f"{i % 10} !" for i in range(60)))
    with pytest.raises(FtkitError, match="FT061"):
        baseline.tfidf(dataclasses.replace(data, train=empty))


def test_zero_shot_reads_the_names_of_the_labels_and_no_row(base):
    names = SimpleNamespace(label_names=("heart", "lung", "bone"), kind="single")
    alone = baseline.zero_shot(base, names).predict_proba(TEXTS)
    data = tiny.splits()
    shuffled = dataclasses.replace(data.train, labels=np.random.default_rng(0).permutation(data.train.labels))
    for given in (data, dataclasses.replace(data, train=shuffled)):
        assert np.array_equal(baseline.zero_shot(base, given).predict_proba(TEXTS), alone)
    assert np.abs(alone - 1 / 3).max() > 0.01


def test_zero_shot_finds_a_label_that_is_said_word_for_word(base):
    names = ("heart valve", "lung airway", "bone fracture")
    made = baseline.zero_shot(base, SimpleNamespace(label_names=names, kind="single"))
    assert made.predict_proba(names).argmax(axis=1).tolist() == [0, 1, 2]


def test_zero_shot_puts_the_name_into_the_template(base):
    data = SimpleNamespace(label_names=("heart", "bone"), kind="single")
    made = baseline.zero_shot(base, data, template="acute {} of the left")
    assert made.predict_proba(["acute heart of the left", "acute bone of the left"]).argmax(axis=1).tolist() == [0, 1]


def _head_of(base, data: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the probe itself, and of its weights in a linear head."""
    model, _ = baseline.fit_probe(base, data)
    weight, bias = baseline.probe_weights(model, data)
    assert weight.shape == (data.n_labels, base.hidden_size) and bias.shape == (data.n_labels,)
    logits = base.encode(data.valid.texts) @ weight.T + bias
    return baseline.probe(base, data).predict_proba(data.valid.texts), tasks.probabilities(logits, data.kind)


@pytest.mark.parametrize("kind", ["single", "multiple", "ordered"])
def test_the_weights_of_a_probe_give_its_probabilities(base, kind):
    probe, head = _head_of(base, tiny.splits(kind=kind))
    assert np.allclose(probe, head, atol=1e-5)


def _with_classes(kept: tuple[int, ...], names: tuple[str, ...]) -> Splits:
    """Tiny splits with only the rows of some classes, under other names."""

    def cut(rows: Rows) -> Rows:
        part = rows.take(np.isin(rows.labels, kept))
        return dataclasses.replace(part, label_names=names)

    data = tiny.splits(n_train=90)
    return Splits(name="tiny", **{rows.name: cut(rows) for rows in data.parts})


def test_the_weights_of_a_probe_with_two_classes_give_its_probabilities(base):
    probe, head = _head_of(base, _with_classes((0, 1), ("heart", "lung")))
    assert np.allclose(probe, head, atol=1e-5)


@pytest.mark.parametrize("kept", [(0, 1), (0, 2), (0, 1, 2)])
def test_a_class_without_a_row_in_train_is_never_the_answer(base, kept):
    data = _with_classes(kept, ("heart", "lung", "bone", "skin"))
    probe, head = _head_of(base, data)
    never = [c for c in range(4) if c not in kept]
    assert (probe[:, never] == 0).all()
    assert np.array_equal(probe.argmax(axis=1), head.argmax(axis=1))
    known = head[:, kept] / head[:, kept].sum(axis=1, keepdims=True)
    assert np.allclose(probe[:, kept], known, atol=1e-5)


def test_a_class_without_rows_stays_unanswered_however_lopsided_the_others_are():
    model = SimpleNamespace(coef_=np.array([[50.0]]), intercept_=np.array([9.0]), classes_=np.array([0, 1]))
    weight, bias = baseline.probe_weights(model, SimpleNamespace(kind="single", label_names=("a", "b", "never")))
    logits = np.linspace(-1, 1, 21)[:, None] @ weight.T + bias
    assert set(logits.argmax(axis=1)) == {0, 1}


def test_a_label_that_no_row_or_every_row_has_does_not_stop_a_probe(base):
    data = tiny.splits(kind="multiple")
    labels = data.train.labels.copy()
    labels[:, 1], labels[:, 2] = 0, 1
    data = dataclasses.replace(data, train=dataclasses.replace(data.train, labels=labels))
    probe, head = _head_of(base, data)
    assert (probe[:, 1] == 0).all() and (probe[:, 2] == 1).all()
    assert np.allclose(probe, head, atol=1e-4)


def test_the_strength_of_the_penalty_is_the_best_on_valid(base):
    from sklearn.linear_model import LogisticRegression

    data = tiny.splits()
    train, valid = base.encode(data.train.texts), base.encode(data.valid.texts)
    scores = {
        c: LogisticRegression(C=c, max_iter=2000).fit(train, data.train.labels).score(valid, data.valid.labels)
        for c in STRENGTHS
    }
    assert scores[baseline.fit_probe(base, data)[1]] == max(scores.values())
    assert len(set(scores.values())) > 1


def test_making_baselines_leaves_the_base_as_it_was(base):
    import torch

    before = {n: t.clone() for n, t in base.encoder.state_dict().items()}
    _all(base, tiny.splits())
    assert all(torch.equal(before[n], t) for n, t in base.encoder.state_dict().items())


@pytest.mark.parametrize("kind", ["single", "multiple", "ordered"])
def test_each_stage_is_probed_without_a_test_split(base, kind):
    data = tiny.splits(kind=kind)
    probes = baseline.probe_blocks(base, _without_test(data))
    assert list(probes.scores) == ["embeddings", "block 0", "block 1", "block 2"]
    assert all(s.rows.texts == data.valid.texts for s in probes.scores.values())
    assert [rows.opened for rows in data.parts] == [0, 1, 0]  # valid is scored, and that is counted once


def _deaf(base, group: str):
    """The same base, with a block (or the embeddings) that passes on nothing of the text."""
    deaf = dataclasses.replace(base, encoder=copy.deepcopy(base.encoder))
    ends = {"embeddings": "word_embeddings.weight"}.get(group, "output.LayerNorm.weight")
    with torch.no_grad():
        for name, weight in deaf.encoder.named_parameters():
            if name in base.groups[group] and name.endswith(ends):
                weight.zero_()
    return deaf


def test_the_signal_is_gone_after_the_block_that_drops_it_and_not_before(base):
    data = tiny.splits(n_train=300, n_valid=120)
    scores = [s.accuracy for s in baseline.probe_blocks(_deaf(base, "block 1"), data).scores.values()]
    assert min(scores[:2]) > 0.8
    assert max(scores[2:]) < 0.5


def test_without_words_no_stage_has_a_signal(base):
    probes = baseline.probe_blocks(_deaf(base, "embeddings"), tiny.splits(n_train=300, n_valid=120))
    assert max(s.accuracy for s in probes.scores.values()) < 0.5


def _probed(**right) -> BlockProbes:
    rows = tiny.yes_no(np.zeros(200, dtype=int))
    scores = {name: tiny.answered(name, rows, np.arange(200) < n) for name, n in right.items()}
    return BlockProbes(name="made up", scores=scores)


def test_the_signal_appears_at_the_first_stage_that_no_later_one_beats_by_more_than_chance():
    assert _probed(a=100, b=150, c=152, d=151).appears == "b"
    assert _probed(a=100, b=110, c=120, d=160).appears == "d"
    assert _probed(a=150, b=100, c=151).appears == "a"
    assert _probed(a=100, b=150, c=152).best == "c"


def test_a_gain_and_its_interval_are_those_of_a_comparison():
    from ftkit.report import compare

    rng, rows = np.random.default_rng(0), tiny.yes_no(np.zeros(60, dtype=int), groups=[str(i // 4) for i in range(60)])
    one, two = (tiny.answered(n, rows, rng.random(60) < p) for n, p in (("one", 0.5), ("two", 0.7)))
    probes = BlockProbes(name="made up", scores={"one": one, "two": two})
    gain, low, high = probes.gain("one", "two")
    assert gain == pytest.approx(two.accuracy - one.accuracy)
    assert (low, high) == pytest.approx(compare(one, two).interval("accuracy"))


@pytest.mark.slow
@pytest.mark.needs_assets("minilm", "icd10cm")
def test_pretrained_blocks_add_to_the_words_and_random_ones_do_not():
    from ftkit import load_data, load_pretrained
    from ftkit.pretrained import from_scratch

    base = load_pretrained("minilm", max_tokens=32)
    learned, blank = [], []
    for seed in range(3):
        data = load_data("health/diagnoses", per_class=60, seed=seed)
        for gains, model in ((learned, base), (blank, from_scratch(base, seed=seed))):
            probes = baseline.probe_blocks(model, data)
            gains.append([probes.scores[s].accuracy for s in ("embeddings", "block 5")])
            if model is base:  # lesson 01 says so
                added = {b: probes.gain(a, b)[0] for a, b in pairwise(probes.scores)}
                assert max(added, key=added.get) == "block 5"
    (words, whole), (random_words, random_whole) = np.mean(learned, axis=0), np.mean(blank, axis=0)
    assert whole > words + 0.04
    assert random_whole < random_words + 0.02
    assert words > random_words


def test_the_last_probe_is_remembered_and_another_is_fitted_anew(monkeypatch):
    fitted, fit_logistic = [], baseline.fit_logistic
    monkeypatch.setattr(baseline, "_last", [])
    monkeypatch.setattr(baseline, "fit_logistic", lambda *given: fitted.append(given[2]) or fit_logistic(*given))
    base, data, other = tiny.base(), tiny.splits(), tiny.splits()
    first = baseline.fit_probe(base, data)
    assert baseline.fit_probe(base, data) is first and fitted == [data]
    baseline.fit_probe(base, other)
    baseline.fit_probe(dataclasses.replace(base, pooling="cls"), other)
    assert fitted == [data, other, other]
