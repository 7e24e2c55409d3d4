"""Our batch norm is torch's, in channels-last layout too, and can be taken off the end of an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datanas.kernels.norm import BatchNorm2d, before_norm, foreign_norms, statistics_kept
from datanas.kernels.norm_rows import Statistics, add_rows, apply_rows, products, rows
from datanas.kernels.switch import plain_kernels
from datanas.ops.conv import ReLUConvBN

CHANNELS = (1, 3, 16, 36, 64)
SIZES = ((3, 5, 7), (1, 1, 2), (2, 8, 8), (7, 1, 1))
"""Batch, height and width."""


def maps(
    channels: int, size: tuple[int, int, int] = (3, 5, 7), seed: int = 0, dtype: torch.dtype = torch.double
) -> Tensor:
    batch, height, width = size
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, height, width, dtype=torch.double, generator=generator) * 2 + 1
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def pair(channels: int, dtype: torch.dtype = torch.double, **settings: Any) -> tuple[BatchNorm2d, nn.BatchNorm2d]:
    """Ours and torch's with the same random numbers in all that they hold."""
    ours, theirs = BatchNorm2d(channels, **settings), nn.BatchNorm2d(channels, **settings)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in (*ours.parameters(), *ours.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    theirs.load_state_dict(ours.state_dict())
    return ours.to(dtype), theirs.to(dtype)


def run(norm: nn.BatchNorm2d, x: Tensor) -> dict[str, Tensor]:
    """Output, every gradient and every buffer after two passes over different maps."""
    norm(x.flip(0) * 0.5)
    x = x.detach().clone().requires_grad_()
    y = norm(x)
    slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    (y * slope + y.square() * slope.flip(0)).sum().backward()
    assert x.grad is not None
    found = {"output": y.detach(), "input": x.grad}
    found |= {f"gradient of {name}": weight.grad for name, weight in norm.named_parameters() if weight.grad is not None}
    return found | {name: buffer.clone() for name, buffer in norm.named_buffers()}


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(dict(ours), dict(theirs), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("channels", CHANNELS)
def test_is_torchs(channels: int, affine: bool, training: bool, size: tuple[int, int, int]) -> None:
    ours, theirs = pair(channels, affine=affine)
    x = maps(channels, size)
    assert_same(run(ours.train(training), x), run(theirs.train(training), x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", CHANNELS)
def test_is_torchs_in_single_precision(channels: int, training: bool) -> None:
    ours, theirs = pair(channels, torch.float32)
    x = maps(channels, dtype=torch.float32)
    assert_same(run(ours.train(training), x), run(theirs.train(training), x), tolerance=1e-4)


@pytest.mark.parametrize(
    "settings", [{"momentum": None}, {"track_running_stats": False}, {"momentum": 0.5, "eps": 0.1}]
)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", [3, 36])
def test_settings_mean_what_they_mean_to_torch(channels: int, training: bool, settings: dict[str, Any]) -> None:
    ours, theirs = pair(channels, **settings)
    x = maps(channels)
    assert_same(run(ours.train(training), x), run(theirs.train(training), x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels", CHANNELS)
def test_without_a_graph_gives_the_same(channels: int, training: bool, dtype: torch.dtype) -> None:
    ours, theirs = (norm.train(training) for norm in pair(channels, dtype))
    x = maps(channels, dtype=dtype)
    with torch.no_grad():
        found, expected = ours(x), theirs(x)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert_same(dict(ours.named_buffers()), dict(theirs.named_buffers()), tolerance)


@pytest.mark.parametrize(("channels", "own"), [(1, True), (16, True), (36, False)])
def test_few_channels_take_our_kernel(channels: int, own: bool) -> None:
    """Otherwise the comparisons above would compare torch with itself."""
    name = type(BatchNorm2d(channels).double()(maps(channels)).grad_fn).__name__
    assert (name == "_BatchNormBackward") == own


@pytest.mark.parametrize("where", ["contiguous", "plain", "half"])
def test_elsewhere_torch_computes(where: str) -> None:
    x, norm = maps(4), BatchNorm2d(4).double()
    if where == "half":
        x, norm = x.bfloat16(), norm.bfloat16()
    if where == "plain":
        with plain_kernels():
            y = norm(x)
    else:
        y = norm(x.contiguous() if where == "contiguous" else x)
    assert type(y.grad_fn).__name__ == "NativeBatchNormBackward0"


def test_output_keeps_the_layout() -> None:
    assert BatchNorm2d(4).double()(maps(4)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [3, 36])
def test_one_value_a_channel_has_no_deviation(channels: int) -> None:
    with pytest.raises(ValueError, match=r"more than (one|1) value"):
        BatchNorm2d(channels).double()(maps(channels, (1, 1, 1)))


def test_one_value_a_channel_is_enough_in_evaluation() -> None:
    ours, theirs = (norm.eval() for norm in pair(3))
    torch.testing.assert_close(ours(maps(3, (1, 1, 1))), theirs(maps(3, (1, 1, 1))), rtol=1e-9, atol=1e-9)


def test_a_gradient_in_another_layout_is_taken() -> None:
    ours, theirs = pair(3)
    x, gradient = maps(3), maps(3, seed=1).contiguous()
    for norm in (ours, theirs):
        norm(x).backward(gradient)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-9, atol=1e-9)


def test_second_derivative_is_refused() -> None:
    x = maps(3).requires_grad_()
    with pytest.raises(RuntimeError, match="plain_kernels"):
        torch.autograd.grad(BatchNorm2d(3).double()(x).pow(3).sum(), x, create_graph=True)


def test_second_derivative_of_a_linear_loss_is_refused() -> None:
    x = maps(3).requires_grad_()
    loss = (BatchNorm2d(3).double()(x) * maps(3, seed=1)).sum()
    with pytest.raises(RuntimeError, match="plain_kernels"):
        torch.autograd.grad(loss, x, create_graph=True)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("channels", [3, 36])
@pytest.mark.parametrize("kind", [BatchNorm2d, nn.BatchNorm2d])
def test_statistics_can_be_kept(kind: type[nn.BatchNorm2d], channels: int, layout: torch.memory_format) -> None:
    norm = kind(channels).double()
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    x = maps(channels).contiguous(memory_format=layout)
    expected = nn.BatchNorm2d(channels).double()(x)
    with statistics_kept(foreign_norms(norm)):
        found = norm(x)
    assert_same(dict(norm.named_buffers()), before, tolerance=0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [BatchNorm2d, nn.BatchNorm2d])
def test_statistics_are_tracked_again_after_an_error(kind: type[nn.BatchNorm2d]) -> None:
    norm = kind(3).double()
    with pytest.raises(RuntimeError), statistics_kept(foreign_norms(norm)):
        raise RuntimeError
    norm(maps(3))
    assert norm.num_batches_tracked == 1


def test_statistics_stay_kept_after_an_inner_block() -> None:
    norm = BatchNorm2d(3).double()
    with statistics_kept():
        with statistics_kept():
            pass
        norm(maps(3))
    assert norm.num_batches_tracked == 0


def test_a_norm_that_tracked_nothing_still_tracks_nothing() -> None:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    with statistics_kept([norm]):
        pass
    assert not norm.track_running_stats


def test_foreign_norms_are_those_that_are_not_ours() -> None:
    inside = nn.BatchNorm2d(3)
    assert foreign_norms(nn.Sequential(BatchNorm2d(3), nn.Sequential(inside))) == (inside,)


class Whole(nn.Module):
    """Ends in a batch norm, but does not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm(x)
        return normalised


class OtherNorm(BatchNorm2d):
    """A norm that may do anything."""


SPLIT: dict[str, Callable[[], nn.Module]] = {
    "norm": lambda: BatchNorm2d(3),
    "foreign": lambda: nn.BatchNorm2d(3),
    "sequential": lambda: nn.Sequential(nn.ReLU(), BatchNorm2d(3)),
    "nested": lambda: nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh(), nn.BatchNorm2d(3))),
    "ends": lambda: ReLUConvBN(3, 3),
    "sequential of ends": lambda: nn.Sequential(nn.Tanh(), ReLUConvBN(3, 3)),
}
WHOLE: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "empty": nn.Sequential,
    "conv": lambda: nn.Sequential(BatchNorm2d(3), nn.Conv2d(3, 3, 1)),
    "unsaid": Whole,
    "other norm": lambda: nn.Sequential(nn.ReLU(), OtherNorm(3)),
    "group": lambda: nn.GroupNorm(1, 3),
}


@pytest.mark.parametrize("kind", SPLIT)
def test_the_last_norm_is_split_off(kind: str) -> None:
    module = SPLIT[kind]().double()
    x = maps(3)
    features, norm = before_norm(module, x)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked == 0
    torch.testing.assert_close(norm(features), module(x), rtol=1e-9, atol=1e-9)


def test_the_rectified_input_is_not_for_what_comes_later() -> None:
    module, x = nn.Sequential(nn.Tanh(), ReLUConvBN(3, 3)).double(), maps(3)
    with torch.no_grad():
        (features, _), (expected, _) = before_norm(module, x, x.relu()), before_norm(module, x)
    torch.testing.assert_close(features, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", WHOLE)
def test_other_modules_stay_whole(kind: str) -> None:
    module = WHOLE[kind]().double()
    x = maps(3)
    output, norm = before_norm(module, x)
    assert norm is None
    torch.testing.assert_close(output, module(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", SPLIT)
def test_nothing_is_split_off_in_contiguous_layout(kind: str) -> None:
    module = SPLIT[kind]().double()
    x = maps(3).contiguous()
    output, norm = before_norm(module, x)
    assert norm is None
    torch.testing.assert_close(output, module(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_products_are_the_two_sums(channels: int, size: tuple[int, int, int]) -> None:
    z, gradient = maps(channels, size), maps(channels, size, seed=1)
    mean, inverse = torch.randn(channels).double(), torch.rand(channels).double() + 0.5
    dot, total = products(gradient, z, Statistics(mean, inverse, of_batch=True))
    centred = (z - mean.view(1, -1, 1, 1)) * inverse.view(1, -1, 1, 1)
    torch.testing.assert_close(dot, (gradient * centred).sum((0, 2, 3)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(total, gradient.sum((0, 2, 3)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_rows_are_a_view_with_whole_pixels(channels: int, size: tuple[int, int, int]) -> None:
    x = maps(channels, size)
    table = rows(x)
    assert table.data_ptr() == x.data_ptr()
    assert table.shape[1] % channels == 0
    assert torch.equal(table.reshape(-1, channels), x.permute(0, 2, 3, 1).reshape(-1, channels))


def test_rows_hold_several_pixels_where_there_are_few_channels() -> None:
    assert rows(maps(16, (2, 8, 8))).shape == (32, 64)
    assert rows(maps(3, (1, 5, 7))).shape == (5, 21)
    assert rows(maps(3, (1, 1, 23))).shape == (23, 3)
    assert rows(maps(36)).shape[1] == 36


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_row_functions_scale_and_shift_channels(channels: int, size: tuple[int, int, int]) -> None:
    x, other = maps(channels, size), maps(channels, size, seed=1)
    scale, shift = torch.randn(2, channels, dtype=torch.double)
    wide_scale, wide_shift = scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)
    total = apply_rows(x, scale, shift)
    torch.testing.assert_close(total, x * wide_scale + wide_shift, rtol=1e-9, atol=1e-9)
    add_rows(total, other, scale)
    torch.testing.assert_close(total, (x + other) * wide_scale + wide_shift, rtol=1e-9, atol=1e-9)


def test_statistics_are_kept_in_one_thread_alone() -> None:
    norm, x = BatchNorm2d(3), torch.randn(2, 3, 4, 4)
    with statistics_kept(), ThreadPoolExecutor(1) as pool:
        norm(x)
        assert norm.num_batches_tracked == 0
        pool.submit(norm, x).result()
    assert norm.num_batches_tracked == 1
