"""Panels that belong to one lesson: each is over functions of ftkit, as those in `ftkit.widgets`, which several use.

A lesson imports them from beside it: `from panels import ErrorsPanel`.
"""

from panels.columns import ColumnsPanel
from panels.crossover import CrossoverPanel
from panels.errors import ErrorsPanel
from panels.hyperparameters import HyperparameterPanel
from panels.labels import LabelsPanel

__all__ = ["ColumnsPanel", "CrossoverPanel", "ErrorsPanel", "HyperparameterPanel", "LabelsPanel"]
