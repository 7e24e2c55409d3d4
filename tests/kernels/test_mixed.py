"""A node of the supernet: sparse execution has the values and every gradient of the dense one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import functional_call

from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates, Table
from datanas.kernels.mixed import MixedNode, set_drop_path
from datanas.kernels.node_sum import Shared
from datanas.kernels.switch import plain_kernels
from datanas.ops import OpSettings, operations
from datanas.ops.identity import Zero
from datanas.ops.pooling import MaxPool3x3

NAMES = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")


def make_node(stride: int = 1, *, affine: bool = False) -> MixedNode:
    torch.manual_seed(1)
    candidates = {
        f"{edge}_{name}": CellOperation(
            edge, op, edge, 2, operations[name](OpSettings(4, stride, affine=affine, pooling_norm=True))
        )
        for edge in range(2)
        for op, name in enumerate(NAMES)
    }
    node = MixedNode(candidates, Zero(stride)).double()
    with torch.no_grad():
        for norm in (part for part in node.modules() if isinstance(part, nn.BatchNorm2d)):
            for weight in norm.parameters():
                weight.normal_()
    return node


def states(size: int = 6, layout: torch.memory_format = torch.contiguous_format) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    numbers = [torch.randn(3, 4, size, size, dtype=torch.double, generator=generator) for _ in range(2)]
    return [state.contiguous(memory_format=layout) for state in numbers]


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
CODES = {
    "nothing": [[0, 0, 0, 0], [0, 0, 0, 0]],
    "one": [[0, 0, 1, 0], [0, 0, 0, 0]],
    "several": [[1, 1, 0, 1], [0, 1, 1, 0]],
    "scaled": [[0, 0.25, 0, 0.25], [0.5, 0, 0, 0]],
}
ASKED = ((2.0, 0.0, 1.0, 0.0), (0.0, 3.0, 0.0, 1.0))


def make_gates(code: str, *, dense: bool = False, grad_mask: Table | None = None) -> Gates:
    values = torch.tensor(CODES[code], dtype=torch.double, requires_grad=True)
    return replace(Gates.of(values, dense=dense), values=values, grad_mask=grad_mask)


def loss_of(output: torch.Tensor) -> torch.Tensor:
    slope = torch.linspace(-1, 1, output.numel()).double().reshape(output.shape)
    return (output * slope).sum() + output.square().sum()


def assert_same(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> None:
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)


def gradients_of(
    loss: torch.Tensor, wanted: Sequence[torch.Tensor], *, retain_graph: bool = False
) -> list[torch.Tensor]:
    """Zeros where there is none."""
    found = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=retain_graph)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True)]


def gradients(
    dense: bool,
    code: str,
    stride: int,
    layout: torch.memory_format = torch.contiguous_format,
    grad_mask: Table | None = None,
    *,
    affine: bool = False,
    training: bool = True,
) -> list[torch.Tensor]:
    """The sum, and the gradients of gates, states and weights."""
    node = make_node(stride, affine=affine).train(training).to(memory_format=layout)
    inputs = [state.requires_grad_() for state in states(layout=layout)]
    gates = make_gates(code, dense=dense, grad_mask=grad_mask)
    output = node(inputs, gates)
    return [output.detach(), *gradients_of(loss_of(output), [gates.values, *inputs, *node.parameters()])]


@LAYOUTS
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("stride", [1, 2])
def test_sparse_equals_dense(code: str, stride: int, layout: torch.memory_format) -> None:
    assert_same(gradients(False, code, stride, layout), gradients(True, code, stride, layout))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("stride", [1, 2])
def test_plain_kernels_give_the_same(code: str, stride: int, affine: bool, training: bool) -> None:
    def found() -> list[torch.Tensor]:
        return gradients(False, code, stride, torch.channels_last, affine=affine, training=training)

    ours = found()
    with plain_kernels():
        theirs = found()
    assert_same(ours, theirs)


def test_closed_gates_do_have_a_gradient() -> None:
    """Negative control: an execution that forgets closed gates would pass no comparison with zero."""
    _, into_gates, *_ = gradients(False, "one", 1)
    assert (into_gates[torch.tensor(CODES["one"]) == 0].abs() > 1e-6).all()


@LAYOUTS
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("code", CODES)
def test_what_is_asked_multiplies_the_gates_gradients_alone(
    code: str, dense: bool, layout: torch.memory_format
) -> None:
    output, into_gates, *others = gradients(True, code, 1, layout)
    expected = [output, into_gates * torch.tensor(ASKED), *others]
    assert_same(gradients(dense, code, 1, layout, ASKED), expected)


def test_what_is_not_asked_does_not_run() -> None:
    node, gates = make_node(), make_gates("one", grad_mask=ASKED)
    output = node(states(layout=torch.channels_last), gates)
    ran: list[str] = []
    for name, op in node.ops.items():
        for part in op.modules():
            part.register_forward_hook(lambda *_, name=name: ran.append(name))
    output.square().sum().backward()
    # Operations that do not end in a norm, and the parts before the norm of the others, are called as modules.
    assert "0_max_pool_3x3" in ran
    assert not {"1_max_pool_3x3", "0_skip_connect", "0_dil_conv_5x5", "1_sep_conv_3x3"} & set(ran)


def two_nodes(
    codes: tuple[str, str], shared: Shared | None, *, dense: bool = False
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss of two nodes that read the same states, and what may want a gradient."""
    inputs = [state.requires_grad_() for state in states(layout=torch.channels_last)]
    nodes, gates = [make_node(), make_node()], [make_gates(code, dense=dense) for code in codes]
    first, second = (node(inputs, given, shared) for node, given in zip(nodes, gates, strict=True))
    weights = [weight for node in nodes for weight in node.parameters()]
    return loss_of(first) + loss_of(second * 2), [*(given.values for given in gates), *inputs, *weights]


