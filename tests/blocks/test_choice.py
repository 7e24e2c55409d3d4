"""A choice of any candidates: sparse execution has the values and every gradient of the dense one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

from datanas import Choice, ChoiceInput
from datanas.blocks.found import Blocks
from datanas.core import seeding
from datanas.kernels.gates import Gates
from datanas.nn import EnsembleGumbelSoftmax
from datanas.ops import OpSettings, operations


class Attention(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=dropout, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return output


class Recurrent(nn.Module):
    def __init__(self, cell: Any = nn.GRU) -> None:
        super().__init__()
        self.cell = cell(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.cell(x)[0]
        return output


class GraphConv(nn.Module):
    """Mean of the neighbours, then a linear map."""

    adjacency: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("adjacency", torch.rand(5, 5).softmax(-1))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.linear(self.adjacency.to(x.dtype) @ x)
        return output


class Counting(nn.Module):
    """Keeps a running mean in a buffer of its own, and gives its input shifted by it."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.mul_(0.9).add_(x.detach().mean((0, 1)).to(self.mean.dtype), alpha=0.1)
        return x - self.mean


def noisy(x: Tensor) -> Tensor:
    return x + torch.randn_like(x)


class OverTime(nn.Sequential):
    """Convolutions over the second dimension of (batch, time, features)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


KINDS: dict[str, Callable[[], Any]] = {
    "conv_bn": lambda: OverTime(nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU()),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)),
    "attention": Attention,
    "attention_dropout": lambda: Attention(0.3),
    "gru": Recurrent,
    "lstm": lambda: Recurrent(nn.LSTM),
    "graph": GraphConv,
    "identity": nn.Identity,
    "function": lambda: torch.tanh,
    "noise": lambda: noisy,
    "spectral": lambda: spectral_norm(nn.Linear(4, 4)),
    "instance_norm": lambda: OverTime(nn.InstanceNorm1d(4, affine=True, track_running_stats=True)),
    "counting": Counting,
    "layer_norm": lambda: nn.LayerNorm(4),
    "codes": lambda: EnsembleGumbelSoftmax(2),
}


class Model(nn.Module):
    def __init__(self, kind: str, combine: Any = "sum") -> None:
        super().__init__()
        self.before = nn.Linear(4, 4)
        self.mix = Choice({kind: KINDS[kind](), "linear": nn.Linear(4, 4), "skip": nn.Identity()}, combine=combine)
        self.after = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.after(self.mix(self.before(x)).contiguous())  # dropout draws in the order of memory
        return output


def make(kind: str, **options: Any) -> Model:
    torch.manual_seed(0)
    return Model(kind, **options).double()


X = torch.randn(3, 5, 4, dtype=torch.double, generator=torch.Generator().manual_seed(7))


def gates_of(code: list[float], *, dense: bool = False) -> Any:
    values = torch.tensor([code], dtype=torch.double, requires_grad=True)
    return replace(Gates.of(values, dense=dense), values=values)


def step(model: nn.Module, gates: Gates, *, calls: int = 1, name: str = "mix") -> tuple[Tensor, Tensor]:
    """The loss and the gates' gradient of one step; weights have theirs afterwards."""
    torch.manual_seed(3)
    with Blocks.of(model).running({name: gates}):
        loss = sum((model(X * (1 + call)).square().mean() for call in range(calls)), torch.zeros(()))
        loss.backward()
    assert gates.values.grad is not None
    return loss.detach(), gates.values.grad


CODES = {"kind": [1.0, 0.0, 0.0], "others": [0.0, 1.0, 1.0], "scaled": [0.5, 0.5, 0.0]}


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_execution_is_the_dense_one(kind: str, code: str, mode: bool) -> None:
    sparse, dense = make(kind).train(mode), make(kind).train(mode)
    found, gradient = step(sparse, gates_of(CODES[code]))
    expected, exact = step(dense, gates_of(CODES[code], dense=True))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=1e-12)
    assert gradient.abs().min() > 1e-8
    for mine, theirs in zip(sparse.parameters(), dense.parameters(), strict=True):
        # Dense execution gives weights of closed candidates a gradient of zero; sparse execution none.
        expected = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        torch.testing.assert_close(
            torch.zeros_like(mine) if mine.grad is None else mine.grad, expected, rtol=1e-9, atol=1e-12
        )
    for kept, other in zip(sparse.buffers(), dense.buffers(), strict=True):
        torch.testing.assert_close(kept, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["conv_bn", "spectral", "counting", "instance_norm"])
