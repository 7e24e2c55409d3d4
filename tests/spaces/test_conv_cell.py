from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from datanas.codes.architecture import Architecture, Cell
from datanas.codes.liveness import LiveCount, live_stack
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import validate
from datanas.kernels.gates import Gates
from datanas.ops import OpSettings
from datanas.spaces.base import StemShape
from datanas.spaces.conv_body import ConvBody, cell_kinds, reductions
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.spaces.network_config import ToweredConfig
from datanas.spaces.plans import network_plan, supernet_plan


class Stem(nn.Module):
    """Hands its input on, twice."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shape = StemShape((width, width))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def space(**settings: object) -> ConvCellSpace:
    return ConvCellSpace(ConvCellSpace.Config(**settings))


def test_groups_are_those_of_section_5() -> None:
    groups = space().groups()
    assert {name: group.shape for name, group in groups.items()} == {"normal": (14, 8), "reduce": (14, 8)}
    assert [len(part) for part in groups["normal"].partition] == [2, 3, 4, 5]
    assert groups["normal"].outputs == (2, 3, 4, 5)


@pytest.mark.parametrize(("cells", "expected"), [(8, {2, 5}), (20, {6, 13}), (5, {1, 3}), (14, {4, 9})])
def test_reductions_stand_at_thirds(cells: int, expected: set[int]) -> None:
    assert reductions(cells) == expected


def test_reduction_halves_size_and_doubles_width() -> None:
    body = space(cells=5, channels=2).supernet_body(Stem(6))
    x = torch.randn(2, 6, 8, 8)
    gates = {name: Gates.of(torch.ones(group.shape)) for name, group in space().groups().items()}
    (features,) = body((x, x), gates)
    assert features.shape == (2, 2 * 4 * 4, 2, 2)
    assert body.out_channels == (32,)


@pytest.mark.parametrize("size", [7, 9])
def test_odd_sizes_pass(size: int) -> None:
    body = space(cells=5, channels=2).supernet_body(Stem(6))
    x = torch.randn(2, 6, size, size)
    gates = {name: Gates.of(torch.ones(group.shape)) for name, group in space().groups().items()}
    assert body((x, x), gates)[0].shape[2:] == (-(-size // 4),) * 2


def random_architecture(seed: int, share: float, aggregate: str, scope: str) -> Architecture:
    rng = np.random.default_rng(seed)
    cells = {}
    for name, group in space().groups().items():
        code = (rng.random(group.shape) < share).astype(np.uint8)
        cells[name] = Cell(group.primitives, group.edges, group.outputs, code, inputs=2)
    return Architecture(cells, aggregate=aggregate, scope=scope)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
@pytest.mark.parametrize(("aggregate", "scope"), [("sum", "edge"), ("mean", "edge"), ("mean", "node")])
def test_rebuilt_network_is_the_child_of_the_supernet(share: float, aggregate: str, scope: str) -> None:
    """With the supernet's weights the rebuilt cells compute what the supernet computes for their code."""
    architecture = random_architecture(3, share, aggregate, scope)
    stem = Stem(6)
    searched = space(cells=3, channels=2).supernet_body(stem)
    settings = OpSettings(2, affine=False, pooling_norm=True)
    rebuilt = ConvBody([network_plan(architecture, kind) for kind in cell_kinds(3)], stem.shape, settings)
    rebuilt.load_state_dict({k: v for k, v in searched.state_dict().items() if k in rebuilt.state_dict()})
    x = torch.randn(4, 6, 8, 8)
    gates = {name: Gates.of(torch.from_numpy(architecture.weights(name)).float()) for name in architecture.cells}
    torch.testing.assert_close(rebuilt((x, x))[0], searched((x, x), gates)[0])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dense", [0, 1])
def test_a_pruned_network_computes_what_the_whole_one_does(seed: int, dense: int) -> None:
    """With the same weights, as long as no bias has been learned: what is left out gives zeros then."""
    architecture = random_architecture(seed, 0.04, "mean", "node")
    stem, cells = Stem(6), 5
    stem.shape = StemShape((6, 6), dense=dense)
    whole, pruned = (
        ConvCellSpace.network_body(
            architecture, stem, ToweredConfig(channels=2, cells=cells, auxiliary=True, prune=prune)
        )
        for prune in (False, True)
    )
    stack = live_stack([architecture.cells[kind] for kind in cell_kinds(cells)])
    given, wanted = whole.state_dict(), pruned.state_dict()
    assert wanted.keys() <= given.keys()
    for name, value in wanted.items():
        if given[name].shape != value.shape:  # a cell's way in, of which the columns of empty nodes are gone
            _, index, side, *_ = name.split(".")
            before = int(index) - (2 if side == "first" else 1)
            kept = stack.cells[before]
            assert kept is not None
            width = given[name].shape[1] // 4
            columns = [c for node in kept.outputs for c in range((node - 2) * width, (node - 1) * width)]
            given[name] = given[name][:, columns]
    pruned.load_state_dict({name: given[name] for name in wanted})
    x = torch.randn(4, 6, 8, 8)
    with torch.no_grad():
        found, expected = pruned((x, x))[-1], whole((x, x))[-1]
    outputs = stack.cells[-1].outputs if stack.cells[-1] else ()
    parts = [expected.chunk(4, dim=1)[node - 2] for node in outputs] or [torch.zeros_like(found)]
    torch.testing.assert_close(found, torch.cat(parts, dim=1))
    assert expected.abs().sum() == pytest.approx(float(found.abs().sum()), rel=1e-5)


