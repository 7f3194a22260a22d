"""A base: its groups, its tokens, its vectors, and what is refused on loading."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from ftkit.findings import FtkitError
from ftkit.pretrained import group_parameters, group_sizes, load_pretrained

TEXTS = [
    "heart", "acute fracture of the left joint with other chronic bone", "lung of right", "airway and breath and lung",
    "valve", "the chronic artery of the left heart and valve", "bone",
]  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model folder in transformers' layout."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tiny.encoder().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of the model folder, to be spoilt."""
    copy = tmp_path / "model"
    copy.mkdir()
    for path in saved.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def _refused(folder: Path) -> str:
    with pytest.raises(FtkitError) as refused:
        load_pretrained(str(folder))
    return refused.value.code


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_parameter_is_in_exactly_one_group_in_the_order_of_the_computation(architecture):
    base = tiny.base(architecture, n_blocks=12)  # more than ten: 'block 10' comes after 'block 9', not after 'block 1'
    names = [n for part in base.groups.values() for n in part]
    assert sorted(names) == sorted(n for n, _ in base.encoder.named_parameters())
    assert [g for g in base.groups if g != "final"] == ["embeddings", *(f"block {i}" for i in range(12))]
    assert list(base.groups)[-1] in ("block 11", "final")
    assert sum(group_sizes(base.encoder, base.groups).values()) == base.n_parameters


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_block_holds_its_own_parameters_and_no_other(architecture):
    for group, names in tiny.base(architecture).groups.items():
        numbers = {int(m[1]) for n in names if (m := re.search(r"(?:layer|layers)\.(\d+)\.", n))}
        assert numbers == ({int(group.split()[1])} if group.startswith("block ") else set())