def test_a_closed_candidate_keeps_its_buffers(kind: str) -> None:
    model = make(kind)
    before = deepcopy(model.mix.state_dict())
    step(model, gates_of(CODES["others"]))
    assert all(torch.equal(value, before[name]) for name, value in model.mix.state_dict().items())


@pytest.mark.parametrize("kind", ["conv_bn", "counting"])
def test_an_open_candidate_does_not(kind: str) -> None:
    """Negative control."""
    model = make(kind)
    before = deepcopy(dict(model.mix.named_buffers()))
    step(model, gates_of(CODES["kind"]))
    assert not all(torch.equal(value, before[name]) for name, value in model.mix.named_buffers())


def test_the_mean_has_the_gradient_of_a_mean() -> None:
    sparse, dense = make("conv_bn", combine="mean"), make("conv_bn", combine="mean")
    found, expected = step(sparse, gates_of(CODES["others"])), step(dense, gates_of(CODES["others"], dense=True))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found[0], step(make("conv_bn"), gates_of(CODES["others"]))[0])


@pytest.mark.parametrize("kind", ["dropout", "codes"])
def test_the_rest_of_the_module_draws_the_same_whatever_is_open(kind: str) -> None:
    draws = []
    for code in CODES.values():
        model = make(kind)
        step(model, gates_of(code))
        draws.append(torch.rand(2))
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])


def test_a_candidate_draws_the_same_within_a_keyed_block() -> None:
    found = []
    for dense in (False, True):
        model, gates = make("noise"), gates_of(CODES["others"], dense=dense)
        with seeding.keyed(0, "test"):
            found.append(step(model, gates)[1])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["conv_bn", "dropout"])
def test_two_calls_in_a_step_add_their_gradients(kind: str) -> None:
    found, expected = (step(make(kind), gates_of(CODES["others"], dense=dense), calls=2) for dense in (False, True))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(found[1], step(make(kind), gates_of(CODES["others"]))[1])


def test_without_a_gradient_of_gates_only_what_is_open_runs() -> None:
    ran: list[str] = []

    def spy(name: str) -> Callable[[Tensor], Tensor]:
        def run(x: Tensor) -> Tensor:
            ran.append(name)
            return x

        return run

    block = Choice({"a": spy("a"), "b": spy("b")})
    blocks = Blocks.of(block)
    gates = gates_of([0.0, 1.0])
    with blocks.running({"choice": gates}):
        block(X)  # the first call compares shapes
        ran.clear()
        with torch.no_grad():
            block(X)
        assert ran == ["b"]
        (block(X).sum() * 1.0).backward()
        assert ran == ["b", "b", "a"]
    with blocks.running({"choice": Gates.of(gates.values.detach())}):
        ran.clear()
        block(X.clone().requires_grad_()).sum().backward()
        assert ran == ["b"]


def test_a_mask_asks_and_scales_gradients_of_some_gates() -> None:
    plain, masked = gates_of(CODES["kind"]), gates_of(CODES["kind"])
    step(make("conv_bn"), plain)
    step(make("conv_bn"), replace(masked, grad_mask=((1.0, 0.0, 3.0),)))
    torch.testing.assert_close(masked.values.grad, plain.values.grad * torch.tensor([1.0, 0.0, 3.0]))


def test_trees_of_tensors_are_added_leaf_by_leaf() -> None:
    block = Choice({"gru": nn.GRU(4, 4, batch_first=True), "twice": lambda x: (2 * x, x[:, -1:].transpose(0, 1))})
    block = block.double()
    found = []
    for dense in (False, True):
        gates = gates_of([1.0, 0.0], dense=dense)
        with Blocks.of(block).running({"choice": gates}):
            output, state = block(X)
            (output.sum() + state.square().sum()).backward()
        found.append(gates.values.grad)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_an_output_that_nobody_reads_counts_for_nothing() -> None:
    block = Choice({"a": lambda x: (x, x), "b": lambda x: (3 * x, 5 * x)})
    gates = gates_of([1.0, 0.0])
    with Blocks.of(block).running({"choice": gates}):
        block(torch.ones(2, dtype=torch.double, requires_grad=True))[0].sum().backward()
    assert gates.values.grad.tolist() == [[2.0, 6.0]]


