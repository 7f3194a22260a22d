"""A run that can be started anywhere: which base, which data, which plan, as a TOML file that people can read."""

import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Self

import pandas as pd
import tomli_w

from ftkit.data import Splits, load_data
from ftkit.display import Record, record
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base, load_pretrained

FORMAT = 1


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
