"""The bottleneck adapter: what a layer gives, and a small correction of it (N. Houlsby et al., ICML 2019)."""

import torch
from torch import nn


class Bottleneck(nn.Module):
    """A frozen layer and, after it, two small ones: down to few numbers, up again, added to what the layer gave.

    Parameters
    ----------
    base_layer : torch.nn.Linear
        The pretrained layer.
    rank : int
        How many numbers it is narrowed down to, 1 or more.
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
