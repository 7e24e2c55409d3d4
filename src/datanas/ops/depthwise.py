"""Depthwise convolutions whose gradients stay on fast kernels on the CPU.

oneDNN runs every depthwise convolution forward with a fast kernel, but backward only undilated ones: the input gradient
of a dilated convolution and the weight gradient of a dilated or 5x5 one fall back to a reference loop that is five to a
hundred times slower. Here both are put in terms of what is fast:

- the input gradient is a forward convolution with the flipped kernel;
- a convolution of dilation 2 is an undilated one of the four images made of every second row and column, and with
  stride 2 of the first of them alone;
- the weight gradient of a 5x5 kernel consists of four 3x3 ones of the shifted input.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Maps = Float[Tensor, "batch channels height width"]


class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution without bias that keeps the size at stride 1.

    On the CPU a dilated one stays in float32 under autocast: with bfloat16 in channels-last layout oneDNN returns a
    wrong weight gradient, without a word (torch 2.14: relative error above 0.9).
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel - 1) // 2
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        if self.dilation != (1, 1):  # never in bfloat16
            with torch.autocast("cpu", enabled=False):
                return self._on_cpu(x.float() if x.dtype == torch.bfloat16 else x)
        if torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        return self._on_cpu(x)

    def _on_cpu(self, x: Tensor) -> Tensor:
        kernel, stride, dilation = self.kernel_size[0], self.stride[0], self.dilation[0]
        if kernel not in (3, 5) or (stride, dilation) not in ((1, 1), (1, 2), (2, 2)):
            return super().forward(x)
        if stride == 2:
            x, dilation = _even(x), 1
        result: Tensor = _Depthwise.apply(x, self.weight, dilation)
        return result


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return _convolve(x, weight, dilation)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=_layout(x))
        into_x = _convolve(gradient, weight.flip(2, 3), ctx.dilation) if ctx.needs_input_grad[0] else None
        into_weight = weight_gradient(x, gradient, weight.shape[2], ctx.dilation) if ctx.needs_input_grad[1] else None
        return into_x, into_weight, None


def _convolve(x: Maps, weight: Tensor, dilation: int) -> Maps:
    padding = dilation * (weight.shape[2] - 1) // 2
    return F.conv2d(x, weight, padding=padding, dilation=dilation, groups=x.shape[1])


def weight_gradient(x: Maps, gradient: Maps, kernel: int, dilation: int) -> Float[Tensor, "channels 1 kernel kernel"]:
    """The gradient of a depthwise kernel from the input and the output's gradient, at stride 1 and equal size.

    Args:
        kernel: 3 or 5.
        dilation: 1 or 2.
    """
    if dilation == 2:
        x, gradient = _every_second(x), _every_second(gradient)
    if kernel == 3:
        return _gradient_3x3(x, gradient, padding=1)
    height, width = gradient.shape[2:]
    padded = F.pad(x, (2, 2, 2, 2))
    corners = [
        [_gradient_3x3(padded[:, :, i : i + height + 2, j : j + width + 2], gradient, padding=0) for j in (0, 2)]
        for i in (0, 2)
    ]
    upper, lower = (torch.cat([left, right[:, :, :, 1:]], dim=3) for left, right in corners)
    return torch.cat([upper, lower[:, :, 1:]], dim=2)


def _even(x: Maps) -> Float[Tensor, "batch channels half_height half_width"]:
    """Every second row and column, in the layout of `x`."""
    return x[:, :, ::2, ::2].contiguous(memory_format=_layout(x))


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def _every_second(x: Maps) -> Float[Tensor, "four_batch channels half_height half_width"]:
    """The four images made of every second row and column, in the batch; odd sizes are filled up with zeros."""
    x = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def _gradient_3x3(x: Maps, gradient: Maps, padding: int) -> Float[Tensor, "channels 1 3 3"]:
    channels = x.shape[1]
    layout = _layout(gradient)
    shape = gradient.new_empty(channels, 1, 3, 3).contiguous(memory_format=layout)
    _, result, _ = torch.ops.aten.convolution_backward(
        gradient,
        x.contiguous(memory_format=layout),
        shape,
        None,
        [1, 1],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        channels,
        [False, True, False],
    )
    found: Tensor = result
    return found
