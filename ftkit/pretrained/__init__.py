"""A pinned pretrained model with its tokenizer as a `Base`; its ordered, named parameter groups (lesson 01)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftkit import doctor, sources
from ftkit.display import Record, count, record, size
from ftkit.findings import FtkitError
from ftkit.pretrained.groups import group_parameters, group_sizes

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

#: Lengths are padded to multiples of this: the CPU's kernels are built anew for every new shape, and few shapes are
#: several times faster than many, for a few padding tokens more.
PAD_TO = 8
#: Vectors that a `Base` remembers (at 384 numbers each, 30 MB), so that probe and LP-FT encode the same texts once.
KEPT_ROWS = 20_000


@record
class Base(Record):
    """A pretrained encoder with its tokenizer: what was learned before your data came.

    A `Base` is never changed by training: `fit` works on a copy.

    Parameters
    ----------
    name : str
        The name it was loaded by.
    encoder : torch.nn.Module
        A transformers encoder; gives hidden states of shape (batch, tokens, hidden).
    tokenizer : transformers.PreTrainedTokenizerBase
        Its tokenizer.
    pooling : str
        How token vectors become one text vector: `"mean"` over the real tokens, or `"cls"`, the first token's.
    max_tokens : int
        Longer texts are cut to this many tokens.
    origin : str
        Where the weights come from: a pinned file's name, a Hub name with its commit, or a folder.
    """

    name: str
    encoder: torch.nn.Module
    tokenizer: Any
    pooling: str
    max_tokens: int
    origin: str
    _encoded: dict[tuple, np.ndarray] = field(default_factory=dict, init=False)  # a changed copy starts anew

    @property
    def hidden_size(self) -> int:
        """Length of a text's vector."""
        return self.encoder.config.hidden_size

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The encoder's parameter names by group, in the order of the computation (see `group_parameters`)."""
        return group_parameters(self.encoder)

    @property
    def n_parameters(self) -> int:
        """Number of parameters of the encoder."""
        return sum(p.numel() for p in self.encoder.parameters())

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, special tokens included, cut to `max_tokens`."""
        if isinstance(texts, str):
            raise TypeError(
                "expected a list of texts, found a single one; write [text]: a string is read letter by letter"
            )
        if not len(texts):
            return []
        return self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]

    def batch(self, ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Return token ids as padded tensors `input_ids` and `attention_mask`, each of shape (batch, tokens)."""
        import torch

        length = min(-(-max(map(len, ids)) // PAD_TO) * PAD_TO, max(self.max_tokens, max(map(len, ids))))
        inputs = torch.full((len(ids), length), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(inputs)
        for row, tokens in enumerate(ids):
            inputs[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        return {"input_ids": inputs, "attention_mask": mask}

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        """Return one vector for each text, from the frozen encoder in evaluation mode; the last few calls are kept.

        Parameters
        ----------
        texts : sequence of str
        batch_size : int
            Texts at a time; memory grows with it, the result does not depend on it beyond rounding.

        Returns
        -------
        numpy.ndarray of float32, shape (len(texts), hidden_size)
        """
        import torch

        # The key is the whole call, not the text: batch mates change the last bits, and a result must not depend on
        # what was asked before.
        if (key := (tuple(texts), batch_size)) not in self._encoded:
            self.encoder.eval()
            with torch.inference_mode():
                vectors = in_batches(
                    self,
                    self.tokenize(texts),
                    lambda b: pool(self.encoder, b, self.pooling),
                    self.hidden_size,
                    batch_size,
                )
            vectors.flags.writeable = False
            while self._encoded and sum(map(len, self._encoded.values())) + len(vectors) > KEPT_ROWS:
                self._encoded.pop(next(iter(self._encoded)))
            self._encoded[key] = vectors
        return self._encoded[key]

    def summary(self) -> str:
        blocks = sum(g.startswith("block ") for g in self.groups)
        return (
            f"{self.name}: a {self.encoder.config.model_type} encoder with {count(self.n_parameters)} parameters in "
            f"{blocks} blocks; a text of up to {self.max_tokens} tokens becomes {self.hidden_size} numbers."
        )

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        import pandas as pd

        sizes = group_sizes(self.encoder, self.groups)
        rows = [(g, count(n), f"{100 * n / self.n_parameters:.1f} %", size(4 * n)) for g, n in sizes.items()]
        return [
            (
                "Groups, in the order of the computation",
                pd.DataFrame(rows, columns=["group", "parameters", "share", "float32"]),
            )
        ]

    def picture(self) -> tuple[Figure, str]:
        from ftkit import plots

        sizes = group_sizes(self.encoder, self.groups)
        ax = plots.bars(list(sizes), [n / 1e6 for n in sizes.values()], label="parameters (millions)")
        largest = max(sizes, key=sizes.get)
        share = 100 * sizes[largest] / self.n_parameters
        return (
            ax.figure,
            f"Parameters in each group of {self.name}; the largest, {largest}, holds {share:.0f} % of them.",
        )


def pool(encoder: torch.nn.Module, batch: Mapping[str, torch.Tensor], pooling: str) -> torch.Tensor:
    """Return text vectors (batch, hidden): the mean of the real tokens' vectors, or the first token's."""
    hidden = encoder(**batch).last_hidden_state  # (batch, tokens, hidden)
    if pooling == "cls":
        return hidden[:, 0]
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def in_batches(base: Base, ids: Sequence[Sequence[int]], function: Any, width: int, batch_size: int) -> np.ndarray:
    """Return `function(batch)` for all texts as one array (n, width), rows in their order; like lengths go together."""
    import numpy as np

    order = np.argsort([len(i) for i in ids], kind="stable")
    out = np.zeros((len(ids), width), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        out[rows] = function(base.batch([ids[i] for i in rows])).float().numpy()
    return out


def load_pretrained(name: str = "minilm", *, max_tokens: int | None = None, revision: str | None = None) -> Base:
    """Load a pretrained encoder and its tokenizer.

    Parameters
    ----------
    name : str
        `"minilm"` (sentence-transformers/all-MiniLM-L6-v2, pinned: comes with a package registry alone), the path of
        a folder in transformers' layout, or any encoder on the Hugging Face Hub.
    max_tokens : int, optional
        Cut texts to this many tokens; by default 128, or the model's own limit where that is lower. Attention costs
        the square of it, and few sentences are longer.
    revision : str, optional
        For a Hub model: the commit to load. Give one, or your results can change under you.

    Raises
    ------
    FtkitError
        If the model cannot be had (FT030 and following), or its folder has no tokenizer (FT037) or only
        pickled weights (FT038), which could run code on being read.

    Examples
    --------
    >>> base = load_pretrained("minilm")  # doctest: +SKIP
    >>> base.encode(["Fracture of shaft of femur"]).shape  # doctest: +SKIP
    (1, 384)
    """
    import torch
    import transformers

    # In a container torch sees the host's processors, and threads beyond one's share slow each other down.
    torch.set_num_threads(min(torch.get_num_threads(), doctor.n_threads()))
    if name in sources.catalog()["files"]:
        folder, origin = sources.fetch(name), name
    elif Path(name).is_dir():
        folder, origin = Path(name), Path(name).name
    else:
        folder, commit = sources.fetch_model(name, revision=revision)
        origin = f"{name}@{commit}"
    _refuse_unsafe(folder, name)
    with _quiet():
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        extra = {"add_pooling_layer": False} if config.model_type in {"bert", "roberta"} else {}
        encoder = transformers.AutoModel.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True, dtype="float32", **extra
        )
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length, max_tokens or 128]
    return Base(
        name=str(name) if origin == name else origin,
        encoder=encoder.eval(),
        tokenizer=tokenizer,
        pooling=_pooling(folder),
        max_tokens=min(limit for limit in limits if limit),
        origin=origin,
    )


def _pooling(folder: Path) -> str:
    """Read sentence-transformers' pooling choice where a model folder has one; otherwise take the mean."""
    path = folder / "1_Pooling" / "config.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")).get("pooling_mode_cls_token"):
        return "cls"
    return "mean"


def _refuse_unsafe(folder: Path, name: str) -> None:
    files = {p.name for p in folder.iterdir()}
    if "config.json" not in files:
        raise FtkitError("FT035", f"'{name}' has no config.json, so it is not a model folder in transformers' layout.")
    if not any(f.endswith(".safetensors") for f in files):
        pickled = sorted(f for f in files if f.endswith((".bin", ".pt", ".pth", ".ckpt")))
        found = f"only pickled weights ({', '.join(pickled)})" if pickled else "no weights"
        raise FtkitError(
            "FT038",
            f"'{name}' has {found}; ftkit reads weights only as .safetensors, because reading a pickle can run code. "
            "Convert it once where you trust it: model.save_pretrained(folder) writes safetensors.",
        )
    if not files & {
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
    }:
        raise FtkitError(
            "FT037",
            f"'{name}' has no tokenizer (looked for tokenizer.json, vocab.txt, vocab.json and the like); a model can "
            "only be used with the tokenizer it was trained with: copy its files into the folder.",
        )


class _quiet:
    """Keep transformers' progress bars and advice out of a lesson while a model loads; errors still come through."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.level = logging.get_verbosity()
        self.bars = logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *error: object) -> None:
        from transformers.utils import logging

        logging.set_verbosity(self.level)
        if self.bars:
            logging.enable_progress_bar()
