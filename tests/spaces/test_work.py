"""What a space says that its networks run is what they run, and each operation can run alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datanas import architecture
from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.kernels.mixed import MixedNode
from datanas.kernels.switch import plain_kernels
from datanas.network import build_network
from datanas.spaces import spaces
from datanas.spaces.base import Space, StemShape
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.spaces.workload import Workload

CPU = torch.device("cpu")
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|skip_connect~2|"


def make_space(name: str, channels: int, cells: int) -> Space:
    kind: Any = spaces[name]
    space: Space = kind(validate(kind.Config, {"name": name}, "space"))
    return space.at_size(channels, cells)


def expected(space: Space, chosen: Architecture, stem: nn.Module, x: Any) -> Counter[Any]:
    """(primitive, channels, size) of every live operation."""
    found: Counter[Any] = Counter()
    for cell, part in zip(space.work(stem, x), space.live_cells(chosen), strict=True):
        if part is None:
            continue
        for edge, op in zip(*np.nonzero(part.code), strict=True):
            load = cell.table[edge][op]
            assert load is not None
            found[load.primitive, load.channels, load.size] += load.maps * int(part.code[edge, op])
    return found


def run(network: nn.Module, x: Any) -> Counter[Any]:
    """The same, of what is called where the network runs."""
    found: Counter[Any] = Counter()
    handles = []
    for node in (module for module in network.modules() if isinstance(module, MixedNode)):
        for name, module in node.ops.items():
            primitive = name.split("_", 1)[1].split("_again")[0]

            def seen(_: Any, inputs: tuple[Tensor], primitive: str = primitive) -> None:
                found[primitive, inputs[0].shape[1], tuple(inputs[0].shape[2:])] += inputs[0].shape[0]

            handles.append(module.register_forward_pre_hook(seen))
    with torch.no_grad(), plain_kernels():
        network.eval()(x)
    return found


def without_first_cells() -> Architecture:
    """A cell that reads only the one before the last, so that others are left out whole."""
    whole = architecture("darts_v2")
    cells = {}
    for name, cell in whole.cells.items():
        code = np.array(cell.code)
        code[[edge for edge, (source, _) in enumerate(cell.edges) if source == 1]] = 0
        cells[name] = replace(cell, code=code)
    return replace(whole, cells=cells)


@pytest.mark.parametrize(
    ("chosen", "channels", "cells", "options", "side"),
    [
        (architecture("darts_v2"), 4, 5, {}, 15),
        (architecture("data_m7"), 2, 3, {"stem": "cifar_half"}, 16),
        (architecture("data_m4"), 4, 6, {"stem": "imagenet"}, 64),
        (without_first_cells(), 4, 6, {}, 16),
        (Architecture.from_genotype(CELL), 4, 6, {"stem": "plain"}, 15),
        (Architecture.from_genotype("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"), 4, 3, {"stem": "plain"}, 8),
    ],
    ids=["darts_v2", "data_m7", "imagenet", "cells left out", "nasbench201", "nothing"],
)
def test_work_is_what_a_network_runs(
    chosen: Architecture, channels: int, cells: int, options: dict[str, Any], side: int
) -> None:
    network = build_network(chosen, channels=channels, cells=cells, **options)
    space = make_space(chosen.space, channels, cells)
    x = torch.randn(1, 3, side, side)
    assert run(network, x) == expected(space, chosen, network.stem.eval(), x)


def test_work_of_other_depths_is_what_a_network_runs() -> None:
    space: Any = make_space("conv_stack", 2, 10)
    cell = architecture("data_m4").cells
    chosen = Architecture({name: cell[name.split("_")[0]] for name in space.groups()}, space="conv_stack")
    network, x = build_network(chosen, channels=2, cells=10), torch.randn(1, 3, 12, 12)
    assert run(network, x) == expected(space, chosen, network.stem.eval(), x)


def test_work_counts_the_maps_of_dense_cells() -> None:
    chosen = architecture("darts_v2")
    network = build_network(chosen, "segmentation", 3, channels=2, cells=6, output_stride=4)
    x = torch.randn(1, 3, 32, 32)
    found = expected(make_space("conv_cell", 2, 6), chosen, network.stem.eval(), x)
    assert cast(StemShape, network.stem.shape).dense > 0
    assert run(network, x) == found


@pytest.mark.parametrize(
    ("name", "cells"), [("conv_cell", 5), ("conv_stack", 6), ("nasbench201", 6), ("recurrent_cell", 1)]
)
def test_every_operation_runs_alone(name: str, cells: int) -> None:
    space = make_space(name, 4, cells)
    network = build_network(architecture("darts_v2_rnn" if cells == 1 else "darts_v2"), channels=4, cells=cells)
    stem = nn.Identity() if cells == 1 else network.stem
    work = space.work(stem, torch.zeros(1, 3, 16, 16))
    groups = space.groups()
    for cell in work:
        assert np.array([[each is not None for each in row] for row in cell.table]).shape == groups[cell.group].shape
    loads = {each for cell in work for row in cell.table for each in row if each is not None}
    assert {each.primitive for each in loads} == {p for g in groups.values() for p in g.primitives} - {"none"}
    for each in loads:
        (found,) = [out for out in run_alone(space, each) if isinstance(out, Tensor)]
        assert found.isfinite().all()


def run_alone(space: Space, load: Workload) -> list[Any]:
    with torch.no_grad():
        found = space.probe(load, 2, CPU)()
    return list(found)[-1:] if isinstance(found, list) else [found]


def test_a_probe_has_the_stride_and_the_maps_of_its_workload() -> None:
    space = make_space("conv_cell", 4, 5)
    (found,) = run_alone(space, Workload("sep_conv_3x3", 4, 2, (9, 7), maps=4))
    assert found.shape == (8, 4, 5, 4)


def test_a_size_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="three equal stages"):
        make_space("nasbench201", 4, 5)
    with pytest.raises(ConfigError, match="one layer"):
        make_space("recurrent_cell", 4, 2)


def test_a_space_that_does_not_tell_cannot_be_timed() -> None:
    class Quiet(ConvCellSpace):
        name = "quiet"
        at_size, work = Space.at_size, Space.work  # type: ignore[assignment]

    space = Quiet(validate(Quiet.Config, {"name": "conv_cell"}, "space"))
    with pytest.raises(ConfigError, match="quiet does not tell how large its rebuilt networks are"):
        space.at_size(4, 5)
    with pytest.raises(ConfigError, match="quiet does not tell at what shapes its operations run"):
        space.work(nn.Identity(), None)


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (Workload("tanh", 8), "tanh of 8 channels"),
        (Workload("sep", 8, 2, (4, 6), 4), "sep of 8 channels at 4x6, stride 2, 4 maps an example"),
    ],
)
def test_a_workload_says_what_it_is(load: Workload, text: str) -> None:
    assert str(load) == text
