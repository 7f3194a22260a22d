"""What the parts of a run take on this machine: seconds, by a few real steps of the plan; memory, by the model's shape.

A batch is measured as a short one and a long one; what was measured once in a process is remembered.
"""

import heapq
import itertools
import timeit
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import numpy as np
import torch

from ftkit import cache, doctor, methods, tasks
from ftkit.data import Splits
from ftkit.plan import Plan
from ftkit.pretrained import Base

#: How often each thing is measured, after a warm-up.
REPEATS = 2
#: Watts for each thread, where codecarbon is not installed: processors of laptops and of servers draw 5 to 20.
WATTS_A_THREAD = 10.0
#: What a run holds beside what can be counted: libraries that it loads, and the work space of their kernels.
WORKSPACE_BYTES = 40_000_000

_known: weakref.WeakKeyDictionary[torch.nn.Module, dict[tuple, np.ndarray]] = weakref.WeakKeyDictionary()


def depths(base: Base, trained: Sequence[str]) -> tuple[int, int]:
    """Return how many blocks lie below the lowest group that trains, and how many the backward pass crosses."""
    blocks = [g for g in base.groups if g.startswith("block ")]
    crossed = next((i for i, g in enumerate(blocks) if g in trained or "embeddings" in trained), len(blocks))
    return crossed, len(blocks) - crossed


