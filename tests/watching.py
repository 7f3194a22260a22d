"""How tests look at a panel: what a reader sees of its markup, and work in its thread that takes a while."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable

import tiny

from ftkit.pretrained import Base


def text(markup: str) -> str:
    """What a reader sees of it, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def until(condition: Callable[[], object], within_s: float = 20) -> None:
    """Wait until it is so."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def slow(delay_s: float) -> Base:
    """A base that takes its time for every batch."""
    base = tiny.base()
    base.encoder.register_forward_pre_hook(lambda *_: time.sleep(delay_s))
    return base
