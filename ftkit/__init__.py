"""ftkit teaches one idea: a pretrained model, your data, and a plan of which weights may move.

Importing it loads nothing heavy: each public name brings in its own module the first time it is used.
"""

from importlib import import_module

__version__ = "0.1.0"

#: Where each public name lives, in the order in which a learner meets them.
_PLACES = """
    pretrained.load_pretrained data.load_data data.Splits baseline.majority baseline.tfidf baseline.zero_shot
    baseline.probe plan.Plan forecast.estimate training.fit record.Run evaluation.evaluate evaluation.Evaluation
    evaluation.cross_validate report.compare report.scoreboard drift.what_moved drift.freeze_proof
    exercises.exercise findings.explain findings.FtkitError doctor.check_machine
"""
_HOME = {name: room for room, name in (place.split(".") for place in _PLACES.split())}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'ftkit' has no attribute {name!r}; it offers {', '.join(_HOME)}")
    value = getattr(import_module(f"ftkit.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
