"""What the speed benchmark measures: experiments, tools, and the targets that were set before anything was measured.

An experiment is one piece of tuning that every tool is asked for: the same rows, batches, epochs, optimizer, schedule
and frozen groups. A variant is one tool in one setting. Sizes are such that all ends within about an hour on two cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PER_CLASS = 24  # train rows for each of 21 classes; a step has 32 of them
BATCH_SIZE, MAX_TOKENS, WEIGHT_DECAY, WARMUP, CLIP = 32, 32, 0.01, 0.1, 1.0
HEAD_FACTOR = 10  # the head is new and has further to go: its rate is so many times that of the blocks
DRAW, DRAW_TO_CHOOSE = 0, 1  # rates are chosen on rows of a draw that is never measured
LORA = {"rank": 8, "alpha": 16}
#: What the sweep may vary. Twelve plans are drawn with one seed, and every tool trains the same twelve.
SPACE, N_TRIALS = {"train": ["head", "top 1", "top 2"], "lr": (1e-5, 1e-3)}, 12
SIZES = (500, 5_000, 50_000)
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One tool in one setting.

    Parameters
    ----------
    module : str
        The adapter in `benchmarks.peers`; all variants of one adapter share their learning rates.
    options : mapping
        What the adapter is told beside the experiment. Without `dtype` it gets the format that is faster here.
    note : str
        The setting in words, for the page.
    repeats : int
        At most so many: what no target is stated against is measured once.
    rates : sequence of float, optional
        The learning rates that `--choose` tries, where they are not the experiment's.
    """

    module: str
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str
    repeats: int = 3
    rates: Sequence[float] = ()


