"""Inverted residuals (Sandler et al., CVPR 2018), and the identity that stands beside them in whole networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from datanas.codes.layer_code import IDENTITY
from datanas.kernels.depthwise import DepthwiseConv
from datanas.kernels.norm import BatchNorm2d
from datanas.ops import OpSettings, register_op
from datanas.ops.conv import PointwiseConv

KERNELS = (3, 5, 7)
EXPANSIONS = (1, 3, 6)
STACKED, DEPTHS = (3, 6), (2, 3, 4)
"""Expansions of which there are several in a row too, such as "mb6_k3_x2", so that the depth of a stage is a choice."""


class Residual(nn.Module):
    """x + inner(x)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.inner(x))


def inverted_residual(settings: OpSettings, kernel: int, expansion: int) -> nn.Module:
    """A 1x1 convolution to `expansion` times the channels, a depthwise one, and a 1x1 convolution back; batch norms.

    A ReLU follows the first two. At expansion 1 there is no first one. The input is added where the shape stays.
    """
    inner = settings.channels * expansion
    layers: list[nn.Module] = []
    if expansion > 1:
        layers += [
            PointwiseConv(settings.channels, inner),
            BatchNorm2d(inner, affine=settings.affine),
            nn.ReLU(),
        ]
    layers += [
        DepthwiseConv(inner, kernel, settings.stride),
        BatchNorm2d(inner, affine=settings.affine),
        nn.ReLU(),
        PointwiseConv(inner, settings.width_out),
        BatchNorm2d(settings.width_out, affine=settings.affine),
    ]
    block = nn.Sequential(*layers)
    return Residual(block) if settings.keeps_shape else block


@register_op(IDENTITY)
def identity(settings: OpSettings) -> nn.Module:
    """The identity; where the shape changes, a 1x1 convolution with batch norm (NAS-Bench-Macro)."""
    if settings.keeps_shape:
        return nn.Identity()
    return nn.Sequential(
        PointwiseConv(settings.channels, settings.width_out, settings.stride),
        BatchNorm2d(settings.width_out, affine=settings.affine),
    )


def _name(expansion: int, kernel: int) -> str:
    """What an inverted residual is called: "mb6_k5" of expansion 6 and kernel 5."""
    return f"mb{expansion}_k{kernel}"


def _factory(kernel: int, expansion: int, times: int = 1) -> Callable[[OpSettings], nn.Module]:
    def stack(settings: OpSettings) -> nn.Module:
        first = inverted_residual(settings, kernel, expansion)
        after = OpSettings(settings.width_out, affine=settings.affine)
        others = [inverted_residual(after, kernel, expansion) for _ in range(times - 1)]
        return nn.Sequential(first, *others) if others else first

    return stack


for _expansion in EXPANSIONS:
    for _kernel in KERNELS:
        register_op(_name(_expansion, _kernel))(_factory(_kernel, _expansion))
for _expansion in STACKED:
    for _times in DEPTHS:
        register_op(f"{_name(_expansion, 3)}_x{_times}")(_factory(3, _expansion, _times))
