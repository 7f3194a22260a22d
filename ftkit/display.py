"""How a record shows itself: plain text and escaped HTML together, a one-sentence summary, and `.frame()`.

Every record of ftkit (a plan, splits, a run, an evaluation ...) derives from `Record` and says only *what* there is
to show: one sentence, tables with captions, and at most one picture with a sentence that doubles as its alt text.
This module decides *how*: in a terminal as text, in a notebook as HTML in which every value has been escaped.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, dataclass_transform

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def record(cls: type, **settings: bool) -> type:
    """Make a class a frozen, keyword-only dataclass; as some hold arrays, two are equal only if they are one."""
    return dataclass(**{"frozen": True, "kw_only": True, "repr": False, "eq": False} | settings)(cls)


def fact(label: str, told: Callable[[Any], object] = str, **settings: Any) -> Any:
    """Return a record's field that is a row of its `facts`.

    Parameters
    ----------
    label : str
        What it is called there.
    told : function
        Takes the value, returns what is shown of it.
    **settings
        As `dataclasses.field` takes them, such as `default`.
    """
    return field(metadata={"label": label, "told": told}, **settings)


#: What `Record.picture` returns: a matplotlib Figure, and the sentence that describes it, also as its alt text.
Picture = tuple[Any, str]
#: What `Record.tables` returns: for each table its caption, and a pandas DataFrame.
Tables = list[tuple[str, Any]]

_STYLE = f"<style>{Path(__file__).with_name('display.css').read_text(encoding='utf-8')}</style>"


def escape(value: object) -> str:
    """Return `value` as text that is safe inside HTML, in an element or in a quoted attribute.

    >>> escape("<img src=x onerror='a()'>")
    '&lt;img src=x onerror=&#x27;a()&#x27;&gt;'
    """
    return html.escape(str(value), quote=True)


def shorten(text: object, limit: int = 90) -> str:
    """Return `text` on one line, cut to at most `limit` characters, the last of them an ellipsis if it was cut.

    >>> shorten("Fracture of   shaft\\nof femur", 12)
    'Fracture of…'
    """
    line = " ".join(str(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def count(n: float) -> str:
    """Return a whole number with thousands separators.

    >>> count(22713216)
    '22,713,216'
    """
    return f"{n:,.0f}"


def size(n_bytes: float) -> str:
    """Return a number of bytes in the unit that reads best (decimal units, as disks and wheels are sold).

    >>> size(90868376), size(512)
    ('91 MB', '512 B')
    """
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= limit:
            return f"{n_bytes / limit:.{0 if n_bytes >= 10 * limit else 1}f} {unit}"
    return f"{n_bytes:.0f} B"


def seconds(s: float) -> str:
    """Return a duration as people say it.

    >>> seconds(0.42), seconds(42.4), seconds(142)
    ('0.4 s', '42 s', '2 min 22 s')
    """
    if s < 120:
        return f"{s:.{1 if s < 10 else 0}f} s"
    return f"{int(s) // 60} min {int(s) % 60:02d} s"


def percent(share: float) -> str:
    """Return a share of one as a percentage with one decimal.

    >>> percent(0.7012)
    '70.1 %'
    """
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """Return a difference of two shares in percentage points, always signed.

    >>> points(0.0512), points(-0.003)
    ('+5.1', '-0.3')
    """
    return f"{100 * difference:+.1f}"


def _is_figure(value: object) -> bool:
    """Whether a cell shows a number, with a unit or so, and is not a sentence that begins with one."""
    return isinstance(value, int | float) or bool(re.fullmatch(r"[+-]?\.?\d.{0,22}", str(value)))


def _cell(value: object) -> str:
    return f'<td class="n">{escape(value)}</td>' if _is_figure(value) else f"<td>{escape(value)}</td>"


def table_html(frame: pd.DataFrame, caption: str) -> str:
    """Return `frame` as an HTML table with a caption, every heading and value escaped; the index is not shown."""
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in frame.columns)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in frame.itertuples(index=False, name=None))
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def table_text(frame: pd.DataFrame, caption: str) -> str:
    """Return `frame` as aligned text under its caption: text to the left, numbers to the right."""
    columns = []
    for heading, values in frame.items():
        cells = [str(heading), *(shorten(v, 60) for v in values)]
        justify = str.rjust if all(map(_is_figure, filter(None, cells[1:]))) else str.ljust
        columns.append([justify(cell, max(map(len, cells))) for cell in cells])
    return "\n".join([caption, *("  " + "  ".join(row).rstrip() for row in zip(*columns, strict=True))])


def figure_html(figure: Figure, alt: str) -> str:
    """Return a matplotlib figure as an `<img>` whose alt text is also written beneath it.

    It is drawn without pyplot, so this is safe in threads and callbacks.
    """
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110, bbox_inches="tight")
    data = base64.b64encode(png.getvalue()).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}"><p><small>{escape(alt)}</small></p>'


@dataclass_transform(kw_only_default=True, eq_default=False, frozen_default=True)
class Record:
    """What every record of ftkit can do: say itself in a sentence, list its tables, draw its picture.

    A subclass is a dataclass by being one: frozen, keyword-only, compared by identity, or as it says in its head. It
    overrides `summary` and, where it has them, `tables` and `picture`. Nothing is computed before a record is shown,
    and showing it never changes it.
    """

    def __init_subclass__(cls, **settings: bool) -> None:
        record(cls, **settings)

    def summary(self) -> str:
        """One sentence that says what this is, with its most important number."""
        return type(self).__name__

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        """Return `(caption, frame)` pairs, the most important first."""
        return []

    def picture(self) -> Picture | None:
        """Return a figure and the sentence that describes it, or None where a picture would say nothing more."""
        return None

    def frame(self) -> pd.DataFrame:
        """Return the first table as a DataFrame, to be worked on."""
        import pandas as pd

        return next((frame for _, frame in self.tables()), pd.DataFrame())

    def facts(self, *columns: str) -> pd.DataFrame:
        """Return a table of the fields that are a `fact`, in their order: what each is called, and its value."""
        import pandas as pd

        told = [(f.metadata["label"], f.metadata["told"](getattr(self, f.name))) for f in fields(self) if f.metadata]
        return pd.DataFrame(told, columns=columns)

    def found(self, *columns: str) -> list[tuple[str, pd.DataFrame]]:
        """Return a table of a record's `findings` as `tables` does: code, title and message; none if there are none."""
        import pandas as pd

        told = [(f.code, f.title, f.message) for f in self.findings]
        return [("Findings", pd.DataFrame(told, columns=columns))] if told else []

    def __repr__(self) -> str:
        return "\n\n".join([self.summary(), *(table_text(frame, caption) for caption, frame in self.tables())])

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self.summary())}</p>"]
        parts += [table_html(frame, caption) for caption, frame in self.tables()]
        if drawn := self.picture():
            parts.append(figure_html(*drawn))
        return f'{_STYLE}<div class="ftkit">{"".join(parts)}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


class Note(Record):
    """A sentence or two, such as a hint, and code to read where there is some.

    Parameters
    ----------
    text : str
        The sentences.
    code : str
        Python that runs by itself; empty if there is none.
    """

    text: str
    code: str = ""

    def summary(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"{self.text}\n\n{self.code}".strip()

    def _repr_html_(self) -> str:
        # Code may have to be scrolled: it is reachable by Tab, or the keyboard could not scroll it.
        code = f'<pre tabindex="0"><code>{escape(self.code)}</code></pre>' if self.code else ""
        return f'{_STYLE}<div class="ftkit"><p>{escape(self.text)}</p>{code}</div>'
