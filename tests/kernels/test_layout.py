from __future__ import annotations

import pytest
import torch

from datanas.kernels.layout import join_channels
from datanas.kernels.switch import own_kernels, plain_kernels


def parts(layout: torch.memory_format) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, width, 4, 4, dtype=torch.double, generator=generator)
        .contiguous(memory_format=layout)
        .requires_grad_()
        for width in (3, 1, 2)
    ]


def test_join_is_cat_with_the_same_gradients() -> None:
    ours, theirs = parts(torch.channels_last), parts(torch.channels_last)
    weight = torch.randn(2, 6, 4, 4, dtype=torch.double)
    joined, expected = join_channels(ours), torch.cat(theirs, dim=1)
    assert torch.equal(joined, expected)
    (joined * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=0)


def test_gradients_keep_the_layout_of_each_part() -> None:
    for layout in (torch.channels_last, torch.contiguous_format):
        inputs = parts(layout)
        seen: list[torch.Tensor] = []
        for part in inputs:
            part.register_hook(seen.append)
        join_channels(inputs).mean(dim=(2, 3)).square().sum().backward()
        assert all(gradient.is_contiguous(memory_format=layout) for gradient in seen)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_rectified_join_is_the_relu_of_the_join(layout: torch.memory_format) -> None:
    parts = [torch.randn(2, width, 5, 4).contiguous(memory_format=layout).requires_grad_() for width in (3, 1, 4)]
    weights = torch.randn(2, 8, 5, 4)
    found = join_channels(parts, rectify=True)
    expected = torch.cat(parts, dim=1).relu()
    assert torch.equal(found, expected)
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), parts),
        torch.autograd.grad((expected * weights).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
        assert one.is_contiguous(memory_format=layout)


def test_plain_kernels_come_back_after_an_error() -> None:
    with pytest.raises(KeyError), plain_kernels():  # noqa: PT012
        assert not own_kernels()
        raise KeyError
    assert own_kernels()
