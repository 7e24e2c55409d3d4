"""The operations without a kernel: identity, and none."""

from __future__ import annotations

from torch import Tensor, nn

from datanas.ops import NONE, OpSettings, register_op
from datanas.ops.conv import FactorizedReduce


class Zero(nn.Module):
    """Zeros of the shape that an operation of this stride would give; of as many channels as it reads, by default."""

    def __init__(self, stride: int, channels: int | None = None) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels

    def forward(self, x: Tensor) -> Tensor:
        if self.channels is not None:
            x = x[:, :1].expand(-1, self.channels, -1, -1)
        if self.stride == 1:
            return x.new_zeros(()).expand_as(x)
        return x.new_zeros(()).expand_as(x[:, :, :: self.stride, :: self.stride])


@register_op(NONE)
def none(settings: OpSettings) -> nn.Module:
    return Zero(settings.stride)


@register_op("skip_connect")
def skip_connect(settings: OpSettings) -> nn.Module:
    """The identity; at stride 2 a factorised reduction."""
    if settings.stride == 1:
        return nn.Identity()
    return FactorizedReduce(settings.channels, settings.channels, affine=settings.affine)