@pytest.mark.parametrize("codes", [("one", "several"), ("nothing", "scaled"), ("nothing", "one")])
def test_nodes_that_share_have_their_own_gradients(codes: tuple[str, str]) -> None:
    assert_same(gradients_of(*two_nodes(codes, Shared())), gradients_of(*two_nodes(codes, None, dense=True)))


def test_what_is_shared_lives_until_the_last_backward() -> None:
    shared = Shared()
    inputs = states(layout=torch.channels_last)
    outputs = [make_node()(inputs, make_gates("one"), shared) for _ in range(2)]
    assert shared.waiting == 2
    outputs[0].sum().backward()
    assert set(shared.outputs) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    outputs[1].sum().backward()
    assert not shared.outputs


def run_closed(monkeypatch: pytest.MonkeyPatch, nodes: Sequence[MixedNode]) -> list[str]:
    """The max-pooling operations that ran, with all gates closed to them, in the backward pass of all nodes."""
    ran: list[str] = []
    names = {id(pool): name for node in nodes for name, op in node.ops.items() for pool in op.modules()}
    original = MaxPool3x3.forward
    monkeypatch.setattr(MaxPool3x3, "forward", lambda self, x: ran.append(names[id(self)]) or original(self, x))
    shared, inputs = Shared(), states(layout=torch.channels_last)
    sum(node(inputs, make_gates("one"), shared).square().sum() for node in nodes).backward()
    return sorted(ran)


def test_an_operation_without_weights_runs_once_for_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_closed(monkeypatch, [make_node(), make_node()]) == ["0_max_pool_3x3", "1_max_pool_3x3"]


def test_an_operation_with_a_hook_runs_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [make_node(), make_node()]
    nodes[1].ops["0_max_pool_3x3"].register_forward_hook(lambda module, inputs, output: 2 * output)
    assert run_closed(monkeypatch, nodes) == ["0_max_pool_3x3", "0_max_pool_3x3", "1_max_pool_3x3"]


def test_nodes_that_share_normalise_by_their_own_running_statistics() -> None:
    def found(shared: Shared | None, *, dense: bool) -> list[torch.Tensor]:
        nodes, gates = [make_node().eval(), make_node().eval()], [make_gates("one", dense=dense) for _ in range(2)]
        for norm in (part for part in nodes[1].modules() if isinstance(part, nn.BatchNorm2d)):
            assert norm.running_mean is not None
            norm.running_mean.fill_(0.5)
        inputs = states(layout=torch.channels_last)
        loss = sum(loss_of(node(inputs, given, shared)) for node, given in zip(nodes, gates, strict=True))
        assert isinstance(loss, torch.Tensor)
        return gradients_of(loss, [given.values for given in gates])

    assert_same(found(Shared(), dense=False), found(None, dense=True))


def test_a_second_backward_gives_the_same_gradients() -> None:
    loss, wanted = two_nodes(("one", "several"), Shared())
    first = gradients_of(loss, wanted, retain_graph=True)
    assert_same(gradients_of(loss, wanted), first)


def test_second_derivative_is_refused() -> None:
    values = make_gates("several").values
    host = Gates.of(values).host
    output = make_node()(states(layout=torch.channels_last), Gates(values, host))
    with pytest.raises(RuntimeError, match="plain_kernels"):
        torch.autograd.grad(output.pow(3).sum(), values, create_graph=True)


def test_second_derivative_is_right_under_plain_kernels() -> None:
    node, inputs, host = make_node(), states(3, torch.channels_last), Gates.of(torch.tensor(CODES["several"])).host
    values = make_gates("several").values
    with plain_kernels():
        assert torch.autograd.gradgradcheck(lambda given: node(inputs, Gates(given, host)).pow(3), (values,))


def test_weight_step_runs_only_what_is_open() -> None:
    node = make_node()
    ran: list[str] = []
    for name, op in node.ops.items():
        for part in op.modules():
            part.register_forward_hook(lambda *_, name=name: ran.append(name))
    node(states(), Gates.of(torch.tensor(CODES["one"])))
    assert set(ran) == {"0_sep_conv_3x3"}


@LAYOUTS
def test_recomputing_closed_operations_keeps_their_statistics(layout: torch.memory_format) -> None:
    node = make_node()
    before = {name: buffer.clone() for name, buffer in node.named_buffers()}
    node(states(layout=layout), make_gates("one")).square().sum().backward()
    for name, buffer in node.named_buffers():
        changed = not torch.equal(buffer, before[name])
        assert changed == ("0_sep_conv_3x3" in name), name


