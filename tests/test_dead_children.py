"""What is dead in a sampled child does not run where no gradient of the gates is asked for; the output is the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datanas.codes.choice_group import ChoiceGroup
from datanas.kernels.gates import Gates, host_gates
from datanas.kernels.mixed import MixedNode
from datanas.network import Supernet
from datanas.spaces.base import Space
from datanas.spaces.conv_body import ConvCell
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.spaces.nasbench201 import NASBench201Space
from datanas.tasks import tasks

CONV = ConvCellSpace(ConvCellSpace.Config(cells=6, channels=4))
BENCHMARK = NASBench201Space(NASBench201Space.Config(channels=4, cells_per_stage=1))
STEMS = {"conv_cell": "cifar", "nasbench201": "plain"}


def make(space: Space) -> Supernet:
    torch.manual_seed(0)
    task = tasks["classification"]
    settings = task.Config(stem=STEMS[space.name])  # type: ignore[call-arg]
    return Supernet(space, task.stem(settings, 3, 4), lambda widths: task.head(settings, widths, 5)).double()


def table(group: ChoiceGroup, *opened: tuple[int, int, str]) -> Tensor:
    """Gates that open these (source, target, primitive)."""
    gates = torch.zeros(group.shape, dtype=torch.double)
    for source, target, primitive in opened:
        gates[group.edges.index((source, target)), group.primitives.index(primitive)] = 1.0
    return gates


@contextmanager
def calls_of(network: nn.Module, kind: type[nn.Module]) -> Iterator[list[str]]:
    """The names of the modules of a kind that run in the block."""
    names: list[str] = []
    hooks = [
        part.register_forward_hook(lambda *_, name=name: names.append(name))
        for name, part in network.named_modules()
        if isinstance(part, kind)
    ]
    try:
        yield names
    finally:
        for hook in hooks:
            hook.remove()


def run(supernet: Supernet, gates: dict[str, Tensor], **options: Any) -> Tensor:
    torch.manual_seed(1)
    x = torch.randn(4, 3, 16, 16, dtype=torch.double)
    found: Tensor = supernet(x, host_gates(gates, torch.device("cpu"), **options))
    return found


NORMAL, REDUCE = CONV.groups()["normal"], CONV.groups()["reduce"]
SECOND_ONLY = (1, 2, "sep_conv_3x3"), (1, 3, "sep_conv_3x3"), (2, 4, "skip_connect"), (3, 5, "max_pool_3x3")
FIRST_ONLY = (0, 2, "sep_conv_3x3"), (0, 3, "skip_connect"), (2, 4, "skip_connect"), (2, 5, "dil_conv_3x3")
BOTH = (0, 2, "sep_conv_3x3"), (1, 3, "sep_conv_3x3"), (2, 4, "skip_connect"), (3, 5, "skip_connect")
UNREACHED = (0, 2, "sep_conv_3x3"), (1, 2, "skip_connect"), (3, 4, "sep_conv_5x5"), (3, 5, "sep_conv_3x3")


@pytest.mark.parametrize("normal", [SECOND_ONLY, FIRST_ONLY, BOTH, UNREACHED])
@pytest.mark.parametrize("reduce", [SECOND_ONLY, FIRST_ONLY, BOTH, UNREACHED])
def test_the_output_is_that_of_a_supernet_that_runs_everything(normal: Any, reduce: Any) -> None:
    supernet = make(CONV)
    gates = {"normal": table(NORMAL, *normal), "reduce": table(REDUCE, *reduce)}
    with torch.no_grad():
        torch.testing.assert_close(run(supernet, gates), run(supernet, gates, dense=True))


def test_cells_that_nothing_reads_do_not_run() -> None:
    supernet = make(CONV)
    gates = {"normal": table(NORMAL, *FIRST_ONLY), "reduce": table(REDUCE, *FIRST_ONLY)}
    with torch.no_grad(), calls_of(supernet, ConvCell) as names:
        run(supernet, gates)
    assert names == ["body.cells.1", "body.cells.3", "body.cells.5"]


def test_an_input_that_nothing_reads_is_not_brought_to_the_cell_s_width() -> None:
    supernet = make(CONV)
    gates = {"normal": table(NORMAL, *SECOND_ONLY), "reduce": table(REDUCE, *BOTH)}
    with torch.no_grad(), calls_of(supernet, nn.Module) as names:
        run(supernet, gates)
    assert "body.cells.1.second" in names
    assert "body.cells.0.first" not in names


def test_an_operation_that_the_input_does_not_reach_does_not_run() -> None:
    supernet = make(CONV)
    gates = {"normal": table(NORMAL, *UNREACHED), "reduce": table(REDUCE, *BOTH)}
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    with torch.no_grad():
        run(supernet, gates)
    changed = {name for name, buffer in supernet.named_buffers() if not torch.equal(buffer, before[name])}
    assert any("nodes.2.ops.0_sep_conv_3x3" in name for name in changed)
    assert not any("nodes.4.ops.3_sep_conv_5x5" in name for name in changed)


def test_an_operation_that_nothing_reads_does_not_run() -> None:
    supernet = make(BENCHMARK)
    group = BENCHMARK.groups()["cell"]
    gates = {"cell": table(group, (0, 3, "nor_conv_1x1"), (0, 1, "nor_conv_3x3"), (1, 2, "nor_conv_3x3"))}
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    with torch.no_grad():
        found = run(supernet, gates)
    changed = {name for name, buffer in supernet.named_buffers() if not torch.equal(buffer, before[name])}
    assert any("0_nor_conv_1x1" in name for name in changed)
    assert not any("nor_conv_3x3" in name for name in changed)
    with torch.no_grad():
        torch.testing.assert_close(found, run(supernet, {"cell": gates["cell"]}, dense=True))


def test_gates_that_are_asked_for_their_gradient_get_that_of_the_dense_supernet() -> None:
    """Negative control: there a closed gate behind a node that nothing reads yet has a gradient."""
    supernet = make(BENCHMARK)
    group = BENCHMARK.groups()["cell"]
    slopes = []
    for dense in (False, True):
        gates = table(group, (0, 3, "nor_conv_1x1"), (0, 1, "nor_conv_3x3")).requires_grad_()
        run(supernet, {"cell": gates}, dense=dense).square().sum().backward()
        slopes.append(gates.grad)
    torch.testing.assert_close(slopes[0], slopes[1])
    assert slopes[0] is not None
    assert slopes[0][group.edges.index((1, 3))].abs().max() > 0


def test_a_child_of_which_nothing_is_live_gives_the_same_for_every_input() -> None:
    supernet = make(CONV)
    gates = {"normal": table(NORMAL), "reduce": table(REDUCE)}
    with torch.no_grad():
        found = run(supernet, gates)
    torch.testing.assert_close(found, found[:1].expand_as(found))


def test_gates_remember_their_values_when_edges_are_closed() -> None:
    gates = Gates.of(torch.ones(2, 3))
    assert gates.closed_where([True, False]).host == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert gates.closed_where([True, False]).values is gates.values


def test_nodes_with_nothing_to_run_take_their_shape_from_the_input_that_there_is() -> None:
    node = MixedNode({}, nn.Identity())
    x = torch.ones(1, 2, 3, 3)
    assert node([None, x], Gates.of(torch.zeros(1, 1))).shape == x.shape
