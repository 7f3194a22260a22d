"""Panels over the rest of ftkit: a thin skin, imported by nothing else, and not loaded by `import ftkit`."""

from ftkit.widgets.freeze import FreezePanel

__all__ = ["FreezePanel"]
