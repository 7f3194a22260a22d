"""One run from its first step to its last: what is prepared, what a step does, what is told, and what is kept."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from ftkit import baseline, cache, doctor, evaluation, methods, tasks
from ftkit.data import Splits
from ftkit.display import count, record, seconds, size
from ftkit.findings import Finding, FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.record import Run, environment
from ftkit.training.ranks import Ranks
from ftkit.training.state import Checkpoints, State
from ftkit.training.steps import Feed, batches, frozen_prefix, held, how_far, make_optimizer, rate_factor, set_modes


@record
class Event:
    """Something that happened during a run.

    Parameters
    ----------
    kind : str
        `"epoch"` after an epoch (and once before the first step, as epoch 0), `"step"` after a step, `"cache"`
        before the frozen blocks are computed, or `"resumed"` where a run goes on from a checkpoint.
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
    if event.kind == "resumed":
        print(f"Going on after step {count(event.step)} of {count(event.n_steps)}.", flush=True)
    if event.kind == "epoch" and event.step:
        left = event.elapsed_s / event.step * (event.n_steps - event.step)
        to_go = f", about {seconds(left)} to go" if left > 1 else ""
        told = "training loss {train_loss:.3f}, valid loss {valid_loss:.3f}, valid accuracy {accuracy:.3f}"
        told = f"epoch {event.values['epoch']:.0f}: {told.format(**event.values)}"
        print(f"{told} ({seconds(event.elapsed_s)}{to_go})", flush=True)


def better(new: Mapping[str, float], old: Mapping[str, float], monitor: str) -> bool:
    """Return whether one epoch's entry beats another's; equal is not better."""
    return new["valid_loss"] < old["valid_loss"] if monitor == "loss" else new[monitor] > old[monitor]


class Ended(Exception):
    """Ends a run early, from inside the loop: the reason, and the findings that say more."""


