"""A cell of its own at each depth: groups, networks of other depths, and the stack of two cells as outside truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from datanas.codes.architecture import Architecture, Cell
from datanas.codes.liveness import live_stack
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import validate
from datanas.kernels.gates import Gates
from datanas.network import build_network
from datanas.ops import OpSettings
from datanas.spaces.base import StemShape
from datanas.spaces.conv_body import ConvBody, cell_kinds
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.spaces.conv_stack import ConvStackSpace, searched_places, stack_groups
from datanas.spaces.network_config import ToweredConfig
from datanas.spaces.plans import network_plan


class Stem(nn.Module):
    """Hands its input on, twice."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.shape = StemShape((width, width))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


def space(**settings: Any) -> ConvStackSpace:
    return ConvStackSpace(ConvStackSpace.Config(**{"cells": 5, "channels": 2, "nodes": 5, **settings}))


def network(**settings: Any) -> ToweredConfig:
    return ToweredConfig(**{"channels": 2, "cells": 5, "auxiliary": False, **settings})


def random_architecture(made: ConvStackSpace, seed: int = 0, share: float = 0.2) -> Architecture:
    rng = np.random.default_rng(seed)
    cells = {
        name: Cell(
            group.primitives, group.edges, group.outputs, (rng.random(group.shape) < share).astype(np.uint8), inputs=2
        )
        for name, group in made.groups().items()
    }
    return Architecture(cells, space="conv_stack", aggregate="mean", scope="node")


def test_there_is_a_group_for_each_cell_named_by_kind_and_place() -> None:
    groups = space(cells=8).groups()
    assert [*groups] == [
        *("normal_0", "normal_1", "reduce_2", "normal_3", "normal_4", "reduce_5", "normal_6", "normal_7"),
    ]
    assert [group.depth for group in groups.values()] == [place / 7 for place in range(8)]
    assert groups["reduce_2"].shape == ConvCellSpace(ConvCellSpace.Config(nodes=5)).groups()["reduce"].shape


@pytest.mark.parametrize(
    ("searched", "cells", "places"),
    [
        (5, 5, (0, 1, 2, 3, 4)),
        (5, 8, (0, 0, 1, 2, 2, 3, 4, 4)),
        (8, 5, (0, 2, 3, 5, 6)),
        (8, 3, (0, 2, 5)),
        (8, 20, (0, 0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5, 6, 6, 6, 7, 7, 7)),
        (5, 1, (1,)),
    ],
)
def test_a_network_takes_the_searched_cell_of_the_same_place_of_its_stage(
    searched: int, cells: int, places: tuple[int, ...]
) -> None:
    assert searched_places(searched, cells) == places


def test_every_depth_has_its_kinds_in_order_and_each_cell_of_the_searched_depth_once() -> None:
    for searched in range(5, 26):
        assert searched_places(searched, searched) == tuple(range(searched))
        for cells in range(3, 26):
            places = searched_places(searched, cells)
            assert [cell_kinds(searched)[place] for place in places] == [*cell_kinds(cells)]
            assert list(places) == sorted(places)


@pytest.mark.parametrize("cells", [5, 8, 4])
@pytest.mark.parametrize("share", [0.1, 0.4])
def test_a_rebuilt_network_is_the_child_of_a_supernet_of_its_depth(cells: int, share: float) -> None:
    made = space()
    architecture = random_architecture(made, share=share)
    supernet = made.at_size(2, cells).supernet_body(Stem())
    names = ConvStackSpace.network_groups(architecture, cells)
    rebuilt = ConvBody(
        [network_plan(architecture, name) for name in names],
        StemShape((6, 6)),
        OpSettings(2, affine=False, pooling_norm=True),
    )
    rebuilt.load_state_dict({k: v for k, v in supernet.state_dict().items() if k in rebuilt.state_dict()})
    x = torch.randn(4, 6, 8, 8)
    gates = {name: Gates.of(torch.from_numpy(architecture.weights(name)).float()) for name in architecture.cells}
    torch.testing.assert_close(rebuilt((x, x))[0], supernet((x, x), gates)[0])


def two_cells(seed: int = 0) -> Architecture:
    """A normal and a reduction cell."""
    cells = random_architecture(space(), seed, 0.3).cells
    kinds = {"normal": cells["normal_0"], "reduce": cells["reduce_1"]}
    return Architecture(kinds, space="conv_cell", aggregate="mean", scope="node")


def repeated(architecture: Architecture, cells: int) -> Architecture:
    """The same network as a cell for each place."""
    chosen = {name: architecture.cells[name.split("_")[0]] for name in stack_groups(cells)}
    return Architecture(chosen, space="conv_stack", aggregate="mean", scope="node")