def test_candidates_may_share_parameters() -> None:
    shared = nn.Linear(4, 4)

    class Sharing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = Choice({"once": shared, "twice": nn.Sequential(shared, shared), "skip": nn.Identity()})

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.mix(x)
            return output

    torch.manual_seed(0)
    model = Sharing().double()
    found = []
    for dense in (False, True):
        model.zero_grad()
        gates = gates_of([1.0, 0.0, 0.0], dense=dense)
        found.append((*step(model, gates), shared.weight.grad.clone()))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_a_choice_within_a_candidate_of_a_closed_choice_runs() -> None:
    inner = Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()}, name="inner")
    outer = Choice({"deep": nn.Sequential(nn.Tanh(), inner), "skip": nn.Identity()}, name="outer").double()
    found = []
    for dense in (False, True):
        gates = {"outer": gates_of([0.0, 1.0], dense=dense), "inner": gates_of([1.0, 0.0], dense=dense)}
        with Blocks.of(outer).running(gates):
            outer(X).square().sum().backward()
        found.append(gates["outer"].values.grad)
        inner_gradient = gates["inner"].values.grad
        assert inner_gradient is None or not inner_gradient.any()
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def test_inputs_reads_some_of_the_tensors() -> None:
    reads = ChoiceInput(["a", "b", "c"])
    tensors = [torch.full((2,), value, dtype=torch.double) for value in (1.0, 10.0, 100.0)]
    gates = gates_of([1.0, 0.0, 1.0])
    with Blocks.of(reads).running({"choice": gates}):
        output = reads(tensors)
        output.sum().backward()
    assert output.tolist() == [101.0, 101.0]
    assert gates.values.grad.tolist() == [[2.0, 20.0, 200.0]]


@pytest.mark.parametrize("dense", [False, True], ids=["sparse", "dense"])
def test_inputs_may_be_tuples_of_tensors(dense: bool) -> None:
    """As a tensor with a row that says which it is: so a network knows what was read, with a gradient."""
    reads, names = ChoiceInput(2), torch.eye(2, dtype=torch.double)
    gates = gates_of([0.0, 1.0], dense=dense)
    with Blocks.of(reads).running({"choice": gates}):
        x, name = reads([(X, names[0]), (2 * X, names[1])])
        (x.sum() + name @ torch.tensor([3.0, 5.0], dtype=torch.double)).backward()
    torch.testing.assert_close((x, name), (2 * X, names[1]))
    expected = torch.stack([X.sum() + 3, 2 * X.sum() + 5])
    torch.testing.assert_close(gates.values.grad[0], expected)


def test_inputs_refuses_another_number_of_tensors() -> None:
    reads = ChoiceInput(2)
    with (
        Blocks.of(reads).running({"choice": gates_of([1.0, 0.0])}),
        pytest.raises(ValueError, match=r"2 inputs \(input0, input1\) was given 3"),
    ):
        reads([torch.ones(1)] * 3)


