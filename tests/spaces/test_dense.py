"""Bodies that keep the resolution: the same weights and, at the strided places, the same features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from datanas.core.errors import ConfigError
from datanas.kernels.gates import host_gates
from datanas.lookup import architecture
from datanas.spaces.base import StemShape
from datanas.spaces.conv_body import dense_reductions
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.spaces.nasbench201 import NASBench201Space
from datanas.spaces.network_config import ToweredConfig
from datanas.tasks.stems import CifarStem, image_stem

CELL = architecture("data_m7")


def features(kind: str, cells: int, dense: int, size: int = 32) -> tuple[Tensor, ...]:
    """Both taps of a small network, fresh from the same seed."""
    torch.manual_seed(0)
    stem = image_stem(kind, 3, 2, dense)  # type: ignore[arg-type]
    body = ConvCellSpace.network_body(CELL, stem, ToweredConfig(channels=2, cells=cells, auxiliary=True))
    network = nn.Sequential(stem, body).double().eval()
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    found: tuple[Tensor, ...] = network(x)
    return found


@pytest.mark.parametrize("kind", ["plain_half", "imagenet"])
@pytest.mark.parametrize("cells", [3, 5])
@pytest.mark.parametrize("dense", [1, 2])
def test_the_strided_places_hold_the_strided_features(kind: str, cells: int, dense: int) -> None:
    strided, kept = features(kind, cells, 0, 64), features(kind, cells, dense, 64)
    for before, after in zip(strided, kept, strict=True):
        step = 2**dense
        assert after.shape[2:] == tuple(step * side for side in before.shape[2:])
        torch.testing.assert_close(after[:, :, ::step, ::step], before)


def test_the_other_places_differ() -> None:
    kept = features("plain_half", 5, 1)[-1]
    assert not torch.allclose(kept[:, :, ::2, ::2], kept[:, :, 1::2, ::2])
    assert not torch.allclose(kept[:, :, ::2, ::2], kept[:, :, ::2, 1::2])


@pytest.mark.parametrize("size", [30, 37])
def test_odd_sizes_run(size: int) -> None:
    assert features("plain_half", 5, 2, size)[-1].shape[2:] == (-(-size // 2),) * 2


def test_a_supernet_keeps_it_as_a_network_does() -> None:
    space = ConvCellSpace(ConvCellSpace.Config(cells=3, channels=2))
    found = []
    for dense in (0, 1):
        torch.manual_seed(0)
        stem = CifarStem(3, 2, dense=dense)
        body = space.supernet_body(stem).eval()
        gates = {name: torch.ones(group.shape) for name, group in space.groups().items()}
        x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        found.append(body(stem.eval()(x), host_gates(gates, torch.device("cpu")))[-1])
    torch.testing.assert_close(found[1][:, :, ::2, ::2], found[0])


def test_operations_behind_a_dense_reduction_cost_four_times_as_much() -> None:
    space = ConvCellSpace(ConvCellSpace.Config(cells=3, channels=2))
    x = torch.zeros(1, 3, 16, 16)
    strided, dense = (space.costs(CifarStem(3, 2, dense=count), x) for count in (0, 2))
    assert (dense["normal"].macs == strided["normal"].macs).all()  # the normal cell is the first
    reduce = dense["reduce"].macs.sum() / strided["reduce"].macs.sum()
    assert 4 < reduce < 16
    assert (dense["reduce"].parameters == strided["reduce"].parameters).all()


@pytest.mark.parametrize(("cells", "count", "places"), [(5, 0, ()), (5, 1, (3,)), (5, 2, (1, 3)), (20, 1, (13,))])
def test_the_last_reductions_are_dense(cells: int, count: int, places: tuple[int, ...]) -> None:
    assert dense_reductions(cells, count) == places


def test_no_more_reductions_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"0\.\.2 reductions, not 3"):
        dense_reductions(8, 3)


def test_a_space_that_cannot_refuses() -> None:
    class Stem(nn.Module):
        shape = StemShape((4, 4), dense=1)

    with pytest.raises(ConfigError, match="cannot keep the resolution"):
        NASBench201Space(NASBench201Space.Config(channels=4)).supernet_body(Stem())
