"""The networks are the benchmark's own: parameters and multiply-adds are those of its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import datanas
from datanas.codes.accuracy_table import AccuracyTable
from datanas.codes.architecture import Architecture
from datanas.codes.cell import Cell
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import validate
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import count_macs, count_parameters
from datanas.network import build_network
from datanas.ops import OpSettings
from datanas.spaces.base import StemShape
from datanas.spaces.nasbench201 import BenchmarkBody, NASBench201Space, ResidualBlock
from datanas.spaces.plans import network_plan

TABLE = Path(datanas.__file__).resolve().parents[3] / "shared" / "data" / "nasbench201.npz"
BEST = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
MIXED = "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"


class Stem(nn.Module):
    """Hands its input on, twice."""

    def __init__(self, width: int, *, halved: bool = False) -> None:
        super().__init__()
        self.shape = StemShape((width, width), halved)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.fixture(scope="module")
def table() -> AccuracyTable:
    if not TABLE.is_file():
        pytest.skip(f"{TABLE} is absent")
    return AccuracyTable.load(TABLE)


def space(**settings: object) -> NASBench201Space:
    return NASBench201Space(NASBench201Space.Config(**settings))


def body_of(text: str, stem: nn.Module, cells: int = 3, channels: int = 4) -> BenchmarkBody:
    return NASBench201Space.network_body(
        Architecture.from_genotype(text), stem, NASBench201Space.Network(channels=channels, cells=cells)
    )


def test_rebuilt_networks_cost_what_the_table_says(table: AccuracyTable) -> None:
    rows = [0, 5, *np.random.default_rng(0).choice(len(table.codes), 30, replace=False)]
    for row in rows:
        architecture = Architecture.from_genotype(table.string(row))
        with torch.device("meta"):
            network = build_network(architecture, channels=16, cells=15, num_classes=10, prune=False, stem="plain")
            macs = count_macs(network, torch.empty(1, 3, 32, 32))
        assert count_parameters(network) == table.metrics["params"][row], row
        assert macs == table.metrics["flops"][row], row


def test_costs_of_the_whole_table_are_its_own(table: AccuracyTable) -> None:
    """Each network costs what its operations add to the one with none."""
    costs = space(cells_per_stage=5).costs(Stem(16), torch.zeros(1, 16, 32, 32))["cell"]
    empty = int(np.flatnonzero((table.codes == 0).all(axis=1))[0])
    for known, added in (("params", costs.parameters), ("flops", costs.macs)):
        sums = added[np.arange(6), table.codes].sum(axis=1)
        np.testing.assert_array_equal(table.metrics[known], table.metrics[known][empty] + sums)


def test_the_group_is_the_benchmark_s() -> None:
    group = space().groups()["cell"]
    assert group.primitives == ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert group.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert group.single
    assert len(group.partition) == 6
    assert space().identities("cell") == {"skip_connect"}
    assert space().parameter_free("cell") == {"none", "skip_connect", "avg_pool_3x3"}


@pytest.mark.parametrize("size", [8, 7, 5])
def test_two_blocks_halve_the_size_and_double_the_width(size: int) -> None:
    (features,) = body_of(MIXED, Stem(4))((torch.empty(0), torch.randn(2, 4, size, size)))
    assert features.shape == (2, 16, -(-size // 4), -(-size // 4))
    assert (features >= 0).all()


def test_a_residual_block_is_the_benchmark_s() -> None:
    block = ResidualBlock(4).double().eval()
    x = torch.randn(2, 4, 8, 8, dtype=torch.double)
    pooled = x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    shortcut = torch.einsum("oi,nihw->nohw", block.get_parameter("downsample.1.weight")[:, :, 0, 0], pooled)
    main = x
    for part in (block.conv_a, block.conv_b):
        _, conv, norm = part.children()
        main = norm(conv(main.relu()))
    torch.testing.assert_close(block(x), shortcut + main)


@pytest.mark.parametrize("text", [BEST, MIXED, "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"])
def test_a_rebuilt_network_is_the_child_of_the_supernet(text: str) -> None:
    architecture = Architecture.from_genotype(text)
    stem = Stem(4)
    searched = space(channels=4).supernet_body(stem)
    rebuilt = BenchmarkBody(network_plan(architecture, "cell"), 1, OpSettings(4, affine=False))
    rebuilt.load_state_dict({k: v for k, v in searched.state_dict().items() if k in rebuilt.state_dict()})
    x = torch.randn(3, 4, 8, 8)
    gates = {"cell": Gates.of(torch.from_numpy(architecture.weights("cell")).float())}
    torch.testing.assert_close(rebuilt((x, x))[0], searched((x, x), gates)[0])


def test_only_the_cells_are_without_scale_and_shift_while_searching() -> None:
    body = space(channels=4).supernet_body(Stem(4))
    for name, norm in body.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert (norm.weight is None) == (".nodes." in name), name


@pytest.mark.parametrize("stem", [Stem(12), Stem(4, halved=True), nn.Identity()])
def test_a_stem_of_another_width_is_refused(stem: nn.Module) -> None:
    message = r"task\.stem: nasbench201 needs a stem of its first cell's width, such as plain"
    with pytest.raises(ConfigError, match=message):
        space(channels=4).supernet_body(stem)
    with pytest.raises(ConfigError, match=message):
        body_of(MIXED, stem)


@pytest.mark.parametrize("cells", [1, 4, 20])
def test_cells_that_make_no_three_stages_are_refused(cells: int) -> None:
    with pytest.raises(ConfigError, match=f"cells: {cells} .*multiple of 3"):
        body_of(MIXED, Stem(4), cells)


def test_there_is_no_auxiliary_tower() -> None:
    with pytest.raises(ConfigError, match="auxiliary"):
        build_network(Architecture.from_genotype(BEST), channels=4, cells=3, auxiliary=True, stem="plain")


@pytest.mark.parametrize(("name", "inputs", "outputs"), [("normal", 1, (1,)), ("cell", 2, (2,)), ("cell", 1, (0, 1))])
def test_another_kind_of_cell_is_refused(name: str, inputs: int, outputs: tuple[int, ...]) -> None:
    cell = Cell(("none", "skip_connect"), ((0, inputs),), outputs, np.eye(2, dtype=np.uint8)[1:], inputs)
    with pytest.raises(ArchitectureError, match="needs one named 'cell'"):
        NASBench201Space.network_body(
            Architecture({name: cell}), Stem(4), NASBench201Space.Network(channels=4, cells=3)
        )


@pytest.mark.parametrize("settings", [{"cells_per_stage": 0}, {"channels": 0}])
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        validate(NASBench201Space.Config, {"name": "nasbench201", **settings}, "space")