@pytest.mark.parametrize("code", [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
def test_outputs_of_different_shapes_name_both_candidates(code: list[float]) -> None:
    block = Choice({"wide": nn.Linear(4, 6), "same": nn.Linear(4, 4)}).double()
    with (
        Blocks.of(block).running({"choice": gates_of(code)}),
        pytest.raises(ValueError, match="wide") as error,
    ):
        block(X)
    assert "'same'" in str(error.value)
    assert "(3, 5, 6)" in str(error.value)


def test_a_shape_that_differs_only_later_is_told_in_backward() -> None:
    block = Choice({"same": nn.Identity(), "odd": lambda x: x if x.shape[0] == 3 else x[:, :1]})
    with Blocks.of(block).running({"choice": gates_of([1.0, 0.0])}):
        block(X)
        loss = block(X[:2].clone().requires_grad_()).sum()
        with pytest.raises(ValueError, match=r"'same' gives .* 'odd'"):
            loss.backward()


def test_an_output_that_is_no_float_is_refused() -> None:
    block = Choice({"where": lambda x: x.argmax(-1)})
    with (
        Blocks.of(block).running({"choice": gates_of([1.0])}),
        pytest.raises(ValueError, match=r"'where' must give floating-point tensors.*int64"),
    ):
        block(X)


def test_a_candidate_that_changes_its_input_is_refused() -> None:
    block = Choice({"relu": nn.ReLU(inplace=True), "skip": nn.Identity()})
    with (
        Blocks.of(block).running({"choice": gates_of([1.0, 0.0])}),
        pytest.raises(ValueError, match=r"'relu' changes its input in place"),
    ):
        block(X.clone())


def test_an_input_that_is_changed_before_backward_is_refused() -> None:
    block = Choice({"linear": nn.Linear(4, 4), "skip": nn.Identity()}).double()
    x = X.clone()
    with Blocks.of(block).running({"choice": gates_of([0.0, 1.0])}):
        output = block(x)
        x.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()


def test_what_it_gives_may_be_changed_in_place() -> None:
    block = Choice({"skip": nn.Identity(), "twice": lambda x: 2 * x})
    gates = gates_of([1.0, 0.0])
    with Blocks.of(block).running({"choice": gates}):
        block(X.clone().requires_grad_()).relu_().sum().backward()
    expected = X.clamp_min(0).sum()
    torch.testing.assert_close(gates.values.grad[0], torch.stack([expected, 2 * expected]))


@pytest.mark.parametrize("passing", [nn.Identity(), nn.Sequential(), nn.Flatten(0, 1), lambda x: x[:1]])
@pytest.mark.parametrize("learns", [True, False])
def test_changing_it_in_place_changes_no_input(passing: Any, learns: bool) -> None:
    gates = gates_of([1.0])
    x = X.clone()
    with Blocks.of(block := Choice({"skip": passing})).running(
        {"choice": gates if learns else Gates.of(gates.values.detach())}
    ):
        block(x).zero_()
    assert torch.equal(x, X)


def test_inputs_that_are_read_are_not_changed_in_place() -> None:
    block, x = ChoiceInput(2), X.clone()
    with Blocks.of(block).running({"choice": Gates.of(torch.tensor([[1.0, 0.0]]))}):
        block([x, X]).zero_()
    assert torch.equal(x, X)


def test_outside_of_a_child_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"nothing is chosen among a, b: run this module within `with search.sample"):
        Choice({"a": nn.Identity(), "b": nn.Identity()})(X)


def test_data_parallel_is_refused() -> None:
    block = Choice({"a": nn.Identity()})
    replica = block._replicate_for_data_parallel()
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        replica(X)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ({}, "at least one"),
        ([nn.Identity()], "by name"),
        ({"a.b": nn.Identity()}, "without dots"),
        ({"": nn.Identity()}, "without dots"),
        ({"none": nn.Identity()}, "is kept for edges of cells"),
        ({"conv": nn.Conv2d}, "is a class; make an instance"),
        ({"three": 3}, "must be a module or a function, got int"),
        ({"keys": nn.Identity()}, "cannot be a candidate's name"),
    ],
)
def test_candidates_that_cannot_be_are_refused(candidates: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Choice(candidates)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"combine": "max"}, "combine must be sum or mean"),
        ({"name": "a.b"}, "name: a name is a text without dots"),
        ({"costs": {"b": 1.0}}, "costs must be given for a, got b"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Choice({"a": nn.Identity()}, **options)


NORM = nn.BatchNorm1d(4)


class Holder:
    def __init__(self) -> None:
        self.norm = nn.BatchNorm1d(4)

    def plain(self, x: Tensor) -> Tensor:
        return x


def enclosing(module: nn.Module) -> Callable[[Tensor], Any]:
    return lambda x: module(x)


@pytest.mark.parametrize(
    "function",
    [
        NORM.forward,
        enclosing(NORM),
        partial(nn.Module.__call__, NORM),
        partial(torch.add, alpha=NORM),
        lambda x, norm=NORM: norm(x),
        partial(enclosing(NORM)),
    ],
)
def test_a_function_of_a_module_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match=r"candidate 'norm' uses the module BatchNorm1d, .* give the module itself"):
        Choice({"norm": function, "skip": nn.Identity()})


