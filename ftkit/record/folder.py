"""A run as a folder: what was asked for, what happened, and the weights that moved; nothing in it is ever executed.

`run.json` says everything that is not a tensor, `weights.safetensors` holds what trained (the rest is the base's),
`history.csv` and `valid.csv` are for people and spreadsheets.

A recipe says in a file which base, which data and which plan, so that a run can be started anywhere.
"""

import contextlib
import json
import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import tomli_w
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ftkit import cache, methods, tasks
from ftkit.data import Splits, load_data
from ftkit.display import Record
from ftkit.findings import Finding, FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base, load_pretrained

if TYPE_CHECKING:
    from ftkit.record import Run

FORMAT = 1
NAME = "run.json"
_WEIGHTS = "weights.safetensors"
#: Fields of a `Run` that JSON can hold as they are.
_PLAIN = "history best_epoch moved optimized losses n_steps train_s peak_bytes stopped environment cache".split()


def identity(base: Base, data: Splits, plan: Plan) -> dict[str, Any]:
    """Return what makes a run this run: its plan, its data and the weights it starts from, as JSON can hold them."""
    depth = sum(g.startswith("block ") for g in base.groups)
    read = {"weights": cache.digest(base.encoder, depth), "pooling": base.pooling, "max_tokens": base.max_tokens}
    return {"plan": plan.to_dict(), "data": data.fingerprint(), "base": read}


