"""Mistakes are told one by one, with how sure the answer was; and attributions add up to the answer they explain."""

from __future__ import annotations

import dataclasses
import html

import numpy as np
import pytest
import tiny
import torch

from ftkit import tasks
from ftkit.data import Rows
from ftkit.evaluation import Evaluation
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.report.mistakes import VIEWS, Attributions, Mistakes, attributions
from ftkit.training import fit

HOSTILE = "<img src=x onerror='document.title=1'>"


def rows(labels, kind: str = "single", names: str = "abc") -> Rows:
    texts = [f"text {i}" for i in range(len(labels))]
    return Rows(name="valid", texts=texts, labels=labels, label_names=tuple(names), kind=kind)


def answers(name: str, proba, on: Rows) -> Evaluation:
    return Evaluation(name=name, proba=np.array(proba, dtype=float), rows=on)


@pytest.fixture(scope="module")
def both() -> Mistakes:
    """Four rows: right before and now, lost, gained, wrong twice."""
    on = rows([0, 0, 1, 2])
    now = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.6, 0.37, 0.03]]
    was = [[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]
    return Mistakes(after=answers("now", [now], on), before=answers("was", [was], on))


def view(mistakes: Mistakes, begins: str) -> list[int]:
    """The positions that a view shows, in its order."""
    ((query, by, rising),) = (v for words, v in VIEWS.items() if words.startswith(begins))
    return mistakes.frame().query(query).sort_values(by, ascending=rising, kind="stable").index.tolist()


def test_every_row_is_told_with_how_sure_it_was_and_what_was_said_before(both):
    found = both.frame()
    assert found["row"].tolist() == list(both.after.rows.ids)
    assert found["label"].tolist() == list("aabc") and found["answer"].tolist() == list("abba")
    assert found["before"].tolist() == list("aaab")
    assert found["right"].tolist() == [True, False, True, False] == (both.after.correct == 1).tolist()
    assert found["right_before"].tolist() == [True, True, False, False]
    assert found["sure"].tolist() == [0.5, 0.8, 0.7, 0.6]
    assert found["loss"].tolist() == pytest.approx(-np.log([0.5, 0.1, 0.7, 0.03]))
    assert found["margin"].tolist() == pytest.approx([0.2, 0.7, 0.5, 0.23])


def test_each_view_has_its_rows_in_its_order(both):
    assert view(both, "wrong, surest") == [1, 3]
    assert view(both, "wrong, highest loss") == [3, 1]
    assert view(both, "wrong now") == [1] and view(both, "right now") == [2]
    assert view(both, "close calls") == [0, 3, 2, 1]
    assert view(both, "everything") == [3, 1, 0, 2]


def test_the_sentence_counts_them_and_the_table_names_their_kinds(both):
    assert both.summary().startswith("now: 2 of 4 valid rows are wrong (50.0 %). A confident mistake is a wrong label")
    ((_, kinds),) = both.tables()
    assert kinds.to_numpy().tolist() == [["a", "b", 1], ["c", "a", 1]]
    right = Mistakes(after=answers("r", [np.eye(3)], rows([0, 1, 2])))
    assert right.tables() == [] and "0 of 3" in right.summary() and "before" not in right.frame()


def test_the_most_frequent_kind_of_mistake_comes_first():
    taken = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]]
    ((_, kinds),) = Mistakes(after=answers("x", [taken], rows([1, 2, 2, 0]))).tables()
    assert kinds.to_numpy().tolist() == [["c", "b", 2], ["b", "a", 1]]


def test_of_several_repeats_the_mean_counts_and_is_said():
    on = rows([0])
    found = Mistakes(after=answers("x", [[[0.6, 0.4, 0.0]], [[0.1, 0.9, 0.0]]], on))
    assert found.frame()[["answer", "sure"]].to_numpy().tolist() == [["b", 0.65]]
    assert "Probabilities are the mean of 2 repeats." in found.summary()


def test_an_ordered_answer_is_the_median_and_close_where_its_ends_are():
    on = rows([0, 1], kind="ordered")
    found = Mistakes(after=answers("x", [[[0.45, 0.1, 0.45], [0.1, 0.8, 0.1]]], on)).frame()
    assert found["answer"].tolist() == ["b", "b"] and found["right"].tolist() == [False, True]
    assert found["sure"].tolist() == [0.1, 0.8] and found["loss"].tolist() == pytest.approx(-np.log([0.45, 0.8]))
    assert found["margin"].tolist() == pytest.approx([0.1, 0.8]), "0.45 or 0.55 of it is as low or lower"


def test_of_several_labels_all_must_be_right_and_the_least_sure_one_is_told():
    on = rows([[1, 1, 0], [0, 0, 0]], kind="multiple")
    found = Mistakes(after=answers("x", [[[0.9, 0.6, 0.2], [0.3, 0.7, 0.1]]], on)).frame()
    assert found["label"].tolist() == ["a; b", "(none)"] and found["answer"].tolist() == ["a; b", "b"]
    assert found["right"].tolist() == [True, False] and found["sure"].tolist() == [0.6, 0.7]
    assert found["margin"].tolist() == pytest.approx([0.2, 0.4])
    assert found["loss"].tolist() == pytest.approx([-np.log([0.9, 0.6, 0.8]).mean(), -np.log([0.7, 0.3, 0.9]).mean()])


