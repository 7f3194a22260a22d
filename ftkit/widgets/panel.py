"""What all panels share: a box with a name, an announced sentence, the code, work in a thread, and errors that show."""

import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ipywidgets import HTML, Button, DOMWidget, Dropdown, VBox

from ftkit.display import Record, escape
from ftkit.findings import FtkitError

#: The panel that holds each place: a later one of the same name takes it over, as when a cell is run again.
_PLACES: weakref.WeakValueDictionary[tuple[str, str], "Panel"] = weakref.WeakValueDictionary()

#: A column of a `grid`: its heading, the class of its cells, and the cells as markup.
Column = tuple[str, str, Iterable[str]]
#: The looks of all panels; each panel's rules are bound to its class.
_STYLE = f"<style>{Path(__file__).with_name('panels.css').read_text(encoding='utf-8')}</style>"


class Panel:
    """A skin over functions of ftkit: it holds a record as its `value`, and shows the code that does the same.

    A subclass sets `css_class`, makes its controls by `control`, puts them into `box.children` (with `style`, `status`
    and `shown_code` where it wants them), and defines `value`, `code` and, if the value does not do, `static`. What
    takes longer than a moment runs in a thread by `in_thread`; there, only traits of widgets are assigned (`say`,
    `show_code`, `some_html.value = …`).

    Parameters
    ----------
    key : str
        The place that this panel takes, among panels of its class. One that was made before for the same place is
        stopped and lets go of what it holds: that is what running a cell again does.
    """

    css_class = "ftkit-panel"
    #: The record as the panel stands; None where there is nothing yet.
    value: Any
    #: The calls that do the same without a panel.
    code: str

    def __init__(self, key: str = "") -> None:
        self.style = HTML(_STYLE, layout={"display": "none"})
        self.status, self.shown_code = HTML(), HTML()
        self.box = VBox().add_class("ftkit-panel").add_class(self.css_class)
        self._listeners: list[Callable[[Any], None]] = []
        self._reacting: set[int] = set()  # in which threads
        self._thread: threading.Thread | None = None
        #: Whether the work was asked to end; the work looks here as often as it can.
        self.stopping = False
        if earlier := _PLACES.get((self.css_class, key)):
            earlier.retire()
        _PLACES[self.css_class, key] = self

    @property
    def static(self) -> Record:
        """The record that is shown where no front end is present: on a code host, or on a printed page."""
        return self.value

    def control(self, kind: type[DOMWidget], words: str, then: Callable[[], Any], **settings: Any) -> Any:
        """Return a control that calls `then` when it is changed or clicked; what that raises is shown in the panel.

        What `then` does to this panel's own controls calls nothing more: it shows what follows from them itself.

        Parameters
        ----------
        kind : type
            Of ipywidgets, such as `Dropdown`, `Checkbox` or `Button`.
        words : str
            Its label, seen and heard.
        then : function
        **settings
            As the kind takes them, such as `options` and `value`.
        """

        def react(_: Any) -> None:
            here = threading.get_ident()
            if here not in self._reacting:
                self._reacting.add(here)
                try:
                    self.guarded(then)()
                finally:
                    self._reacting.discard(here)

        made = kind(description=words, **settings)
        made.observe(react, "value")
        if isinstance(made, Button):  # which has no value
            made.on_click(react)
        return made

    def run_blocking(self) -> Any:
        """Do the panel's work here and now, not in a thread, and return its value: the way of *Run All*."""
        return self.value

    def on_value(self, listener: Callable[[Any], None]) -> None:
        """Call `listener` with each new value, in the thread that made it."""
        self._listeners.append(listener)

    def tell_listeners(self) -> None:
        """Tell those who asked by `on_value` that there is a new value."""
        self._reacting.discard(threading.get_ident())  # what they do to this panel's controls counts as a change
        for listener in self._listeners:
            self.guarded(listener)(self.value)

    @property
    def busy(self) -> bool:
        """Whether work is going on in this panel's thread."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Ask the work in the thread to end."""
        self.stopping = True

    def wait(self, timeout_s: float | None = None) -> None:
        """Return when the work in the thread has ended, or after `timeout_s`."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def retire(self) -> None:
        """Give the place to a later panel: stop, and let go of what is large."""
        self.stop()

    def in_thread(self, work: Callable[[], None]) -> None:
        """Start `work` in a thread, unless this panel is busy; what it raises is shown in the panel."""
        if not self.busy:
            self.stopping = False
            self._thread = threading.Thread(target=self.guarded(work), name=self.css_class, daemon=True)
            self._thread.start()

    def guarded(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Return `function` such that what it raises is shown in the panel; nobody would see it otherwise."""

        def call(*args: Any) -> None:
            try:
                function(*args)
            except Exception as error:
                self.show_error(error)

        return call

    def say(self, text: str) -> None:
        """Show one sentence, as text; a screen reader says it at the next pause."""
        self.status.value = announced(escape(text))

    def show_error(self, error: Exception) -> None:
        """Show what went wrong: a finding with its code, or anything else with where it happened."""
        known = isinstance(error, FtkitError)
        if known and error.code == "FT057":  # it was asked for
            return self.say(str(error))
        told = f"<p><b>This did not work.</b> {escape(error if known else repr(error))}</p>"
        if not known:
            where = escape("".join(traceback.format_exception(error)))
            told += f"<details><summary>Where it happened</summary><pre>{where}</pre></details>"
        self.status.value = f'<div class="wrong" role="status" aria-live="polite">{told}</div>'

    def show_code(self) -> None:
        """Show `code` beneath the panel, to be copied."""
        self.shown_code.value = f'<p>The same as code:</p><pre class="code"><code>{escape(self.code)}</code></pre>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        static = self.static._repr_mimebundle_()
        return {**static, **self.box._repr_mimebundle_(), "text/plain": static["text/plain"]}


def offer(choice: Dropdown, options: Sequence[Any], chosen: int = 0) -> None:
    """Give a list other options, and choose one of them, if there is any."""
    choice.options = options
    choice.index = chosen if options else None


def announced(markup: str) -> str:
    """Return markup as a paragraph that is announced when it changes; whatever is text in it must be escaped already.

    >>> announced("2 rows")
    '<p role="status" aria-live="polite">2 rows</p>'
    """
    return f'<p role="status" aria-live="polite">{markup}</p>'


def grid(caption: str, columns: Iterable[Column], chosen: Sequence[bool] = ()) -> str:
    """Return a table as HTML whose columns are as wide as their classes say, whatever is in them.

    Parameters
    ----------
    caption : str
        What the table shows, as text.
    columns : iterable of tuple
        The heading of each as text, the class of its cells ("n" for numbers), and the cells as markup: whatever is text
        in them must be escaped already. The cells of the first column name their rows.
    chosen : sequence of bool, optional
        Which rows to mark.
    """
    headings, looks, cells = zip(*columns, strict=True)
    head = "".join(f'<th scope="col" class="{look}">{escape(h)}</th>' for h, look in zip(headings, looks, strict=True))
    body = ""
    for i, (name, *others) in enumerate(zip(*cells, strict=True)):
        marked = ' class="chosen"' if chosen and chosen[i] else ""
        told = "".join(f'<td class="{look}">{cell}</td>' for look, cell in zip(looks[1:], others, strict=True))
        body += f'<tr{marked}><th scope="row">{name}</th>{told}</tr>'
    above = f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
    return f'<div class="grid"><table>{above}<tbody>{body}</tbody></table></div>'
