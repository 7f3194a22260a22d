"""A table in a panel: named rows, one of them marked, and columns that stay where they are when the rows change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ftkit.display import escape


def grid(
    caption: str, columns: Mapping[str, str], rows: Iterable[Sequence[str]], chosen: Sequence[bool] | None = None
) -> str:
    """Return a table as HTML whose columns are as wide as their classes say, whatever is in them.

    Parameters
    ----------
    caption : str
        What the table shows, as text.
    columns : mapping of str to str
        Headings, and the class of each column's cells: "n" for numbers.
    rows : iterable of sequence of str
        Cells as markup: whatever is text in them must be escaped already. The first one names its row.
    chosen : sequence of bool, optional
        Which rows to mark.
    """
    looks = list(columns.values())[1:]
    head = "".join(f'<th scope="col" class="{look}">{escape(name)}</th>' for name, look in columns.items())
    body = ""
    for i, (name, *cells) in enumerate(rows):
        marked = ' class="chosen"' if chosen and chosen[i] else ""
        told = "".join(f'<td class="{look}">{cell}</td>' for look, cell in zip(looks, cells, strict=True))
        body += f'<tr{marked}><th scope="row">{name}</th>{told}</tr>'
    return (
        f'<div class="grid"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