@pytest.mark.parametrize("function", [torch.tanh, Holder().plain, partial(torch.add, other=1), lambda x: x, noisy])
def test_functions_of_no_module_are_taken(function: Any) -> None:
    assert Choice({"f": function}).primitives == ("f",)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", ["map", "layers"])
def test_lent_weights_count_for_closed_candidates_too(code: str, kind: str) -> None:
    """`functional_call` takes its weights back before the backward pass."""
    torch.manual_seed(0)
    norm = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)) if kind == "map" else nn.Conv2d(4, 4, 1)
    block = Choice({"norm": norm, "conv": nn.Conv2d(4, 4, 1), "skip": nn.Identity()}).double()
    lent = {name: torch.randn_like(weight) for name, weight in block.named_parameters()}
    x = torch.randn(3, 4, 6, 6, dtype=torch.double).contiguous(memory_format=torch.channels_last)

    found = []
    for dense in (False, True):
        gates = gates_of(CODES[code], dense=dense)
        with Blocks.of(block).running({"choice": gates}):
            functional_call(block, lent, (x,)).sin().sum().backward()
        found.append(gates.values.grad)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)
    assert all(weight is not lent[name] for name, weight in block.named_parameters())


def test_a_copy_belongs_to_no_child() -> None:
    block = Choice({"a": nn.Identity()})
    with Blocks.of(block).running({"choice": gates_of([1.0])}):
        assert deepcopy(block).gates is None
        assert pickle.loads(pickle.dumps(block)).gates is None


def test_costs_are_parameters_or_as_said() -> None:
    said = Choice({"a": nn.Linear(2, 3), "b": nn.Identity()}, costs={"a": 5, "b": 7})
    found = Choice({"a": nn.Linear(2, 3), "b": nn.Identity()})
    assert [said.cost_of(name) for name in "ab"] == [5, 7]
    assert [found.cost_of(name) for name in "ab"] == [9, 0]


def test_it_shows_its_options() -> None:
    shown = repr(Choice({"a": nn.Identity(), "f": torch.tanh}, samples=2, name="mix"))
    assert "sum of 2 candidates, samples=2, name='mix'" in shown
    assert "(f): Function(tanh)" in shown


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("code", [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
def test_feature_maps_in_channels_last_take_the_short_way_to_the_same_gradient(code: list[float], mode: bool) -> None:
    """Closed candidates that end in batch norm are not normalised there; torch's own and this package's."""
    settings = OpSettings(4, affine=True)
    x = torch.randn(3, 4, 6, 6, dtype=torch.double).contiguous(memory_format=torch.channels_last)
    found = []
    for dense in (False, True):
        torch.manual_seed(0)
        block = Choice(
            {
                "torch": nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
                "own": operations["sep_conv_3x3"](settings),
                "pool": nn.AvgPool2d(3, 1, 1),
                "skip": nn.Identity(),
            }
        )
        block = block.double().train(mode)
        gates = gates_of(code, dense=dense)
        inputs = x.clone().requires_grad_()
        with Blocks.of(block).running({"choice": gates}):
            block(inputs).sin().sum().backward()
        found.append([gates.values.grad, inputs.grad, *block.buffers()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def test_a_checkpointed_part_gives_the_same_gradients() -> None:
    found = []
    for is_checkpointed in (False, True):
        model, gates = make("dropout"), gates_of(CODES["kind"])
        torch.manual_seed(3)
        with Blocks.of(model).running({"mix": gates}):
            output = checkpoint(model, X, use_reentrant=False) if is_checkpointed else model(X)
            output.square().mean().backward()
        found.append((gates.values.grad, *(parameter.grad for parameter in model.before.parameters())))
    torch.testing.assert_close(*found)
