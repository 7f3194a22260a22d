"""Where a run stands: all that decides how it goes on, and a checkpoint of it that no crash can leave half-written."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ftkit import record, tasks
from ftkit.data import Splits
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.record.folder import FORMAT, agree, writable

#: Seconds between two checkpoints within an epoch; one is also written at the end of each.
EVERY_S = 30.0
#: Why a run can have ended and still go on.
RESUMABLE = ("stopped on request", "interrupted")
NAME = "checkpoint.safetensors"
_TOLD = ("history", "losses", "best_epoch", "epoch", "done", "elapsed_s", "stages", "environment")


class State:
    """Where a run stands.

    Parameters
    ----------
    model : tasks.Classifier
        As it is before the first step.
    base : Base
    optimizer : torch.optim.Optimizer
    seed : int
        Decides how the rows of each epoch are dealt out.

    Attributes
    ----------
    moving : mapping of str to torch.nn.Parameter
        What trains, by name.
    start : mapping of str to torch.Tensor
        What that was before the first step.
    drawn : list of str
        The names in `start` that are not in the base: the head, and what a method adds.
    order : torch.Generator
        Deals out the rows of each epoch.
    history, losses : list
        As in `Run`.
    best : mapping of str to torch.Tensor
        What trains, as it was after the best epoch so far; the start itself before that.
    valid_proba : numpy.ndarray, shape (n_valid, n_classes)
        What the best weights answered on `valid`.
    epoch, done : int
        The epoch under way, counted from 1, and the steps taken in it.
    dealt : torch.Tensor of uint8
        The state of `order` when that epoch began.
    stages : list of mapping
        What was kept of the frozen blocks so far (see `Feed`).
    environment : mapping
        Versions, processor, threads, as in `Run`.
    elapsed_s : float
        Seconds since the run began, without those between a kill and a resumption.
    """

    def __init__(self, model: tasks.Classifier, base: Base, optimizer: torch.optim.Optimizer, seed: int) -> None:
        self.optimizer, self.order, self.stages = optimizer, torch.Generator().manual_seed(seed), []
        self.moving = {n: p for n, p in model.named_parameters() if p.requires_grad}
        # Memory is what a small machine lacks: the start of the encoder is the base itself, not a copy of it.
        start = {f"encoder.{n}": p for n, p in base.encoder.named_parameters()}
        self.drawn = [n for n in self.moving if n not in start]
        start |= {n: whole(self.moving[n].detach()).to("cpu", copy=True) for n in self.drawn}
        self.start = self.best = {n: start[n] for n in self.moving}
        self.history, self.losses, self.best_epoch, self.elapsed_s = [], [], 0, 0.0
        self.epoch, self.done, self.dealt = 1, 0, self.order.get_state()

    @torch.no_grad()
    def keep(self, entry: Mapping[str, float], proba: np.ndarray) -> None:
        """Take the weights as they are now for the best so far."""
        self.best_epoch, self.valid_proba = int(entry["epoch"]), proba
        if self.best is self.start:  # later ones take this one's place: memory is what a small machine lacks
            self.best = {n: torch.empty(p.shape, dtype=p.dtype, device="cpu") for n, p in self.moving.items()}
        for name, parameter in self.moving.items():
            self.best[name].copy_(whole(parameter.detach()))

    def tensors(self, chances: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return everything that is a tensor, by a name that says whose it is; `chances` are the ranks' generators."""
        found = {f"now/{n}": whole(p.detach()) for n, p in self.moving.items()}
        found |= {f"start/{n}": self.start[n] for n in self.drawn}
        if self.best is not self.start:
            found |= {f"best/{n}": t for n, t in self.best.items()}
        for name, parameter in self.moving.items():
            found |= {f"{key}/{name}": whole(t) for key, t in self.optimizer.state.get(parameter, {}).items()}
        found |= {"chances": chances, "dealt": self.dealt, "valid_proba": torch.from_numpy(self.valid_proba)}
        return {n: t.detach().cpu().contiguous() for n, t in found.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, torch.Tensor], told: Mapping[str, Any]) -> None:
        """Go back to where a checkpoint stands."""
        vars(self).update({name: told[name] for name in _TOLD})
        found: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            found.setdefault(kind, {})[rest] = tensor
        for name, parameter in self.moving.items():
            parameter.copy_(like(parameter, found["now"][name]))
            for key in ("step", "exp_avg", "exp_avg_sq"):
                if name in found.get(key, ()):
                    self.optimizer.state[parameter][key] = like(parameter, found[key][name])
        self.start = {**self.start, **found.get("start", {})}
        self.best = found.get("best", self.start)
        self.dealt, self.valid_proba = tensors["dealt"], tensors["valid_proba"].numpy()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whole, where its parts lie on several processes (all of them have to call this)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor as its parameter lies: on its device, or dealt out over several processes.

    A number, such as the optimizer's count of steps, is whole on each of them.
    """
    tensor = tensor.to(parameter.device)
    if tensor.ndim and hasattr(parameter, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


class Checkpoints:
    """The checkpoint of a run in its folder, written at most so often; a new one takes the old one's place at once.

    Parameters
    ----------
    out : str, Path or None
        The folder, which is made where there is none; None keeps nothing.
    base, data, plan : Base, Splits and Plan
        What has to be equal for a checkpoint to be this run's.
    resume : bool
        Whether the folder may hold a run.

    Attributes
    ----------
    folder : Path or None
    waiting, ended : bool
        Whether a checkpoint is there to go on from, and whether a run that has ended.

    Raises
    ------
    FtkitError
        FT080, if the folder cannot be written; FT084, if it holds a run, and none is to be resumed.
    """

    def __init__(self, out: str | Path | None, base: Base, data: Splits, plan: Plan, resume: bool = False) -> None:
        self.folder = None if out is None else writable(out)
        self.waiting, self.ended = (bool(self.folder) and (self.folder / n).exists() for n in (NAME, record.NAME))
        if (self.waiting or self.ended) and not resume:
            raise FtkitError("FT084", f"{out} holds a run. Go on with it by resume=True, or name another folder.")
        self._run = record.identity(base, data, plan) if self.folder else {}
        self._written = time.perf_counter()

    def due(self) -> bool:
        """Say whether it is time for the next one."""
        return time.perf_counter() - self._written >= EVERY_S

    def write(self, state: State, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write where a run stands; `tensors` are its state's own.

        Raises
        ------
        FtkitError
            FT080, if the folder cannot be written; the checkpoint before is still there.
        """
        told = {"format": FORMAT, "run": self._run, "state": {name: getattr(state, name) for name in _TOLD}}
        record.write_tensors(self.folder / NAME, tensors, {"ftkit": json.dumps(told)})
        self._written = time.perf_counter()

    def read(self, state: State) -> torch.Tensor:
        """Bring a state to where the checkpoint stands; return the ranks' states of chance.

        Raises
        ------
        FtkitError
            FT081, if it is another run's, or is damaged.
        """
        path = self.folder / NAME
        tensors, header = record.read_tensors(path)
        try:
            told = json.loads(header["ftkit"])
            agree(path, told | told["run"], self._run)
            state.restore(tensors, told["state"])
        except (KeyError, TypeError, ValueError) as error:
            raise FtkitError("FT081", f"{path} is damaged, or no checkpoint of ftkit: {error}.") from error
        return tensors["chances"]

    def finish(self, run: record.Run) -> None:
        """Keep the run itself; its checkpoint stays only where it was stopped and can go on."""
        if self.folder:
            try:
                record.save(run, self.folder)
            except FtkitError as error:
                error.run = run
                raise
            if run.stopped not in RESUMABLE:
                (self.folder / NAME).unlink(missing_ok=True)
