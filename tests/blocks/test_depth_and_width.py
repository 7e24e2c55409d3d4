"""Depth and width as choices."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from datanas import ChoiceRepeat, ChoiceWidth, Search, resolve
from datanas.blocks.found import Blocks
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import count_parameters


def gates_of(places: int, index: int, *, dense: bool = False) -> Any:
    values = torch.eye(places, dtype=torch.double)[index : index + 1].requires_grad_()
    return Gates(values, tuple(map(tuple, values.tolist())), dense)


def bottleneck() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.Conv2d(8, 5, 1),
        nn.BatchNorm2d(5),
    ).double()


def masked(layers: nn.Sequential, width: int, x: Tensor) -> Tensor:
    """The whole layers, of which channels beyond the width are set to zero before they are read."""
    for place, layer in enumerate(layers):
        if place == 6:
            x = x * (torch.arange(8) < width).view(1, 8, 1, 1)
        x = layer(x)
    return x


X = torch.randn(4, 3, 6, 6, dtype=torch.double, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("width", [2, 5, 8])
def test_a_narrow_child_is_the_whole_with_channels_masked(width: int, mode: bool) -> None:
    block, whole = ChoiceWidth(bottleneck(), (2, 5, 8)).train(mode), bottleneck().train(mode)
    with Blocks.of(block).running({"choice": gates_of(3, (2, 5, 8).index(width))}):
        output = block(X)
    torch.testing.assert_close(output, masked(whole, width, X))
    output.sin().sum().backward()
    masked(whole, width, X).sin().sum().backward()
    for mine, theirs in zip(block.candidates["width8"].parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("index", range(3))
def test_sparse_gradients_of_widths_are_the_dense_ones(index: int, mode: bool) -> None:
    found = []
    for dense in (False, True):
        block = ChoiceWidth(bottleneck(), (2, 5, 8)).train(mode)
        gates = gates_of(3, index, dense=dense)
        with Blocks.of(block).running({"choice": gates}):
            block(X).sin().sum().backward()
        found.append([gates.values.grad, *block.buffers()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("width", [2, 5, 8])
def test_the_chosen_width_is_left_alone_and_counted_exactly(width: int) -> None:
    block = ChoiceWidth(bottleneck(), (2, 5, 8)).eval()
    with torch.no_grad(), Blocks.of(block).running({"choice": gates_of(3, (2, 5, 8).index(width))}):
        expected = block(X)
    search = Search(block)
    with torch.no_grad():
        search.alphas[0][0, (2, 5, 8).index(width)] = 5.0
    network: Any = resolve(block, search.derive())
    assert network[0].out_channels == network[3].groups == network[6].in_channels == width
    assert not network.training
    torch.testing.assert_close(network(X), expected)
    assert count_parameters(network) == block.cost_of(f"width{width}")


def test_a_cut_network_shares_nothing() -> None:
    layers: Any = bottleneck()
    block = ChoiceWidth(layers, (2, 8))
    network: Any = block.resolved({"width2": 1.0}, {})
    with torch.no_grad():
        network[0].weight.zero_()
    assert layers[0].weight.all()


def test_linear_layers_are_narrowed_in_their_last_dimension() -> None:
    torch.manual_seed(0)
    layers: Any = nn.Sequential(nn.Linear(3, 6), nn.GELU(), nn.Dropout(0.0), nn.Linear(6, 2)).double()
    block = ChoiceWidth(layers, (2, 4))
    x = torch.randn(5, 7, 3, dtype=torch.double)
    with Blocks.of(block).running({"choice": gates_of(2, 0)}):
        output = block(x)
    hidden = layers[1](layers[0](x))[..., :2]
    torch.testing.assert_close(output, hidden @ layers[3].weight[:, :2].T + layers[3].bias)
    with pytest.raises(ValueError, match="from 1 to 6"):
        ChoiceWidth(layers, (2, 7))


def test_a_narrow_child_follows_the_state_of_the_layers() -> None:
    """Batch norm that is frozen stays so, and what is set on it later counts."""
    found: Any = bottleneck()
    block, whole = ChoiceWidth(found, (2, 8)), bottleneck()
    for layers in (whole, found):
        layers[1].eval()
        layers[4].momentum, layers[4].eps = 0.5, 0.3
    before = deepcopy(whole[1].state_dict())
    with Blocks.of(block).running({"choice": gates_of(2, 0)}):
        torch.testing.assert_close(block(X), masked(whole, 2, X))
    assert not found[1].training
    assert found[4].training
    assert all(torch.equal(value, before[name]) for name, value in found[1].state_dict().items())
    torch.testing.assert_close(found[4].running_mean[:2], whole[4].running_mean[:2])


def test_layers_beyond_those_that_are_cut_keep_their_mode() -> None:
    layers = bottleneck()
    block = ChoiceWidth(layers, (2, 8))
    layers[7].eval()
    with Blocks.of(block).running({"choice": gates_of(2, 0)}):
        block(X)
    assert not layers[7].training


def test_batch_norm_without_weights_and_statistics_is_cut() -> None:
    norm = nn.BatchNorm2d(8, affine=False, track_running_stats=False)
    torch.manual_seed(0)
    block = ChoiceWidth(nn.Sequential(nn.Conv2d(3, 8, 1), norm, nn.Conv2d(8, 5, 1)).double(), (2, 8))
    with torch.no_grad(), Blocks.of(block).running({"choice": gates_of(2, 0)}):
        expected = block(X)
    torch.testing.assert_close(block.resolved({"width2": 1.0}, {})(X), expected)


class Adapted(nn.Linear):
    """Gives more than its class's forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Skipping(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = x + super().forward(x)
        return output


