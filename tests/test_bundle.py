"""A saved run answers again, equally, without the rows it learned from, and a file of texts comes back with answers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tiny

from ftkit import bundle, cli, record
from ftkit.evaluation import evaluate
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.training import fit

PLANS = {
    "a block": Plan(train="top 1", lr=1e-2, head_lr=1e-2, epochs=2, keep="last"),
    "adapters": Plan(train="top 1", method="lora", rank=2, lr=1e-2, head_lr=1e-2, epochs=2, keep="last"),
}


@pytest.fixture(scope="module", params=PLANS)
def run(request):
    return fit(tiny.base(), tiny.splits(), PLANS[request.param], on_event=None)


@pytest.fixture
def folder(run, tmp_path):
    return record.save(run, tmp_path / "heart")


def test_it_gives_the_runs_probabilities_bit_for_bit(run, folder):
    again = bundle.load(folder, tiny.base())
    texts = run.data.test.texts
    assert np.array_equal(again.predict_proba(texts), run.predict_proba(texts))
    assert again.predict(texts).labels == run.predict(texts).labels
    assert "heart answers with one of 3 labels" in repr(again)


def test_it_can_be_evaluated_as_a_run_can(run, folder):
    rows = run.data.test
    assert evaluate(bundle.load(folder, tiny.base()), rows).accuracy == evaluate(run, rows).accuracy


def test_it_holds_no_text_that_was_trained_on(run, folder):
    text = run.data.train.texts[0]
    assert not any(text.encode() in path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["multiple", "ordered"])
def test_other_kinds_of_labels_come_back_as_what_they_are(kind, tmp_path):
    run = fit(tiny.base(), tiny.splits(kind=kind), PLANS["a block"], on_event=None)
    again = bundle.load(record.save(run, tmp_path), tiny.base())
    texts = run.data.test.texts
    assert again.data.kind == kind
    assert again.predict(texts).labels == run.predict(texts).labels
    answers = again.answer(pd.DataFrame({"text": texts}))["answer"]
    assert all(isinstance(answer, str) for answer in answers)


def test_a_table_of_texts_comes_back_with_answers(run, folder):
    table = pd.DataFrame({"id": [7, 8, 9], "Message ": ["heart valve", "", "bone joint"]})
    answered = bundle.load(folder, tiny.base()).answer(table, text="Message")
    assert list(answered.columns) == ["id", "Message ", "answer", "probability"]
    assert answered["answer"].tolist() == run.predict(["heart valve", "", "bone joint"]).labels
    assert answered["probability"].between(1 / 3, 1).all()


def test_another_base_is_refused(folder):
    other = dataclasses.replace(tiny.base(), max_tokens=9)
    with pytest.raises(FtkitError, match=r"FT081.*another base"):
        bundle.load(folder, other)


@pytest.mark.parametrize("broken", ["nothing", "json", "weights", "labels"])
def test_what_is_no_whole_run_is_refused(folder, broken):
    told = folder / record.NAME
    if broken == "nothing":
        told.unlink()
    if broken == "json":
        told.write_text('{"format": 1')
    if broken == "labels":
        told.write_text(json.dumps({k: v for k, v in json.loads(told.read_text()).items() if k != "labels"}))
    if broken == "weights":
        (folder / "weights.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(FtkitError, match="FT081"):
        bundle.load(folder, tiny.base())


def test_predict_writes_a_table_to_the_standard_output(run, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundle, "load_pretrained", lambda name, max_tokens: tiny.base())
    (tmp_path / "new.csv").write_text('text;from\nheart valve;a\n"lung; airway";b\n', encoding="utf-8")
    assert cli.main(["predict", str(folder), str(tmp_path / "new.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "text,from,answer,probability" and len(lines) == 3
    assert lines[1].startswith(f"heart valve,a,{run.predict(['heart valve']).labels[0]},0.")


def test_a_file_without_such_a_column_is_told_in_one_line(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundle, "load_pretrained", lambda name, max_tokens: tiny.base())
    (tmp_path / "new.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    assert cli.main(["predict", str(folder), str(tmp_path / "new.csv"), "--text", "message"]) == 1
    assert capsys.readouterr().err.startswith("FT008")


@pytest.mark.parametrize("lost", ["head.", "lora_", "layer.2"])
def test_weights_that_lack_something_that_trained_are_refused(run, folder, lost):
    tensors, header = record.read_tensors(folder / "weights.safetensors")
    left = {name: tensor for name, tensor in tensors.items() if lost not in name}
    if len(left) == len(tensors):
        pytest.skip("nothing of that name trained here")
    record.write_tensors(folder / "weights.safetensors", left, header)
    with pytest.raises(FtkitError, match=r"FT081.*lack"):
        bundle.load(folder, tiny.base())
