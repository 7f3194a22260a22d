"""A base: its groups, its tokens, its vectors, and what is refused on loading."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from ftkit.findings import FtkitError
from ftkit.pretrained import (
    from_scratch,
    group_parameters,
    group_sizes,
    hidden_states,
    load_pretrained,
    nearest,
    stages,
    tokens,
    trace,
)  # fmt: skip

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
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(TEXTS), 12)
    shapes = [base.batch([[1] * n])["input_ids"].shape[1] for n in range(1, base.max_tokens + 1)]
    assert sorted(set(shapes[:32])) == [4, 8, 12, 16, 20, 24, 28, 32], "few for short texts"
    assert all(b - a == 8 for a, b in itertools.pairwise(sorted(set(shapes[31:])))), "and fewer for long ones"
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


@pytest.fixture(scope="module")
def pieces_base():
    """A tiny base whose tokenizer breaks words: 'heart' is one piece, 'hearts' is two, 'bone-' breaks at the hyphen."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "heart", "##s", "bone", "##y", "##bone", "-", "of", "<", "b", ">"]
    words = Tokenizer(models.WordPiece({w: i for i, w in enumerate(known)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **special)
    return dataclasses.replace(tiny.base(), tokenizer=tokenizer)


def test_a_rare_word_breaks_into_pieces_and_a_frequent_one_does_not(pieces_base):
    shown = tokens(pieces_base, ["heart of bonybone", "hearts - of heartbones"])
    words = shown.frame()
    assert list(words["word"]) == ["heart", "of", "bonybone", "hearts", "of", "heartbones"]  # the hyphen is no word
    assert list(words["pieces"]) == ["heart", "of", "[UNK]", "heart ##s", "of", "heart ##bone ##s"]
    assert list(words["n_pieces"]) == [1, 1, 1, 2, 1, 3]
    assert list(words["text"]) == [0, 0, 0, 1, 1, 1]
    assert "6 words in 2 texts make 9 pieces, 1.50 a word; 33.3 % of the words are broken" in shown.summary()
    assert list(shown.tables()[0][1]["word"]) == ["heartbones", "hearts"]


@pytest.mark.parametrize("limit", range(3, 10))
def test_the_pieces_that_are_not_cut_are_exactly_those_the_model_reads(pieces_base, limit):
    base = dataclasses.replace(pieces_base, max_tokens=limit)
    texts = ["heart", "hearts of bone", "heartbones of hearts", ""]
    read = [[p.text for p in row if not p.cut] for row in tokens(base, texts).pieces]
    assert read == [base.tokenizer.convert_ids_to_tokens(ids) for ids in base.tokenize(texts)]


def test_markup_in_a_text_is_shown_as_pieces_and_not_as_markup(pieces_base):
    html = tokens(pieces_base, ["<b>heart"])._repr_html_()
    assert "&lt;</span>" in html and "<b>" not in html


def test_no_texts_have_no_pieces_and_a_single_string_is_refused():
    assert "0 words in 0 texts" in tokens(tiny.base(), []).summary()
    for look in (tokens, hidden_states):
        with pytest.raises(TypeError, match="list of texts"):
            look(tiny.base(), "heart")


def test_the_nearest_text_to_a_text_is_itself():
    found = nearest(tiny.base(), TEXTS[3], TEXTS, n=3)
    assert found.texts[0] == TEXTS[3] and len(found.texts) == 3
    assert found.similarities[0] == pytest.approx(1, abs=1e-5)
    assert list(found.similarities) == sorted(found.similarities, reverse=True)


def test_similarities_are_cosines_and_all_texts_are_compared():
    from sklearn.metrics.pairwise import cosine_similarity

    base = tiny.base()
    found = nearest(base, "heart of bone", TEXTS, n=100)
    expected = dict(zip(TEXTS, cosine_similarity(base.encode(["heart of bone"]), base.encode(TEXTS))[0], strict=True))
    assert dict(zip(found.texts, found.similarities, strict=True)) == pytest.approx(expected, abs=1e-5)
    assert found.n_all == len(TEXTS) and found.median == pytest.approx(np.median(list(expected.values())), abs=1e-5)


def test_nearest_rows_bring_their_labels_and_are_not_opened_by_looking():
    rows = tiny.rows("train", 12, seed=0)
    found = nearest(tiny.base(), "heart", rows)
    label_of = dict(zip(rows.texts, rows.named_labels(), strict=True))
    assert list(found.frame()["label"]) == [label_of[t] for t in found.texts]
    assert rows.opened == 0
    assert nearest(tiny.base(), "heart", TEXTS).labels == ()


@pytest.mark.parametrize(("n", "texts"), [(0, TEXTS), (1, [])])
def test_nothing_cannot_be_nearest(n, texts):
    with pytest.raises(ValueError, match="1 or more"):
        nearest(tiny.base(), "heart", texts, n=n)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_the_last_stage_is_what_a_text_is_encoded_as(architecture, pooling):
    base = dataclasses.replace(tiny.base(architecture), pooling=pooling)
    found = hidden_states(base, TEXTS, batch_size=2)
    assert found.shape == (4, len(TEXTS), 16) and found.dtype == np.float32
    assert len(stages(base)) == 4
    assert np.allclose(found[-1], base.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("touched", ["embeddings", "block 0", "block 1", "block 2"])
def test_a_stage_sees_the_weights_up_to_it_and_none_after_it(architecture, touched):
    base = tiny.base(architecture)
    before = hidden_states(base, TEXTS)
    weights = dict(base.encoder.named_parameters())
    with torch.no_grad():
        for name in base.groups[touched]:
            if weights[name].ndim == 2:
                weights[name].mul_(torch.linspace(-3, 3, weights[name].shape[1]))
    moved = np.abs(hidden_states(base, TEXTS) - before).max(axis=(1, 2)) > 1e-4
    first = stages(base).index(touched)
    assert moved.tolist() == [i >= first for i in range(4)]


def test_looking_changes_neither_the_model_nor_the_state_of_chance():
    base = tiny.base()
    base.encoder.train()
    before = {n: t.clone() for n, t in base.encoder.state_dict().items()}
    state = torch.get_rng_state()
    one = hidden_states(base, TEXTS)
    trace(base, TEXTS[1])
    from_scratch(base, seed=3)
    assert np.array_equal(one, hidden_states(tiny.base(), TEXTS))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[n], t) for n, t in base.encoder.state_dict().items())


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_trace_has_the_shape_at_every_stage(architecture):
    base = tiny.base(architecture)
    followed = trace(base, "heart of the left")
    assert [(stage, shape) for stage, _, shape in followed.steps] == [
        ("text", (17,)), ("tokens", (6,)), *((s, (6, 16)) for s in stages(base)), ("pooling", (16,)),
    ]  # fmt: skip
    assert list(followed.moved) == ["block 0", "block 1", "block 2"]


def test_a_block_that_does_nothing_moves_nothing():
    base = tiny.base()
    weights = dict(base.encoder.named_parameters())
    with torch.no_grad():  # a BERT block without its two outputs passes on what it got, normalised as it was before
        for block, scale in (("block 0", 30), ("block 1", 0), ("block 2", 30)):
            for name in base.groups[block]:
                if name.endswith(("output.dense.weight", "output.dense.bias")):
                    weights[name].mul_(scale)
    moved = trace(base, TEXTS[1]).moved
    assert moved["block 1"] == pytest.approx(0, abs=1e-5)
    assert min(moved["block 0"], moved["block 2"]) > 1e-3


def test_a_long_text_is_followed_as_far_as_the_model_reads_it():
    base = dataclasses.replace(tiny.base(), max_tokens=6)
    assert {s: shape for s, _, shape in trace(base, " ".join(["heart"] * 50)).steps}["tokens"] == (6,)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_from_scratch_has_the_same_groups_and_none_of_the_learned_weights(architecture):
    base = tiny.base(architecture)
    blank, again, other = (from_scratch(base, seed=s) for s in (5, 5, 6))
    assert blank.groups == base.groups and not blank.encoder.training
    assert (blank.tokenizer, blank.pooling, blank.max_tokens) == (base.tokenizer, base.pooling, base.max_tokens)
    weights, learned = dict(blank.encoder.named_parameters()), dict(base.encoder.named_parameters())
    assert {n: w.shape for n, w in weights.items()} == {n: w.shape for n, w in learned.items()}
    assert not any(torch.equal(w, learned[n]) for n, w in weights.items() if w.ndim == 2)
    same, different = (dict(b.encoder.named_parameters()) for b in (again, other))
    assert all(torch.equal(w, same[n]) for n, w in weights.items())
    assert not any(torch.equal(w, different[n]) for n, w in weights.items() if w.ndim == 2)
    assert np.abs(blank.encode(TEXTS) - base.encode(TEXTS)).max() > 1e-2


@pytest.mark.slow
@pytest.mark.needs_assets("minilm")
def test_minilm_finds_meaning_where_no_word_is_shared_and_its_shape_alone_does_not():
    base = load_pretrained("minilm", max_tokens=32)
    texts = ["a physician for children", "a shop that sells bread", "repair of cars", "tax advice"]
    meant = {"paediatrician": 0, "bakery": 1, "garage mechanic": 2, "accountant": 3}
    right = {b.name: sum(nearest(b, q, texts).texts[0] == texts[i] for q, i in meant.items())
             for b in (base, *(from_scratch(base, seed=s) for s in range(3)))}  # fmt: skip
    assert right.pop("minilm") == 4
    assert max(right.values()) < 4


def test_texts_on_disk_are_tokenized_some_at_a_time_and_as_all_at_once(monkeypatch):
    base, texts = tiny.base(), [f"heart of the left {'bone ' * (i % 7)}" for i in range(2_500)]
    whole, most = base.tokenizer(texts, truncation=True, max_length=base.max_tokens)["input_ids"], []

    class Tokenizer:
        def __call__(self, some, **how):
            most.append(len(some))
            return base.tokenizer(some, **how)

    assert dataclasses.replace(base, tokenizer=Tokenizer()).tokenize(iter(texts)) == whole
    assert sum(most) == 2_500 and max(most) <= 1_000


def test_a_token_of_many_texts_is_one_number_in_memory():
    def tokenizer(texts, **how):
        return {"input_ids": [[int("30001"), int("30002")] for _ in texts]}  # not literals, which Python would share

    base = dataclasses.replace(tiny.base(), tokenizer=tokenizer)
    (a, b), (c, d) = base.tokenize(["one", "other"])
    assert a is c and b is d
