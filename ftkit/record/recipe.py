"""A run that can be started anywhere: which base, which data, which plan, as a TOML file that people can read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import pandas as pd

from ftkit.data import Splits, load_data
from ftkit.display import Record, record
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base, load_pretrained


@record
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
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe; the path of a file in it counts from the recipe's own folder.

        Raises
        ------
        FtkitError
            FT001, if there is no such file; FT085, if it is no recipe, naming the line or the field.
        """
        path = Path(path)
        try:
            told = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FtkitError("FT001", f"There is no recipe named {str(path)!r}.") from None
        except (ValueError, OSError) as error:
            raise FtkitError("FT085", f"{path.name} cannot be read: {error}.") from error
        wanted, found = {"format", "base", "data", "plan"}, set(told)
        if found != wanted or told["format"] != 1:
            raise FtkitError(
                "FT085", f"{path.name}: expected format = 1 and [base], [data], [plan]; found {sorted(found)}."
            )
        source = told["data"].get("source", "")
        if (beside := path.parent / source).is_file():
            told["data"]["source"] = str(beside)
        try:
            plan = Plan(**told["plan"])
        except TypeError as error:
            raise FtkitError("FT085", f"{path.name}: [plan] {str(error).partition(') ')[2]}.") from error
        return cls(base=told["base"], data=told["data"], plan=plan)

    def toml(self) -> str:
        """Return it as the text of a TOML file, with the plan's fields that differ from the defaults."""
        default = Plan(train=self.plan.train).to_dict()
        plan = {k: v for k, v in self.plan.to_dict().items() if k == "train" or v != default[k]}
        parts = {"base": self.base, "data": self.data, "plan": plan}
        written = [f"[{name}]\n" + "".join(map(_line, part.items())) for name, part in parts.items()]
        return "\n".join(["format = 1\n", *written])

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
            raise FtkitError("FT085", f"The recipe's [base] or [data]: {str(error).partition(') ')[2]}.") from error

    def summary(self) -> str:
        return f"{self.base['name']} on {self.data['source']}: {self.plan.code()}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [(part, k, str(v)) for part in ("base", "data") for k, v in getattr(self, part).items()]
        return [("Loaded from", pd.DataFrame(rows, columns=["part", "field", "value"])), *self.plan.tables()]


def _line(entry: tuple[str, Any]) -> str:
    key, value = entry
    if value is None:  # TOML has no word for it, and nothing is what a missing field means
        return ""
    if isinstance(value, Mapping):
        return f"{key} = {{{', '.join(_line(e).strip() for e in value.items())}}}\n" if value else ""
    # Plain JSON is TOML, too, for text, numbers, truth values and lists of them.
    bare = key if key.replace("_", "").isalnum() and key.isascii() else json.dumps(key)
    return f"{bare} = {json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}\n"
