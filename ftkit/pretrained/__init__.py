"""A pinned pretrained model as a `Base`: its groups of weights, its tokens, what it holds already (lesson 01)."""

from ftkit.pretrained.base import Base, group_parameters, group_sizes, in_batches, pool
from ftkit.pretrained.load import from_scratch, load_pretrained
from ftkit.pretrained.looking import hidden_states, nearest, stages, trace
from ftkit.pretrained.pieces import tokens

__all__ = [
    "Base", "from_scratch", "group_parameters", "group_sizes", "hidden_states", "in_batches", "load_pretrained",
    "nearest", "pool", "stages", "tokens", "trace",
]  # fmt: skip
