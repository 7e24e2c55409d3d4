"""Depthwise convolutions give what torch's own give, output and gradients, in every form that the cells use."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from datanas.kernels.depthwise import DepthwiseConv, weight_gradient

Grads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def run(conv: nn.Conv2d, x: torch.Tensor, *, plain: bool) -> Grads:
    conv.weight.grad = None
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = nn.Conv2d.forward(conv, x) if plain else conv(x)
    slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    (y * slope + y.square()).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is not None
    return y.detach(), x.grad, conv.weight.grad.clone()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 3), (1, 1)])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(k, s, d) for k in (3, 5, 7) for s in (1, 2) for d in (1, 2)]
)
def test_equals_the_plain_convolution(
    kernel: int, stride: int, dilation: int, size: tuple[int, int], layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = DepthwiseConv(4, kernel, stride, dilation).double().to(memory_format=layout)
    x = torch.randn(3, 4, *size, dtype=torch.double).contiguous(memory_format=layout)
    for ours, theirs in zip(run(conv, x, plain=False), run(conv, x, plain=True), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_second_derivatives_are_right() -> None:
    torch.manual_seed(0)
    conv = DepthwiseConv(2, 3, dilation=2).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.double, requires_grad=True)
    torch.autograd.gradgradcheck(conv, (x,))


def test_the_weight_gradient_of_a_wider_kernel_is_not_the_narrow_one() -> None:
    """Negative control: the 5x5 gradient holds the 3x3 one in its middle, and more around it."""
    torch.manual_seed(0)
    x, gradient = torch.randn(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    wide, narrow = weight_gradient(x, gradient, 5, 1), weight_gradient(x, gradient, 3, 1)
    torch.testing.assert_close(wide[:, :, 1:4, 1:4], narrow, rtol=1e-4, atol=1e-4)
    assert (wide[:, :, 0].abs() > 1e-3).all()


def test_no_gradient_is_made_that_nobody_asked_for() -> None:
    conv = DepthwiseConv(2, 3)
    conv.weight.requires_grad_(False)
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    conv(x).sum().backward()
    assert conv.weight.grad is None
    assert x.grad is not None


def test_plain_reference_is_sensitive() -> None:
    """Negative control: another dilation would be noticed."""
    torch.manual_seed(0)
    x, conv = torch.randn(1, 2, 8, 8), DepthwiseConv(2, 3, dilation=2)
    other = F.conv2d(x, conv.weight, padding=1, groups=2)
    assert not torch.allclose(conv(x), other, atol=1e-2)
