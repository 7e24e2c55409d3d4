"""Our pooling is torch's, in channels-last layout and without a gradient too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datanas.kernels.switch import plain_kernels
from datanas.ops.pooling import AvgPool3x3, MaxPool3x3

SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (1, 7), (5, 4), (8, 8), (9, 7)]
BOTH = pytest.mark.parametrize("stride", [1, 2])


def maps(size: tuple[int, int], channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, *size, dtype=dtype, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


@BOTH
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 36])
def test_maxima_are_torchs(channels: int, size: tuple[int, int], stride: int) -> None:
    x = maps(size, channels)
    assert torch.equal(MaxPool3x3(stride)(x), F.max_pool2d(x, 3, stride, padding=1))


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_padding_is_below_negative_numbers(size: tuple[int, int], stride: int) -> None:
    x = -maps(size).abs() - 1
    assert torch.equal(MaxPool3x3(stride)(x), F.max_pool2d(x, 3, stride, padding=1))


@BOTH
def test_nan_spreads_as_in_torch(stride: int) -> None:
    x = maps((7, 6))
    x[0, 1, 2, 3] = torch.nan
    x[1, 0, 0, 0] = torch.nan
    x[1, 2, 6, 5] = -torch.inf
    torch.testing.assert_close(
        MaxPool3x3(stride)(x), F.max_pool2d(x, 3, stride, padding=1), rtol=0, atol=0, equal_nan=True
    )


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_input_stays_as_it_was(size: tuple[int, int], stride: int) -> None:
    x = maps(size)
    before = x.clone()
    y = MaxPool3x3(stride)(x)
    assert torch.equal(x, before)
    y.fill_(0)
    assert torch.equal(x, before)


@BOTH
def test_maxima_keep_the_layout(stride: int) -> None:
    assert MaxPool3x3(stride)(maps((6, 6))).is_contiguous(memory_format=torch.channels_last)


@BOTH
def test_maxima_are_the_same_with_a_gradient_to_come(stride: int) -> None:
    x = maps((6, 5))
    assert torch.equal(MaxPool3x3(stride)(x.clone().requires_grad_()), MaxPool3x3(stride)(x))


def gradient(pool: torch.nn.Module, x: Tensor) -> Tensor:
    x = x.detach().clone().requires_grad_()
    y = pool(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape) + y.square()).sum().backward()
    assert x.grad is not None
    return x.grad


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_maximum_passes_torchs_gradient(size: tuple[int, int], stride: int) -> None:
    x = maps(size)
    assert torch.equal(gradient(MaxPool3x3(stride), x), gradient(torch.nn.MaxPool2d(3, stride, 1), x))


@BOTH
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 36])
def test_averages_are_torchs(channels: int, size: tuple[int, int], stride: int) -> None:
    x = maps(size, channels)
    expected = F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    torch.testing.assert_close(AvgPool3x3(stride)(x), expected, rtol=1e-5, atol=1e-6)


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_average_passes_torchs_gradient(size: tuple[int, int], stride: int) -> None:
    x, theirs = maps(size), torch.nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    torch.testing.assert_close(gradient(AvgPool3x3(stride), x), gradient(theirs, x), rtol=1e-5, atol=1e-6)


def test_average_has_a_kernel_of_ours_in_single_precision() -> None:
    """Otherwise the comparisons above would compare torch with itself."""
    x = maps((4, 4)).requires_grad_()
    assert type(AvgPool3x3()(x).grad_fn).__name__ == "_AverageBackward"
    with plain_kernels():
        assert type(AvgPool3x3()(x).grad_fn).__name__ == "AvgPool2DBackward0"


def test_shares_made_in_inference_serve_training() -> None:
    """They are kept for the next call, and autograd saves no tensor of inference mode for a second derivative."""
    x = maps((11, 13)).requires_grad_()
    with torch.inference_mode():
        AvgPool3x3()(x)
    (first,) = torch.autograd.grad(AvgPool3x3()(x).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.isfinite().all()


@BOTH
def test_an_average_over_the_padding_would_be_noticed(stride: int) -> None:
    """Negative control."""
    x = maps((5, 4))
    assert not torch.allclose(AvgPool3x3(stride)(x), F.avg_pool2d(x, 3, stride, 1), atol=1e-2)
