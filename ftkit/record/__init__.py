"""What came out of a run: the tuned model, its history, what moved, and everything needed to repeat it."""

import functools
import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch

from ftkit import plots, tasks
from ftkit.data import Splits
from ftkit.display import Picture, Record, count, percent, seconds, shorten
from ftkit.evaluation import Evaluation
from ftkit.findings import Finding
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.record.folder import NAME, Recipe, identity, load, read_tensors, restored, save, write_tensors

__all__ = ["NAME", "Predictions", "Recipe", "Run", "environment", "identity", "load", "read_tensors", "restored"]
__all__ += ["save", "write_tensors"]


class Predictions(Record):
    """A model's answers to some texts.

    Parameters
    ----------
    texts : tuple of str
    proba : numpy.ndarray, shape (len(texts), n_classes)
    label_names : tuple of str
    kind : str
        `"single"`, `"multiple"` or `"ordered"`.
    """

    texts: tuple[str, ...]
    proba: np.ndarray
    label_names: tuple[str, ...]
    kind: str = "single"

    @property
    def labels(self) -> list[Any]:
        """The name of each text's answer; for multiple labels a list of names for each text."""
        answers = tasks.answers(self.proba, self.kind)
        if self.kind == "multiple":
            return [[n for n, on in zip(self.label_names, row, strict=True) if on] for row in answers]
        return [self.label_names[a] for a in answers]

    def summary(self) -> str:
        return f"{len(self.texts)} {'answer' if len(self.texts) == 1 else 'answers'}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = []
        for text, answer, row in zip(self.texts, self.labels, self.proba, strict=True):
            if self.kind == "multiple":
                rows.append((shorten(text), "; ".join(answer) or "(none)", percent(row.max())))
                continue
            own = self.label_names.index(answer)
            second = max((p, i) for i, p in enumerate(row) if i != own) if len(row) > 1 else (0.0, own)
            rows.append((shorten(text), answer, percent(row[own]), self.label_names[second[1]], percent(second[0])))
        columns = ["text", "answer", "probability", "next", "its probability"][: len(rows[0]) if rows else 5]
        return [("Answers", pd.DataFrame(rows, columns=columns))]


