"""Tiny models built from a configuration, and a small data set with an obvious rule: for unit tests only."""

from __future__ import annotations

import functools

import numpy as np

WORDS = (
    "heart valve artery lung airway breath bone fracture joint of the left right acute chronic other with and".split()
)
CLASSES = {
    "heart": ("heart", "valve", "artery"),
    "lung": ("lung", "airway", "breath"),
    "bone": ("bone", "fracture", "joint"),
}
ARCHITECTURES = ("bert", "distilbert", "roberta", "modernbert", "electra")


@functools.cache
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **special)


def encoder(architecture: str = "bert", n_blocks: int = 3):
    """Return a random encoder of the given architecture with hidden size 16."""
    import torch
    import transformers

    size = {
        "vocab_size": 32,
        "hidden_size": 16,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
    }
    layers = {"num_hidden_layers": n_blocks, "num_attention_heads": 2}
    configuration = {
        "bert": lambda: transformers.BertConfig(**size, **layers),
        "roberta": lambda: transformers.RobertaConfig(**size, **layers),
        "electra": lambda: transformers.ElectraConfig(**size, **layers, embedding_size=8),
        "modernbert": lambda: transformers.ModernBertConfig(
            **size, **layers, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3
        ),
        "distilbert": lambda: transformers.DistilBertConfig(
            vocab_size=32, dim=16, hidden_dim=24, n_layers=n_blocks, n_heads=2, max_position_embeddings=40
        ),
    }[architecture]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        extra = {"add_pooling_layer": False} if architecture in ("bert", "roberta") else {}
        return transformers.AutoModel.from_config(configuration, **extra).eval()


def base(architecture: str = "bert", n_blocks: int = 3):
    """Return a tiny `Base`."""
    from ftkit.pretrained import Base

    model = encoder(architecture, n_blocks)
    return Base(name=architecture, encoder=model, tokenizer=tokenizer(), pooling="mean", max_tokens=32, origin="tests")


def rows(name: str, n: int, *, seed: int, kind: str = "single", grouped: bool = False):
    """Return `n` rows whose class is told by one word; the texts of different splits differ."""
    from ftkit.data import Rows

    rng = np.random.default_rng(seed)
    names = tuple(CLASSES)
    labels = np.arange(n) % 3
    texts = tuple(
        " ".join([str(rng.choice(CLASSES[names[c]])), *map(str, rng.choice(WORDS[9:], 5)), f"{name}{i}"])
        for i, c in enumerate(labels)
    )
    groups = tuple(f"{name}-{i // 6}" for i in range(n)) if grouped else None
    given = np.eye(3, dtype=np.uint8)[labels] if kind == "multiple" else labels
    return Rows(name=name, texts=texts, labels=given, label_names=names, kind=kind, groups=groups, source="tiny")


def splits(*, n_train: int = 60, n_valid: int = 30, n_test: int = 30, kind: str = "single", grouped: bool = False):
    """Return tiny `Splits`."""
    from ftkit.data import Splits

    train, valid, test = (
        rows(name, n, seed=seed, kind=kind, grouped=grouped)
        for seed, (name, n) in enumerate({"train": n_train, "valid": n_valid, "test": n_test}.items())
    )
    return Splits(name="tiny", train=train, valid=valid, test=test)


class Fixed:
    """A predictor that answers every text as a table says, whoever asks."""

    def __init__(self, name: str, proba_of: dict[str, np.ndarray]) -> None:
        self.name, self.proba_of = name, proba_of

    def predict_proba(self, texts):
        return np.stack([self.proba_of[t] for t in texts])


def yes_no(labels, *, groups=None):
    """Return test rows with two classes and nothing to read in their texts."""
    from ftkit.data import Rows

    texts = tuple(f"text {i}" for i in range(len(labels)))
    return Rows(name="test", texts=texts, labels=labels, label_names=("no", "yes"), groups=groups, source="tiny")


def answered(name: str, rows, correct):
    """Return the evaluation of a predictor on `yes_no` rows that is right exactly where `correct` is True.

    `correct` has shape (n,), or (n_repeats, n).
    """
    from ftkit.evaluation import Evaluation

    right = np.atleast_2d(np.asarray(correct, dtype=bool))
    return Evaluation(name=name, proba=np.eye(2)[np.where(right, rows.labels, 1 - rows.labels)], rows=rows)
