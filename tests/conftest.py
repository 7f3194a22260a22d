"""What every test can rely on: no network, a browser or a reason, pinned files or a reason, and a sensible order."""

from __future__ import annotations

import functools
import os
import shutil
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is first imported

import pytest
import tiny

from ftkit.findings import FtkitError
from install import BROWSERS  # tools/install.py, on the path by pyproject.toml

if TYPE_CHECKING:
    from ftkit.data import Splits
    from ftkit.pretrained import Base

IN_CI = os.environ.get("CI") == "true"
ORDER = ("test_layout", "", "test_notebooks", "browser/", "test_binder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what fails fastest first: layout, modules, lessons, browser, Binder."""
    items.sort(key=lambda item: next((i for i, part in enumerate(ORDER) if part and part in item.nodeid), 1))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Bring the sets that `needs_assets("minilm", ...)` names; without them, skip, or fail in CI."""
    for marker in item.iter_markers("needs_assets"):
        from ftkit import sources

        try:
            for name in marker.args:
                sources.fetch(name)
        except FtkitError as error:
            missing(f"not in the cache, and no route to it: {error}")


def missing(reason: str) -> None:
    """Skip on a learner's machine, fail where everything has to be there."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        local = self.family == getattr(socket, "AF_UNIX", None) or address[0] in ("127.0.0.1", "::1", "localhost")
        if not local:
            raise AssertionError(f"a test wanted to connect to {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True, scope="session")
def _leaves_no_activations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What fixtures that outlive a test keep of frozen blocks lies in a folder of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ftkit.cache.cache_root", functools.cache(lambda: tmp_path_factory.mktemp("kept")))
        yield


@pytest.fixture(autouse=True)
def _finds_no_activations(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test finds what another one kept, so that none depends on which came before."""
    monkeypatch.setattr("ftkit.cache.cache_root", functools.cache(lambda: tmp_path_factory.mktemp("kept")))


@pytest.fixture(autouse=True)
def _trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that leaves the dtype open gets the same one on every machine that runs these tests."""
    monkeypatch.setattr("ftkit.doctor.fastest_dtype", lambda: "float32")


@pytest.fixture(scope="module")
def base() -> Base:
    """A tiny base; a test file that needs another has a fixture of that name itself."""
    return tiny.base()


@pytest.fixture(scope="module")
def data() -> Splits:
    """Tiny splits, of three classes told by one word."""
    return tiny.splits()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path:
        missing("no Chromium or Chrome on the path")
    return path