class Run(Record):
    """A tuned model and everything that happened; can be evaluated, and asked with `predict`.

    Parameters
    ----------
    base : Base
        What it started from, unchanged.
    plan : Plan
        What was asked for.
    data : Splits
        What it learned from.
    model : tasks.Classifier
        The tuned model, with the weights of `best_epoch`.
    history : tuple of mapping
        One entry an epoch: `epoch`, `train_loss`, `valid_loss`, `accuracy`, `macro_f1`; epoch 0 is the state before
        the first step.
    best_epoch : int
        The epoch whose weights were kept.
    moved : mapping of group name to float
        How far each group's weights went from where they started, relative to their length (0.01 is one percent);
        exactly 0.0 for a group that was frozen.
    optimized : mapping of group name to int
        How many weights of each group the optimizer held.
    losses : tuple of float
        The training loss of each step, in nats.
    valid_proba : numpy.ndarray, shape (n_valid, n_classes)
        What the kept weights answered on `valid`.
    n_steps : int
        Optimizer steps taken.
    train_s : float
        Seconds of wall time from the first preparation to the kept weights.
    peak_bytes : int
        The most memory that this process had held until then, earlier work included.
    stopped : str or None
        Why it ended before its last epoch, if it did.
    environment : mapping
        Versions, threads, processor and dtype: with these, plan and data equal, so are the weights, bit for bit.
    findings : tuple of Finding
    cache : mapping, optional
        What was kept of the frozen blocks: `depth` (blocks), `pooled`, `digest` (of the activations used), `n_bytes`
        on disk, `n_built` (texts computed for this run) in `built_s` seconds, and `saved_s`, the seconds that reading
        them instead of computing them saved, as estimated from the time that a text took.
    """

    base: Base
    plan: Plan
    data: Splits
    model: tasks.Classifier
    history: tuple[Mapping[str, float], ...]
    best_epoch: int
    moved: Mapping[str, float]
    optimized: Mapping[str, int]
    losses: tuple[float, ...]
    valid_proba: np.ndarray
    n_steps: int
    train_s: float
    peak_bytes: int
    stopped: str | None
    environment: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()
    cache: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What this run trained, in a few words."""
        return f"tuned ({self.plan.words})"

    @property
    def trained(self) -> tuple[str, ...]:
        """The groups that the plan let move."""
        return tuple(g for g in self.plan.resolve(list(self.moved)) if self.optimized[g])

    @functools.cached_property
    def on_valid(self) -> Evaluation:
        """The evaluation of the kept weights on `valid`, on which they were chosen; nothing is computed again."""
        return Evaluation(name=self.name, proba=self.valid_proba[None], rows=self.data.valid)

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Return probabilities of shape (len(texts), n_classes)."""
        return tasks.probabilities(tasks.logits_of(self.model, self.base, self.base.tokenize(texts)), self.data.kind)

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer some texts.

        Parameters
        ----------
        texts : sequence of str
            A list of texts; a single string is refused, since it would be read letter by letter.
        """
        names = tuple(self.data.label_names)
        return Predictions(texts=tuple(texts), proba=self.predict_proba(texts), label_names=names, kind=self.data.kind)

    @functools.cached_property
    def weights_sha256(self) -> str:
        """Hash of all weights: two runs with the same one are the same model, bit for bit."""
        tensors = {name: tensor.contiguous() for name, tensor in sorted(self.model.state_dict().items())}
        return hashlib.sha256(safetensors.torch.save(tensors)).hexdigest()

    def frame(self) -> pd.DataFrame:
        """Return the history, one row an epoch."""

        return pd.DataFrame(self.history)

    def summary(self) -> str:
        best = self.history[self.best_epoch]
        ended = f" It ended early: {self.stopped}." if self.stopped else ""
        saved = ""
        if self.cache and self.cache["saved_s"] >= 1:
            n = self.cache["depth"]
            saved = f" Computing {n} frozen block{'s' * (n > 1)} once saved about {seconds(self.cache['saved_s'])}."
        kept = f"kept epoch {self.best_epoch} with {percent(best['accuracy'])} of valid right."
        return f"{self.plan.code()} took {seconds(self.train_s)} ({count(self.n_steps)} steps); {kept}{saved}{ended}"

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = self.frame().astype({"epoch": int}).set_index("epoch").map("{:.3f}".format)
        rows = rows.replace({"train_loss": {"nan": ""}}).assign(kept="").reset_index()
        rows.loc[self.best_epoch, "kept"] = "yes"
        columns = ["epoch", "training loss", "valid loss", "valid accuracy", "valid macro-F1", "kept"]
        still = dict.fromkeys(self.moved, "0 (frozen)") | dict.fromkeys(self.trained, "0 (went back to the start)")
        begun = self.plan.stage(list(self.moved), self.best_epoch or self.plan.epochs)
        still |= {g: "0 (its turn came later)" for g in self.trained if g not in begun}
        moved = [(g, f"{100 * m:.2f} %" if m else still[g]) for g, m in self.moved.items()]
        epochs = ("Epochs (0 is before the first step)", rows.set_axis(columns, axis=1))
        went = ("How far each group moved", pd.DataFrame(moved, columns=["group", "relative change"]))
        return [epochs, went, *self.found("code", "finding", "here")]

    def picture(self) -> Picture:
        first, best = self.history[0], self.history[self.best_epoch]
        ax = plots.history(self.frame(), best_epoch=self.best_epoch)
        went = f"from {first['valid_loss']:.2f} to {best['valid_loss']:.2f} at epoch {self.best_epoch}"
        return ax.figure, f"Loss by epoch: on valid it went {went}, whose weights were kept."


def environment(dtype: str, device: str = "cpu", n_processes: int = 1) -> dict[str, Any]:
    """Return what decides the bits of a result besides plan and data: versions, threads, processor, dtype."""

    versions = {p: metadata.version(p) for p in "torch transformers tokenizers numpy scikit-learn peft".split()}
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    here = {"system": platform.system(), "processor": processor, "n_threads": torch.get_num_threads()}
    how = {"device": str(device), "n_processes": n_processes, "dtype": dtype}
    return {"python": platform.python_version(), **versions, **here, **how}
