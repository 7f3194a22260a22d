"""Panels over the rest of ftkit: a thin skin, imported by nothing else, and not loaded by `import ftkit`.

Those that belong to one lesson stand beside the lessons, in `notebooks/panels`.
"""

from ftkit.widgets.data import DataPanel
from ftkit.widgets.freeze import FreezePanel
from ftkit.widgets.moved import WhatMovedPanel
from ftkit.widgets.training import TrainingPanel

__all__ = ["DataPanel", "FreezePanel", "TrainingPanel", "WhatMovedPanel"]