@pytest.mark.parametrize("prune", [True, False])
@pytest.mark.parametrize(("searched", "cells"), [(5, 5), (5, 9), (8, 6)])
def test_equal_cells_make_the_network_of_two_cells(searched: int, cells: int, prune: bool) -> None:
    bodies = []
    for space_class, architecture in (
        (ConvCellSpace, two_cells()),
        (ConvStackSpace, repeated(two_cells(), searched)),
    ):
        torch.manual_seed(0)
        settings = network(cells=cells, prune=prune, auxiliary=True)
        bodies.append(space_class.network_body(architecture, Stem(), settings))
    own, other = bodies
    assert own.state_dict().keys() == other.state_dict().keys()
    assert own.reads == other.reads
    x = torch.randn(2, 6, 9, 9)
    for a, b in zip(own((x, x)), other((x, x)), strict=True):
        assert torch.equal(a, b)
    assert ConvStackSpace.count_live(repeated(two_cells(), searched), settings) == ConvCellSpace.count_live(
        two_cells(), settings
    )


@pytest.mark.parametrize("cells", [3, 5, 9])
def test_costs_of_the_cells_add_up_to_those_of_two_cells(cells: int) -> None:
    """At a network's depth too, where the groups stay those that were searched."""
    example = torch.zeros(1, 6, 16, 16)
    sized = space(cells=8).at_size(4, cells)
    assert [*sized.groups()] == [*stack_groups(8)]
    own = sized.costs(Stem(), example)
    both = ConvCellSpace(ConvCellSpace.Config(cells=cells, channels=4, nodes=5)).costs(Stem(), example)
    for kind, cost in both.items():
        for measure in ("parameters", "macs"):
            parts = [getattr(own[name], measure) for name in own if name.startswith(kind)]
            np.testing.assert_allclose(np.sum(parts, axis=0), getattr(cost, measure))
    unused = set(stack_groups(8)) - set(sized.cell_groups())
    assert bool(unused) == (cells < 8)
    assert not any(own[name].macs.any() for name in unused)


def test_live_cells_are_those_of_the_stack_at_its_depth() -> None:
    made = space().at_size(2, 8)
    architecture = random_architecture(space(), 1, 0.08)
    stack = live_stack([architecture.cells[name] for name in made.cell_groups()])
    for own, other in zip(made.live_cells(architecture), stack.cells, strict=True):
        assert (own is None) == (other is None)
        assert own is None or other is None or np.array_equal(own.code, other.code)


def test_a_supernet_gives_each_cell_the_gates_of_its_own_group() -> None:
    made = space()
    body = made.supernet_body(Stem())
    x = torch.randn(2, 6, 8, 8)
    open_gates = {name: torch.ones(group.shape, requires_grad=True) for name, group in made.groups().items()}
    gates = {name: replace(Gates.of(values), values=values) for name, values in open_gates.items()}
    body((x, x), gates)[0].square().sum().backward()
    gradients = [values.grad for values in open_gates.values() if values.grad is not None]
    assert len(gradients) == 5
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert not torch.allclose(gradients[0], gradients[2])


@pytest.mark.parametrize("cells", [3, 5, 12])
def test_a_network_of_any_depth_is_built_from_one_architecture(cells: int) -> None:
    built = build_network(random_architecture(space(), share=0.4), channels=2, cells=cells)
    assert built(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_what_only_passes_on_is_known_by_the_kind_of_a_group() -> None:
    made = space()
    assert made.identities("normal_2") == {"skip_connect"}
    assert made.identities("reduce_3") == frozenset()
    assert made.parameter_free("normal_0") - made.parameter_free("reduce_1") == {"skip_connect"}


def test_a_stack_in_which_a_stage_has_no_normal_cell_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cells.*at least 5|at least 5.*cells|greater than or equal to 5"):
        validate(ConvStackSpace.Config, {"name": "conv_stack", "cells": 4}, "space")


@pytest.mark.parametrize("names", [("normal_0", "reduce_1", "normal_2", "reduce_3"), ("normal", "reduce")])
def test_an_architecture_of_other_cells_is_refused(names: tuple[str, ...]) -> None:
    cell = two_cells().cells["normal"]
    architecture = Architecture(dict.fromkeys(names, cell), space="conv_stack")
    with pytest.raises(ArchitectureError, match=r"each place.*normal_0, reduce_1, normal_2, reduce_3, normal_4"):
        ConvStackSpace.network_body(architecture, Stem(), network())


def test_a_cell_of_one_input_is_refused() -> None:
    whole = random_architecture(space())
    chain = Cell(("none", "skip_connect"), ((0, 1),), (1,), np.array([[0, 1]], np.uint8), inputs=1)
    with pytest.raises(ArchitectureError, match=r"cells\.normal_2\.inputs: must be 2, got 1"):
        ConvStackSpace.network_body(replace(whole, cells={**whole.cells, "normal_2": chain}), Stem(), network())