CONTRASTIVE_RATES = (2e-5, 5e-5, 1e-4)
_GROUPED = {"sampling": "group_by_length"}
VARIANTS = {
    "ftkit float32": Variant(module="ftkit", options={"dtype": "float32"}, note="`Plan(dtype='float32')`"),
    "ftkit bfloat16": Variant(module="ftkit", options={"dtype": "bfloat16"}, note="`Plan(dtype='bfloat16')`"),
    "Trainer": Variant(
        module="trainer", options={"dtype": "float32"}, note="transformers' `Trainer` with its defaults"
    ),
    "Trainer by length": Variant(
        module="trainer",
        options={"dtype": "float32", **_GROUPED},
        note="the same with `train_sampling_strategy='group_by_length'`",
    ),
    "Trainer by hand": Variant(
        module="trainer",
        options={**_GROUPED, "pad_to_multiple_of": 8},
        note="the same with lengths padded to multiples of 8 and `bf16` where that is faster here: what somebody gets "
        "who knows where the time goes",
        repeats=1,
    ),
    "SetFit": Variant(
        module="setfit",
        note="head only: its logistic head on frozen vectors; everything: its contrastive tuning, which scores nothing "
        "on the way and is stopped when it has read as many texts as the others",
        repeats=1,
        rates=CONTRASTIVE_RATES,
    ),
    "sentence-transformers": Variant(
        module="sentence_transformers",
        note="`BatchAllTripletLoss`, since its trainer has no loss for classes alone, then a logistic head",
        repeats=1,
        rates=CONTRASTIVE_RATES,
    ),
    "fastai": Variant(
        module="fastai",
        note="`Learner` with `SortedDL`, its frozen groups and its schedules; neither torchvision nor spaCy installed",
        repeats=1,
    ),
    "scikit-learn": Variant(
        module="sklearn", note="logistic regression on frozen vectors, its penalty chosen on valid", repeats=1
    ),
    "matrix products": Variant(module="matrices", note="no tool: bare products of the model's shapes"),
}
#: The two settings that ratios are stated against.
TRAINER = ("Trainer", "Trainer by length")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One piece of tuning that tools are compared on.

    Parameters
    ----------
    title : str
        What is done, as the page says it.
    train : str
        What may move, as a `Plan` names it.
    epochs : int
    peers : sequence of str
        Names out of `VARIANTS`, beside ftkit.
    n_formats : int
        In how many number formats ftkit runs, the one that is faster here first.
    rates : sequence of float
        The learning rates of the blocks that `--choose` tries.
    rates_of : str, optional
        The experiment whose chosen rates are taken instead.
    rate : float, optional
        A rate that is not chosen, the same for all.
    warm : bool
        Whether ftkit keeps what frozen blocks make of the rows, so that a second run, which finds it, is measured too.
    gradual, lora, sweep : bool
        Gradual unfreezing; low-rank adapters; a sweep instead of one run.
    n_rows : int, optional
        Train on so many wordings of the whole classification, instead of the small draw.
    repeats : int
        At most so many.
    """

    title: str
    train: str
    epochs: int
    peers: Sequence[str] = TRAINER
    n_formats: int = 2
    rates: Sequence[float] = ()
    rates_of: str | None = None
    rate: float | None = None
    warm: bool = True
    gradual: bool = False
    lora: bool = False
    sweep: bool = False
    n_rows: int | None = None
    repeats: int = 3

    def variants(self, dtype: str) -> list[str]:
        """Return all that is measured, where `dtype` is the faster number format.

        >>> EXPERIMENTS["top 1"].variants("bfloat16")
        ['ftkit bfloat16', 'ftkit float32', 'Trainer', 'Trainer by length']
        """
        formats = sorted(DTYPES, key=lambda name: name != dtype)
        return [*(f"ftkit {name}" for name in formats[: self.n_formats]), *self.peers]


EXPERIMENTS = {
    "head": Experiment(
        title="head only, 10 epochs",
        train="head",
        epochs=10,
        peers=(*TRAINER, "Trainer by hand", "fastai", "SetFit", "scikit-learn"),
        rates=(3e-4, 1e-3, 3e-3),
    ),
    "top 1": Experiment(title="top 1 of 6 blocks, 5 epochs", train="top 1", epochs=5, rates_of="top 2"),
    "top 2": Experiment(
        title="top 2 of 6 blocks, 5 epochs",
        train="top 2",
        epochs=5,
        peers=(*TRAINER, "Trainer by hand", "fastai"),
        rates=(3e-4, 1e-3, 2e-3),
    ),
    "gradual": Experiment(
        title="gradual unfreezing down to the embeddings, 5 epochs",
        train="all",
        epochs=5,
        peers=(*TRAINER, "fastai"),
        rates=(1e-4, 3e-4, 1e-3),
        gradual=True,
    ),
    "everything": Experiment(
        title="everything, 3 epochs",
        train="all",
        epochs=3,
        peers=(*TRAINER, "Trainer by hand", "fastai", "SetFit", "sentence-transformers"),
        rates=(2e-4, 4e-4, 8e-4),
        warm=False,
    ),
    "lora": Experiment(
        title=f"LoRA of rank {LORA['rank']} in all blocks, 3 epochs",
        train="blocks",
        epochs=3,
        rates=(1e-3, 3e-3, 1e-2),
        warm=False,
        lora=True,
    ),
    "sweep": Experiment(
        title=f"a sweep over {N_TRIALS} plans, 3 epochs each",
        train="head",
        epochs=3,
        n_formats=1,
        rate=3e-4,
        sweep=True,
        repeats=1,
    ),
    **{
        f"rows {n}": Experiment(
            title=f"top 1 of 6 blocks, one epoch over {n:,} rows",
            train="top 1",
            epochs=1,
            peers=("Trainer by length",) if n < 50_000 else (),
            n_formats=1,
            rates_of="top 2",
            n_rows=n,
            repeats=1,
        )
        for n in SIZES
    },
    "limit": Experiment(
        title="bare matrix products", train="all", epochs=1, peers=("matrix products",), n_formats=0, warm=False
    ),
}

#: Set before anything was measured. Times as fast as the better of `TRAINER`, at least:
SPEED_TARGETS = {"head": 15.0, "top 2": 5.0, "everything": 2.0, "sweep": 8.0}
#: The peak of memory, as a share of the smaller one of `TRAINER`, at most:
MEMORY_TARGET = 0.6
#: The share of the machine's rate of matrix products that training everything reaches, at least:
SHARE_TARGETS = {"float32": 0.60, "bfloat16": 0.20}
#: How far anonymous memory at the most rows may lie from that at the fewest:
ANON_TARGET = 0.10
