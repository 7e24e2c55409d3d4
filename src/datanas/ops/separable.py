"""Separable convolutions: ReLU, a depthwise and a pointwise convolution, batch norm.

On the CPU a stage keeps nothing but its input for backward. The rectified input and the depthwise output are computed
again where a weight wants its gradient: that costs less than writing them to memory and reading them back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels import norm_rows as bn
from datanas.kernels.bare import Geometry, geometry
from datanas.kernels.depthwise import DepthwiseConv, convolve, gradients_of
from datanas.kernels.norm import BatchNorm2d, EndsInNorm
from datanas.kernels.switch import first_order, runs_by_rows
from datanas.ops import OpSettings


class DepthwiseSeparable(EndsInNorm, nn.Sequential):
    """ReLU, a depthwise convolution, a pointwise one, batch norm."""

    def __init__(self, channels: int, kernel: int, stride: int, *, dilation: int = 1, affine: bool = True) -> None:
        super().__init__(
            nn.ReLU(),
            DepthwiseConv(channels, kernel, stride, dilation),
            nn.Conv2d(channels, channels, 1, bias=False),
            BatchNorm2d(channels, affine=affine),
        )
        self._made = self._geometry()

    def is_as_made(self) -> bool:
        return len(self._modules) == 4 and type(self._modules["0"]) is nn.ReLU and self._geometry() == self._made

    def features(self, x: Tensor, rectified: Tensor | None = None, *, norm: nn.BatchNorm2d | None = None) -> Tensor:
        """What the batch norm is given, from `x` or from `norm(x)`."""
        relu, depthwise, pointwise = self._convolutions()
        if not runs_by_rows(x) or type(norm) not in (type(None), nn.BatchNorm2d, BatchNorm2d):
            if rectified is None:
                rectified = relu(x if norm is None else norm(x))
            plain: Tensor = pointwise(depthwise(rectified))
            return plain
        steps = depthwise.stride[0], depthwise.dilation[0]
        weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
        if torch.is_grad_enabled():
            features: Tensor = _Stage.apply(x, weight, bias, depthwise.weight, pointwise.weight, norm, *steps)
            return features
        if rectified is None:
            rectified = _rectified(x, None if norm is None else bn.statistics(x, norm), weight, bias)
        return F.conv2d(convolve(rectified, depthwise.weight, *steps), pointwise.weight)

    def _geometry(self) -> tuple[Geometry, Geometry]:
        _, depthwise, pointwise = self._convolutions()
        return geometry(depthwise), geometry(pointwise)

    def _convolutions(self) -> tuple[nn.ReLU, DepthwiseConv, nn.Conv2d]:
        relu, depthwise, pointwise, _ = self._modules.values()
        return cast(nn.ReLU, relu), cast(DepthwiseConv, depthwise), cast(nn.Conv2d, pointwise)


class SeparableTwice(EndsInNorm, nn.Sequential):
    """A separable convolution applied twice; the first application has the stride."""

    def __init__(self, settings: OpSettings, kernel: int) -> None:
        super().__init__(
            DepthwiseSeparable(settings.channels, kernel, settings.stride, affine=settings.affine),
            DepthwiseSeparable(settings.channels, kernel, 1, affine=settings.affine),
        )

    def is_as_made(self) -> bool:
        stages = self._modules.values()
        return len(stages) == 2 and all(type(stage) is DepthwiseSeparable and stage.is_as_made() for stage in stages)

    def features(self, x: Tensor, rectified: Tensor | None = None) -> Tensor:
        first, second = cast(Iterable[DepthwiseSeparable], self._modules.values())
        return second.features(first.features(x, rectified), norm=first.last_norm)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return cast(DepthwiseSeparable, self._modules["1"]).last_norm


class _Stage(torch.autograd.Function):
    """pointwise(depthwise(relu(norm(x)))), the norm left out where there is none."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        depthwise: Tensor,
        pointwise: Tensor,
        norm: nn.BatchNorm2d | None,
        stride: int,
        dilation: int,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias, depthwise, pointwise)
        ctx.steps = stride, dilation
        ctx.statistics = None if norm is None else bn.statistics(x, norm)
        return F.conv2d(convolve(_rectified(x, ctx.statistics, weight, bias), depthwise, stride, dilation), pointwise)

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, depthwise, pointwise = ctx.saved_tensors
        statistics = ctx.statistics
        stride, dilation = ctx.steps
        *wants_input, wants_depthwise, wants_pointwise = ctx.needs_input_grad[:5]
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        again = wants_depthwise or wants_pointwise or statistics is not None
        rectified = _rectified(x, statistics, weight, bias) if again else x
        middle = (
            convolve(rectified, depthwise, stride, dilation) if wants_pointwise else gradient
        )  # its shape is enough
        into_middle, into_pointwise, _ = torch.ops.aten.convolution_backward(
            gradient, middle, pointwise, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, wants_pointwise, False]
        )
        wanted = any(wants_input), wants_depthwise
        into_x, into_depthwise = gradients_of(rectified, depthwise, into_middle, stride, dilation, wanted)
        into_weight = into_bias = None
        if into_x is not None:
            into_x = torch.ops.aten.threshold_backward(into_x, rectified, 0)
            if statistics is not None:
                into_x, into_weight, into_bias = bn.gradients_of(x, statistics, weight, into_x)
        return into_x, into_weight, into_bias, into_depthwise, into_pointwise, None, None, None


def _rectified(x: Tensor, statistics: bn.Statistics | None, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return x.relu() if statistics is None else bn.normalise(x, statistics, weight, bias).relu_()
