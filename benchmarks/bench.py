"""Runs one measurement at a time in a process of its own, with rows, model and threads alike for every tool."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ftkit as ft
from benchmarks import experiments as what
from benchmarks.experiments import EXPERIMENTS, VARIANTS
from ftkit import doctor, sources, tasks
from ftkit.data import Rows
from ftkit.data.sets import parse
from ftkit.training import batches

ROOT = Path(__file__).resolve().parent.parent
DATA = "health/diagnoses"
PEERS = ("torch", "transformers", "accelerate", "peft", "setfit", "sentence-transformers", "fastai", "scikit-learn")
LIMIT_S = 900  # a measurement that takes longer has failed
SAMPLE_S = 0.05


class Bench:
    """What all measurements of one call share: a folder, the rows as files, the model, the machine.

    Parameters
    ----------
    folder : Path
        Empty. The cache of frozen activations lies in it, away from the user's own.
    quick : bool
        Few rows and epochs: whether everything runs, not how fast.
    choosing : bool
        Rows of the draw on which rates are chosen, instead of those that are measured.
    """

    def __init__(self, folder: Path, *, quick: bool = False, choosing: bool = False) -> None:
        self.folder, self.quick, self.choosing = folder, quick, choosing
        self.model = sources.fetch("minilm")
        sources.fetch("icd10cm")
        self.cache = folder / "cache"
        self.cache.mkdir()
        (self.cache / "files").symlink_to(sources.cache_root() / "files")
        self.base = ft.load_pretrained("minilm", max_tokens=what.MAX_TOKENS)
        self.groups = tasks.classifier_groups(self.base)

    def rows(self, n_rows: int | None = None) -> Path:
        """Return the file of train, valid and test rows, which is written when it is first asked for."""
        path = self.folder / f"rows-{n_rows or 'drawn'}.json"
        if not path.exists():
            parts = whole(n_rows) if n_rows else drawn(2 if self.quick else what.PER_CLASS, choosing=self.choosing)
            told = {name: as_plain(rows) for name, rows in parts.items()}
            path.write_text(json.dumps({"label_names": parts["train"].label_names, **told}), encoding="utf-8")
        return path

    def job(
        self, name: str, variant: str, *, seed: int, rate: float | None, dtype: str, plans: Sequence[Mapping] = ()
    ) -> dict[str, Any]:
        """Return all that a measurement has to know, as plain values.

        Parameters
        ----------
        name, variant : str
            Of `EXPERIMENTS` and `VARIANTS`.
        seed : int
            Order of rows, and dropout.
        rate : float, optional
            The learning rate of the blocks; the head's is `HEAD_FACTOR` times as high.
        dtype : str
            The number format, where the variant names none.
        plans : sequence of mapping
            Of a sweep: what moves, and the rate, in each of its plans.
        """
        experiment, tool = EXPERIMENTS[name], VARIANTS[variant]
        n_rows, epochs, n_trials = experiment.n_rows, experiment.epochs, what.N_TRIALS
        if self.quick:
            n_rows, epochs, n_trials = n_rows and n_rows // 500 + 64, min(epochs, 2), 2
        sweep = {"space": what.SPACE, "n_trials": n_trials, "plans": [self.planned(**plan) for plan in plans]}
        job = {
            "experiment": name,
            "module": tool.module,
            "options": {"dtype": dtype, **tool.options},
            "rows": str(self.rows(n_rows)),
            "model": str(self.model),
            "train": experiment.train,
            "epochs": epochs,
            "gradual": experiment.gradual,
            "lora": dict(what.LORA) if experiment.lora else None,
            "sweep": sweep if experiment.sweep else None,
            "seed": seed,
            "lr": rate,
            "head_lr": rate and what.HEAD_FACTOR * rate,
            "batch_size": what.BATCH_SIZE,
            "max_tokens": what.MAX_TOKENS,
            "weight_decay": what.WEIGHT_DECAY,
            "warmup": what.WARMUP,
            "clip": what.CLIP,
            "moves": self.moves(ft.Plan(train=experiment.train, epochs=epochs, gradual=experiment.gradual)),
        }
        if tool.module == "matrices":
            job["batches"] = self.batches(n_rows, seed)
        return job

    def planned(self, train: str, lr: float) -> dict[str, Any]:
        """Return one plan of a sweep, with the names of what moves; the head's rate is not searched."""
        return {"train": train, "lr": lr, "moves": self.moves(ft.Plan(train=train))}

    def moves(self, plan: ft.Plan) -> list[list[str]]:
        """Return the names of the parameters that move in each epoch; a single list where it is always the same."""
        epochs = range(1, plan.epochs + 1) if plan.gradual else [1]
        return [sorted(plan.movable(self.groups, epoch)) for epoch in epochs]

    def batches(self, n_rows: int | None, seed: int) -> list[list[int]]:
        """Return the rows of each batch of the first epoch, as ftkit draws them."""
        rows = json.loads(self.rows(n_rows).read_text(encoding="utf-8"))
        lengths = [len(ids) for ids in self.base.tokenize(rows["train"]["texts"])]
        return batches(lengths, what.BATCH_SIZE, torch.Generator().manual_seed(seed))

    def run(self, job: Mapping[str, Any], *, keep_cache: bool = False) -> dict[str, Any]:
        """Run a job in a process of its own; return what it measured, or why it failed.

        Parameters
        ----------
        job : mapping
        keep_cache : bool
            Leave what an earlier run kept of frozen blocks: its figure is then the warm one.
        """
        if not keep_cache:
            shutil.rmtree(self.cache / "activations", ignore_errors=True)
        told, found, log = (self.folder / name for name in ("job.json", "found.json", "log.txt"))
        told.write_text(json.dumps(job), encoding="utf-8")
        found.unlink(missing_ok=True)
        threads = str(doctor.n_threads())
        surroundings = os.environ | {
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "FTKIT_CACHE": str(self.cache),
            "HF_HOME": str(self.folder / "hub"),
            "HF_HUB_OFFLINE": "1",
            "TMPDIR": str(self.folder),
            "PYTHONPATH": str(ROOT),
        }
        spawned, samples = time.monotonic(), []
        with log.open("w", encoding="utf-8") as lines:
            command = [sys.executable, "-m", "benchmarks.one", str(told), str(found)]
            process = subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=lines, stderr=subprocess.STDOUT)
            try:
                while process.poll() is None:
                    if time.monotonic() > spawned + LIMIT_S:
                        return {"failed": f"took more than {LIMIT_S} s"}
                    samples.append((time.monotonic(), anon_bytes(process.pid)))
                    time.sleep(SAMPLE_S)
            finally:
                process.kill()  # of one that has ended, nothing
                process.wait()
        if not found.exists():
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            return {"failed": last[0] if last else f"ended with status {process.returncode}"}
        result = json.loads(found.read_text(encoding="utf-8"))
        return {**within(result.pop("began"), result.pop("ended"), spawned, samples), **result}


