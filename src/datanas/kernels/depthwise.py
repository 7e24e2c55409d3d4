"""Depthwise convolutions whose gradients stay on fast kernels on the CPU.

oneDNN runs every depthwise convolution forward with a fast kernel, but backward only undilated ones: the input gradient
of a dilated convolution and the weight gradient of a dilated or 5x5 one fall back to a reference loop that is five to a
hundred times slower. Here both are put in terms of what is fast:

- the input gradient is a forward convolution with the flipped kernel;
- a convolution of dilation 2 is an undilated one among the pixels of every second row and column, and with stride 2
  only the first of these images counts;
- the weight gradient of a 5x5 kernel consists of two 5x3 ones of the shifted input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.bare import geometry
from datanas.kernels.fx_leaf import fx_leaf
from datanas.kernels.layout import layout_of
from datanas.kernels.switch import own_kernels

Maps = Float[Tensor, "batch channels height width"]


@fx_leaf
class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution without bias that keeps the size at stride 1.

    On the CPU a dilated one stays in float32 under autocast: with bfloat16 in channels-last layout oneDNN returns a
    wrong weight gradient, without a word (torch 2.14: relative error above 0.9).
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)
        self._made = geometry(self)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        if self.dilation != (1, 1):  # never in bfloat16
            with torch.autocast("cpu", enabled=False):
                weight = self.weight  # once, for it may be made anew at each reading
                if weight.dtype == torch.bfloat16:
                    return self._on_cpu(x.float(), weight.float()).bfloat16()
                return self._on_cpu(x.float() if x.dtype == torch.bfloat16 else x, weight)
        if torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        return self._on_cpu(x, self.weight)

    def _on_cpu(self, x: Tensor, weight: Tensor) -> Tensor:
        if not own_kernels() or geometry(self)[1:] != self._made[1:]:
            return cast(Tensor, self._conv_forward(x, weight, self.bias))
        result: Tensor = _Depthwise.apply(x, weight, self.stride[0], self.dilation[0])
        return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.steps = stride, dilation
        return convolve(x, weight, stride, dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=layout_of(x))
        stride, dilation = ctx.steps
        into_x, into_weight = gradients_of(x, weight, gradient, stride, dilation, ctx.needs_input_grad[:2])
        return into_x, into_weight, None, None


def convolve(x: Maps, weight: Tensor, stride: int, dilation: int) -> Maps:
    """The depthwise convolution of an odd kernel that keeps the size at stride 1."""
    padding = dilation * (weight.shape[2] - 1) // 2
    return F.conv2d(x, weight, None, stride, padding, dilation, x.shape[1])


def gradients_of(
    x: Maps, weight: Tensor, gradient: Maps, stride: int, dilation: int, wanted: Sequence[bool]
) -> tuple[Maps | None, Tensor | None]:
    """The gradients of `convolve` into `x` and `weight`, those that are wanted."""
    kernel = weight.shape[2]
    if kernel not in (3, 5) or (stride, dilation) not in ((1, 1), (1, 2), (2, 2)):
        return _by_torch(x, weight, gradient, stride, dilation, wanted)
    if stride == 2:  # only every second pixel is read, among which it is an undilated convolution
        even = _even(x)
        into_even, into_weight = gradients_of(even, weight, gradient, 1, 1, wanted)
        if into_even is None:
            return None, into_weight
        into_x = torch.zeros_like(x)
        into_x[:, :, ::2, ::2] = into_even
        return into_x, into_weight
    into_same = convolve(gradient, weight.flip(2, 3), 1, dilation) if wanted[0] else None
    return into_same, weight_gradient(x, gradient, kernel, dilation) if wanted[1] else None


def _by_torch(
    x: Maps, weight: Tensor, gradient: Maps, stride: int, dilation: int, wanted: Sequence[bool]
) -> tuple[Maps | None, Tensor | None]:
    padding = dilation * (weight.shape[2] - 1) // 2
    into_x, into_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], x.shape[1],
        [*wanted, False],
    )  # fmt: skip
    return into_x, into_weight


def weight_gradient(x: Maps, gradient: Maps, kernel: int, dilation: int) -> Float[Tensor, "channels 1 kernel kernel"]:
    """The gradient of a depthwise kernel from the input and the output's gradient, at stride 1 and equal size.

    Args:
        kernel: 3 or 5.
        dilation: 1 or 2.
    """
    if (kernel, dilation) == (3, 1):
        return _of_three_columns(x, gradient, 3)
    rows, columns = (-(-size // dilation) * dilation for size in x.shape[2:])
    before = dilation if kernel == 5 else 0
    framed, framed_gradient = (
        _Framed(maps, rows, before + columns + dilation, before, dilation) for maps in (x, gradient)
    )
    if kernel == 3:
        by_phase = _of_three_columns(framed.image(), framed_gradient.image(), 3)
    else:
        left, right = (_of_three_columns(framed.image(step), framed_gradient.image(), 5) for step in (-1, 1))
        by_phase = torch.cat([left, right[:, :, :, 1:]], dim=3)
    return by_phase.view(dilation, x.shape[1], 1, kernel, kernel).sum(0)


class _Framed:
    """Maps with columns of zeros beside them, to be read as images moved by a column without copying them again.

    The zeros keep what leaves a row on one side from meeting the gradient of the next one. With dilation 2 an image has
    the even and the odd rows beside each other, and even and odd columns as channels: there a dilated convolution is an
    undilated one.

    Args:
        rows, columns: with the zeros; multiples of the dilation.
        before: columns of zeros on the left; the others are on the right.
    """

    def __init__(self, maps: Maps, rows: int, columns: int, before: int, dilation: int) -> None:
        batch, channels, height, width = maps.shape
        self._shape = batch, rows // dilation, columns, dilation * channels
        self._step = dilation * channels
        self._size = batch * rows * columns * channels
        self._numbers = maps.new_zeros(self._size + 2 * self._step)
        inside = self._numbers.narrow(0, self._step, self._size).view(batch, rows, columns, channels)
        inside[:, :height, before : before + width] = maps.permute(0, 2, 3, 1)

    def image(self, right: int = 0) -> Float[Tensor, "batch dilated_channels height_part columns"]:
        """The maps as seen from `right` columns (-1, 0 or 1): what stands there comes to the origin."""
        return self._numbers.narrow(0, self._step * (1 + right), self._size).view(self._shape).permute(0, 3, 1, 2)


def _even(x: Maps) -> Float[Tensor, "batch channels half_height half_width"]:
    """Every second row and column, in the layout of `x`."""
    return x[:, :, ::2, ::2].contiguous(memory_format=layout_of(x))


def _of_three_columns(x: Maps, gradient: Maps, rows: int) -> Float[Tensor, "channels 1 rows 3"]:
    """The gradient of an undilated kernel with three columns, for which alone there is a fast function."""
    shape = gradient.new_empty(x.shape[1], 1, rows, 3).contiguous(memory_format=layout_of(gradient))
    x = x.contiguous(memory_format=layout_of(gradient))
    _, into_weight, _ = torch.ops.aten.convolution_backward(
        gradient, x, shape, None, [1, 1], [rows // 2, 1], [1, 1], False, [0, 0], x.shape[1], [False, True, False]
    )
    result: Tensor = into_weight
    return result
