"""Show a notebook as an application: its panels, without its code, in the browser of this machine.

    python tools/app.py                     notebooks/apps/tune.ipynb
    python tools/app.py mine.ipynb          a notebook of your own
    python tools/app.py --no-browser        any option of Voila may follow

It runs in .venv, where `python tools/install.py app` puts Voila; `make app` does both.
It listens on 127.0.0.1 alone, and the address holds a token: nobody else on the network, or on this machine, gets in.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from voila.app import Voila

APPS = Path(__file__).resolve().parent.parent / "notebooks" / "apps"

#: Every visit has a kernel with a model in it. When its page has been closed for this long, in seconds, it goes.
CLOSED = {"MappingKernelManager.cull_idle_timeout": 120, "MappingKernelManager.cull_interval": 30}


class App(Voila):
    """Voila, which by itself opens the browser without the token, and so at a page that asks for it."""

    def launch_browser(self) -> None:
        """Open the address that is printed."""
        webbrowser.open(self.display_url)


def main(words: Sequence[str]) -> None:
    """Serve until Ctrl+C."""
    # Where Voila finds the page around the panels: notebooks/apps/nbconvert/templates/app.
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(APPS), os.environ.get("JUPYTER_PATH")]))
    notebook = [] if any(word.endswith(".ipynb") for word in words) else [str(APPS / "tune.ipynb")]
    options = [f"--{name}={value}" for name, value in CLOSED.items() if not any(name in word for word in words)]
    App.launch_instance([*options, *notebook, *words, "--template=app", "--token", "--Voila.ip=127.0.0.1"])


if __name__ == "__main__":
    main(sys.argv[1:])
