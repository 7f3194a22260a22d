"""The page of results and its pictures, from `speed.json` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import experiments as what
from benchmarks.experiments import EXPERIMENTS, SIZES, TRAINER, VARIANTS
from ftkit import plots

Table = Mapping[str, Any]  # what `benchmarks.summary.summary` returns
MB = 1e6

HOW = """\
`health/diagnoses`, draw {draw}: {per_class} train rows for each of 21 classes, texts of up to {tokens} tokens,
`minilm`. Batches of {batch} rows; AdamW with a decay of {decay} (none on biases and norms); {warmup:.0%}
warm-up and a linear fall; the head at {head} times the rate of the blocks; *valid* scored after each epoch; the
last epoch kept. Each tool has the learning rate that was best for it on rows of draw {other}, which is not
measured (`rates.json`); *test* is only reported.

Every run is a process of its own. The clock starts when model and rows are in memory, and stops when the tuned
model can answer: tokenising, and computing what frozen blocks make of the rows, are inside it. "warm" finds the
latter on disk. Figures are medians over up to three repeats, each with a seed of its own. Peak memory is that
of the whole process (VmHWM), imports included; "more" is what tuning added to what imports, model and rows held
before; anonymous memory is what is no file, looked at every 50 ms from outside while the clock ran."""

LIMIT = """\
The rate is that of bare products in the shapes of the model's linear layers, at the numbers of tokens that
ftkit's batches hold without padding, forward and both ways backward, measured in each repeat. What is reached:
6 operations for each weight in a matrix and each of those tokens, over the seconds of all steps without the
optimizer's. Losses, clipping and the making of batches are in these seconds; attention's own products are not
in the operations."""

GROWTH = """\
`Trainer` is left out at the most rows, where it would take longer than all the rest. Peak memory counts what is
mapped from files, too, which the system can take back; anonymous memory does not."""


def write_page(path: Path) -> Path:
    """Write the page and its pictures beside a file of results, and return where the page is."""
    result = json.loads(path.read_text(encoding="utf-8"))
    told, page = result["summary"], path.with_name("speed.md")
    for name, figure in {"speed_seconds": seconds_picture(told), "speed_rows": rows_picture(told)}.items():
        figure.savefig(path.with_name(f"{name}.png"), dpi=110)
    page.write_text(text(result), encoding="utf-8")
    return page


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> str:
    """Return rows as a table in Markdown, the first `left` columns to the left, figures to the right.

    >>> print(table(["tool", "s"], [["a", 1.5]]))
    | tool | s |
    |---|---:|
    | a | 1.5 |
    """
    rule = ["---"] * left + ["---:"] * (len(columns) - left)
    lines = [" | ".join(map(str, row)) for row in (columns, *rows)]
    return "\n".join([f"| {lines[0]} |", f"|{'|'.join(rule)}|", *(f"| {line} |" for line in lines[1:])])


def figure_of(value: float | None, unit: str) -> str:
    """Return a figure as the page writes it: a factor, or a share in percent.

    >>> figure_of(15.04, "times"), figure_of(0.283, "times"), figure_of(0.6, "share"), figure_of(None, "times")
    ('15.0×', '0.28×', '60.0 %', 'not measured')
    """
    if value is None:
        return "not measured"
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.2f}×" if value < 10 else f"{value:.1f}×"


def text(result: Mapping[str, Any]) -> str:
    """Return the page."""
    told, here = result["summary"], result["machine"]
    versions = ", ".join(f"{name} {number or '(not installed)'}" for name, number in here["versions"].items())
    how = HOW.format(
        draw=what.DRAW,
        other=what.DRAW_TO_CHOOSE,
        per_class=what.PER_CLASS,
        tokens=what.MAX_TOKENS,
        batch=what.BATCH_SIZE,
        decay=what.WEIGHT_DECAY,
        warmup=what.WARMUP,
        head=what.HEAD_FACTOR,
    )
    parts = [
        "# Speed and memory, measured",
        *(["**A trial run on few rows: its figures mean nothing.**"] if result["quick"] else []),
        "Made by `make bench` (`python -m benchmarks.speed`). Every single run is in `speed.json` beside this page.",
        f"{here['processor']}, {here['n_threads']} threads, {here['memory_bytes'] / 1e9:.0f} GB of memory. Autocast to "
        f"bfloat16 trains a small layer {here['autocast_speedup']:.2f} times as fast as float32 here\n"
        f"(`ft.check_machine()`), so ftkit's first row is in {here['fastest_dtype']}. {versions}.",
        "## Targets",
        f"Set before anything was measured. Speed: {told['ours']} from an empty cache, against the better setting of "
        "`Trainer`.\nMemory: against the smaller one.",
        targets(told["targets"]),
        "![Seconds of each tool in each experiment, on a logarithmic scale](speed_seconds.png)",
        "## How it was measured",
        how,
        table(["row", "what it is"], [[name, variant.note] for name, variant in VARIANTS.items()], left=2),
    ]
    for name, experiment in EXPERIMENTS.items():
        if name in told["medians"] and not experiment.n_rows and name != "limit":
            title = experiment.title[0].upper() + experiment.title[1:]
            parts += [f"## {title}", tools(told, name), "\n".join(verdict(told, name))]
    parts += ["## More rows", growth(told), GROWTH]
    parts += ["![Seconds and anonymous memory by number of rows](speed_rows.png)"]
    parts += ["## Against the machine", LIMIT, limits(told)]
    parts += ["## Start-up", "From the start of a process until model and rows are loaded and tuning can begin."]
    return "\n\n".join([*parts, starts(told)]) + "\n"


def targets(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of targets."""
    rows = []
    for target in found:
        answer = {True: "yes", False: "**no**", None: ""}[target["yes"]]
        limit, reached = (figure_of(target[part], target["unit"]) for part in ("limit", "reached"))
        rows.append([target["target"], f"{target['sign']} {limit}", reached, answer])
    return table(["what", "target", "reached", "yes or no"], rows)