def reading_the_one_before_the_last() -> Architecture:
    group = space().groups()["normal"]
    code = np.zeros(group.shape, np.uint8)
    for edge, (source, target) in enumerate(group.edges):
        code[edge, group.primitives.index("sep_conv_3x3")] = source == 0 and target < 6
    cell = Cell(group.primitives, group.edges, group.outputs, code, inputs=2)
    return Architecture({"normal": cell, "reduce": cell})


@pytest.mark.parametrize(("cells", "tapped"), [(8, 5), (10, 7)])
def test_an_auxiliary_head_reads_the_second_reduction_or_the_first_cell_behind_it(cells: int, tapped: int) -> None:
    """Of eight cells the fifth is a reduction that stays, of ten the sixth one that is left out."""
    architecture = reading_the_one_before_the_last()
    body = ConvCellSpace.network_body(architecture, Stem(6), ToweredConfig(channels=2, cells=cells, auxiliary=True))
    x = torch.randn(2, 6, 8, 8)
    assert torch.equal(body((x, x))[0], dict(body.walk((x, x)))[tapped])


def test_every_second_cell_is_left_out_where_cells_read_the_one_before_the_last() -> None:
    architecture = reading_the_one_before_the_last()
    body = ConvCellSpace.network_body(architecture, Stem(6), ToweredConfig(channels=2, cells=6, auxiliary=True))
    assert [built is not None for built in body.cells] == 3 * [False, True]
    assert all(built is None or built.second is None for built in body.cells)
    assert [place for place, _ in body.stages] == [1, 3, 5]
    assert body.reads == (False, True)
    assert ConvCellSpace.count_live(architecture, ToweredConfig(cells=6)) == LiveCount(12, 24, 3, 6)


def test_a_network_without_a_path_gives_zeros_of_the_right_size() -> None:
    architecture = random_architecture(0, 0.0, "sum", "edge")
    body = ConvCellSpace.network_body(architecture, Stem(6), ToweredConfig(channels=2, cells=5, auxiliary=True))
    x = torch.randn(3, 6, 9, 9)
    tapped, last = body((x, x))
    assert not list(body.parameters())
    assert not last.any()
    assert tapped.shape == (3, body.out_channels[0], 3, 3)
    assert last.shape == (3, body.out_channels[1], 3, 3)


def test_supernet_has_every_candidate_but_none() -> None:
    plan = supernet_plan(space().groups()["normal"])
    assert len(plan.choices) == 14 * 7


def test_cost_is_the_parameters_of_the_operations() -> None:
    chosen = space(cells=4, channels=4)
    costs = chosen.costs(Stem(12), torch.zeros(1, 12, 16, 16))
    body = chosen.network_body(
        random_architecture(0, 1.0, "sum", "edge"), Stem(12), ToweredConfig(channels=4, cells=4, auxiliary=False)
    )
    in_nodes = sum(p.numel() for name, p in body.named_parameters() if ".nodes." in name)
    assert sum(cost.parameters.sum() for cost in costs.values()) == in_nodes
    assert (costs["normal"].macs[:, 0] == 0).all()


def test_unknown_operation_is_named_with_its_neighbour() -> None:
    group = space().groups()["normal"]
    code = np.zeros((14, 2), np.uint8)
    code[0, 1] = 1
    cell = Cell(("none", "sep_conv_3x33"), group.edges, group.outputs, code, inputs=2)
    with pytest.raises(ArchitectureError, match=r"sep_conv_3x33.*did you mean 'sep_conv_3x3'"):
        ConvCellSpace.network_body(
            Architecture({"normal": cell, "reduce": cell}), Stem(6), ToweredConfig(channels=2, cells=2, auxiliary=False)
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"primitives": ["none", "conv"]}, "unknown operation 'conv'"),
        ({"primitives": ["none", "none"]}, "listed twice"),
        ({"cells": 2}, "at least 3"),
        ({"nodes": 3}, "at least 4"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ConvCellSpace.Config, {"name": "conv_cell", **settings}, "space")


def test_parameter_free_primitives_are_found_by_counting() -> None:
    pooling = {"none", "max_pool_3x3", "avg_pool_3x3"}
    assert space().parameter_free("normal") == pooling | {"skip_connect"}
    assert space().parameter_free("reduce") == pooling
    assert space().identities("normal") == {"skip_connect"}
    assert space().identities("reduce") == frozenset()


def test_a_stem_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="two feature maps"):
        space().supernet_body(nn.Identity())