def agree(path: Path, told: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """Make sure that what a file tells is in the format that is read here, and of a run of this identity.

    Raises
    ------
    FtkitError
        FT081, if it is not.
    """
    if told["format"] != FORMAT:
        raise FtkitError("FT081", f"{path} has format {told['format']}; this ftkit reads {FORMAT}.")
    if differs := [key for key, value in run.items() if value != told[key]]:
        raise FtkitError("FT081", f"{path} is of another run: its {' and '.join(differs)} differ.")


def writable(folder: str | Path) -> Path:
    """Return a folder that can be written, made where there was none: better to know now than at the end of a run.

    Raises
    ------
    FtkitError
        FT080, if it cannot be.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise FtkitError("FT080", f"{folder} cannot be written: {error.strerror or error}.") from error


def save(run: "Run", folder: str | Path) -> Path:
    """Write a run into a folder, which is made where there is none, and return it.

    Each file is written beside the old one and takes its place when it is whole; `run.json` comes last.

    Raises
    ------
    FtkitError
        FT080, if the folder cannot be written.
    """
    folder = writable(folder)
    names = run.plan.movable(tasks.classifier_groups(run.model))
    weights = {n: p for n, p in run.model.named_parameters() if n in names or n.startswith("head.")}
    told = {"format": FORMAT, **identity(run.base, run.data, run.plan), "labels": run.data.label_names}
    told |= {"base_name": run.base.name, "data_name": run.data.name, "kind": run.data.kind}
    told |= {name: getattr(run, name) for name in _PLAIN}
    told["findings"] = [{"code": f.code, "message": f.message} for f in run.findings]
    answers = {"valid_proba": torch.from_numpy(run.valid_proba)}  # the CSV is for people: it may lose digits
    write_tensors(folder / _WEIGHTS, weights | answers, {"format": str(FORMAT)})
    shown = pd.DataFrame(run.valid_proba, columns=run.data.label_names, index=run.data.valid.ids)
    texts = {"history.csv": run.frame().to_csv(index=False), "valid.csv": shown.to_csv(index_label="id")}
    texts[NAME] = json.dumps(told, indent=1, ensure_ascii=False)
    for name, text in texts.items():
        with _in_place_of(folder / name) as part:
            part.write_text(text, encoding="utf-8")
    return folder


def load(folder: str | Path, base: Base, data: Splits) -> "Run":
    """Read a run that `save` or `fit(out=...)` has written.

    Parameters
    ----------
    folder : str or Path
    base, data : Base and Splits
        What it started from and learned from, loaded again; both are checked against the run.

    Raises
    ------
    FtkitError
        FT081, if the folder holds no run, a damaged one, or one of another base or other data.
    """
    from ftkit.record import Run

    path = Path(folder) / NAME
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        agree(path, told, identity(base, data, Plan()) | {"plan": told["plan"]})  # any plan will do, so it is its own
        plan = Plan(**told["plan"])
        model, answers = restored(path, base, plan, len(data.label_names))
        plain = {n: tuple(told[n]) if isinstance(told[n], list) else told[n] for n in _PLAIN}
        findings = tuple(Finding(**found) for found in told["findings"])
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FtkitError("FT081", f"{path} is damaged, or no run of ftkit: {error}.") from error
    return Run(base=base, data=data, plan=plan, model=model, **plain, valid_proba=answers.numpy(), findings=findings)


def restored(path: Path, base: Base, plan: Plan, n_labels: int) -> tuple[tasks.Classifier, torch.Tensor]:
    """Return the model of the run whose `run.json` lies at `path`, and what it answered on valid."""
    model = tasks.Classifier(base, n_labels)
    methods.attach(model.encoder, plan)
    tensors, _ = read_tensors(path.with_name(_WEIGHTS))
    answers = tensors.pop("valid_proba")
    if lost := (plan.movable(tasks.classifier_groups(model)) | {"head.weight", "head.bias"}) - set(tensors):
        raise ValueError(f"its weights lack {min(lost)}, which trained")
    model.load_state_dict(tensors, strict=False)
    return model.eval().requires_grad_(False), answers


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, str]) -> None:
    """Write tensors and a header of text as safetensors, so that the file is there whole or not at all.

    Raises
    ------
    FtkitError
        FT080, if the disk is full or the folder cannot be written; what was there before still is.
    """
    with _in_place_of(path) as part:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, part, dict(header))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and the header of a safetensors file.

    Raises
    ------
    FtkitError
        FT081, if it cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise FtkitError("FT081", f"{path} cannot be read: {error}.") from error


@contextlib.contextmanager
def _in_place_of(path: Path) -> Iterator[Path]:
    """Give a file to write beside `path`, whose place it takes once it is on the disk itself, not only on its way."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise FtkitError("FT080", f"{path} could not be written: {getattr(error, 'strerror', '') or error}.") from error
    finally:
        part.unlink(missing_ok=True)


class Recipe(Record):
    """What a run is made of, by name: `ftkit run recipe.toml --out runs/first` carries it out.

    Parameters
    ----------
    data : mapping
        What `load_data` takes; `source` is its first argument, a set's name or the path of a file.
    plan : Plan
    base : mapping
        What `load_pretrained` takes; `name` is its first argument.

    Examples
    --------
    >>> print(Recipe(data={"source": "health/diagnoses", "per_class": 32}, plan=Plan(train="top 2")).toml())
    format = 1
    <BLANKLINE>
    [base]
    name = "minilm"
    <BLANKLINE>
    [data]
    source = "health/diagnoses"
    per_class = 32
    <BLANKLINE>
    [plan]
    train = "top 2"
    <BLANKLINE>
    """

    data: Mapping[str, Any]
    plan: Plan
    base: Mapping[str, Any] = field(default_factory=lambda: {"name": "minilm"})

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a recipe; the path of a file in it counts from the recipe's own folder.

        Raises
        ------
        FtkitError
            FT001, if there is no such file; FT085, if it is no recipe, naming the line or the field.
        """
        path = Path(path)
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
            if told.pop("format") != FORMAT:
                raise ValueError(f"this ftkit reads format {FORMAT}")
            if (beside := path.parent / told["data"]["source"]).is_file():
                told["data"]["source"] = str(beside)
            return cls(**{**told, "plan": Plan(**told["plan"])})
        except FileNotFoundError:
            raise FtkitError("FT001", f"There is no recipe named {str(path)!r}.") from None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise FtkitError("FT085", f"{path.name}: {_brief(error)}.") from error

    def toml(self) -> str:
        """Return it as the text of a TOML file, with the plan's fields that differ from the defaults."""
        default = Plan(train=self.plan.train).to_dict()
        plan = {k: v for k, v in self.plan.to_dict().items() if k == "train" or v != default[k]}
        return tomli_w.dumps({"format": FORMAT, "base": self.base, "data": self.data, "plan": plan})

    def save(self, path: str | Path) -> Path:
        """Write it to a file, and return the path."""
        Path(path).write_text(self.toml(), encoding="utf-8")
        return Path(path)

    def load(self) -> tuple[Base, Splits]:
        """Load the base and the data that it names.

        Raises
        ------
        FtkitError
            FT085, if a field is none of `load_pretrained` or `load_data`; and whatever those two raise.
        """
        try:
            return load_pretrained(**self.base), load_data(**self.data)
        except TypeError as error:
            raise FtkitError("FT085", f"The recipe's [base] or [data]: {_brief(error)}.") from error

    def summary(self) -> str:
        return f"{self.base['name']} on {self.data['source']}: {self.plan.code()}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [(part, k, str(v)) for part in ("base", "data") for k, v in getattr(self, part).items()]
        return [("Loaded from", pd.DataFrame(rows, columns=["part", "field", "value"])), *self.plan.tables()]


def _brief(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error).partition(".__init__() ")[2] or str(error).partition("() ")[2] or str(error).rstrip(".")
