"""ftkit itself, through its public functions alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ftkit as ft
from benchmarks.peers import Stopwatch, Tuned
from ftkit.data import Rows
from ftkit.pretrained import Base


def load(job: Mapping[str, Any]) -> Base:
    """Return the base; `ft.fit` and what it imports are there as well."""
    _ = ft.fit, ft.Plan, ft.Splits
    return ft.load_pretrained("minilm", max_tokens=job["max_tokens"])


def tune(base: Base, rows: Mapping[str, Any], job: Mapping[str, Any]) -> Tuned:
    """Fit the job's plan, or sweep over plans like it."""
    names = tuple(rows["label_names"])
    parts = {part: Rows(name=part, label_names=names, **rows[part]) for part in ("train", "valid", "test")}
    data, plan, watch = ft.Splits(name="benchmark", **parts), plan_of(job), _Watch()
    told: dict[str, Any] = {}
    if job["sweep"]:
        import optuna

        from ftkit import search

        space = {name: list(v) if name == "train" else tuple(v) for name, v in job["sweep"]["space"].items()}
        # As with its peers, no trial ends early.
        whole = {"n_trials": job["sweep"]["n_trials"], "pruner": optuna.pruners.NopPruner()}
        found = search.sweep(base, data, plan, space, seed=job["seed"], **whole)
        told["plans"] = [{"train": p.train, "lr": p.lr} for p in map(found.planned, found.trials)]
        plan = found.best  # a sweep keeps no weights: to have the best model is one more run
    run = ft.fit(base, data, plan, on_event=watch)
    told |= {"plan": run.plan.code(), "cache": dict(run.cache or {}), **watch.told()}
    return Tuned(lambda texts: run.predict_proba(texts).argmax(1).tolist(), told)


def plan_of(job: Mapping[str, Any]) -> ft.Plan:
    """Return a job as a plan."""
    lora = {"method": "lora", **job["lora"]} if job["lora"] else {}
    return ft.Plan(
        train=job["train"],
        gradual=job["gradual"],
        lr=job["lr"],
        head_lr=job["head_lr"],
        epochs=job["epochs"],
        batch_size=job["batch_size"],
        weight_decay=job["weight_decay"],
        warmup=job["warmup"],
        clip=job["clip"],
        keep="last",
        dtype=job["options"]["dtype"],
        seed=job["seed"],
        **lora,
    )


class _Watch(Stopwatch):
    """A stopwatch that listens to a run: a step lasts from the event before it to its own."""

    def __call__(self, event: Any) -> None:
        if event.kind == "step":
            self.ended()
        if event.kind in ("step", "epoch"):
            self.began()