def sample(base: Base, data: Splits) -> list[list[int]]:
    """Return the tokens of the rows to train on and to validate on, or of an evenly spaced part of them.

    Some 256 rows of a split are enough to know how long its texts are.
    """
    return base.tokenize([text for part in (data.train, data.valid) for text in part.texts[:: -(-len(part) // 256)]])


def forward_s(base: Base, ids: list[list[int]], dtype: str = "float32") -> np.ndarray:
    """Return the seconds of a row through the whole encoder, frozen, in batches of 32, as measured each time."""

    def forward(batch: list[list[int]]) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            base.encoder.eval()(**base.batch(batch))

    return _seconds(base, ("forward", dtype), ids, cache.ROWS, lambda: forward)


def build_s(base: Base, ids: list[list[int]], n_rows: int, plan: Plan, stage: Sequence[str]) -> np.ndarray:
    """Return the seconds for what is frozen below a stage, so far as it is not on disk; `ids` stand for `n_rows`."""
    below, crossed = depths(base, stage)
    prefix = cache.Prefix(base=base, depth=below, pooled=stage[0] == "head", dtype=plan.dtype)
    lengths, n = np.unique([prefix.length(len(i)) for i in cache.missing(prefix, ids)], return_counts=True)
    rows = cache.ROWS * np.ceil(n * n_rows / len(ids) / cache.ROWS)  # in batches of one length, filled up
    typical = rows @ lengths / np.mean([base.padded(len(i)) for i in ids]) * below / (below + crossed)
    return forward_s(base, ids, plan.dtype) * typical


def row_s(base: Base, data: Splits, ids: list[list[int]], plan: Plan, stage: Sequence[str]) -> np.ndarray:
    """Return the seconds of a row in a step that `fit` takes where these groups move, on a copy that is thrown away."""

    def prepared() -> Callable[[list[list[int]]], None]:
        model, moves = tasks.Classifier(base, len(data.label_names)), plan.but(rates={}, gradual=False)
        methods.attach(model.encoder, moves)
        moves.but(train=tuple(stage)).apply(model, tasks.classifier_groups(model))
        for number, block in enumerate(cache.blocks_of(model.eval().encoder)[1]):
            block.train(f"block {number}" in stage)
        moving = [p for p in model.parameters() if p.requires_grad]
        optimizer, depth = torch.optim.AdamW(moving, lr=1e-6, fused=True), depths(base, stage)[0] * plan.cache

        def step(batch: list[list[int]]) -> None:
            for part in filter(None, (batch[number :: plan.accumulate] for number in range(plan.accumulate))):
                given = base.batch(part)
                if depth:  # any numbers stand in for what is kept of the texts
                    hidden = torch.rand(*given.pop("input_ids").shape, base.hidden_size)
                    given |= {"vectors": hidden[:, 0]} if stage[0] == "head" else {"hidden": hidden, "depth": depth}
                with torch.autocast("cpu", torch.bfloat16, enabled=plan.dtype == "bfloat16"):
                    logits = model(given).float()
                tasks.loss(logits, torch.tensor(data.train.labels[: len(part)]), data.kind).backward()
            torch.nn.utils.clip_grad_norm_(moving, plan.clip)
            optimizer.step()
            optimizer.zero_grad()

        return step

    key = (tuple(stage), plan.tensors, plan.method, plan.rank, plan.dtype, plan.accumulate, plan.cache)
    key += data.kind, len(data.label_names)
    return _seconds(base, key, ids, min(plan.batch_size, len(data.train)), prepared)


def _seconds(base: Base, key: tuple, ids: list[list[int]], n_rows: int, prepare: Callable[[], Callable]) -> np.ndarray:
    """Return the seconds of a row in a call with `n_rows` of them, as measured each time."""
    ids, n_rows = sorted(ids, key=len), min(n_rows, len(ids))
    batches = [ids[start : start + n_rows] for start in range(len(ids) % n_rows, len(ids), n_rows)]
    n_tokens = [base.padded(len(batch[-1])) for batch in batches]
    both = [len(batches) // 4, 3 * len(batches) // 4]
    key = (*key, torch.get_num_threads(), n_rows, *(n_tokens[i] for i in both))
    known = _known.setdefault(base.encoder, {})
    if key not in known:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            call = prepare()
            call(batches[both[0]])  # the first call also sets things up
            rounds = [[timeit.timeit(partial(call, batches[i]), number=1) for i in both] for _ in range(REPEATS)]
        known[key] = np.mean(rounds, axis=1) / n_rows
    return known[key] * np.mean(n_tokens) / np.mean([n_tokens[i] for i in both])


@lru_cache
def watts() -> tuple[float, float]:
    """Return the power that this machine draws at work, and how far it can be off, as a share of it.

    As codecarbon tells it, where that is installed; its estimates are off by up to 40 % (R. Fischer, Ground-Truthing
    AI Energy Consumption, 2025, arXiv:2509.22092). Otherwise it is `WATTS_A_THREAD`, give or take a factor of two.
    """
    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        return WATTS_A_THREAD * torch.get_num_threads(), 1.0
    # Its configuration file could have it write or send something. The country does not count: energy is asked for.
    silent = {"output_methods": [], "electricitymaps_api_token": "", "log_level": "critical"}
    with OfflineEmissionsTracker(country_iso_code="USA", **silent) as tracker:
        doctor.measured_speed.__wrapped__()  # about a second of work
    told = tracker.final_emissions_data
    return 3.6e6 * told.energy_consumed / told.duration, 0.4


def peak_bytes(base: Base, data: Splits, plan: Plan) -> int:
    """Return what this process will hold at its highest, if it runs a plan now.

    Beside what it holds: a copy of the model; for what trains a gradient, AdamW's two moments and the best weights so
    far; and what the backward pass needs of each token in each block that it crosses. Those are about ten vectors of
    the hidden size, two of the inner size (four times as long), and three attention maps. The longest row, which
    decides, is looked for among the 16 with most characters.
    """
    preview, config = plan.preview(base, len(data.label_names)), base.encoder.config
    texts = heapq.nlargest(16, itertools.chain(data.train.texts, data.valid.texts), key=len)  # none is kept beside them
    length = base.padded(max(map(len, base.tokenize([text[: 20 * base.max_tokens] for text in texts]))))
    token = 4 * (18 * base.hidden_size + 3 * config.num_attention_heads * length)
    n_rows = -(-min(plan.batch_size, len(data.train)) // plan.accumulate)
    training = 4 * (3 + (plan.epochs > 1)) * preview.n_trained
    training += depths(base, preview.trained)[1] * n_rows * length * token
    # At the end, each tensor is compared with where it began.
    others = max(min(64, len(data.valid)) * length * token, 8 * max(p.numel() for p in base.encoder.parameters()))
    for parameter in base.encoder.parameters():  # mapped weights count once they are read, which a run does
        parameter.detach().reshape(-1)[::1024].sum()
    return doctor.rss_bytes() + 4 * preview.n_total + max(training, others) + WORKSPACE_BYTES
