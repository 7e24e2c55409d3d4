"""The ways out of a network that turns an image into a point (Section 5.5)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.fx_leaf import fx_leaf


@fx_leaf
class EmbeddingHead(nn.Module):
    """Max-pooling by 2, a 1x1 convolution, and all that is left as one vector: 64 channels of 5x5 at 84x84.

    A feature map that is one pixel wide or high is not pooled.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, channels, 1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """(batch, dimensions)."""
        x = features[-1]
        if min(x.shape[2:]) > 1:
            x = F.max_pool2d(x, 2)
        return cast(Tensor, self.project(x)).flatten(1)


class FlatHead(nn.Module):
    """The last feature map as one vector, for a network that ends in an embedding of its own."""

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """(batch, dimensions)."""
        return features[-1].flatten(1)
