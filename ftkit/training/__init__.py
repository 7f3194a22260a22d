"""The loop: it can be watched, stopped, killed and resumed; it keeps the best weights (lesson 05)."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ftkit import forecast, record
from ftkit.data import Splits
from ftkit.doctor import give_back_memory
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.training.loop import Ended, Event, Loop, better, say_epochs
from ftkit.training.ranks import Ranks
from ftkit.training.state import RESUMABLE, Checkpoints
from ftkit.training.steps import batches, make_optimizer, rate_factor, set_modes, settled

__all__ = ["Event", "batches", "better", "fit", "make_optimizer", "rate_factor", "say_epochs", "set_modes", "settled"]


def fit(
    base: Base,
    data: Splits,
    plan: Plan,
    *,
    on_event: Callable[[Event], None] | None = say_epochs,
    stop: Callable[[], bool] = lambda: False,
    out: str | Path | None = None,
    resume: bool = False,
    track: Sequence[str] = (),
) -> record.Run:
    """Tune a copy of `base` on `data.train` as `plan` says, and return what came of it.

    Nothing given is changed, so running a cell twice gives the same answer: with equal plan, data, versions,
    processor and thread count the same weights, bit for bit. `test` is not opened. An interrupt (the notebook's
    stop button) ends the run, and the best weights so far are kept. So they are if something fails, in `on_event` or
    on the disk: the error then carries them as its `.run`.

    Parameters
    ----------
    base : Base
        The pretrained model.
    data : Splits
        `train` is learned from; `valid` chooses the epoch whose weights are kept.
    plan : Plan
        What may move, and how.
    on_event : function of an Event, optional
        Called after each step and epoch; by default one line an epoch is printed. None is silent.
    stop : function returning bool
        Asked before each batch, also of the validation and of the probe; True ends the run as an interrupt does.
    out : str or Path, optional
        A folder for this run: checkpoints while it lasts, the run itself at its end (`record.load` reads it).
    resume : bool
        Go on where the checkpoint in `out` stands, to the same weights, bit for bit, as a run that was never killed.
        A run that has ended is read from `out` and returned; where there is none yet, it begins.
    track : sequence of str
        Trackers to tell, by their names in Accelerate: `"tensorboard"`, `"mlflow"`, `"wandb"`. None is told, and
        none is asked for, unless it is named here.

    Raises
    ------
    FtkitError
        FT051 if the plan names a group that the model lacks; FT067 if its method finds no place there; FT053 if a
        frozen weight moved; FT054 if nothing could be learned because the head is frozen at zero; FT057 if it was
        stopped before there was anything to keep; FT066 if it surely does not fit in memory; FT080 if `out` cannot be
        written; FT081 if what is in `out` is another run's, FT084 if it holds one already; FT083 if a tracker is not
        installed.
    """
    began = time.perf_counter()
    give_back_memory()
    plan = settled(plan)
    checkpoints = Checkpoints(out, base, data, plan, resume)
    if checkpoints.ended and not checkpoints.waiting:
        return record.load(checkpoints.folder, base, data)
    ranks = Ranks(track, checkpoints.folder)
    if ranks.n == 1 and ranks.device.type == "cpu":  # what surely does not fit is not begun
        forecast.fitting(base, data, plan, doubt=forecast.PEAK_ERROR)
    devices = [ranks.device] if ranks.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), ranks.tracking(plan.to_dict()):
        torch.manual_seed(plan.seed)
        loop = Loop(base, data, plan, ranks, checkpoints, began, on_event, stop)
        loop.begin()
        stopped, findings = None, []
        try:
            try:
                loop.epochs()
            except Ended as ended:
                stopped, *findings = ended.args
                if stopped in RESUMABLE:
                    loop.checkpoint()
        except KeyboardInterrupt:
            stopped = "interrupted"
        except Exception as error:
            error.run = loop.end(f"{type(error).__name__}: {error}")
            error.add_note("What was learned until then is not lost: `.run` of this error holds the best weights.")
            raise
        run = loop.end(stopped, *findings)
    if ranks.main:
        checkpoints.finish(run)
    return run