def test_answers_to_other_rows_are_refused(both):
    other = answers("other", both.after.proba, rows([0, 0, 1, 1]))
    with pytest.raises(FtkitError, match="FT070"):
        Mistakes(after=both.after, before=other)


@pytest.fixture(scope="module")
def run(base, data):
    return fit(base, data, Plan(train="all", start="probe", epochs=20, lr=5e-3, keep="last"), on_event=None)


def difference(run, text: str, label: str) -> float:
    """How far the label's logit is from that of the same text with every word unknown."""
    unknown = " ".join("xyzzy" for _ in text.split())
    run.model.eval()
    logits = tasks.logits_of(run.model, run.base, run.base.tokenize([text, unknown]))[
        :, list(tiny.CLASSES).index(label)
    ]
    return float(logits[0] - logits[1])


def test_the_pushes_add_up_to_what_the_words_changed(run, data):
    text = "heart valve of the left lung"
    for label in data.label_names:
        why = attributions(run, text, label)
        assert why.pieces == ("[CLS]", *text.split(), "[SEP]") and why.label == label
        assert why.pushes.sum() == pytest.approx(difference(run, text, label), abs=1e-3) and abs(why.delta) < 1e-3
        assert why.pushes[[0, -1]].tolist() == [0, 0], "special tokens are in both texts"
    assert abs(difference(run, text, "bone")) > 0.1, "there is something to tell"


def test_a_word_that_the_model_does_not_know_pushes_nothing(run):
    why = attributions(run, "heart xyzzy")
    assert why.pieces[2] == "[UNK]" and why.pushes[2] == 0 and why.pushes[1] != 0


def test_without_a_label_it_is_the_most_probable_one(run, data):
    for text in data.valid.texts[:6]:
        assert attributions(run, text).label == run.predict([text]).labels[0]
    with pytest.raises(ValueError, match="did you mean 'heart'"):
        attributions(run, "heart", "haert")


def test_twice_is_the_same_and_the_run_is_left_as_it_was(run, monkeypatch):
    embeddings = run.model.encoder.get_input_embeddings()
    run.model.head.weight.requires_grad_(True)
    before = {name: (p.requires_grad, p.grad is None) for name, p in run.model.named_parameters()}
    weights, hooks, forward = run.weights_sha256, [], tasks.Classifier.forward

    def watched(self, batch):
        hooks.append(len(embeddings._forward_hooks) + len(embeddings._forward_pre_hooks))
        return forward(self, batch)

    monkeypatch.setattr(tasks.Classifier, "forward", watched)
    first, second = (attributions(run, "heart and bone") for _ in range(2))
    assert (first.pushes == second.pushes).all()
    assert {name: (p.requires_grad, p.grad is None) for name, p in run.model.named_parameters()} == before
    assert len(hooks) > 4 and not any(hooks), "another thread may ask the run meanwhile"
    vars(run).pop("weights_sha256")
    assert run.weights_sha256 == weights
    run.model.head.weight.requires_grad_(False)


@pytest.mark.parametrize(
    "plan", [Plan(train="head", start="probe"), Plan(train="top 1"), Plan(train="all", method="lora")]
)
def test_whatever_was_frozen_it_can_be_explained(base, data, plan):
    frozen = fit(base, data, plan.but(epochs=1, keep="last"), on_event=None)
    assert not any(p.requires_grad for p in frozen.model.parameters())
    why = attributions(frozen, "heart valve")
    assert why.pushes.sum() == pytest.approx(difference(frozen, "heart valve", why.label), abs=1e-3)
    assert not any(p.requires_grad for p in frozen.model.parameters())


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_architecture(data, architecture):
    base = tiny.base(architecture)
    run = fit(base, data, Plan(train="head", start="probe", epochs=1, keep="last"), on_event=None)
    with torch.no_grad():  # as a cell may have it
        why = attributions(run, "heart and bone")
    assert np.abs(why.pushes).max() > 0 and abs(why.delta) < 1e-3


def test_several_labels_are_explained_one_at_a_time(base):
    data = tiny.splits(kind="multiple")
    run = fit(base, data, Plan(train="head", start="probe", epochs=1, keep="last"), on_event=None)
    assert attributions(run, "heart").label == data.label_names[run.predict_proba(["heart"])[0].argmax()]
    assert attributions(run, "heart", "bone").label == "bone"


def test_the_boxes_tell_number_and_sign_and_hostile_tokens_are_text():
    given = {"text": "x", "label": HOSTILE, "delta": 1e-4}
    why = Attributions(pieces=("[CLS]", HOSTILE, "b"), pushes=np.array([0.0, 1.25, -0.5]), **given)
    shown = why._repr_html_()
    assert "<img" not in shown and html.unescape(shown).count(HOSTILE) >= 2
    assert "<b>+1.25</b>" in why.boxes() and "<b>-0.50</b>" in why.boxes() and why.boxes().count("<span") == 3
    assert "(+1.25)" in why.summary() and "+0.75" in why.summary() and "0.0001" in why.summary()
    assert why.frame()["push"].tolist() == ["+0.00", "+1.25", "-0.50"]
    nothing = dataclasses.replace(why, pushes=np.zeros(3))
    assert "nan" not in nothing.boxes()
