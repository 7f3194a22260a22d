"""Runs lessons as a learner would: every cell, in order, in a fresh kernel of this Python, in the lesson's folder.

Three ways of running share this one: `tour` (the first lesson, then its figures), `refresh` (store the outputs that
a reader sees on a code host), and the tests (smaller parameters, outputs thrown away).

A lesson says about itself, in the notebook's metadata under `ftkit`: `modules`, the modules it teaches, and `small`,
values for its `parameters` cell with which it runs in seconds.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftkit.display import seconds, size
from ftkit.findings import FtkitError

if TYPE_CHECKING:
    from nbformat import NotebookNode

_ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = _ROOT / "notebooks"
BUILD = _ROOT / "build"
FIRST = "00_start_here.ipynb"
_WIDGET = "application/vnd.jupyter.widget-view+json"


def lessons() -> list[Path]:
    """Return the notebooks of the course in teaching order, then those of the gallery."""
    return [*sorted(NOTEBOOKS.glob("*.ipynb")), *sorted(NOTEBOOKS.glob("domains/*.ipynb"))]


def read(path: Path) -> NotebookNode:
    """Return a notebook as nbformat reads it; raise `FtkitError` if there is none."""
    import nbformat

    if not path.is_file():
        raise FtkitError(
            "FT001", f"There is no lesson {path.name!r} in {path.parent}: lessons run from a clone of ftkit."
        )
    return nbformat.read(path, as_version=4)


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook, normalised, so that a difference between two versions shows only what a reader would see."""
    import nbformat

    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(normalised(notebook), path)


def normalised(notebook: NotebookNode) -> NotebookNode:
    """Return a copy without counts, timings and widget state; ids and everything a reader sees are kept.

    A widget cannot be shown without its state: what stays is the line of text it prints instead.
    """
    notebook = copy.deepcopy(notebook)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                output.get("data", {}).pop(_WIDGET, None)
                if "execution_count" in output:
                    output.execution_count = None
    return notebook


