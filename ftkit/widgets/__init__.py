"""Panels over the rest of ftkit: a thin skin, imported by nothing else, and not loaded by `import ftkit`."""

from ftkit.widgets.data import DataPanel
from ftkit.widgets.errors import ErrorsPanel
from ftkit.widgets.freeze import FreezePanel
from ftkit.widgets.labels import LabelsPanel
from ftkit.widgets.moved import WhatMovedPanel
from ftkit.widgets.training import TrainingPanel

__all__ = ["DataPanel", "ErrorsPanel", "FreezePanel", "LabelsPanel", "TrainingPanel", "WhatMovedPanel"]