def within(began: float, ended: float, spawned: float, samples: list[tuple[float, int]]) -> dict[str, float]:
    """Return the start-up time, and the most anonymous memory while the clock ran, out of samples from outside.

    >>> within(2.0, 4.0, 0.5, [(1.0, 90), (2.5, 40), (3.5, 60), (4.5, 80)])
    {'start_s': 1.5, 'peak_anon_bytes': 60}
    """
    inside = [size for at, size in samples if began <= at <= ended]
    before = [size for at, size in samples if at <= began][-1:]  # what ran faster than a sample was taken
    return {"start_s": began - spawned, "peak_anon_bytes": max(inside or before)}


def anon_bytes(pid: int) -> int:
    """Return what a process holds that is no file; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def drawn(per_class: int, *, choosing: bool) -> dict[str, Rows]:
    """Return the rows of a draw; to choose on, those of another draw, without what is in the measured test rows.

    To choose on, `test` is what is left of that draw's *valid* rows: the more there are, the less chance chooses.
    """
    data = ft.load_data(DATA, draw=what.DRAW, per_class=per_class)
    if not choosing:
        return {part.name: part for part in data.parts}
    measured = set(data.test.groups)
    other = ft.load_data(DATA, draw=what.DRAW_TO_CHOOSE)
    kept = {
        p.name: p.take([i for i, g in enumerate(p.groups) if g not in measured]) for p in (other.train, other.valid)
    }
    few = dataclasses.replace(other, **kept).limit(per_class)
    used = set(few.valid.ids)
    rest = kept["valid"].take([i for i, row_id in enumerate(kept["valid"].ids) if row_id not in used])
    # Valid and the rest of it share categories. Nothing is chosen on valid here, so that is no leak.
    parts = {"train": few.train, "valid": few.valid, "test": dataclasses.replace(rest, name="test")}
    return {name: dataclasses.replace(rows, groups=None) for name, rows in parts.items()}


def whole(n_rows: int) -> dict[str, Rows]:
    """Return `n_rows` wordings of the whole classification to train on; fewer are always part of more."""
    rows = parse(DATA)
    groups = np.random.default_rng(0).permutation(sorted(set(rows.groups)))
    part_of = dict.fromkeys(groups[:5], 1) | dict.fromkeys(groups[5:15], 2)
    parts = rows.dealt(np.array([part_of.get(group, 0) for group in rows.groups]))
    chosen = np.random.default_rng(1).permutation(len(parts["train"]))[:n_rows]
    if len(chosen) < n_rows:
        raise ValueError(f"there are {len(parts['train'])} wordings to train on, {n_rows} were asked for")
    return parts | {"train": parts["train"].take(chosen)}


def as_plain(rows: Rows) -> dict[str, Any]:
    """Return rows as values that JSON can hold."""
    return {"texts": rows.texts, "labels": rows.labels.tolist(), "groups": rows.groups, "ids": rows.ids}


def machine(n_looks: int = 5) -> dict[str, Any]:
    """Return what decides the figures: processor, threads, memory, versions, and the faster number format."""
    found = []
    for _ in range(n_looks):
        doctor.measured_speed.cache_clear()
        found.append(doctor.check_machine())
    return {
        "system": found[0].system,
        "processor": processor(),
        "n_threads": found[0].n_threads,
        "memory_bytes": found[0].memory_limit_bytes,
        "fastest_dtype": statistics.mode(one.fastest_dtype for one in found),
        "autocast_speedup": statistics.median(one.autocast_speedup for one in found),
        "versions": {"python": platform.python_version(), "ftkit": ft.__version__} | {p: version(p) for p in PEERS},
    }


def processor() -> str:
    """Return the processor's name, with the number formats that it multiplies matrices in."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in told.get("flags", "").split()]
    return f"{told.get('model name', platform.machine())} ({', '.join(known)})"


def version(package: str) -> str | None:
    """Return a package's version; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
