"""The loop, short enough to read aloud; emits events; can be stopped; keeps the best weights (lesson 05)."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch

from ftkit import baseline, evaluation, methods, tasks
from ftkit.data import Rows, Splits
from ftkit.display import count, record, seconds, size
from ftkit.findings import Finding, FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.record import Run, environment
from ftkit.training.ends import held, how_far
from ftkit.training.feed import Feed
from ftkit.training.steps import batches, better, give_back_memory, make_optimizer, rate_factor, set_modes

__all__ = [
    "Event", "batches", "better", "fit", "give_back_memory", "make_optimizer", "rate_factor", "say_epochs", "set_modes",
]  # fmt: skip


@record
class Event:
    """Something that happened during a run.

    Parameters
    ----------
    kind : str
        `"epoch"` after an epoch (and once before the first step, as epoch 0), `"step"` after a step, or `"cache"`
        before the frozen blocks are computed.
    step, n_steps : int
        Steps taken, and planned.
    elapsed_s : float
        Seconds since the run began.
    values : mapping
        For a step its `loss`, its `rate` (the share of the peak learning rate) and its `n_rows`; for an epoch its
        entry in the history; for the cache `n_texts` and the `n_bytes` they take on disk.
    """

    kind: str
    step: int
    n_steps: int
    elapsed_s: float
    values: Mapping[str, float]


def say_epochs(event: Event) -> None:
    """Print one line an epoch: the losses, the score on `valid`, and the time to go; and what is about to be kept."""
    if event.kind == "cache":
        n_texts, n_bytes = event.values["n_texts"], event.values["n_bytes"]
        print(f"The frozen blocks are computed once: {count(n_texts)} texts, {size(n_bytes)} on disk.", flush=True)
    if event.kind == "epoch" and event.step:
        left = event.elapsed_s / event.step * (event.n_steps - event.step)
        print(
            f"epoch {event.values['epoch']:.0f}: training loss {event.values['train_loss']:.3f}, "
            f"valid loss {event.values['valid_loss']:.3f}, valid accuracy {event.values['accuracy']:.3f} "
            f"({seconds(event.elapsed_s)}{f', about {seconds(left)} to go' if left > 1 else ''})",
            flush=True,
        )


def fit(
    base: Base,
    data: Splits,
    plan: Plan,
    *,
    on_event: Callable[[Event], None] | None = say_epochs,
    stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Tune a copy of `base` on `data.train` as `plan` says, and return what came of it.

    Nothing given is changed, so running a cell twice gives the same answer: with equal plan, data, versions,
    processor and thread count the same weights, bit for bit. `test` is not opened. An interrupt (the notebook's
    stop button) ends the run, and the best weights so far are kept.

    Parameters
    ----------
    base : Base
        The pretrained model.
    data : Splits
        `train` is learned from; `valid` chooses the epoch whose weights are kept.
    plan : Plan
        What may move, and how.
    on_event : function of an Event, optional
        Called after each step and epoch; by default one line an epoch is printed. None is silent.
    stop : function returning bool
        Asked before each batch, also of the validation and of the probe; True ends the run as an interrupt does.

    Raises
    ------
    FtkitError
        FT051 if the plan names a group that the model lacks; FT067 if its method finds no place there; FT053 if a
        frozen weight moved; FT054 if nothing could be learned because the head is frozen at zero; FT057 if it was
        stopped before there was anything to keep.
    """
    began = time.perf_counter()
    give_back_memory()

    def ask() -> None:
        if stop():
            raise _Ended("stopped on request")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model = tasks.Classifier(base, len(data.label_names))
        methods.attach(model.encoder, plan)
        groups = tasks.classifier_groups(model)
        plan.apply(model, groups)
        if plan.start == "zero" and "head" not in plan.resolve(list(groups)):
            raise FtkitError(
                "FT054",
                "Plan.train leaves out 'head', and Plan.start is 'zero': a frozen head of zeros answers alike "
                "for ever. Add 'head' to train, or start from a probe: plan.but(start='probe').",
            )
        ids, labels = base.tokenize(data.train.texts), torch.tensor(data.train.labels)
        valid_ids = base.tokenize(data.valid.texts)
        n_steps, emit = plan.epochs * math.ceil(len(ids) / plan.batch_size), on_event or (lambda event: None)

        def tell(n_texts: int, n_bytes: int) -> None:
            emit(_event("cache", 0, n_steps, began, {"n_texts": n_texts, "n_bytes": n_bytes}))

        feed = Feed(base, plan, groups, ids, valid_ids, ask, tell)
        validate = functools.partial(_validate, model, base, valid_ids, data.valid, ask, feed)
        try:
            if plan.start == "probe":
                _start_from_probe(model, base, data, ask)
            feed.prepare(epoch=1)
            first, valid_proba = validate(epoch=0, train_loss=math.nan)
        except _Ended:
            raise FtkitError("FT057", "Stopped before the start was scored, so there is nothing to keep.") from None
        # Memory is what a small machine lacks: the start of the encoder is the base itself, not a copy of it.
        old = {f"encoder.{n}": p for n, p in base.encoder.named_parameters()}
        moving = {n: p for n, p in model.named_parameters() if p.requires_grad}
        start = {n: old[n] if n in old else p.detach().clone() for n, p in moving.items()}

        weights = _class_weights(data, plan)
        optimizer = make_optimizer(model, groups, plan)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, n_steps, plan))
        order = torch.Generator().manual_seed(plan.seed)

        history, losses = [first], []
        best, best_epoch, stopped, findings = start, 0, None, ()
        emit(_event("epoch", 0, n_steps, began, first))
        try:
            for epoch in range(1, plan.epochs + 1):
                if epoch == 1 or plan.gradual:
                    plan.apply(model, groups, epoch)
                    feed.prepare(epoch)
                set_modes(model, groups, plan, epoch)
                earlier = len(losses)
                for rows in batches(list(map(len, ids)), plan.batch_size, order):
                    ask()
                    rate = schedule.get_last_lr()[0] / schedule.base_lrs[0]
                    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.dtype == "bfloat16"):
                        logits = model(feed.train(rows))  # (batch, n_classes)
                        loss = tasks.loss(logits.float(), labels[rows], data.kind, weights)
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                    losses.append(loss.item())
                    values = {"loss": losses[-1], "rate": rate, "n_rows": len(rows)}
                    emit(_event("step", len(losses), n_steps, began, values))
                    if not math.isfinite(losses[-1]):
                        where = f"at step {len(losses)}, in epoch {epoch}"
                        message = f"the loss was {losses[-1]} {where}; epoch {best_epoch} is kept."
                        raise _Ended("the loss was not finite", Finding(code="FT055", message=message))
                mean = float(np.mean(losses[earlier:]))
                give_back_memory()  # what the steps used would lie beside what validation uses
                entry, proba = validate(epoch=epoch, train_loss=mean)
                history.append(entry)
                # An epoch's last step can spoil the weights without showing in any training loss.
                if not math.isfinite(history[epoch]["valid_loss"]):
                    message = f"the loss on valid was not finite after epoch {epoch}; epoch {best_epoch} is kept."
                    raise _Ended("the loss was not finite", Finding(code="FT055", message=message))
                if plan.keep == "last" or better(history[epoch], history[best_epoch], plan.monitor):
                    best, best_epoch = _copied(model, start, into=None if best is start else best), epoch
                    valid_proba = proba
                emit(_event("epoch", len(losses), n_steps, began, history[epoch]))
                if plan.patience is not None and epoch - best_epoch >= plan.patience and epoch < plan.epochs:
                    raise _Ended(f"no better score on valid for {plan.patience} epochs")
        except KeyboardInterrupt:
            stopped = "interrupted"
        except _Ended as ended:
            stopped, findings = ended.reason, ended.findings
        # The unfinished epoch is dropped with the rest of what came after the best one.
        model.load_state_dict(best, strict=False)
        model.eval().requires_grad_(False)
        moved, optimized = how_far(model, base, groups, start), held(optimizer, model, groups)
    optimizer.state.clear()  # two numbers a weight; optimizer and schedule refer to one another, and would go late
    del best, start
    give_back_memory()
    return Run(
        base=base,
        plan=plan,
        data=data,
        model=model,
        history=tuple(history),
        best_epoch=best_epoch,
        moved=moved,
        optimized=optimized,
        losses=tuple(losses),
        valid_proba=valid_proba,
        n_steps=len(losses),
        train_s=time.perf_counter() - began,
        stopped=stopped,
        environment=environment(plan.dtype),
        findings=(*findings, *feed.findings),
        cache=feed.report(),
    )


