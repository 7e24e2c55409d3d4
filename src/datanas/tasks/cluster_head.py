"""The way out of a clustering network: from feature maps to label features."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.fx
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple

from datanas.kernels.norm import BatchNorm2d
from datanas.tasks.adaptive_pairs import LabelFeatures, label_features

LAYERS = 2
torch.fx.wrap("label_features")  # it asks for the type of what it is given


class Assignment(NamedTuple):
    """What a clustering network says of its images; a tuple, so that it passes through whatever exports networks.

    Attributes:
        labels: (n, k), label features; the cluster is that of the largest.
        features: (n, d), what stands before the clusters: the last cell's output, averaged over pixels.
    """

    labels: LabelFeatures
    features: Float[Tensor, "n d"]


_register_namedtuple(Assignment, serialized_type_name="datanas.Assignment")  # for torch.export.save


class ClusterHead(nn.Module):
    """A map for each cluster, averaged over pixels, and two layers that begin as the identity, each normalised.

    So ends the network of DAC's authors (github.com/vector-1127/DAC, CIFAR10/cifar10_1.py). The last batch norm keeps
    label features apart from the start: those of a plain linear layer are nearly uniform, so that all pairs of images
    are similar, and learning from these puts all into one cluster.
    """

    def __init__(self, width: int, clusters: int) -> None:
        super().__init__()
        self.maps = nn.Conv2d(width, clusters, 1, bias=False)
        self.maps_norm = BatchNorm2d(clusters)
        self.layers = nn.ModuleList(_identity(clusters) for _ in range(LAYERS))
        self.norms = nn.ModuleList(BatchNorm2d(clusters) for _ in range(LAYERS))
        nn.init.kaiming_normal_(self.maps.weight, nonlinearity="relu")

    def forward(self, features: tuple[Tensor, ...]) -> Assignment:
        last = features[-1]
        x = self.maps_norm(self.maps(last)).relu().mean(dim=(2, 3), keepdim=True)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(layer(x)).relu()
        return Assignment(label_features(x.flatten(1)), last.mean(dim=(2, 3)))


def _identity(channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, channels, 1, bias=False)
    nn.init.dirac_(layer.weight)
    return layer
