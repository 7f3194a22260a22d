"""An encoder cut in two at a block: what lies below it, and what lies above, without a copy of any weight."""

import copy
import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ftkit.pretrained import group_parameters

_weights: weakref.WeakKeyDictionary[nn.Module, dict[int, str]] = weakref.WeakKeyDictionary()


def digest(encoder: nn.Module, depth: int) -> str:
    """Return the sha256 of an encoder's weights below a block; a base is never changed, so it is computed once."""
    known = _weights.setdefault(encoder, {})
    if depth not in known:
        found = hashlib.sha256()
        name, blocks = blocks_of(encoder)
        later = tuple(f"{name}.{i}." for i in range(depth, len(blocks)))
        for key, value in encoder.state_dict().items():
            if not key.startswith(later):
                found.update(key.encode())
                found.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
        known[depth] = found.hexdigest()
    return known[depth]


def blocks_of(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of an encoder's blocks."""
    return next((n, m) for n, m in encoder.named_modules() if isinstance(m, nn.ModuleList) and len(m))


def above(encoder: nn.Module, depth: int) -> nn.Module:
    """Return the encoder from block `depth` on: it takes `inputs_embeds`, what the blocks below made of a text.

    Its modules are the encoder's own, so what trains in one trains in both.
    """
    part, names = _shallow(encoder, lambda blocks: blocks[depth:]), _embeddings(encoder)
    for name in names:
        part._modules[name] = _Given()
    return part


class _Given(nn.Module):
    """Stands in for the embeddings, and returns what was given as their result."""

    def forward(self, *args: Any, **named: Any) -> torch.Tensor:
        return next(a for a in (*args, *named.values()) if isinstance(a, torch.Tensor) and a.is_floating_point())


class _Reached(Exception):
    """Ends a forward pass with the hidden states that had been reached."""


class _Catch(nn.Module):
    """Stands in for a block; ends the forward pass before it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.__dict__["block"] = block  # some encoders ask their blocks what kind they are

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["block"], name)

    def forward(self, hidden: torch.Tensor, *args: Any, **named: Any) -> None:
        raise _Reached(hidden)


def up_to(encoder: nn.Module, depth: int, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    encoder.eval()
    try:
        _shallow(encoder, lambda blocks: [*blocks[:depth], _Catch(blocks[min(depth, len(blocks) - 1)])])(**batch)
    except _Reached as reached:
        return reached.args[0]
    raise RuntimeError("the encoder did not run its blocks in order")


def _shallow(encoder: nn.Module, choose: Callable[[nn.ModuleList], Sequence[nn.Module]]) -> nn.Module:
    """Return a copy of an encoder that shares every module but the list of its blocks."""
    name, blocks = blocks_of(encoder)
    part = at = copy.copy(encoder)
    at._modules = dict(at._modules)
    *way, last = name.split(".")
    for step in way:
        child = at._modules[step] = copy.copy(at._modules[step])
        child._modules = dict(child._modules)
        at = child
    at._modules[last] = nn.ModuleList(choose(blocks))
    return part


def _embeddings(encoder: nn.Module) -> list[str]:
    """Return the names of the encoder's children that hold its embeddings and nothing else."""
    inside = group_parameters(encoder).get("embeddings", ())
    own = {name: {f"{name}.{n}" for n, _ in child.named_parameters()} for name, child in encoder.named_children()}
    return [name for name, names in own.items() if names and names <= set(inside)]
