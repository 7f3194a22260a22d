"""One process or several (ranks): each takes its share of every batch, and all end with the same weights.

Accelerate finds out how the process was started: alone, by `accelerate launch` on several GPUs or nodes, or by
`torchrun`. Alone, everything here does nothing.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ftkit.findings import FtkitError


class Ranks:
    """The processes that train one model together, and the trackers that are told about it.

    Parameters
    ----------
    track : sequence of str
        Trackers that Accelerate knows, such as `"tensorboard"`, `"mlflow"` or `"wandb"`; none unless asked for.
    folder : Path, optional
        Where those that write files write them.

    Attributes
    ----------
    n, own : int
        How many there are, and the number of this one, from 0.
    main : bool
        Whether this is the one that writes and tells.
    sharded : bool
        Whether the weights themselves are dealt out over them (FSDP).
    """

    def __init__(self, track: Sequence[str] = (), folder: Path | None = None) -> None:
        from accelerate import Accelerator, DistributedType
        from accelerate.tracking import filter_trackers

        try:
            if len(filter_trackers(list(track), folder)) < len(track):
                raise ValueError(f"Not all of these trackers are installed: {', '.join(map(str, track))}")
        except ValueError as error:  # it knows no tracker of that name, or the tracker needs a folder to write to
            raise FtkitError("FT083", f"{str(error).rstrip('.')}.") from error

        # The plan alone decides the dtype, so Accelerate's own mixed precision stays off.
        # Told to be on the processor, Accelerate joins processes there, too; else it would run each for itself.
        joins = {"cpu": not torch.accelerator.is_available(), "mixed_precision": "no"}
        self._accelerator = Accelerator(**joins, log_with=list(track) or None, project_dir=folder)
        self.device, self.n = self._accelerator.device, self._accelerator.num_processes
        self.sharded = self._accelerator.distributed_type == DistributedType.FSDP
        self.main, self.own = self._accelerator.is_main_process, self._accelerator.process_index
        if self.sharded and not self._accelerator.is_fsdp2:
            raise FtkitError("FT082", "This run was started with version 1 of FSDP; set fsdp_version: 2.")
        if (started := int(os.environ.get("WORLD_SIZE", 1))) != self.n:
            raise FtkitError("FT086", f"{started} processes were started, and {self.n} train together.")

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return model and optimizer on this rank's device; under FSDP, dealt out over the ranks."""
        if self.sharded:
            return self._accelerator.prepare(model, optimizer)
        return model.to(self.device), optimizer

    def again(self, model: nn.Module, computing: nn.Module) -> nn.Module:
        """Return what computes a forward pass and shares gradients between the ranks, for what may move now."""
        if self.n == 1 or self.sharded:
            return computing
        return self._accelerator.prepare_model(model)

    def holding_back(self, model: nn.Module, last: bool) -> contextlib.AbstractContextManager:
        """Share gradients only after the last part of a batch."""
        return contextlib.nullcontext() if last or self.n == 1 else self._accelerator.no_sync(model)

    def decide(self, asked: bool) -> bool:
        """Return the answer of the main process: several ranks have to do the same."""
        return asked if self.n == 1 else bool(self.sum(torch.tensor(float(self.main and asked))) > 0)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the sum over all ranks."""
        return tensor if self.n == 1 else self._accelerator.reduce(tensor.to(self.device), "sum").cpu()

    def clip(self, parameters: Sequence[nn.Parameter], longest: float) -> None:
        """Scale gradients down whose norm is longer than allowed."""
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        # Most steps need no scaling, and multiplying by one would read and write every gradient again.
        if not norm <= longest:
            nn.utils.clip_grads_with_norm_(parameters, longest, norm)

    def here(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch on this rank's device."""
        return {k: v.to(self.device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}

    def chances(self) -> torch.Tensor:
        """Return the state of chance of every rank, shape (n, bytes): what decides its dropout."""
        own = (torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state())[None]
        return own if self.n == 1 else self._accelerator.gather(own.to(self.device)).cpu()

    def set_chances(self, chances: torch.Tensor) -> None:
        """Go back to the states of chance of a checkpoint; it was written by as many ranks."""
        if len(chances) != self.n:
            raise FtkitError("FT081", f"The checkpoint is of {len(chances)} processes, and here are {self.n}.")
        own = chances[self.own]
        torch.cuda.set_rng_state(own, self.device) if self.device.type == "cuda" else torch.set_rng_state(own)

    @contextlib.contextmanager
    def tracking(self, settings: Mapping[str, Any]) -> Iterator[None]:
        """Tell the trackers what the run was asked for, and let go of them at its end."""
        plain = {k: v if isinstance(v, int | float | str) else str(v) for k, v in settings.items()}
        self._accelerator.init_trackers("ftkit", plain)
        try:
            yield
        finally:
            for tracker in self._accelerator.trackers:
                tracker.finish()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Pass figures on to the trackers, if there are any."""
        self._accelerator.log({k: v for k, v in values.items() if v == v}, step=step)  # NaN is no figure
