"""A strided layer at all shifts is the layer without stride, and what follows it is dilated."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.shifts import interleaved, shifted


def maps(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.double)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 10), (2, 2)])
def test_even_maps_come_back_from_their_shifts(height: int, width: int) -> None:
    x = maps(height, width)
    assert torch.equal(interleaved(shifted(x)[:, :, ::2, ::2], (height, width)), x)


@pytest.mark.parametrize(("height", "width"), [(5, 8), (7, 3), (1, 1)])
def test_odd_maps_come_back_too(height: int, width: int) -> None:
    x = maps(height, width)
    assert torch.equal(interleaved(shifted(x)[:, :, ::2, ::2], (height, width)), x)


def test_a_strided_convolution_and_its_follower_become_dense_and_dilated() -> None:
    x = maps(16, 12)
    strided = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False).double()
    after = nn.Conv2d(4, 5, 3, padding=1, bias=False).double()
    found = interleaved(after(strided(shifted(x))), (16, 12))
    dense = F.conv2d(F.conv2d(x, strided.weight, padding=1), after.weight, padding=2, dilation=2)
    inside = slice(4, -4)  # farther from the border than the two kernels reach
    torch.testing.assert_close(found[:, :, inside, inside], dense[:, :, inside, inside])


def test_the_first_shift_is_what_the_strided_layers_give() -> None:
    x = maps(8, 8)
    strided = nn.Conv2d(3, 4, 3, stride=2, padding=1).double()
    assert torch.equal(interleaved(strided(shifted(x)), (8, 8))[:, :, ::2, ::2], strided(x))


def test_channels_last_stays() -> None:
    x = maps(8, 8).contiguous(memory_format=torch.channels_last)
    shifts = shifted(x)
    assert shifts.is_contiguous(memory_format=torch.channels_last)
    whole = interleaved(shifts[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last), (8, 8))
    assert whole.is_contiguous(memory_format=torch.channels_last)


def test_the_gradient_is_exact() -> None:
    x = maps(5, 4).requires_grad_()
    weight = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double)

    def through(x: Tensor) -> Tensor:
        return interleaved(F.conv2d(shifted(x), weight, stride=2, padding=1), (5, 4))

    assert torch.autograd.gradcheck(through, (x,))