def tools(told: Table, name: str) -> str:
    """Return the table of an experiment: every tool, the fastest first, those that failed last."""
    rows, found, against = [], told["medians"][name], told["ratios"].get(name, {}).get("against")
    for row, f in sorted(found.items(), key=lambda item: item[1].get("seconds", float("inf"))):
        if "failed" in f:
            why = f["failed"].replace("|", "/")
            rows.append([row, f"failed in {f['n_failed']} of {f['n']}: {why}", *[""] * 6])
            continue
        each = f" ({min(f['each_s']):.1f} to {max(f['each_s']):.1f})" if f["n"] > 1 else ""
        times = figure_of(found[against]["seconds"] / f["seconds"], "times") if against else ""
        more = f["peak_rss_bytes"] - f["rss_before_bytes"]
        memory = [f"{size / MB:.0f}" for size in (f["peak_rss_bytes"], more, f["peak_anon_bytes"])]
        right = [f"{100 * f[part]:.1f}" for part in ("accuracy_valid", "accuracy_test")]
        rows.append([row, f"{f['seconds']:.1f}{each}", times, *memory, *right])
    factor = f"times as fast as {against}" if against else "times as fast"
    return table(["tool", "seconds", factor, "peak MB", "more MB", "anonymous MB", "valid %", "test %"], rows)


def verdict(told: Table, name: str) -> list[str]:
    """Return what is to be said of an experiment's ratios and accuracy, a sentence each."""
    lines = []
    if ratio := told["ratios"].get(name):
        each = ", ".join(f"{one:.2f}" for one in ratio["each"])
        fast = f"{told['ours']} is {ratio['times_as_fast']:.2f} times as fast as {ratio['against']}"
        lines.append(
            f"{fast} (by repeat: {each}), with {ratio['peak_memory']:.2f} times the peak of {ratio['smallest']}."
        )
        if "by_hand" in ratio:
            lines.append(f"Against `Trainer` by hand it is {ratio['by_hand']:.2f} times as fast.")
    if found := told["accuracies"].get(name):
        low, high = (f"{100 * end:+.1f}" for end in found["interval_95"])
        seeds = "one seed" if found["n_seeds"] == 1 else f"{found['n_seeds']} seeds"
        both = f"{100 * found['ftkit']:.1f} % against {100 * found['trainer']:.1f} % of {found['against']}"
        lines.append(
            f"Test rows right, over {seeds}: {both}, a difference of {100 * found['difference']:+.1f} points "
            f"(95 % interval {low} to {high}): {found['verdict']}."
        )
    return lines


