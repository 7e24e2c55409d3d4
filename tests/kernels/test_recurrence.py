"""The steps of a recurrent cell against the formulas written out, and its own gradient against torch's."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrize import register_parametrization

from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates
from datanas.kernels.norm import statistics_kept
from datanas.kernels.program import program
from datanas.kernels.recurrence import RecurrentSteps
from datanas.kernels.switch import plain_kernels
from datanas.ops.activations import Activation, activations, register_activation

PRIMITIVES = ("none", "tanh", "relu", "sigmoid", "identity")
EDGES = [(source, target) for target in range(1, 5) for source in range(target)]
CHOICES = [
    CellOperation(edge, op, source, target, activations[name])
    for edge, (source, target) in enumerate(EDGES)
    for op, name in enumerate(PRIMITIVES)
    if name != "none"
]
TIME, BATCH, WIDTH, HIDDEN = 4, 3, 6, 5


def make(*, norm: bool = False) -> RecurrentSteps:
    torch.manual_seed(1)
    cell = RecurrentSteps(CHOICES, 5, (1, 2, 3, 4), width=WIDTH, hidden=HIDDEN, norm=norm, deviation=0.6)
    return cell.double()


def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(TIME, BATCH, WIDTH).double(), torch.randn(BATCH, HIDDEN).double()


def mask() -> Tensor:
    return torch.tensor([[1.5, 0, 1.5, 1.5, 0]] * BATCH).double() * torch.tensor([[1.0], [1], [0]])


def gates(share: float = 0.3, seed: int = 0) -> Gates:
    generator = torch.Generator().manual_seed(seed)
    shape = len(EDGES), len(PRIMITIVES)
    values = torch.rand(shape, generator=generator, dtype=torch.double)
    values = (values * (torch.rand(shape, generator=generator) < share)).requires_grad_()
    return replace(Gates.of(values), values=values)


def gradients(cell: RecurrentSteps, found: Gates, masked: Tensor | None = None) -> list[Tensor]:
    """The states, and what a loss on them sends to inputs, first state, gates and weights."""
    x, hidden = (tensor.requires_grad_() for tensor in inputs())
    states = cell(x, hidden, masked, found)
    torch.manual_seed(3)
    loss = (states * torch.randn(states.shape).double()).sum()
    wanted = [x, hidden, found.values, *cell.parameters()]
    slopes = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [states.detach(), *(torch.zeros_like(w) if g is None else g for w, g in zip(wanted, slopes, strict=True))]


def close(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.allclose(one, two, rtol=1e-9, atol=1e-10) for one, two in zip(first, second, strict=True))


def test_a_chain_follows_the_formulas_of_darts() -> None:
    names = ("tanh", "relu")
    choices = [CellOperation(0, 0, 0, 1, activations["tanh"]), CellOperation(1, 0, 1, 2, activations["relu"])]
    torch.manual_seed(0)
    cell = RecurrentSteps(choices, 3, (1, 2), width=WIDTH, hidden=HIDDEN, norm=False, deviation=0.6).double()
    x, hidden = inputs()
    found = cell(x, hidden)
    functions = {"tanh": torch.tanh, "relu": torch.relu}
    for step in range(TIME):
        gate, wanted = (x[step] @ cell.input + hidden @ cell.recurrent).chunk(2, dim=1)
        states = [hidden + gate.sigmoid() * (wanted.tanh() - hidden)]
        for node, name in enumerate(names, start=1):
            gate, wanted = (states[-1] @ cell.nodes[str(node)]).chunk(2, dim=1)
            states.append(states[-1] + gate.sigmoid() * (functions[name](wanted) - states[-1]))
        hidden = (states[1] + states[2]) / 2
        torch.testing.assert_close(found[step], hidden)


@pytest.mark.parametrize(("norm", "masked", "training"), list(product([False, True], repeat=3)))
def test_its_own_gradient_is_that_of_torch(norm: bool, masked: bool, training: bool) -> None:
    own, plain = make(norm=norm).train(training), make(norm=norm).train(training)
    found = gradients(own, gates(), mask() if masked else None)
    with plain_kernels():
        wanted = gradients(plain, gates(), mask() if masked else None)
    assert close(found, wanted)
    assert close([b.double() for b in own.buffers()], [b.double() for b in plain.buffers()])


@pytest.mark.parametrize("norm", [False, True])
def test_sparse_runs_as_dense_does(norm: bool) -> None:
    sparse = gradients(make(norm=norm), gates())
    dense = gradients(make(norm=norm), replace(gates(), dense=True))
    assert close(sparse, dense)
    assert not close(sparse, gradients(make(norm=norm), gates(seed=1)))


def test_a_closed_gate_has_the_gradient_of_opening_it() -> None:
    found = gates()
    closed = next(
        (edge, op) for edge, row in enumerate(found.host) for op, value in enumerate(row) if op and value == 0.0
    )
    slope = gradients(make(), found)[3][closed]
    step = 1e-6
    values = found.values.detach().clone()
    losses = []
    for sign in (1, -1):
        values[closed] = sign * step
        states = make()(*inputs(), None, Gates.of(values))
        torch.manual_seed(3)
        losses.append(float((states * torch.randn(states.shape).double()).sum().detach()))
    assert float(slope) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


def test_only_what_is_asked_has_a_gradient_and_its_factor() -> None:
    whole = gradients(make(), gates())[3]
    grad_mask = gates().with_grad("subsampled", 0.4, torch.Generator().manual_seed(0))
    factors = torch.tensor(grad_mask.grad_mask, dtype=torch.double)
    assert {0.0, 1.0} < set(factors.flatten().tolist())
    torch.testing.assert_close(gradients(make(), grad_mask)[3], whole * factors)


def test_a_node_that_reads_nothing_is_zero() -> None:
    nothing = Gates.of(torch.zeros(len(EDGES), len(PRIMITIVES), dtype=torch.double))
    assert not make()(*inputs(), None, nothing).any()


def test_weights_of_nodes_that_read_nothing_have_no_gradient() -> None:
    cell = make()
    values = torch.zeros(len(EDGES), len(PRIMITIVES), dtype=torch.double)
    values[0, 1] = 1.0
    cell(*inputs(), None, Gates.of(values)).sum().backward()
    assert cell.nodes["1"].grad is not None
    assert cell.nodes["2"].grad is None


def test_running_statistics_move_once_a_pass_by_the_mean_over_its_steps() -> None:
    cell = make(norm=True)
    x, hidden = inputs()
    cell(x, hidden, None, gates(share=1.0))
    norm = cell.norms[0]
    assert int(norm.get_buffer("num_batches_tracked")) == 1
    found = []
    for step in range(TIME):
        gate, wanted = (x[step] @ cell.input + hidden @ cell.recurrent).chunk(2, dim=1)
        found.append(hidden + gate.sigmoid() * (wanted.tanh() - hidden))
        hidden = make(norm=True)(x[: step + 1], inputs()[1], None, gates(share=1.0))[-1].detach()
    moments = torch.stack([torch.stack((each.mean(dim=0), each.var(dim=0))) for each in found]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, 0.1 * moments[0])
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * moments[1])


def test_running_statistics_can_be_left_alone() -> None:
    cell = make(norm=True)
    before = [buffer.clone() for buffer in cell.buffers()]
    with statistics_kept([norm for norm in cell.norms if isinstance(norm, nn.BatchNorm1d)]):
        cell(*inputs(), None, gates())
    assert all(torch.equal(old, new) for old, new in zip(before, cell.buffers(), strict=True))


def test_one_sequence_cannot_be_normalised() -> None:
    x, hidden = inputs()
    with pytest.raises(ValueError, match="at least two"):
        make(norm=True)(x[:, :1], hidden[:1], None, gates())


def test_what_is_closed_is_not_in_the_program() -> None:
    steps = program(CHOICES, 5, (1, 2, 3, 4), gates())
    opened = {(edge.index, op) for edge in steps.edges for op, _, _ in edge.opened}
    host = gates().host
    assert opened == {
        (edge, op) for edge, row in enumerate(host) for op, value in enumerate(row) if op and value != 0.0
    }
    assert not any(edge.closed_with_grad for edge in steps.edges)


@pytest.mark.parametrize("name", sorted(activations))
def test_every_activation_has_the_slope_that_torch_finds(name: str) -> None:
    activation = activations[name]
    x = torch.linspace(-3, 3, 40).double().requires_grad_()
    y = activation.value(x)
    (wanted,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(activation.slope_at(x.detach(), y.detach()), wanted)


def test_an_activation_without_a_slope_is_differentiated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_entries", dict(activations._entries))
    register_activation("softsign")(torch.nn.functional.softsign)
    choices = [CellOperation(0, 0, 0, 1, activations["softsign"])]
    torch.manual_seed(0)
    cell = RecurrentSteps(choices, 2, (1,), width=WIDTH, hidden=HIDDEN, norm=False, deviation=0.6).double()
    (own,) = torch.autograd.grad(cell(*inputs()).sum(), cell.nodes["1"])
    with plain_kernels():
        (plain,) = torch.autograd.grad(cell(*inputs()).sum(), cell.nodes["1"])
    torch.testing.assert_close(own, plain)


@pytest.mark.parametrize("masked", [False, True])
def test_autocast_makes_the_products_in_its_type_and_the_rest_in_float32(masked: bool) -> None:
    def found(*, rough: bool) -> list[Tensor]:
        cell = make().float()
        x, hidden = (tensor.float().requires_grad_() for tensor in inputs())
        values = gates().values.detach().float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=rough):
            states = cell(x, hidden, mask().float() if masked else None, replace(gates(), values=values))
        assert states.dtype == torch.float32
        wanted = [x, hidden, values, *cell.parameters()]
        return [states.detach(), *torch.autograd.grad(states.square().sum(), wanted, allow_unused=True)]

    for exact, rough in zip(found(rough=False), found(rough=True), strict=True):
        assert rough.dtype == torch.float32
        assert not torch.equal(rough, exact)
        assert float((rough - exact).norm()) < 0.03 * float(exact.norm())


def test_a_second_derivative_is_refused_and_there_by_plain_kernels() -> None:
    cell = make()
    x, hidden = inputs()
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="plain_kernels"):
        torch.autograd.grad(cell(x, hidden, None, gates()).sum(), x, create_graph=True)
    with plain_kernels():
        (first,) = torch.autograd.grad(cell(x, hidden, None, gates()).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.any()


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.mark.parametrize("part", ["nodes", ""])
@pytest.mark.parametrize("kind", ["pruned", "parametrised"])
def test_reparametrised_weights_are_those_that_count(part: str, kind: str) -> None:
    cell, expected = make(), make()
    holder, name = cell.get_submodule(part), "1" if part else "recurrent"
    held = expected.get_submodule(part).get_parameter(name)
    if kind == "pruned":
        prune.l1_unstructured(holder, name, 0.5)
        held.data.mul_(holder.get_buffer(f"{name}_mask"))
    else:
        register_parametrization(holder, name, Doubled())
        held.data.mul_(2)
    for _ in range(2):  # a weight that was computed once alone would have no graph for the second pass
        found = cell(*inputs())
        torch.testing.assert_close(found, expected(*inputs()))
        found.sum().backward()


def test_hooks_of_the_norms_run_at_every_step() -> None:
    cell = make(norm=True)
    expected = cell(*inputs())
    before = cell.get_buffer("norms.0.running_mean").clone()
    called: list[Tensor] = []
    cell.norms[2].register_forward_hook(lambda module, given, output: called.append(output))
    torch.testing.assert_close(cell(*inputs()), expected)
    assert len(called) == TIME
    cell.norms[2].register_forward_hook(lambda module, given, output: 0 * output)
    assert not torch.allclose(cell(*inputs()), expected)
    assert not torch.equal(cell.get_buffer("norms.0.running_mean"), before)


def test_activations_are_found_again_by_their_names() -> None:
    for name in activations:
        assert pickle.loads(pickle.dumps(activations[name])) is activations[name]
        assert deepcopy(activations[name]) is activations[name]
    unnamed = pickle.loads(pickle.dumps(Activation(torch.tanh)))
    assert unnamed.value is torch.tanh
