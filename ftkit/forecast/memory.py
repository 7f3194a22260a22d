"""What a run needs in memory, told from the model's shape alone; and the nearest plan that fits, where one does not."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from ftkit import doctor
from ftkit.data import Splits
from ftkit.display import size
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base

#: How far a peak was from its forecast, as a share of it: the root of the mean square over the plans of
#: `python -m benchmarks.forecasts`.
MEMORY_ERROR = 0.05
#: Beside what can be counted: libraries that a run loads, and the work space of their kernels.
WORKSPACE_BYTES = 60_000_000


def longest(base: Base, data: Splits) -> int:
    """Return the tokens of the longest row, as found among the 16 with most characters."""
    texts = heapq.nlargest(16, (*data.train.texts, *data.valid.texts), key=len)
    return max(map(len, base.tokenize([text[: 20 * base.max_tokens] for text in texts])))


def added_bytes(base: Base, data: Splits, plan: Plan, n_tokens: int) -> int:
    """Return what a run with texts of up to `n_tokens` holds at its highest, beside what the process holds already.

    A copy of the model; for what trains a gradient, AdamW's two moments, and the best weights so far; and what the
    backward pass needs of each token in each block that it crosses. Vectors of the hidden size: about ten, of the
    inner size two; and three attention maps.
    """
    preview, config = plan.preview(base, len(data.label_names)), base.encoder.config
    inner = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 4 * base.hidden_size)
    length = base.padded(n_tokens)
    token = 4 * (10 * base.hidden_size + 2 * inner + 3 * config.num_attention_heads * length)
    groups = list(preview.sizes)
    crossed = sum(g.startswith("block ") for g in groups[groups.index(preview.trained[0]) :])
    training = 4 * (3 + (plan.epochs > 1)) * preview.n_trained
    training += crossed * plan.batch_size // plan.accumulate * length * token
    # At the end, each tensor is compared with where it began.
    others = max(64 * length * token, 8 * max(p.numel() for p in base.encoder.parameters()))
    return 4 * preview.n_total + max(training, others) + WORKSPACE_BYTES


def peak_bytes(base: Base, data: Splits, plan: Plan, n_tokens: int) -> int:
    """Return what the process will hold at its highest in a run with texts of up to `n_tokens`."""
    for parameter in base.encoder.parameters():  # mapped weights count once they are read, which a run does
        parameter.detach().reshape(-1)[::1024].sum()
    return doctor.rss_bytes() + added_bytes(base, data, plan, n_tokens)


def fitting(base: Base, data: Splits, plan: Plan, *, limit_bytes: int | None = None, shrink: bool = False) -> Plan:
    """Return the plan if it fits in memory; otherwise say which one would, or return that.

    Nothing is run: weights are counted, and the few longest texts are tokenized.

    Parameters
    ----------
    base : Base
    data : Splits
    plan : Plan
    limit_bytes : int, optional
        What the process may hold at its highest; by default what it holds now and what is left here, as control
        groups and the machine have it.
    shrink : bool
        Return the nearest plan that fits: smaller batches, their gradients added up, or else deeper freezing.

    Raises
    ------
    FtkitError
        FT066, if the plan does not fit and is not to shrink, or if nothing fits.
    """
    n_tokens, may = longest(base, data), limit_bytes or doctor.rss_bytes() + doctor.memory_bytes()[1]

    def need(candidate: Plan) -> float:
        return (1 + 2 * MEMORY_ERROR) * peak_bytes(base, data, candidate, n_tokens)

    if need(plan) <= may:
        return plan
    near = next((p for p in _smaller(plan, [*base.groups, "head"]) if need(p) <= may), None)
    if near and shrink:
        return near
    nearest = f"The nearest plan that fits is {near.code()}" if near else "Not even the head alone would fit"
    told = f"{plan.code()} may need {size(need(plan))} of memory, and {size(may)} are to be had"
    raise FtkitError("FT066", f"{told}. {nearest}.")


def _smaller(plan: Plan, groups: list[str]) -> Iterator[Plan]:
    """Yield plans that need less and less: in smaller parts of a batch, then with the lowest group frozen, and so on."""
    blocks, trained = [g for g in groups if g.startswith("block ")], plan.resolve(groups)
    words = ["head", *(f"top {n}" for n in range(1, len(blocks))), "blocks"]
    named = {Plan(train=word).resolve(groups): word for word in words}
    for first in range(len(trained)):
        kept = trained[first:]
        rates = {g: rate for g, rate in plan.rates.items() if g in kept}
        train = named.get(kept, kept) if first else plan.train
        for n in range(plan.accumulate, plan.batch_size + 1):
            if plan.batch_size % n == 0 and (first or n > plan.accumulate):
                yield plan.but(train=train, rates=rates, accumulate=n)
