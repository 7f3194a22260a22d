"""An encoder cut in two at a block: what lies below it, and what lies above, without a copy of any weight."""

import copy
import hashlib
import weakref
from collections.abc import Mapping
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
    name, blocks = blocks_of(encoder)
    part = _with(encoder, name, blocks[depth:])
    embeddings = set(group_parameters(encoder).get("embeddings", ()))
    for name, child in encoder.named_children():
        inside = {f"{name}.{n}" for n, _ in child.named_parameters()}
        if inside and inside <= embeddings:
            part._modules[name] = _Given()
    return part


class _Given(nn.Module):
    """Stands in for the embeddings, and returns what was given as their result."""

    def forward(self, *args: Any, **named: Any) -> torch.Tensor:
        return next(a for a in (*args, *named.values()) if isinstance(a, torch.Tensor) and a.is_floating_point())


class _Reached(Exception):
    """Ends a forward pass with the hidden states that had been reached."""


def up_to(encoder: nn.Module, depth: int, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return what the blocks below `depth` make of a batch, shape (batch, tokens, hidden)."""

    def catch(hidden: torch.Tensor, *args: Any, **named: Any) -> None:
        raise _Reached(hidden)

    name, blocks = blocks_of(encoder)
    end = copy.copy(blocks[min(depth, len(blocks) - 1)])  # a block's copy: some encoders ask what kind theirs are
    end.forward = catch
    try:
        _with(encoder, name, nn.ModuleList([*blocks[:depth], end]))(**batch)
    except _Reached as reached:
        return reached.args[0]
    raise RuntimeError("the encoder did not run its blocks in order")


def _with(encoder: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Return a copy of an encoder that shares every module but the one of that name."""
    part, (first, _, rest) = copy.copy(encoder), name.partition(".")
    part._modules = dict(part._modules)
    part._modules[first] = _with(part._modules[first], rest, module) if rest else module
    return part
