"""A run answers texts, tells what happened, and identifies its weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny
import torch

from ftkit import record, tasks, training
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.record import Predictions, environment


@pytest.fixture(scope="module")
def data():
    return tiny.splits()


@pytest.fixture(scope="module")
def run(data):
    return training.fit(tiny.base(), data, Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=2), on_event=None)


def test_a_run_is_called_by_what_it_trained(run):
    assert run.name == "tuned (top 1)"
    assert run.trained == ("block 2", "head")


def test_the_history_has_one_entry_an_epoch_and_one_before_the_first_step(run):
    frame = run.frame()
    assert frame["epoch"].tolist() == [0, 1, 2]
    assert np.isnan(frame["train_loss"][0]) and np.isfinite(frame["train_loss"][1:]).all()
    assert list(frame.columns) == ["epoch", "train_loss", "valid_loss", "accuracy", "macro_f1"]


def test_exactly_one_epoch_is_shown_as_kept(run):
    kept = run.tables()[0][1]["kept"].tolist()
    assert kept.count("yes") == 1 and kept[run.best_epoch] == "yes"


def test_what_moved_is_told_for_every_group(run):
    moved = dict(run.tables()[1][1].itertuples(index=False))
    assert list(moved) == ["embeddings", "block 0", "block 1", "block 2", "head"]
    assert [g for g, change in moved.items() if change == "0 (frozen)"] == ["embeddings", "block 0", "block 1"]


def test_answers_are_the_probabilities_names(run):
    texts = ["heart of the left", "bone", "airway and lung"]
    answers = run.predict(texts)
    assert np.allclose(answers.proba.sum(axis=1), 1)
    assert answers.labels == [run.data.label_names[i] for i in answers.proba.argmax(axis=1)]
    assert len(answers.texts) == 3
    assert np.allclose(run.predict_proba(texts[::-1])[::-1], answers.proba, atol=1e-6)


def test_a_single_string_is_not_read_letter_by_letter(run):
    with pytest.raises(TypeError, match=r"write \[text\]"):
        run.predict("heart of the left")


def test_multiple_labels_are_answered_by_lists():
    proba = np.array([[0.9, 0.8], [0.1, 0.2]])
    answers = Predictions(texts=("a", "b"), proba=proba, label_names=("x", "y"), kind="multiple")
    assert answers.labels == [["x", "y"], []]
    assert answers.frame()["answer"].tolist() == ["x; y", "(none)"]


def test_the_table_of_answers_names_the_runner_up():
    answers = Predictions(texts=("a",), proba=np.array([[0.2, 0.5, 0.3]]), label_names=("x", "y", "z"))
    assert answers.frame().iloc[0].tolist() == ["a", "y", "50.0 %", "z", "30.0 %"]


def test_no_texts_are_answered_by_no_answers():
    answers = Predictions(texts=(), proba=np.zeros((0, 2)), label_names=("x", "y"))
    assert answers.labels == [] and answers.frame().empty
    assert "text/html" in answers._repr_mimebundle_()


def test_one_weight_changed_by_one_bit_changes_the_hash(run):
    copied = tasks.Classifier(run.base, 3)
    copied.load_state_dict(run.model.state_dict())
    same = dataclasses.replace(run, model=copied)
    assert same.weights_sha256 == run.weights_sha256
    with torch.no_grad():
        bias = copied.head.bias
        bias[0] = torch.nextafter(bias[0], torch.tensor(float("inf")))
    assert dataclasses.replace(run, model=copied).weights_sha256 != run.weights_sha256


def test_the_environment_names_what_decides_the_bits(run):
    import transformers

    assert run.environment == environment("float32")
    assert torch.__version__.startswith(run.environment["torch"])
    assert run.environment["transformers"] == transformers.__version__
    assert run.environment["n_threads"] == torch.get_num_threads()
    assert environment("bfloat16")["dtype"] == "bfloat16"


def test_the_summary_says_how_long_it_took_and_which_epoch_was_kept(run):
    assert "(4 steps)" in run.summary() and f"kept epoch {run.best_epoch}" in run.summary()
    assert "ended early: interrupted" in dataclasses.replace(run, stopped="interrupted").summary()


# A run as a folder


def test_a_run_read_from_its_folder_is_the_run(run, data, tmp_path):
    record.save(run, tmp_path / "a" / "run")
    again = record.load(tmp_path / "a" / "run", run.base, data)
    assert again.weights_sha256 == run.weights_sha256
    assert np.array_equal(again.valid_proba, run.valid_proba)
    plain = ("plan", "best_epoch", "moved", "optimized", "losses", "n_steps", "train_s", "stopped", "environment")
    assert all(getattr(again, name) == getattr(run, name) for name in plain)
    assert str(again.history) == str(run.history) and repr(again) == repr(run)
    names = {p.name: p for p in (tmp_path / "a" / "run").iterdir()}
    assert set(names) == {"run.json", "weights.safetensors", "history.csv", "valid.csv"}
    tensors, _ = record.read_tensors(names["weights.safetensors"])
    moved = {n for n in tensors if n != "valid_proba"}
    assert moved == run.plan.movable(tasks.classifier_groups(run.base)), "what is frozen is the base's, and not kept"


@pytest.mark.parametrize("other", ["data", "base", "json", "weights", "nothing"])
def test_a_folder_that_is_not_of_this_run_is_refused(run, data, tmp_path, other):
    record.save(run, tmp_path)
    base = dataclasses.replace(run.base, max_tokens=9) if other == "base" else run.base
    data = dataclasses.replace(data, test=tiny.rows("other", 9, seed=9)) if other == "data" else data
    if other == "json":
        (tmp_path / record.NAME).write_text('{"format": 1')
    if other == "weights":
        (tmp_path / "weights.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(FtkitError, match="FT081"):
        record.load(tmp_path / "nowhere" if other == "nothing" else tmp_path, base, data)


def test_a_run_that_cannot_be_written_says_so(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FtkitError, match="FT080"):
        record.save(run, tmp_path / "file" / "run")