def test_a_model_without_blocks_is_refused():
    with pytest.raises(FtkitError, match="FT036"):
        group_parameters(torch.nn.Sequential(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_saved_folder_loads_and_gives_the_same_vectors(architecture, tmp_path):
    made = tiny.base(architecture)
    made.encoder.save_pretrained(tmp_path / "m")
    made.tokenizer.save_pretrained(tmp_path / "m")
    loaded = load_pretrained(str(tmp_path / "m"))
    assert (loaded.name, loaded.origin) == ("m", "m")
    assert loaded.groups == made.groups
    assert not loaded.encoder.training
    assert np.allclose(loaded.encode(TEXTS), made.encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_text_has_the_same_vector_whatever_stands_beside_it(architecture):
    base = tiny.base(architecture)
    together = base.encode(TEXTS)
    assert together.shape == (len(TEXTS), 16) and together.dtype == np.float32
    for batch_size in (1, 2, 3):
        assert np.abs(base.encode(TEXTS, batch_size=batch_size) - together).max() < 1e-5


def test_vectors_come_in_the_order_of_the_texts():
    base = tiny.base()
    vectors = base.encode(TEXTS, batch_size=2)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.allclose(base.encode([text])[0], vector, atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_the_mean_leaves_padding_out():
    base = tiny.base()
    ids = base.tokenize(["heart of the left"])
    with torch.inference_mode():
        hidden = base.encoder(input_ids=torch.tensor(ids)).last_hidden_state[0]
    assert np.allclose(base.encode(["heart of the left", TEXTS[1]])[0], hidden.mean(0).numpy(), atol=1e-5)


def test_cls_pooling_takes_the_first_token():
    base = dataclasses.replace(tiny.base(), pooling="cls")
    with torch.inference_mode():
        hidden = base.encoder(input_ids=torch.tensor(base.tokenize(["heart"]))).last_hidden_state[0]
    assert np.allclose(base.encode(["heart"])[0], hidden[0].numpy(), atol=1e-5)


def test_vectors_that_are_kept_are_those_of_the_same_base_and_cannot_be_changed():
    base = tiny.base()
    mean = base.encode(TEXTS)
    with pytest.raises(ValueError, match="read-only"):
        mean[0] = 0
    for other in (dataclasses.replace(base, pooling="cls"), dataclasses.replace(base, max_tokens=4)):
        assert np.abs(other.encode(TEXTS) - mean).max() > 1e-3
    assert np.array_equal(base.encode(TEXTS), mean)


def test_encoding_changes_neither_the_model_nor_the_state_of_chance():
    base = tiny.base()
    base.encoder.train()  # dropout on, as after a careless call
    before = {n: t.clone() for n, t in base.encoder.state_dict().items()}
    state = torch.get_rng_state()
    assert np.array_equal(base.encode(TEXTS), tiny.base().encode(TEXTS))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[n], t) for n, t in base.encoder.state_dict().items())


def test_batches_are_padded_to_few_shapes_and_masked():
    base = tiny.base()
    ids = base.tokenize(TEXTS)
    batch = base.batch(ids)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(TEXTS), 16)
    assert batch["attention_mask"].sum(1).tolist() == [len(i) for i in ids]
    assert (batch["input_ids"][batch["attention_mask"] == 0] == base.tokenizer.pad_token_id).all()


def test_no_batch_is_longer_than_the_model_can_take():
    base = dataclasses.replace(tiny.base(), max_tokens=13)
    assert base.batch(base.tokenize([" ".join(["heart"] * 50)]))["input_ids"].shape == (1, 13)


def test_long_texts_are_cut():
    base = dataclasses.replace(tiny.base(), max_tokens=6)
    (ids,) = base.tokenize([" ".join(["heart"] * 50)])
    assert len(ids) == 6
    assert (ids[0], ids[-1]) == (base.tokenizer.cls_token_id, base.tokenizer.sep_token_id)
    assert np.allclose(base.encode([" ".join(["heart"] * 50)]), base.encode([" ".join(["heart"] * 4)]), atol=1e-6)


def test_the_lowest_limit_on_tokens_counts(folder):
    assert load_pretrained(str(folder)).max_tokens == 32  # the tokenizer's own; the model has 40 positions
    assert load_pretrained(str(folder), max_tokens=16).max_tokens == 16
    assert load_pretrained(str(folder), max_tokens=64).max_tokens == 32


def test_texts_are_cut_to_128_tokens_unless_asked_otherwise(folder):
    import transformers

    size = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = transformers.BertConfig(**size, num_hidden_layers=1, max_position_embeddings=300)
    transformers.BertModel(config).save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 256}))
    assert load_pretrained(str(folder)).max_tokens == 128
    assert load_pretrained(str(folder), max_tokens=200).max_tokens == 200
    assert load_pretrained(str(folder), max_tokens=1000).max_tokens == 256


def test_the_pooling_of_a_sentence_transformer_is_read(folder):
    assert load_pretrained(str(folder)).pooling == "mean"
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    assert load_pretrained(str(folder)).pooling == "cls"


def test_a_folder_without_a_tokenizer_is_refused(folder):
    for path in folder.glob("*token*"):
        path.unlink()
    assert _refused(folder) == "FT037"


def test_a_folder_without_a_configuration_is_refused(folder):
    (folder / "config.json").unlink()
    assert _refused(folder) == "FT035"


class Tells:
    """Writes a file when it is unpickled, as a malicious checkpoint could do worse."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_unread(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Tells(tmp_path / "was-read")))
    assert _refused(folder) == "FT038"
    assert not (tmp_path / "was-read").exists()


def test_pickled_weights_beside_safe_ones_are_not_read(folder, tmp_path):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Tells(tmp_path / "was-read")))
    assert np.allclose(load_pretrained(str(folder)).encode(TEXTS), tiny.base().encode(TEXTS), atol=1e-6)
    assert not (tmp_path / "was-read").exists()


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert _refused(folder) == "FT038"


def test_loading_says_nothing(saved, capfd):
    load_pretrained(str(saved))
    assert capfd.readouterr() == ("", "")


def test_no_texts_give_no_vectors_and_a_single_string_is_refused():
    base = tiny.base()
    assert base.encode([]).shape == (0, 16)
    with pytest.raises(TypeError, match="list of texts"):
        base.encode("heart")
