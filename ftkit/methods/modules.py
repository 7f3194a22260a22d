"""Modules that methods put around pretrained ones: the bottleneck adapter, and the prefix."""

import torch
from peft import PrefixEncoder, PrefixTuningConfig
from torch import nn


class Bottleneck(nn.Module):
    """A frozen layer and, after it, two small ones: down to few numbers, up again, added to what the layer gave.

    Parameters
    ----------
    base_layer : torch.nn.Linear
        The pretrained layer.
    rank : int
        How many numbers it is narrowed down to, 1 or more.

    Notes
    -----
    N. Houlsby et al., Parameter-Efficient Transfer Learning for NLP (ICML 2019).
    """

    def __init__(self, base_layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down = nn.Linear(base_layer.out_features, rank)
        self.bottleneck_up = nn.Linear(rank, base_layer.out_features)
        # From zero, so that it begins by correcting nothing.
        nn.init.zeros_(self.bottleneck_up.weight)
        nn.init.zeros_(self.bottleneck_up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's answer to `x`, corrected, of the same shape (…, out_features)."""
        y = self.base_layer(x)
        return y + self.bottleneck_up(nn.functional.gelu(self.bottleneck_down(y)))


class Prefixed(nn.Module):
    """A frozen attention, before whose keys and values stand some that belong to no token, and learn (by PEFT).

    Parameters
    ----------
    base_layer : torch.nn.Module
        The pretrained attention; takes what came earlier as `past_key_values`, as transformers' BERT and its kin do.
    width : int
        The length of a token's vector.
    rank : int
        How many keys and values, 1 or more.

    Notes
    -----
    X. L. Li and P. Liang, Prefix-Tuning (ACL 2021); X. Liu et al., P-Tuning v2 (ACL 2022), as here without a network
    that makes the prefix.
    """

    def __init__(self, base_layer: nn.Module, width: int, rank: int) -> None:
        super().__init__()
        self.base_layer, self.rank = base_layer, rank
        sizes = {"num_virtual_tokens": rank, "token_dim": width, "num_layers": 1, "encoder_hidden_size": width}
        self.prefix_of = PrefixEncoder(PrefixTuningConfig(**sizes))

    def forward(self, hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, **named: object) -> tuple:
        """Return what the attention makes of `hidden` (batch, tokens, width), which may look at the prefix as well."""
        if attention_mask is not None:  # of truth values, or of what is added to the scores
            seen = float(attention_mask.dtype == torch.bool)
            attention_mask = nn.functional.pad(attention_mask, (self.rank, 0), value=seen)
        return self.base_layer(hidden, attention_mask, **named | {"past_key_values": self})

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> list[torch.Tensor]:
        """Return keys and values (batch, heads, tokens, numbers) with the prefix before them, as a cache would."""
        made = self.prefix_of(torch.arange(self.rank, device=keys.device)).to(keys.dtype)
        own = made.view(self.rank, 2, keys.shape[1], keys.shape[3]).permute(1, 2, 0, 3)
        pairs = zip(own, (keys, values), strict=True)
        return [torch.cat([prefix.expand(len(given), -1, -1, -1), given], dim=2) for prefix, given in pairs]
