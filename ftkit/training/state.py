"""Where a run stands: all that decides how it goes on, and a checkpoint of it that no crash can leave half-written."""

import json
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ftkit import record
from ftkit.data import Splits
from ftkit.findings import FtkitError
from ftkit.plan import Plan
from ftkit.pretrained import Base
from ftkit.record import Run

FORMAT = 1
#: Seconds between two checkpoints within an epoch; one is also written at the end of each.
EVERY_S = 30.0
#: Why a run can have ended and still go on.
RESUMABLE = ("stopped on request", "interrupted")
NAME = "checkpoint.safetensors"
_TOLD = ("history", "losses", "best_epoch", "epoch", "done", "elapsed_s", "stages", "environment")


@dataclass
class State:
    """Where a run stands.

    Parameters
    ----------
    moving : mapping of str to torch.nn.Parameter
        What trains, by name.
    start : mapping of str to torch.Tensor
        What that was before the first step.
    drawn : collection of str
        The names in `start` that are not in the base: the head, and what a method adds.
    optimizer : torch.optim.Optimizer
    order : torch.Generator
        Deals out the rows of each epoch.
    stages : list of mapping
        What was kept of the frozen blocks so far (see `Feed`).

    Attributes
    ----------
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
    environment : mapping
        Versions, processor, threads, as in `Run`.
    elapsed_s : float
        Seconds since the run began, without those between a kill and a resumption.
    """

    moving: Mapping[str, nn.Parameter]
    start: Mapping[str, torch.Tensor]
    drawn: Collection[str]
    optimizer: torch.optim.Optimizer
    order: torch.Generator
    stages: list[Mapping[str, Any]]
    history: list[Mapping[str, float]] = field(default_factory=list, init=False)
    losses: list[float] = field(default_factory=list, init=False)
    valid_proba: np.ndarray = field(init=False)
    best_epoch: int = field(default=0, init=False)
    epoch: int = field(default=1, init=False)
    done: int = field(default=0, init=False)
    elapsed_s: float = field(default=0.0, init=False)
    environment: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.best, self.dealt = self.start, self.order.get_state()

    @torch.no_grad()
    def keep(self, entry: Mapping[str, float], proba: np.ndarray) -> None:
        """Take the weights as they are now for the best so far."""
        self.best_epoch, self.valid_proba = int(entry["epoch"]), proba
        now = {n: whole(p.detach()) for n, p in self.moving.items()}
        if self.best is self.start:
            self.best = {n: t.to("cpu", copy=True) for n, t in now.items()}
        else:  # in the place of the copy before: memory is what a small machine lacks
            for name, tensor in now.items():
                self.best[name].copy_(tensor)

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

    def told(self) -> dict[str, Any]:
        """Return everything that is not a tensor, as JSON can hold it."""
        return {name: getattr(self, name) for name in _TOLD}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, torch.Tensor], told: Mapping[str, Any]) -> None:
        """Go back to where a checkpoint stands."""
        self.stages[:] = told["stages"]
        for name in set(_TOLD) - {"stages"}:
            setattr(self, name, told[name])
        found: dict[str, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            found.setdefault(kind, {})[rest] = tensor
        for name, parameter in self.moving.items():
            parameter.copy_(like(parameter, found["now"][name]))
            state = {key: found[key][name] for key in ("step", "exp_avg", "exp_avg_sq") if name in found.get(key, ())}
            if state:
                moments = {k: like(parameter, t) for k, t in state.items() if k != "step"}
                self.optimizer.state[parameter] = {"step": state["step"].to(parameter.device), **moments}
        self.start = {**self.start, **found.get("start", {})}
        self.best = found.get("best", self.start)
        self.dealt, self.valid_proba = tensors["dealt"], tensors["valid_proba"].numpy()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor whole, where its parts lie on several processes (all of them have to call this)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def like(parameter: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return a whole tensor as its parameter lies: on its device, or dealt out over several processes."""
    tensor = tensor.to(parameter.device)
    if hasattr(parameter, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


@dataclass
class Checkpoints:
    """The checkpoint of a run in its folder, written at most so often; a new one takes the old one's place at once.

    Parameters
    ----------
    folder : Path or None
        None keeps nothing.
    run : mapping
        What has to be equal for a checkpoint to be this run's: plan, data, weights of the base.
    waiting, ended : bool
        Whether a checkpoint is there to go on from, or a run that has ended.
    """

    folder: Path | None
    run: Mapping[str, Any]
    waiting: bool = False
    ended: bool = False
    _written: float = field(default_factory=time.perf_counter, init=False)

    @classmethod
    def of(cls, out: str | Path | None, base: Base, data: Splits, plan: Plan, resume: bool) -> Self:
        """Look into the folder of a run, and make it where there is none.

        Raises
        ------
        FtkitError
            FT080, if it cannot be written; FT084, if it holds a run, and none is to be resumed.
        """
        if out is None:
            return cls(None, {})
        folder = Path(out)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass  # it can be written: better to know now than after the first epoch
        except OSError as error:
            raise FtkitError("FT080", f"{folder} cannot be written: {error.strerror or error}.") from error
        waiting, ended = (folder / NAME).exists(), (folder / record.NAME).exists()
        if (waiting or ended) and not resume:
            raise FtkitError("FT084", f"{folder} holds a run. Go on with it by resume=True, or name another folder.")
        return cls(folder, record.identity(base, data, plan), waiting, ended and not waiting)

    def due(self) -> bool:
        """Say whether it is time for the next one."""
        return time.perf_counter() - self._written >= EVERY_S

    def write(self, tensors: Mapping[str, torch.Tensor], told: Mapping[str, Any]) -> None:
        """Write where a run stands.

        Raises
        ------
        FtkitError
            FT080, if the folder cannot be written; the checkpoint before is still there.
        """
        header = {"ftkit": json.dumps({"format": FORMAT, "run": self.run, "state": told})}
        record.write_tensors(self.folder / NAME, tensors, header)
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
            if told["format"] != FORMAT:
                raise FtkitError("FT081", f"{path} has format {told['format']}; this ftkit reads {FORMAT}.")
            if differs := [key for key, value in self.run.items() if told["run"].get(key) != value]:
                raise FtkitError("FT081", f"{path} is of another run: its {' and '.join(differs)} differ.")
            state.restore(tensors, told["state"])
        except (KeyError, TypeError, ValueError) as error:
            raise FtkitError("FT081", f"{path} is damaged, or no checkpoint of ftkit: {error}.") from error
        return tensors["chances"]

    def finish(self, run: Run) -> None:
        """Keep the run itself; its checkpoint stays only where it was stopped and can go on."""
        if self.folder:
            try:
                record.save(run, self.folder)
            except FtkitError as error:
                error.run = run
                raise
            if run.stopped not in RESUMABLE:
                (self.folder / NAME).unlink(missing_ok=True)
