"""Panels over the rest of ftkit: a thin skin, imported by nothing else, and not loaded by `import ftkit`."""

from ftkit.widgets.columns import ColumnsPanel
from ftkit.widgets.crossover import CrossoverPanel
from ftkit.widgets.data import DataPanel
from ftkit.widgets.errors import ErrorsPanel
from ftkit.widgets.freeze import FreezePanel
from ftkit.widgets.hyperparameters import HyperparameterPanel
from ftkit.widgets.labels import LabelsPanel
from ftkit.widgets.moved import WhatMovedPanel
from ftkit.widgets.training import TrainingPanel

__all__ = ["ColumnsPanel", "CrossoverPanel", "DataPanel", "ErrorsPanel", "FreezePanel", "HyperparameterPanel"]
__all__ += ["LabelsPanel", "TrainingPanel", "WhatMovedPanel"]
