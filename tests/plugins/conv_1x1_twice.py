"""Two 1x1 convolutions, as CONTRIBUTING.md shows them."""

from torch import nn

from datanas.ops import OpSettings, register_op
from datanas.ops.conv import PointwiseConv


@register_op("conv_1x1_twice")
def conv_1x1_twice(settings: OpSettings) -> nn.Module:
    def layer(stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.ReLU(),
            PointwiseConv(settings.channels, settings.channels, stride),
            nn.BatchNorm2d(settings.channels, affine=settings.affine),
        )

    return nn.Sequential(layer(settings.stride), layer(1))
