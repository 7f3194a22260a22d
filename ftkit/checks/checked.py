"""`Checked`: what a check looked for, and what it found."""

from __future__ import annotations

import pandas as pd

from ftkit.display import Record, record
from ftkit.findings import Finding, catalogue


@record
class Checked(Record):
    """What a check looked for, and what it found.

    Parameters
    ----------
    what : str
        What was checked, such as the name of a data set.
    looked_for : tuple of str
        The codes of the findings that would have been found, had they been there.
    findings : tuple of Finding
        What was found; empty if all is well. Each has a code that was looked for.

    Raises
    ------
    ValueError
        If something was found that was not looked for.

    >>> Checked(what="my data", looked_for=("FT021",)).summary()
    'my data: looked for 1 thing that goes wrong often, found nothing.'
    """

    what: str
    looked_for: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "looked_for", tuple(sorted(set(self.looked_for))))
        object.__setattr__(self, "findings", tuple(self.findings))
        if unknown := sorted({f.code for f in self.findings} - set(self.looked_for)):
            raise ValueError(f"findings: {', '.join(unknown)} is not in looked_for={self.looked_for}")

    def summary(self) -> str:
        n = len(self.looked_for)
        looked = "1 thing that goes" if n == 1 else f"{n} things that go"
        codes = ", ".join(sorted({f.code for f in self.findings})) or "nothing"
        return f"{self.what}: looked for {looked} wrong often, found {codes}."

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        rows = [
            (code, catalogue()[code]["title"], message)
            for code in self.looked_for
            for message in [f.message for f in self.findings if f.code == code] or ["not found"]
        ]
        return [("What was looked for", pd.DataFrame(rows, columns=["Code", "Title", "Here"]))]
