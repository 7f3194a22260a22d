"""A pinned pretrained model as a `Base`: its groups of weights, its tokens, what it holds already (lesson 01).

Loads a pinned model, a folder, or a model of the Hub as a `Base`; refuses what could run code.
And its opposite: the same architecture with random weights, to see what is left when nothing was learned before.
"""

import contextlib
import copy
import dataclasses
import json
from pathlib import Path

import torch
from transformers.utils import logging

from ftkit import doctor, sources
from ftkit.findings import FtkitError
from ftkit.pretrained.base import Base, group_parameters, group_sizes, in_batches, pool
from ftkit.pretrained.looking import hidden_states, nearest, stages, trace
from ftkit.pretrained.pieces import tokens

__all__ = ["Base", "from_scratch", "group_parameters", "group_sizes", "hidden_states", "in_batches"]
__all__ += ["load_pretrained", "nearest", "pool", "stages", "tokens", "trace"]
#: A tokenizer is in one of these files.
_TOKENIZER = "tokenizer.json vocab.txt vocab.json spiece.model sentencepiece.bpe.model tokenizer.model".split()


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
    from transformers import AutoConfig, AutoModel, AutoTokenizer

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
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        extra = {"add_pooling_layer": False} if config.model_type in {"bert", "roberta"} else {}
        extra |= {"local_files_only": True, "use_safetensors": True}
        encoder = AutoModel.from_pretrained(folder, config=config, dtype="float32", **extra).eval()
    # sentence-transformers writes down how it pools; where nothing is written, the mean is the usual choice.
    written = folder / "1_Pooling" / "config.json"
    first_only = written.exists() and json.loads(written.read_text(encoding="utf-8")).get("pooling_mode_cls_token")
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.model_max_length, max_tokens or 128]
    pooling, most = "cls" if first_only else "mean", min(filter(None, limits))
    return Base(name=origin, encoder=encoder, tokenizer=tokenizer, pooling=pooling, max_tokens=most, origin=origin)


def from_scratch(base: Base, seed: int = 0) -> Base:
    """Return a base of the same architecture, tokenizer and size with freshly drawn weights.

    Beside the pretrained one it shows what pretraining is worth: the rows, the plan and the code stay the same.

    Parameters
    ----------
    base : Base
        Gives architecture and tokenizer; it is only read.
    seed : int
        Decides the weights, 0 or more. The state of chance outside is left as it was.

    Returns
    -------
    Base
        With weights drawn as the architecture's authors draw them before training.

    Examples
    --------
    >>> blank = from_scratch(load_pretrained("minilm"))  # doctest: +SKIP
    >>> blank.origin  # doctest: +SKIP
    'random weights, seed 0'
    """

    # A pooler that was left out on loading is left out here, too: the names of the weights stay the same.
    extra = {"add_pooling_layer": False} if getattr(base.encoder, "pooler", base) is None else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = type(base.encoder)(copy.deepcopy(base.encoder.config), **extra)
    origin = f"random weights, seed {seed}"
    return dataclasses.replace(base, name=f"{base.name} from scratch", encoder=encoder.eval(), origin=origin)


def _refuse_unsafe(folder: Path, name: str) -> None:
    files = {p.name for p in folder.iterdir()}
    if "config.json" not in files:
        raise FtkitError("FT035", f"'{name}' has no config.json, so it is not a model folder in transformers' layout.")
    if not any(f.endswith(".safetensors") for f in files):
        pickled = sorted(f for f in files if f.endswith((".bin", ".pt", ".pth", ".ckpt")))
        found = f"only pickled weights ({', '.join(pickled)})" if pickled else "no weights"
        todo = "write .safetensors where you trust it, as reading a pickle can run code"
        raise FtkitError("FT038", f"'{name}' has {found}; {todo}: model.save_pretrained(folder).")
    if files.isdisjoint(_TOKENIZER):
        raise FtkitError("FT037", f"'{name}' has no tokenizer.json, vocab.txt or the like; copy its own there.")


def _quiet() -> contextlib.ExitStack:
    """Keep transformers' progress bars and advice out of a lesson while a model loads; errors still come through."""
    after = contextlib.ExitStack()
    after.callback(logging.set_verbosity, logging.get_verbosity())
    if logging.is_progress_bar_enabled():
        after.callback(logging.enable_progress_bar)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return after
