"""Which errors of a page count: all of them, but for JupyterLab's own."""

from __future__ import annotations

import types

import pytest

from tests.browser.driving import Watched

LAB = "at a (http://127.0.0.1:1/static/lab/jlab_core.1.js:1:1)"


@pytest.mark.parametrize(
    ("stack", "counts"),
    [
        (f"NotFoundError: removeChild\n  {LAB}\n  {LAB}", False),
        (f"TypeError: x\n  {LAB}\n  at b (http://127.0.0.1:1/lab/extensions/widgets/static/1.js:1:1)", True),
        ("ReferenceError: x\n  at HTMLImageElement.onerror (http://127.0.0.1:1/doc/tree/static/lab/a.ipynb:1:1)", True),
        ("Error: x", True),
        (None, True),
    ],
)
def test_only_what_stays_within_jupyterlabs_own_code_is_not_the_panels(stack, counts):
    heard = {}
    page = types.SimpleNamespace(on=heard.__setitem__, wait_for_timeout=lambda ms: None)
    watched = Watched(page)
    heard["pageerror"](types.SimpleNamespace(stack=stack))
    assert bool(watched.problems()) is counts