class Loop:
    """One run: what is there before the first step, the steps, and what is there after the last."""

    def __init__(
        self,
        base: Base,
        data: Splits,
        plan: Plan,
        ranks: Ranks,
        checkpoints: Checkpoints,
        began: float,
        on_event: Callable[[Event], None] | None,
        stop: Callable[[], bool],
    ) -> None:
        self.base, self.data, self.plan, self.ranks, self.checkpoints = base, data, plan, ranks, checkpoints
        self._began, self._on_event, self._stop, self._noticed = began, on_event, stop, []
        self.model = tasks.Classifier(base, len(data.label_names))
        methods.attach(self.model.encoder, plan)
        self.groups = tasks.classifier_groups(self.model)
        plan.apply(self.model, self.groups)
        if plan.compile:  # block by block: their shapes are alike, so that each is compiled once for all
            for block in cache.blocks_of(self.model.encoder)[1]:
                block.compile(dynamic=True)
        if plan.start == "zero" and "head" not in plan.resolve(list(self.groups)):
            told = "Plan.train lacks 'head', and Plan.start is 'zero': a frozen head of zeros answers alike for ever."
            raise FtkitError("FT054", f"{told} Add 'head' to train, or start from a probe: plan.but(start='probe').")
        ids, self.labels = base.tokenize(data.train.texts), torch.tensor(data.train.labels)
        self.valid_ids, self.lengths = base.tokenize(data.valid.texts), [len(i) for i in ids]
        self.n_steps = plan.epochs * math.ceil(len(ids) / plan.batch_size)
        weights = tasks.class_weights(data.train.labels, len(data.label_names), data.kind)
        self.weights = torch.tensor(weights, dtype=torch.float32) if plan.class_weight else None
        self.computing, self.optimizer = ranks.prepare(self.model, make_optimizer(self.model, self.groups, plan))
        encoder = base.encoder if ranks.sharded else self.model.encoder
        self.feed = Feed(base, encoder, ids, self.valid_ids, before_batch=self._ask, before_writing=self._tell_cache)

    def begin(self) -> None:
        """Score the start, or go back to where a checkpoint stands."""
        try:
            if self.plan.start == "probe" and not self.checkpoints.waiting:
                probe, _ = baseline.fit_probe(self.base, self.data, self._ask)
                weight, bias = map(torch.from_numpy, baseline.probe_weights(probe, self.data))
                self.model.head.load_state_dict({"weight": weight, "bias": bias})
            self.state = State(self.model, self.base, self.optimizer, self.plan.seed)
            here = self.state.environment = environment(self.plan.dtype, self.ranks.device, self.ranks.n)
            if self.checkpoints.waiting:
                self.ranks.set_chances(self.checkpoints.read(self.state))
                there, self.state.environment = self.state.environment, here
                if differs := [f"{k} {v}, now {here.get(k)}" for k, v in there.items() if v != here.get(k)]:
                    self._noticed.append(Finding(code="FT087", message=f"It had {'; '.join(differs)}."))
                self._began -= self.state.elapsed_s
                return self._emit("resumed", {})
            self.feed.prepare(frozen_prefix(self.base, self.plan, self.groups, epoch=1))
            first, self.state.valid_proba = self._validate(0, train_loss=math.nan)
        except Ended:
            raise FtkitError("FT057", "Stopped before the start was scored, so there is nothing to keep.") from None
        self.state.history.append(first)

    def epochs(self) -> None:
        """Train epoch after epoch; raise `Ended` where the run ends before its last."""
        plan, state, ready = self.plan, self.state, False
        self.feed.stages = state.stages  # those of before a resumption count, too
        if state.epoch == 1 and not state.done:
            self._emit("epoch", state.history[0])
        while state.epoch <= plan.epochs:
            if plan.patience is not None and state.epoch - 1 - state.best_epoch >= plan.patience:
                raise Ended(f"no better score on valid for {plan.patience} epochs")
            if plan.gradual or not ready:
                plan.apply(self.model, self.groups, state.epoch)
                self.feed.prepare(frozen_prefix(self.base, plan, self.groups, state.epoch))
                self.computing, ready = self.ranks.again(self.model, self.computing), True
            set_modes(self.model, self.groups, plan, state.epoch)
            state.order.set_state(state.dealt)
            dealt = batches(self.lengths, plan.batch_size, state.order)
            for rows in dealt[state.done :]:
                self._ask(every_rank=True)
                self._step(rows)
                if self.checkpoints.folder and self.ranks.decide(self.checkpoints.due()):
                    self.checkpoint()
            doctor.give_back_memory()  # what the steps used would lie beside what validation uses
            entry, proba = self._validate(state.epoch, train_loss=float(np.mean(state.losses[-len(dealt) :])))
            state.history.append(entry)
            # An epoch's last step can spoil the weights without showing in any training loss.
            if not math.isfinite(entry["valid_loss"]):
                told = f"the loss on valid was not finite after epoch {state.epoch}; epoch {state.best_epoch} is kept."
                raise Ended("the loss was not finite", Finding(code="FT055", message=told))
            if plan.keep == "last" or better(entry, state.history[state.best_epoch], plan.monitor):
                state.keep(entry, proba)
            state.epoch, state.done, state.dealt = state.epoch + 1, 0, state.order.get_state()
            self.checkpoint()
            self._emit("epoch", entry)

    def _step(self, rows: Sequence[int]) -> None:
        """Move the weights once, by the gradient of a batch's mean loss, cut to its longest, at the step's rate."""
        plan, state = self.plan, self.state
        rate = rate_factor(len(state.losses), self.n_steps, plan)
        for settings in self.optimizer.param_groups:
            settings["lr"] = settings["peak"] * rate
        total, own = torch.zeros(()), rows[self.ranks.own :: self.ranks.n]
        for number in range(plan.accumulate):  # a part can be empty where rows are few
            part = own[number :: plan.accumulate]
            part, share = part or rows[:1], tasks.share(self.labels, part, rows, self.weights)
            batch, kind = self.ranks.here(self.feed.train(part)), self.ranks.device.type
            with self.ranks.holding_back(self.computing, last=number + 1 == plan.accumulate):
                with torch.autocast(kind, torch.bfloat16, enabled=plan.dtype == "bfloat16"):
                    logits = self.computing(batch).float()
                loss = tasks.loss(logits, self.labels[part].to(logits.device), self.data.kind, self.weights) * share
                (loss * self.ranks.n).backward()
            total += loss.detach().cpu()
        state.losses.append(self.ranks.sum(total).item())
        if not math.isfinite(state.losses[-1]):
            told = f"the loss was {state.losses[-1]} at step {len(state.losses)}, in epoch {state.epoch}; "
            told += f"epoch {state.best_epoch} is kept. {self._why_not_finite(rows)}"
            raise Ended("the loss was not finite", Finding(code="FT055", message=told))
        self.ranks.clip(list(state.moving.values()), plan.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        state.done += 1
        self._emit("step", {"loss": state.losses[-1], "rate": rate, "n_rows": len(rows)})

    @torch.no_grad()
    def _why_not_finite(self, rows: Sequence[int]) -> str:
        """Return which rows were in the batch whose loss was not finite, and what most likely made it so."""
        names = [self.data.train.ids[i] for i in rows]
        told = f"Rows of the batch: {', '.join(names[:40])}{', ...' if len(names) > 40 else ''}. "
        if not all(torch.isfinite(p).all() for p in self.state.moving.values()):
            return told + "The step before had left weights that are not finite: the learning rate is too high."
        self.model.eval()
        alone = [self.model(self.ranks.here(self.feed.train([i]))) for i in rows]
        if bad := [name for name, logits in zip(names, alone, strict=True) if not torch.isfinite(logits).all()]:
            return told + f"By themselves, too, these have no finite answer: {', '.join(bad[:10])}."
        if self.plan.dtype == "bfloat16" and torch.isfinite(torch.cat(alone)).all():
            return told + "In float32 the answers to them are finite: rounding is a likely cause; try dtype='float32'."
        return told + "The answers to them are finite: a learning rate that is too high is the likely cause."

    def _validate(self, epoch: int, train_loss: float) -> tuple[dict[str, float], np.ndarray]:
        rows, ranks = self.data.valid, self.ranks
        how = {"before_batch": self._ask, "batch_of": self.feed.valid, "turn": (ranks.own, ranks.n)}
        logits = ranks.sum(torch.from_numpy(tasks.logits_of(self.model, self.base, self.valid_ids, **how))).numpy()
        proba = tasks.probabilities(np.nan_to_num(logits), rows.kind)
        scored = evaluation.Evaluation(name="valid", proba=proba[None], rows=rows)
        valid_loss = tasks.loss(torch.from_numpy(logits), torch.tensor(rows.labels), rows.kind).item()
        entry = {"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss}
        return {**entry, "accuracy": scored.accuracy, "macro_f1": scored.macro_f1}, proba

    def end(self, stopped: str | None, *findings: Finding) -> Run:
        """Return what came of it, with the best weights; an unfinished epoch is dropped with all after the best."""
        state = self.state
        model = tasks.Classifier(self.base, len(self.data.label_names)) if self.ranks.sharded else self.model
        model.load_state_dict(state.best, strict=False)
        for block in cache.blocks_of(model.encoder)[1]:
            block._compiled_call_impl = None  # a compiled block cannot be copied
        model.cpu().eval().requires_grad_(False)
        moved = how_far(model, self.base, self.groups, state.start)
        optimized = held(self.optimizer, self.model, self.groups)
        # Two numbers a weight. Loop, feed and optimizer refer to one another: what they hold of a model would go late.
        self.optimizer.state.clear()
        found, kept = (*findings, *self._noticed, *self.feed.findings), self.feed.report()
        self.computing = self.model = self.optimizer = self.feed = None
        asked = {"base": self.base, "plan": self.plan, "data": self.data}
        became = {"model": model, "moved": moved, "optimized": optimized, "best_epoch": state.best_epoch}
        told = {"history": tuple(state.history), "losses": tuple(state.losses), "valid_proba": state.valid_proba}
        cost = {"n_steps": len(state.losses), "train_s": self.elapsed_s, "peak_bytes": doctor.peak_rss_bytes()}
        how = {"environment": state.environment, "cache": kept, "stopped": stopped, "findings": found}
        run = Run(**asked, **became, **told, **cost, **how)
        del state, self.state
        doctor.give_back_memory()
        return run

    def checkpoint(self) -> None:
        """Write down where the run stands, where it has a folder; on several ranks all of them have to call this."""
        if self.checkpoints.folder:
            self.state.elapsed_s = self.elapsed_s
            tensors = self.state.tensors(self.ranks.chances())
            if self.ranks.main:
                self.checkpoints.write(self.state, tensors)

    @property
    def elapsed_s(self) -> float:
        """Seconds of this run so far, those before a resumption included."""
        return time.perf_counter() - self._began

    def _emit(self, kind: str, values: Mapping[str, float]) -> None:
        step = len(self.state.losses)
        if kind in ("step", "epoch"):
            self.ranks.log(values, step)
        if self._on_event and self.ranks.main:
            self._on_event(Event(kind=kind, step=step, n_steps=self.n_steps, elapsed_s=self.elapsed_s, values=values))

    def _tell_cache(self, n_texts: int, n_bytes: int) -> None:
        self._emit("cache", {"n_texts": n_texts, "n_bytes": n_bytes})

    def _ask(self, every_rank: bool = False) -> None:
        """End the run if that was asked for; several ranks have to end before the same step."""
        if (every_rank or self.ranks.n == 1) and self.ranks.decide(self._stop()):
            raise Ended("stopped on request")
