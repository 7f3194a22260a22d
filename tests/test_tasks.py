"""What differs between kinds of labels: loss, probabilities, answers, weights; and the classifier around a base."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny
import torch

from ftkit import tasks


def test_balanced_weights_let_every_class_count_the_same():
    labels = np.array([0] * 7 + [1] * 2 + [2])
    weights = tasks.class_weights(labels, 3, "single")
    assert np.allclose(weights * np.bincount(labels), len(labels) / 3)
    assert weights[labels].mean() == pytest.approx(1)


def test_balanced_weights_of_multiple_labels_set_the_yes_against_the_no():
    labels = np.array([[1, 0], [0, 0], [0, 1], [0, 1]], dtype=np.uint8)
    assert tasks.class_weights(labels, 2, "multiple").tolist() == [3.0, 1.0]


def test_weights_stay_finite_for_a_class_without_rows():
    assert np.isfinite(tasks.class_weights(np.array([0, 0, 1]), 3, "single")).all()
    assert np.isfinite(tasks.class_weights(np.zeros((3, 2), dtype=np.uint8), 2, "multiple")).all()


def test_an_even_guess_costs_the_logarithm_of_the_number_of_classes():
    labels = torch.tensor([0, 3, 1])
    for kind in ("single", "ordered"):
        assert tasks.loss(torch.zeros(3, 4), labels, kind).item() == pytest.approx(math.log(4))
    some = torch.tensor([[0, 1], [1, 1]], dtype=torch.uint8)
    assert tasks.loss(torch.zeros(2, 2), some, "multiple").item() == pytest.approx(math.log(2))


def test_weights_move_the_loss_towards_the_heavy_class():
    logits, labels = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
    even = tasks.loss(logits, labels, "single")
    assert tasks.loss(logits, labels, "single", torch.tensor([1.0, 5.0])) > even
    assert tasks.loss(logits, labels, "single", torch.tensor([5.0, 1.0])) < even


@pytest.mark.parametrize("kind", ["single", "ordered"])
def test_probabilities_of_a_row_sum_to_one_even_for_huge_logits(kind):
    proba = tasks.probabilities(np.array([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0]]), kind)
    assert np.allclose(proba.sum(axis=1), 1)
    assert np.allclose(proba[1], np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum())


def test_probabilities_of_multiple_labels_stand_each_for_itself():
    proba = tasks.probabilities(np.array([[0.0, 3.0]]), "multiple")
    assert proba[0] == pytest.approx([0.5, 1 / (1 + math.exp(-3))])


def test_answers_are_the_likeliest_the_likely_and_the_median():
    proba = np.array([[0.45, 0.10, 0.45], [0.2, 0.2, 0.6]])
    assert tasks.answers(proba, "single").tolist() == [0, 2]
    assert tasks.answers(proba, "ordered").tolist() == [1, 2]
    assert tasks.answers(proba, "multiple").tolist() == [[0, 0, 0], [0, 0, 1]]


def test_no_other_rank_has_a_smaller_expected_error_than_the_answer():
    proba = np.random.default_rng(0).dirichlet(np.ones(5), size=500)
    ranks = np.arange(5)
    errors = proba @ np.abs(ranks[:, None] - ranks[None])  # (n, answer): expected distance
    chosen = tasks.answers(proba, "ordered")
    assert np.allclose(errors[np.arange(500), chosen], errors.min(axis=1))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_groups_hold_every_parameter_of_the_classifier_once_and_the_head_last(architecture):
    base = tiny.base(architecture)
    groups = tasks.classifier_groups(base)
    names = [n for part in groups.values() for n in part]
    parameters = dict(tasks.Classifier(base, 3).named_parameters())
    assert sorted(names) == sorted(parameters)
    assert list(groups)[-1] == "head"


def test_a_classifier_shares_no_memory_with_its_base():
    base = tiny.base()
    before = {n: t.clone() for n, t in base.encoder.state_dict().items()}
    model = tasks.Classifier(base, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[n], t) for n, t in base.encoder.state_dict().items())


def test_an_untrained_head_gives_every_class_the_same_probability():
    base = tiny.base()
    model = tasks.Classifier(base, 4)
    proba = tasks.probabilities(tasks.logits_of(model, base, base.tokenize(["heart of the left", "lung"])), "single")
    assert np.array_equal(proba, np.full((2, 4), 0.25))


def test_logits_depend_neither_on_batch_size_nor_on_dropout():
    base, rng = tiny.base(), torch.Generator().manual_seed(0)
    model = tasks.Classifier(base, 3).train()
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(3, 16, generator=rng))
    ids = base.tokenize(tiny.rows("test", 20, seed=1).texts)
    together = tasks.logits_of(model, base, ids)
    assert together.shape == (20, 3) and np.abs(together).max() > 0.1
    for batch_size in (1, 7):
        assert np.allclose(tasks.logits_of(model, base, ids, batch_size), together, atol=1e-5)
