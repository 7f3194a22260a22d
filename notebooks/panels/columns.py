"""The columns panel: a file, which of its columns are what, and the splits that come of it (lesson 10)."""

import threading
from pathlib import Path
from typing import Any

from ipywidgets import HTML, Dropdown, FileUpload, Text

from ftkit.data import Splits, files, load_data
from ftkit.data.rows import KINDS
from ftkit.display import Note, Record, escape, shorten
from ftkit.widgets.panel import Panel, grid, offer

_SHOWN, _MOST = 4, 6  # rows of the file, and columns
_ROLES = {"text": "Text", "label": "Label", "group": "Group"}
_KINDS = {"single": "one of several", "multiple": "any number of them", "ordered": "one of several grades"}


class ColumnsPanel(Panel):
    """Bring a file, say which of its columns hold what, and see what becomes of it: nothing is trained.

    Parameters
    ----------
    source : str, Path or whatever else `load_data` reads, optional
        Where to begin; a file can also be named or uploaded in the panel.
    folder : str or Path
        Where an uploaded file is put.
    **given
        How `load_data` reads the source, such as `text="Review"`: where the controls start. What has no control
        (`name`, `seed`, `split`) stays as given.

    Attributes
    ----------
    value : Splits or None
        The rows, checked and split; None as long as they cannot be read.
    """

    css_class = "ftkit-columns"
    value: Splits | None = None

    def __init__(self, source: Any = None, *, folder: str | Path = ".", **given: Any) -> None:
        super().__init__()
        path = str(source) if isinstance(source, str | Path) else ""
        self._table, self._folder, self._given = None if path else source, Path(folder), given
        kinds, grades = [(_KINDS[kind], kind) for kind in KINDS], ", ".join(map(str, given.get("order") or ()))
        self.upload = self.control(FileUpload, "Upload a file", self._take_file)
        self.path = self.control(Text, "File", self._open, value=path, placeholder="a path", continuous_update=False)
        self.columns = {role: self.control(Dropdown, words, self._load) for role, words in _ROLES.items()}
        self.kind = self.control(Dropdown, "A label is", self._load, options=kinds, value=given.get("kind", "single"))
        as_text = {"value": grades, "placeholder": "lowest, …, highest", "continuous_update": False}
        self.order = self.control(Text, "Grades", self._load, **as_text)
        self._rows, self._read = HTML(), HTML()
        chosen = (self.upload, self.path, *self.columns.values(), self.kind, self.order)
        self.box.children = (*chosen, self.status, self._rows, self._read, self.shown_code, self.style)
        self._reacting.add(here := threading.get_ident())  # that the lists are filled is no choice of the reader's
        self.guarded(self._open)()
        self._reacting.discard(here)

    @property
    def source(self) -> Any:
        """What is read: the file that was named, or else the table that was given; None if there is neither."""
        return self.path.value.strip() or self._table

    @property
    def asked(self) -> dict[str, Any]:
        """What `load_data` is asked for beside the source, where that differs from its defaults."""
        shown = {role: column.value for role, column in self.columns.items()} | {"kind": self.kind.value}
        grades = tuple(grade.strip() for grade in self.order.value.split(",") if grade.strip())
        shown["order"] = grades if self.kind.value == "ordered" else ()
        others = {name: value for name, value in self._given.items() if name not in shown}
        return others | {name: value for name, value in shown.items() if value and value != "single"}

    @property
    def code(self) -> str:
        """The two lines that read the same: the file, and its columns."""
        given = "".join(f", {name}={value!r}" for name, value in self.asked.items())
        file = "...  # what the panel was given" if self.source is self._table else repr(self.source)
        return f"file = {file}\ndata = ft.load_data(file{given})"

    @property
    def static(self) -> Record:
        """The splits; before there are any, a sentence that says so."""
        return self.value or Note(text="No rows have been read yet.")

    def run_blocking(self) -> Splits:
        """Return the splits; raise what stands in their way, as `load_data` does, where there are none."""
        return self.value or load_data(self.source, **self.asked)

    def _take_file(self) -> None:
        """Put an uploaded file into the folder, under its own name or, so that none is replaced, one like it."""
        file = self.upload.value[-1]
        name = Path(Path(file["name"].replace("\\", "/")).name.lstrip(".") or "uploaded.csv")
        target, content, n = self._folder / name, bytes(file["content"]), 1
        while target.exists() and target.read_bytes() != content:
            n += 1
            target = self._folder / f"{name.stem}-{n}{name.suffix}"
        target.write_bytes(content)
        self.upload.value = ()  # or the same file could not be taken a second time
        self.path.value = str(target)
        self._open()

    def _open(self) -> None:
        """Offer the columns of the file, and read it."""
        self.value, self._rows.value, self._read.value = None, "", ""
        for column in self.columns.values():
            offer(column, [("", "")])
        self.show_code()
        if self.source is None:
            return self.say("Name a file, or upload one: a row for each text, and a column that has its label.")
        self._head = next(iter(files.read(self.source)[0].values())).head(_SHOWN)
        names = [" ".join(str(column).replace("\ufeff", "").split()) for column in self._head.columns]
        for role, column in self.columns.items():
            first = "nothing" if role == "group" else "the one with a usual name"
            at = names.index(self._given[role]) + 1 if self._given.get(role) in names else 0
            offer(column, [(first, ""), *zip(names, names, strict=True)], at)
        self._head.columns = names
        self._load()

    def _load(self) -> None:
        """Read the file as the controls say, and show its first rows and what became of it."""
        self.value, self._read.value = None, ""
        self.show_code()
        self.order.disabled = self.kind.value != "ordered"
        means = {column.value: role for role, column in self.columns.items()}
        shown = [(f"{name} ({means[name]})" if name in means else name, cells) for name, cells in self._head.items()]
        cells = [(heading, "", [escape(shorten(cell, 120)) for cell in cells]) for heading, cells in shown[:_MOST]]
        more = f"; {len(shown) - _MOST} more columns" if len(shown) > _MOST else ""
        self._rows.value = grid(f"The first rows of the file{more}", cells)
        self.value = load_data(self.source, **self.asked)
        self._read.value = self.value._repr_html_()
        self.say("Read, checked and split. Are these the labels you meant, and has each of them enough rows?")
        self.tell_listeners()