class NormInside(nn.Module):
    """What a plugin may be: torch's batch norm, and not at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        convolved: torch.Tensor = self.conv(self.norm(x))
        return convolved


@LAYOUTS
@pytest.mark.parametrize("opened", [False, True])
def test_a_foreign_norm_tracks_what_runs_and_not_what_is_closed(opened: bool, layout: torch.memory_format) -> None:
    inside = NormInside()
    node = MixedNode(
        {"a": CellOperation(0, 0, 0, 1, inside), "b": CellOperation(0, 1, 0, 1, nn.Identity())}, Zero(1)
    ).double()
    values = torch.tensor([[float(opened), 1.0]], dtype=torch.double, requires_grad=True)
    node(states(layout=layout), Gates.of(values)).square().sum().backward()
    assert inside.norm.num_batches_tracked == int(opened)
    assert inside.norm.running_mean is not None
    assert bool(inside.norm.running_mean.any()) == opened
    assert inside.norm.track_running_stats
    assert values.grad is not None
    assert values.grad[0, 0] != 0


def test_gates_stay_float32_under_autocast() -> None:
    node = make_node().float()
    values = torch.tensor(CODES["several"], dtype=torch.float32, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = node([state.float() for state in states()], Gates.of(values))
    output.float().square().sum().backward()
    assert values.grad is not None
    assert values.grad.dtype == torch.float32
    assert values.grad.isfinite().all()


def test_drop_path_spares_identities() -> None:
    identity = MixedNode({"a": CellOperation(0, 0, 0, 1, nn.Identity())}, Zero(1))
    conv = MixedNode({"a": CellOperation(0, 0, 0, 1, nn.Conv2d(4, 4, 1))}, Zero(1))
    x = torch.randn(64, 4, 2, 2)
    for node in (identity, conv):
        set_drop_path(node, 0.5)
    assert torch.equal(identity([x]), x)
    dropped = (conv([x]).abs().sum((1, 2, 3)) == 0).sum()
    assert 10 < dropped < 54
    assert (conv.eval()([x]).abs().sum((1, 2, 3)) > 0).all()


def test_drop_path_drops_whole_examples_and_keeps_the_expectation() -> None:
    """An example is scaled by 1 / (1 - p) with probability 1 - p, and zero otherwise."""
    torch.manual_seed(0)
    op = operations["conv_1x1"](OpSettings(4))
    node = MixedNode({"a": CellOperation(0, 0, 0, 1, op, factor=0.5)}, Zero(1)).double()
    set_drop_path(node, 0.2)
    x = torch.randn(2000, 4, 2, 2).double().contiguous(memory_format=torch.channels_last)
    found, full = node([x]), op(x) * 0.5
    stays = found.abs().sum((1, 2, 3)) > 0
    torch.testing.assert_close(found, full / 0.8 * stays.view(-1, 1, 1, 1), rtol=1e-9, atol=1e-9)
    assert abs(stays.double().mean() - 0.8) < 0.04  # more than four standard deviations


def test_operations_are_dropped_each_for_itself() -> None:
    torch.manual_seed(0)
    ops = {name: CellOperation(0, op, 0, 1, nn.Conv2d(4, 4, 1)) for op, name in enumerate("ab")}
    node = MixedNode(ops, Zero(1)).double()
    set_drop_path(node, 0.5)
    x = torch.randn(200, 4, 2, 2).double()
    first, second = (2 * each.operation(x) for each in ops.values())
    found = node([x])
    kinds = [torch.isclose(found, kind).all(dim=(1, 2, 3)) for kind in (0 * x, first, second, first + second)]
    assert torch.stack(kinds).sum(0).eq(1).all()
    assert all(kind.sum() > 20 for kind in kinds)


def test_drop_path_can_be_switched_off() -> None:
    conv = nn.Conv2d(4, 4, 1)
    node = MixedNode({"a": CellOperation(0, 0, 0, 1, conv)}, Zero(1))
    set_drop_path(node, 0.5)
    set_drop_path(node, 0.0)
    x = torch.randn(8, 4, 2, 2)
    torch.testing.assert_close(node([x]), conv(x))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("affine", [True, False])
def test_lent_weights_count_for_closed_gates_too(code: str, affine: bool) -> None:
    """`functional_call` takes its weights back before the backward pass."""
    node = make_node(affine=affine).to(memory_format=torch.channels_last)
    lent = {name: torch.randn_like(weight) for name, weight in node.named_parameters()}
    inputs = states(layout=torch.channels_last)

    def gradient(*, dense: bool) -> list[torch.Tensor]:
        gates = make_gates(code, dense=dense)
        return gradients_of(loss_of(functional_call(node, lent, (inputs, gates))), [gates.values])

    with plain_kernels():
        expected = gradient(dense=True)
    assert_same(gradient(dense=False), expected)
    assert all(weight is not lent[name] for name, weight in node.named_parameters())
