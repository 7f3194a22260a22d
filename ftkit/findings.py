"""The catalogue of coded findings (cause, consequence, fix), `explain`, and the one error class of ftkit.

A finding is something about data, a plan, a run or a result that a careful colleague would point out. Its text lives
in `findings.toml`, so that lessons, checks and errors all tell it in the same words. A `Finding` is one occurrence:
the code, and what was found here. `FtkitError` is a finding that cannot be worked around.
"""

import difflib
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path

from ftkit.display import Record, Tables, fact


@functools.cache
def catalogue() -> Mapping[str, Mapping[str, str]]:
    """Return every known finding by its code; each has `title`, `cause`, `consequence` and `fix`."""
    return tomllib.loads(Path(__file__).with_name("findings.toml").read_text(encoding="utf-8"))


class Finding(Record):
    """One occurrence of a coded finding.

    Parameters
    ----------
    code : str
        A key of the catalogue, such as `"FT003"`.
    message : str
        What was found here: the file, column or row, and the numbers.
    """

    code: str
    message: str

    def __post_init__(self) -> None:
        _known(self.code)

    @property
    def title(self) -> str:
        """The finding's title in the catalogue."""
        return catalogue()[self.code]["title"]

    def summary(self) -> str:
        return f"{self.code} {self.title}: {self.message}"


class FtkitError(Exception):
    """What ftkit raises when it cannot go on: a coded finding with one clear sentence.

    Parameters
    ----------
    code : str
        A key of the catalogue.
    message : str
        Names the file, column or row; what was expected; what was found; and what to do.

    >>> raise FtkitError("FT001", "There is no file named 'reviews.csv'.")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ftkit.findings.FtkitError: FT001 ...
    """

    def __init__(self, code: str, message: str) -> None:
        self.code, self.message = _known(code), message
        super().__init__(f"{code} {message} (More: ft.explain({code!r}))")

    def __reduce__(self) -> tuple:
        return type(self), (self.code, self.message)


class Explanation(Record):
    """A catalogue entry, to be read."""

    code: str
    title: str
    cause: str = fact("Cause")
    consequence: str = fact("Consequence")
    fix: str = fact("Fix")

    def summary(self) -> str:
        return f"{self.code} {self.title}"

    def tables(self) -> Tables:
        return [("What it means", self.facts("", "In words"))]

    def __repr__(self) -> str:
        told = f"  Cause:       {self.cause}\n  Consequence: {self.consequence}\n  Fix:         {self.fix}"
        return f"{self.summary()}\n{told}"


def explain(code: str) -> Explanation:
    """Return what a coded finding means: its cause, its consequence, and what to do.

    Parameters
    ----------
    code : str
        A code as printed in a finding or an error, such as `"FT001"`; case does not matter.

    Raises
    ------
    KeyError
        If there is no such code; the message names the nearest ones.

    >>> explain("ft001").title
    'The file is not there'
    """
    code = _known(code.upper())
    return Explanation(code=code, **catalogue()[code])


def _known(code: str) -> str:
    if code not in catalogue():
        near = ", ".join(difflib.get_close_matches(code, catalogue(), n=3)) or f"{min(catalogue())}–{max(catalogue())}"
        raise KeyError(f"no finding has the code {code!r}; did you mean {near}?")
    return code