class _Ended(Exception):
    """Ends a run early, from inside the loop."""

    def __init__(self, reason: str, *findings: Finding) -> None:
        self.reason, self.findings = reason, findings


def _event(kind: str, step: int, n_steps: int, began: float, values: Mapping[str, float]) -> Event:
    return Event(kind=kind, step=step, n_steps=n_steps, elapsed_s=time.perf_counter() - began, values=values)


def _class_weights(data: Splits, plan: Plan) -> torch.Tensor | None:
    if plan.class_weight is None:
        return None
    return torch.tensor(tasks.class_weights(data.train.labels, len(data.label_names), data.kind), dtype=torch.float32)


def _start_from_probe(model: tasks.Classifier, base: Base, data: Splits, ask: Callable[[], None]) -> None:
    probe, _ = baseline.fit_probe(base, data, ask)
    weight, bias = baseline.probe_weights(probe, data)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(weight))
        model.head.bias.copy_(torch.from_numpy(bias))


def _copied(
    model: tasks.Classifier, names: Collection[str], into: dict[str, torch.Tensor] | None
) -> dict[str, torch.Tensor]:
    """Return a copy of what trains, made in the place of an earlier copy where there is one."""
    moving = {n: p.detach() for n, p in model.named_parameters() if n in names}
    if into is None:
        return {n: p.clone() for n, p in moving.items()}
    for name, parameter in moving.items():
        into[name].copy_(parameter)
    return into


def _validate(
    model: tasks.Classifier,
    base: Base,
    ids: list[list[int]],
    rows: Rows,
    ask: Callable[[], None],
    feed: Feed,
    *,
    epoch: int,
    train_loss: float,
) -> tuple[dict[str, float], np.ndarray]:
    logits = tasks.logits_of(model, base, ids, before_batch=ask, batch_of=feed.valid)
    proba = tasks.probabilities(np.nan_to_num(logits), rows.kind)
    scored = evaluation.Evaluation(name="valid", proba=proba[None], rows=rows)
    valid_loss = tasks.loss(torch.from_numpy(logits), torch.tensor(rows.labels), rows.kind).item()
    entry = {
        "epoch": epoch,
        "train_loss": train_loss,
        "valid_loss": valid_loss,
        "accuracy": scored.accuracy,
        "macro_f1": scored.macro_f1,
    }
    return entry, proba