def with_parameters(source: str, values: Mapping[str, Any]) -> str:
    """Return the source of a `parameters` cell with other values for some of its names, on lines at its end.

    Parameters
    ----------
    source : str
        Lines such as `epochs = 4  # passes over the training rows`.
    values : mapping
        New values by name; each must be assigned in `source` and be written by `repr`.

    Raises
    ------
    ValueError
        If a name is not assigned in the cell.

    >>> with_parameters("epochs = 4  # passes\\nlr = 1e-4", {"epochs": 1})
    'epochs = 4  # passes\\nlr = 1e-4\\nepochs = 1'
    """
    stored = {n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    if unknown := set(values) - stored:
        raise ValueError(f"the parameters cell assigns {sorted(stored)}, not {sorted(unknown)}")
    return "\n".join([source, *(f"{name} = {value!r}" for name, value in values.items())])


def execute(
    notebook: NotebookNode,
    *,
    folder: Path = NOTEBOOKS,
    parameters: Mapping[str, Any] | None = None,
    then: str | None = None,
    timeout_s: float = 1800,
    progress: bool = False,
) -> NotebookNode:
    """Return the notebook with the outputs of a complete run; what was given is not changed.

    Parameters
    ----------
    notebook : NotebookNode
        What to run.
    folder : Path
        The kernel's working folder.
    parameters : mapping, optional
        Values that replace those in the cell tagged `parameters`.
    then : str, optional
        Code to run last, in the same kernel, that leaves no trace in the page.
    timeout_s : float
        The longest that one cell may take, in seconds.
    progress : bool
        Print each heading, with the time since the start, as the run reaches it.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails; the message holds the cell and the traceback.
    """
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell

    notebook = copy.deepcopy(notebook)
    if parameters:
        tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
        if len(tagged) != 1:
            raise ValueError(f"exactly one cell should be tagged 'parameters'; {len(tagged)} are")
        tagged[0].source = with_parameters(tagged[0].source, parameters)
    if then:
        notebook.cells.append(new_code_cell(then))
    # No folders to search: what is left is the kernel of the Python that runs this, whatever else is installed.
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    start = time.perf_counter()

    def tell(cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            heading = cell.source.splitlines()[0].strip("# ")
            print(f"{seconds(time.perf_counter() - start):>12}  {heading}", flush=True)

    NotebookClient(
        notebook,
        km=manager,
        timeout=timeout_s,
        record_timing=False,
        shutdown_kernel="immediate",  # a lesson leaves nothing that an orderly end would have to save
        extra_arguments=["--log-level=ERROR"],  # warnings about the connection are not for a learner's terminal
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=tell if progress else None,
    ).execute(cleanup_kc=True)  # or a manager that was handed over is left running
    if then:
        notebook.cells.pop()
    return notebook


def page(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook as one HTML file that asks nothing of any other machine when it is opened."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(template_name="lab", exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(normalised(notebook), {"metadata": {"name": path.stem}})
    # Text, tables and pictures need no scripts, and nbconvert's are loaded from elsewhere.
    body = re.sub(r"<script\b.*?</script>", "", body, flags=re.DOTALL | re.IGNORECASE)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body, encoding="utf-8")


def tour(notebook: Path = NOTEBOOKS / FIRST, build: Path = BUILD) -> dict:
    """Run the first lesson, print what tuning bought, and return its figures.

    Writes into `build`: the figures as `tour.json`, and the executed lesson as a page and as a notebook.
    """
    figures, start = build / "tour.json", time.perf_counter()
    build.mkdir(parents=True, exist_ok=True)
    code = f"import sys; sys.path.append({str(_ROOT / 'tools')!r})\nfrom lessons import _write_tour\n"
    code += f"_write_tour({str(figures)!r}, globals())"
    ran = execute(read(notebook), folder=notebook.parent, then=code, progress=True)
    page(ran, build / f"{notebook.stem}.html")
    write(ran, build / notebook.name)
    result = json.loads(figures.read_text(encoding="utf-8")) | {"wall_s": time.perf_counter() - start}
    figures.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{_told(result)}\n\nThe page:    {build / notebook.stem}.html\nThe figures: {figures}")
    return result


def _told(result: Mapping[str, Any]) -> str:
    import pandas as pd

    from ftkit.display import percent, table_text

    rows = [
        (r["name"], percent(r["accuracy"]), " to ".join(map(percent, r["interval"])), f"{r['macro_f1']:.3f}")
        for r in result["rows"]
    ]
    frame = pd.DataFrame(rows, columns=["", "Accuracy", "95 % interval", "Macro-F1"])
    caption = f"Before and after, on {result['n_test']:,} test rows"
    took = (
        f"{seconds(result['wall_s'])} in all, {seconds(result['train_s'])} of it training; "
        f"at most {size(result['peak_rss_bytes'])} of memory."
    )
    return f"{table_text(frame, caption)}\n\n{result['verdict']}\n{took}"


def _write_tour(path: str, names: Mapping[str, Any]) -> None:
    """Write the figures of the first lesson from the variables its kernel holds at the end."""
    import torch

    from ftkit.doctor import peak_rss_bytes, versions

    scores = {"before": names["zero"], "tfidf": names["tfidf"], "probe": names["probe"], "after": names["tuned"]}
    data = names["data"]
    result = {f"accuracy_{when}": score.accuracy for when, score in scores.items()}
    result |= {f"macro_f1_{when}": scores[when].macro_f1 for when in ("before", "after")}
    result |= {
        "verdict": names["verdict"].summary(),
        "rows": [
            {"name": s.name, "accuracy": s.accuracy, "interval": s.interval("accuracy"), "macro_f1": s.macro_f1}
            for s in scores.values()
        ],
        "n_train": len(data.train),
        "n_test": len(data.test),
        "seed": names["plan"].seed,
        "train_s": names["run"].train_s,
        "peak_rss_bytes": peak_rss_bytes(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    Path(path).write_text(json.dumps(result, default=float), encoding="utf-8")


def refresh(paths: list[Path] | None = None, build: Path = BUILD) -> None:
    """Run lessons with the parameters they are written with, store the outputs, and say what each run took.

    Writes `lessons.json` into `build`: seconds of wall time and the kernel's peak memory, by lesson.

    Parameters
    ----------
    paths : list of Path, optional
        By default all lessons.
    build : Path
        The folder for the figures.
    """
    build.mkdir(parents=True, exist_ok=True)
    figures, peak = build / "lessons.json", build / "peak.json"
    taken = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else {}
    then = f"import json, ftkit.doctor\nopen({str(peak)!r}, 'w').write(json.dumps(ftkit.doctor.peak_rss_bytes()))"
    for path in paths or lessons():
        print(path.name, flush=True)
        start = time.perf_counter()
        write(execute(read(path), folder=path.parent, then=then, progress=True), path)
        wall_s, peak_bytes = time.perf_counter() - start, json.loads(peak.read_text(encoding="utf-8"))
        print(f"{seconds(wall_s)}, at most {size(peak_bytes)} of memory\n", flush=True)
        taken[path.stem] = {"wall_s": wall_s, "peak_rss_bytes": peak_bytes}
        figures.write_text(json.dumps(taken, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    refresh([Path(name).resolve() for name in sys.argv[1:]])