def hooked() -> nn.Module:
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda *_: None)
    return layer


@pytest.mark.parametrize("make_layer", [lambda: Adapted(2, 2), lambda: spectral_norm(nn.Linear(2, 2)), hooked])
def test_layers_that_are_more_than_torch_s_own_are_refused(make_layer: Any) -> None:
    with pytest.raises(ValueError, match=r"layers\[0\]: \w+ cannot be narrowed; a width takes torch's own"):
        ChoiceWidth(nn.Sequential(make_layer(), nn.Linear(2, 2)), (1,))
    with pytest.raises(ValueError, match=r"layers\[1\]"):
        ChoiceWidth(nn.Sequential(nn.Linear(2, 2), make_layer()), (1,))
    ChoiceWidth(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), make_layer()), (1,))  # it is left whole


def test_a_sequence_with_a_forward_pass_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"layers must be nn\.Sequential, got Skipping"):
        ChoiceWidth(Skipping(nn.Linear(2, 2), nn.Linear(2, 2)), (1,))


@pytest.mark.parametrize(
    ("layers", "widths", "message"),
    [
        (nn.Linear(2, 2), (1,), "layers must be nn.Sequential"),
        (nn.Sequential(nn.Linear(2, 2)), (1,), "needs two convolutions or linear layers"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2)), (1,), r"layers\[1\]: LayerNorm does not"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(-1), nn.Linear(2, 2)), (1,), r"layers\[1\]: Softmax does not"),
        (nn.Sequential(nn.Conv1d(4, 4, 1, groups=2), nn.Conv1d(4, 4, 1)), (1,), "a convolution in groups"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), (), "widths must be rising"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), (2, 1), "widths must be rising"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), (0, 1), "widths must be rising"),
    ],
)
def test_layers_and_widths_that_cannot_be_are_refused(layers: Any, widths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChoiceWidth(layers, widths)


def layers_in_a_row(count: int = 4) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Tanh()).double() for _ in range(count)]


Y = torch.randn(6, 3, dtype=torch.double, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_depth_runs_the_first_layers(count: int) -> None:
    block, expected = ChoiceRepeat(layers_in_a_row(), (0, 1, 3)), Y
    for layer in layers_in_a_row()[:count]:
        expected = layer(expected)
    with Blocks.of(block).running({"choice": gates_of(3, (0, 1, 3).index(count))}):
        torch.testing.assert_close(block(Y), expected)


@pytest.mark.parametrize("index", range(3))
def test_sparse_gradients_of_depths_are_the_dense_ones(index: int) -> None:
    found = []
    for dense in (False, True):
        block = ChoiceRepeat(layers_in_a_row(), (0, 1, 3))
        gates = gates_of(3, index, dense=dense)
        with Blocks.of(block).running({"choice": gates}):
            block(Y.clone().requires_grad_()).sin().sum().backward()
        found.append([gates.values.grad, *block.buffers()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def test_of_the_chosen_depth_only_its_layers_are_left() -> None:
    block = ChoiceRepeat(layers_in_a_row())
    search = Search(block)
    with torch.no_grad():
        search.alphas[0][0, 1] = 5.0
    network: Any = search.network(weights=True)
    assert len(network) == 2
    assert [block.cost_of(f"repeat{count}") for count in (1, 2, 3, 4)] == [18, 36, 54, 72]


def test_layers_are_searched_once_however_many_depths_share_them() -> None:
    assert len(Search(ChoiceRepeat(layers_in_a_row())).weights) == 4 * 4


@pytest.mark.parametrize("counts", [(), (2, 1), (1, 1), (5,), (-1, 1)])
def test_counts_that_cannot_be_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counts must be rising numbers of the 4 layers"):
        ChoiceRepeat(layers_in_a_row(), counts)