def growth(told: Table) -> str:
    """Return the table of time and memory by number of rows."""
    rows = []
    for n in SIZES:
        for row, f in told["medians"].get(f"rows {n}", {}).items():
            if "failed" in f:
                rows.append([f"{n:,}", row, f["failed"], "", "", ""])
                continue
            memory = [f"{f[part] / MB:.0f}" for part in ("peak_anon_bytes", "peak_rss_bytes")]
            rows.append([f"{n:,}", row, f"{f['seconds']:.1f}", f"{1e3 * f['seconds'] / n:.2f}", *memory])
    return table(["rows", "tool", "seconds", "ms a row", "anonymous MB", "peak MB"], rows, left=2)


def limits(told: Table) -> str:
    """Return the table of what training everything reaches of the machine's rate."""
    rows = []
    for row, f in told["shares"].items():
        rates = [f"{f[part] / 1e9:.0f}" for part in ("limit", "reached")]
        seconds = [f"{f[part]:.1f}" for part in ("forward_and_backward_s", "optimizer_s")]
        rows.append([row, f["dtype"], *rates, figure_of(f["share"], "share"), *seconds])
    columns = ["tool", "format", "rate, GFLOP/s", "reached", "share", "steps without optimizer, s", "optimizer, s"]
    return table(columns, rows, left=2)


def starts(told: Table) -> str:
    """Return the table of start-up times, over all experiments."""
    found: dict[str, list[float]] = {}
    for rows in told["medians"].values():
        for row, f in rows.items():
            if "failed" not in f and row != "matrix products":
                found.setdefault(row.removesuffix(", warm"), []).append(f["start_s"])
    return table(["tool", "seconds"], [[row, f"{sorted(each)[len(each) // 2]:.1f}"] for row, each in found.items()])


def look(row: str) -> tuple[str, str, str]:
    """Return the kind of a row in pictures, with the marker and the colour that tell it from others.

    >>> look("ftkit float32, warm"), look("Trainer by length"), look("fastai")
    (('ftkit, warm', 'd', '#2a6fbb'), ('Trainer by length', 's', '#d9782d'), ('other tools', 'x', '#555555'))
    """
    if row.startswith("ftkit"):
        return ("ftkit, warm", "d", plots.BLUE) if row.endswith("warm") else ("ftkit", "D", plots.BLUE)
    return (row, "os"[TRAINER.index(row)], plots.ORANGE) if row in TRAINER else ("other tools", "x", "#555555")


def seconds_picture(told: Table) -> Figure:
    """Draw the seconds of every tool, an experiment a line."""
    names = [n for n in told["medians"] if not EXPERIMENTS[n].n_rows and n != "limit"]
    figure, seen = Figure(figsize=(7.8, 1.3 + 0.42 * len(names)), layout="constrained"), set()
    ax = figure.add_subplot()
    ax.spines[["top", "right"]].set_visible(False)
    for place, name in enumerate(names):
        for row, f in told["medians"][name].items():
            if "failed" in f:
                continue
            kind, marker, colour = look(row)
            ax.scatter(f["seconds"], place, marker=marker, s=34, color=colour, label=None if kind in seen else kind)
            seen.add(kind)
    ax.set_xscale("log")
    ax.set_yticks(range(len(names)), [EXPERIMENTS[n].title for n in names], fontsize=8.5)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="x", color="#e4e6ea", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("seconds until the tuned model can answer")
    if seen:
        figure.legend(frameon=False, fontsize=8, loc="outside upper center", ncols=5)
    return figure


def rows_picture(told: Table) -> Figure:
    """Draw seconds, and anonymous memory, over the number of rows."""
    figure = Figure(figsize=(7.8, 3.0), layout="constrained")
    found = {n: told["medians"].get(f"rows {n}", {}) for n in SIZES}
    rows = list(dict.fromkeys(row for own in found.values() for row in own))
    for ax, part, unit, label in zip(
        figure.subplots(1, 2), ("seconds", "peak_anon_bytes"), (1, MB), ("seconds", "anonymous memory, MB"), strict=True
    ):
        ax.spines[["top", "right"]].set_visible(False)
        for row in rows:
            at = [(n, own[row][part] / unit) for n, own in found.items() if part in own.get(row, {})]
            _, marker, colour = look(row)
            line = "--" if row.endswith("warm") else "-"
            ax.plot([n for n, _ in at], [v for _, v in at], line, marker=marker, color=colour, markersize=5, label=row)
        ax.set_xscale("log")
        ax.set_xlabel("rows")
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0)
    if rows:
        figure.axes[0].set_ylim(auto=True)
        figure.axes[0].set_yscale("log")
        figure.axes[0].legend(frameon=False, fontsize=8)
    return figure
