"""A model's parameters in ordered, named groups: one naming rule for BERT and its relatives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ftkit.findings import FtkitError

if TYPE_CHECKING:
    import torch

_BLOCK = re.compile(r"(?:^|\.)(?:layer|layers|h|blocks?)\.(\d+)\.")
_EMBEDDING = re.compile(r"embed|wte|wpe|relative_attention_bias")


def group_parameters(encoder: torch.nn.Module) -> dict[str, tuple[str, ...]]:
    """Sort an encoder's parameters into ordered groups: `embeddings`, `block 0` … `block n`, `final`.

    One naming rule serves BERT, RoBERTa, DistilBERT, ModernBERT, ELECTRA and their relatives: a parameter inside the
    list of blocks belongs to its block, an earlier one to the embeddings, any other (a last norm, a pooler) to the
    final group. Each parameter is in exactly one group; empty groups are left out.

    Raises
    ------
    FtkitError
        FT036, if no list of blocks is found.
    """
    groups: dict[str, list[str]] = {"embeddings": []}
    final: list[str] = []
    for name, _ in encoder.named_parameters():
        if match := _BLOCK.search(name):
            groups.setdefault(f"block {int(match[1])}", []).append(name)
        else:
            (groups["embeddings"] if _EMBEDDING.search(name) else final).append(name)
    if len(groups) == 1:
        raise FtkitError(
            "FT036",
            f"{type(encoder).__name__} has no list of blocks that ftkit knows how to name (looked for "
            "'layer.0', 'layers.0', 'h.0' and 'block.0' in its parameters' names); load an encoder such as BERT.",
        )
    ordered = sorted((g for g in groups if g.startswith("block ")), key=lambda g: int(g.split()[1]))
    named = [("embeddings", groups["embeddings"]), *((g, groups[g]) for g in ordered), ("final", final)]
    return {g: tuple(names) for g, names in named if names}


def group_sizes(module: torch.nn.Module, groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the number of parameters in each group."""
    sizes = {n: p.numel() for n, p in module.named_parameters()}
    return {g: sum(sizes[n] for n in names) for g, names in groups.items()}
