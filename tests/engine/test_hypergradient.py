"""The second-order gradient against closed forms, and against differentiating through the look-ahead itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from datanas.core.errors import ConfigError
from datanas.core.processes import Processes
from datanas.core.settings import validate
from datanas.engine import hypergradient
from datanas.engine.hypergradient import Bilevel, Gradient, Product, sgd_step, unrolled, unrolled_loss
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import move_to
from datanas.kernels.norm import synchronise
from datanas.kernels.switch import plain_kernels
from datanas.network import Supernet
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.tasks import tasks

CPU = torch.device("cpu")
XI = 0.3
PRODUCTS: tuple[Product, ...] = ("exact", "finite_difference")
TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


class Written(Bilevel):
    """Two losses written down, and the gradients that autograd makes of them."""

    def __init__(self, train: Loss, validation: Loss, weights: list[Tensor], gates: list[Tensor]) -> None:
        self.train_loss = train  # type: ignore[assignment]
        self._validation = validation
        self.weights = [nn.Parameter(weight) for weight in weights]
        self.gates = gates
        self.optimizer = torch.optim.SGD(self.weights, XI, momentum=0.9, weight_decay=0.1)

    def train_loss(self, weights: Sequence[Tensor], gates: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError

    def train_gradient(self) -> Gradient:
        return gradients(self.train_loss, self.weights, self.gates)[1]

    def train_gate_gradients(self, weights: Sequence[Tensor]) -> list[Tensor]:
        return gradients(self.train_loss, weights, self.gates)[2]

    def validation_gradients(self, weights: Sequence[Tensor]) -> tuple[Tensor, Gradient, list[Tensor]]:
        return gradients(self._validation, weights, self.gates)

    def look_ahead(self, gradient: Gradient, xi: float) -> list[Tensor]:
        return sgd_step(self.optimizer, gradient, xi)

    def average(self, tensors: Sequence[Tensor]) -> None:
        pass

    def brute_force(self, xi: float) -> tuple[Tensor, list[Tensor]]:
        gates = [table.clone().requires_grad_() for table in self.gates]
        slopes = torch.autograd.grad(self.train_loss(self.weights, gates), self.weights, create_graph=True)
        value = self._validation(stepped(self.optimizer, slopes, xi), gates)
        return value.detach(), list(torch.autograd.grad(value, gates))


def gradients(
    loss: Loss, weights: Sequence[Tensor], gates: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (*weights, *gates)]
    value = loss(leaves[: len(weights)], leaves[len(weights) :])
    found = list(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True))
    return value.detach(), found[: len(weights)], found[len(weights) :]


def stepped(optimizer: torch.optim.Optimizer, slopes: Sequence[Tensor], xi: float) -> list[Tensor]:
    """The step of SGD with a graph; what has no gradient stays."""
    (group,) = optimizer.param_groups
    result = []
    for weight, slope in zip(group["params"], slopes, strict=True):
        buffer = optimizer.state.get(weight, {}).get("momentum_buffer", torch.zeros_like(weight))
        change = group["momentum"] * buffer + slope + group["weight_decay"] * weight
        result.append(weight - xi * change if slope.detach().any() else weight)
    return result


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def set_momentum(optimizer: torch.optim.Optimizer) -> None:
    for seed, weight in enumerate(optimizer.param_groups[0]["params"]):
        optimizer.state[weight]["momentum_buffer"] = random(*weight.shape, seed=100 + seed)


CURVATURE = torch.eye(4, dtype=torch.double) * 2 + random(4, 4) @ random(4, 4).T
COUPLING, CENTRE, RHO = random(4, 3, seed=1), random(4, seed=2), 0.7


def quadratic() -> Written:
    """L_t = 1/2 w'Hw - w'B g, L_v = 1/2 |w - c|^2 + rho/2 |g|^2."""
    return Written(
        lambda w, g: 0.5 * w[0] @ CURVATURE @ w[0] - w[0] @ COUPLING @ g[0],
        lambda w, g: 0.5 * (w[0] - CENTRE).square().sum() + 0.5 * RHO * g[0].square().sum(),
        [random(4, seed=3)],
        [random(3, seed=4)],
    )


def curved() -> Written:
    inputs = random(5, 4, seed=5)

    def train(w: Sequence[Tensor], g: Sequence[Tensor]) -> Tensor:
        return (torch.tanh(inputs @ w[0] * g[0].exp().mean()) * g[1].sin() + w[1]).square().sum().log1p()

    def validation(w: Sequence[Tensor], g: Sequence[Tensor]) -> Tensor:
        return (torch.sin(inputs @ w[0]) * g[1] - w[1].exp()).square().mean() + 0.01 * g[0].square().sum()

    return Written(train, validation, [random(4, seed=6), random(5, seed=7)], [random(2, 3, seed=8), random(5, seed=9)])


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("momentum", [False, True])
def test_quadratic_problem_has_its_closed_form(product: Product, momentum: bool) -> None:
    problem = quadratic()
    if momentum:
        set_momentum(problem.optimizer)
    w, g = problem.weights[0].detach(), problem.gates[0]
    buffer = random(4, seed=100) if momentum else torch.zeros(4, dtype=torch.double)
    ahead = w - XI * (0.9 * buffer + CURVATURE @ w - COUPLING @ g + 0.1 * w)
    value, (found,) = unrolled(problem, XI, product)
    torch.testing.assert_close(found, RHO * g + XI * COUPLING.T @ (ahead - CENTRE), **TIGHT)
    torch.testing.assert_close(value, 0.5 * (ahead - CENTRE).square().sum() + 0.5 * RHO * g.square().sum(), **TIGHT)


@pytest.mark.parametrize("product", PRODUCTS)
def test_no_look_ahead_leaves_the_first_order(product: Product) -> None:
    problem = curved()
    value, found = unrolled(problem, 0.0, product)
    expected, _, direct = problem.validation_gradients(problem.weights)
    assert torch.equal(value, expected)
    torch.testing.assert_close(found, direct, rtol=0, atol=0)


@pytest.mark.parametrize("product", PRODUCTS)
def test_newton_step_gives_the_implicit_gradient(product: Product) -> None:
    """L_t = h/2 w^2 - b w g and xi = 1/h: w' = b g / h is the minimum, so all of dL_v/dg is found from anywhere."""
    h, b, c = 4.0, 3.0, 0.5
    problem = Written(
        lambda w, g: (0.5 * h * w[0].square() - b * w[0] * g[0]).sum(),
        lambda w, _: (w[0] - c).pow(4).sum(),
        [random(1)],
        [random(1, seed=1)],
    )
    problem.optimizer.param_groups[0]["weight_decay"] = 0.0
    _, (found,) = unrolled(problem, 1 / h, product)
    torch.testing.assert_close(found, 4 * (b * problem.gates[0] / h - c).pow(3) * b / h, **TIGHT)


@pytest.mark.parametrize(("product", "rtol"), [("exact", 1e-10), ("finite_difference", 1e-4)])
def test_curved_problem_equals_differentiating_the_look_ahead(product: Product, rtol: float) -> None:
    problem = curved()
    set_momentum(problem.optimizer)
    torch.testing.assert_close(unrolled(problem, XI, product), problem.brute_force(XI), rtol=rtol, atol=rtol)


def test_leaving_out_the_product_is_noticed() -> None:
    """Negative control."""
    problem = curved()
    ahead = problem.look_ahead(problem.train_gradient(), XI)
    _, _, direct = problem.validation_gradients(ahead)
    _, expected = problem.brute_force(XI)
    assert all((one - other).norm() > 0.01 * other.norm() for one, other in zip(direct, expected, strict=True))


def test_look_ahead_is_the_step_of_the_optimiser() -> None:
    problem = curved()
    for _ in range(3):
        slopes = problem.train_gradient()
        ahead = problem.look_ahead([slopes[0], None], XI)
        problem.weights[0].grad = slopes[0]
        problem.optimizer.step()
        torch.testing.assert_close(ahead, [weight.detach() for weight in problem.weights], **TIGHT)


@pytest.mark.parametrize("product", PRODUCTS)
def test_validation_loss_without_weights_has_no_product(product: Product) -> None:
    problem = quadratic()
    problem._validation = lambda _, g: g[0].square().sum()
    _, (found,) = unrolled(problem, XI, product)
    torch.testing.assert_close(found, 2 * problem.gates[0], rtol=0, atol=0)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("fault", [torch.inf, torch.nan])
def test_what_is_not_finite_is_not_hidden(product: Product, fault: float) -> None:
    problem = quadratic()
    problem._validation = lambda w, g: w[0].sum() * fault + g[0].sum()
    _, (found,) = unrolled(problem, XI, product)
    assert not found.isfinite().any()


class Halves(Processes):
    """This process and another that found nothing: the mean is half of what this one found."""

    size = 2

    def average(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.mul_(0.5)


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_gradient_of_the_weights_and_v_are_those_of_all_processes(product: Product) -> None:
    problem = quadratic()
    problem.average = Halves().average
    w, g = problem.weights[0].detach(), problem.gates[0]
    ahead = w - XI * (0.5 * (CURVATURE @ w - COUPLING @ g) + 0.1 * w)
    _, (found,) = unrolled(problem, XI, product)
    torch.testing.assert_close(found, RHO * g + XI * COUPLING.T @ (0.5 * (ahead - CENTRE)), **TIGHT)


class Photos:
    """What the engine asks of a task here; it counts its losses, and some of its random numbers enter them."""

    device = CPU
    processes = Processes()

    def __init__(self) -> None:
        self.losses = 0
        self.fails_at = 0
        self.noise = 0.0

    def loss(self, model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        self.losses += 1
        logits = model(batch[0])
        if self.losses == self.fails_at:
            raise RuntimeError("lost")
        return F.cross_entropy(logits * (1 + self.noise * torch.rand_like(logits)), batch[1])

    def state_dict(self) -> dict[str, Any]:
        return {"losses": torch.tensor(self.losses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.losses = int(state["losses"])


def make_supernet() -> Supernet:
    space = ConvCellSpace(ConvCellSpace.Config(cells=3, channels=2))
    task = tasks["classification"]
    torch.manual_seed(0)
    settings = validate(task.Config, {"name": "classification"}, "task")
    supernet = Supernet(space, task.stem(settings, 3, 2), lambda widths: task.head(settings, widths, 5))
    return move_to(supernet.double(), CPU)


def photos(seed: int) -> tuple[Tensor, Tensor]:
    images = random(6, 3, 8, 8, seed=seed).contiguous(memory_format=torch.channels_last)
    return images, torch.randint(5, (6,), generator=torch.Generator().manual_seed(seed))


BATCHES = photos(0), photos(1)


def make_optimizer(supernet: Supernet) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(supernet.parameters(), XI, momentum=0.9, weight_decay=0.01)
    set_momentum(optimizer)
    for state in optimizer.state.values():
        state["momentum_buffer"].mul_(0.01)
    return optimizer


def make_gates(*, closed: bool) -> dict[str, Gates]:
    """All open; or two of three closed."""
    space = ConvCellSpace(ConvCellSpace.Config(cells=3, channels=2))
    gates = {}
    for seed, (name, group) in enumerate(space.groups().items()):
        values = random(*group.shape, seed=seed).abs() / 5 + 0.1
        if closed:
            values[torch.arange(values.numel()).view_as(values) % 3 > 0] = 0.0
        gates[name] = Gates.of(values.requires_grad_())
    return gates


def second_order(
    product: Product,
    gates: Mapping[str, Gates],
    supernet: Supernet | None = None,
    optimizer: torch.optim.SGD | None = None,
    task: Any = None,
) -> list[Tensor]:
    """L_v and its gradient into each table."""
    supernet = make_supernet() if supernet is None else supernet
    optimizer = make_optimizer(supernet) if optimizer is None else optimizer
    torch.manual_seed(5)
    task = task or Photos()
    loss = unrolled_loss(supernet, task, gates, BATCHES, optimizer, xi=XI, product=product)
    return [loss.detach(), *torch.autograd.grad(loss, [group.values for group in gates.values()])]


def brute_force(gates: Mapping[str, Gates], noise: float = 0.0) -> list[Tensor]:
    supernet, task = make_supernet(), Photos()
    task.noise = noise
    tables = [group.values.detach().requires_grad_() for group in gates.values()]
    dense = {name: replace(gates[name], values=table, dense=True) for name, table in zip(gates, tables, strict=True)}
    optimizer = make_optimizer(supernet)
    with plain_kernels():
        torch.manual_seed(5)
        loss = task.loss(supernet.child(dense), BATCHES[0])
        slopes = torch.autograd.grad(loss, list(supernet.parameters()), create_graph=True)
        names = [name for name, _ in supernet.named_parameters()]
        ahead = dict(zip(names, stepped(optimizer, slopes, XI), strict=True))
        torch.manual_seed(5)
        value = task.loss(lambda x: functional_call(supernet, ahead, (x, dense)), BATCHES[1])
        return [value.detach(), *torch.autograd.grad(value, tables)]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(("product", "tolerance"), [("exact", 1e-8), ("finite_difference", 1e-4)])
def test_supernet_equals_differentiating_the_look_ahead(
    product: Product, tolerance: float, closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypergradient, "STEP", 1e-5)  # no ReLU has its kink so near
    gates = make_gates(closed=closed)
    torch.testing.assert_close(second_order(product, gates), brute_force(gates), rtol=tolerance, atol=tolerance)


def test_closed_gates_have_a_product() -> None:
    """Negative control: without it their gradients are others."""
    gates = make_gates(closed=True)
    supernet = make_supernet()
    task: Any = Photos()
    problem = hypergradient.SupernetBilevel(supernet, task, gates, BATCHES, make_optimizer(supernet), "float32")
    _, _, direct = problem.validation_gradients(problem.look_ahead(problem.train_gradient(), XI))
    for group, first, whole in zip(gates.values(), direct, second_order("exact", gates)[1:], strict=True):
        closed = group.values == 0
        assert (first - whole)[closed].norm() > 0.01 * whole[closed].norm()


@pytest.mark.parametrize("product", PRODUCTS)
def test_gates_that_are_not_asked_for_have_no_gradient(product: Product) -> None:
    whole = make_gates(closed=True)
    chance = torch.Generator().manual_seed(0)
    grad_mask = {name: group.with_grad("sampled", 1.0, chance) for name, group in whole.items()}
    _, *expected = second_order(product, whole)
    _, *found = second_order(product, grad_mask)
    for group, one, other in zip(whole.values(), found, expected, strict=True):
        torch.testing.assert_close(one, other * (group.values != 0), **TIGHT)


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_pass_sees_the_same_random_numbers(product: Product, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypergradient, "STEP", 1e-5)
    gates, task = make_gates(closed=False), Photos()
    task.noise = 0.5
    expected = brute_force(gates, noise=0.5)
    torch.testing.assert_close(second_order(product, gates, task=task), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected[0], brute_force(gates)[0], rtol=1e-3)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("fails_at", [0, 1, 2, 3])
def test_nothing_is_left_changed(product: Product, fails_at: int) -> None:
    """Neither by success nor by a loss that fails; the task counts from its own state in every pass."""
    supernet, gates = make_supernet(), make_gates(closed=True)
    optimizer, task = make_optimizer(supernet), Photos()
    calls = 0
    original = task.loss

    def loss(*arguments: Any) -> Tensor:
        nonlocal calls
        calls += 1
        task.fails_at = task.losses + 1 if calls == fails_at else 0
        return original(*arguments)

    task.loss = loss  # type: ignore[assignment]
    before = deepcopy(supernet.state_dict()), deepcopy(optimizer.state_dict())
    if fails_at:
        with pytest.raises(RuntimeError, match="lost"):
            second_order(product, gates, supernet, optimizer, task)
    else:
        second_order(product, gates, supernet, optimizer, task)
    assert calls == (fails_at or {"exact": 3, "finite_difference": 4}[product])
    after = supernet.state_dict(), optimizer.state_dict()
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert task.losses == 0
    assert all(weight.requires_grad and weight.grad is None for weight in supernet.parameters())
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    second_order(product, make_gates(closed=True))
    assert torch.equal(torch.rand(()), expected)


@pytest.mark.parametrize("product", PRODUCTS)
def test_gradients_reach_alpha_under_autocast(product: Product) -> None:
    supernet = make_supernet().float()
    first, second = ((images.float(), labels) for images, labels in BATCHES)
    task: Any = Photos()
    alphas = [group.values.detach().float().requires_grad_() for group in make_gates(closed=False).values()]
    gates = {name: Gates.of(alpha.softmax(1)) for name, alpha in zip(("normal", "reduce"), alphas, strict=True)}
    optimizer = torch.optim.SGD(supernet.parameters(), XI, momentum=0.9)
    found = {}
    for precision in ("float32", "bfloat16"):
        loss = unrolled_loss(
            supernet, task, gates, (first, second), optimizer, xi=0.01, product=product, precision=precision
        )
        slopes = torch.autograd.grad(loss, alphas, retain_graph=True)
        found[precision] = torch.cat([slope.flatten() for slope in slopes])
        assert loss.dtype == found[precision].dtype == torch.float32
    single, half = found["float32"], found["bfloat16"]
    assert F.cosine_similarity(single, half, dim=0) > 0.9
    assert not torch.equal(single, half)


def test_exact_product_refuses_batch_norm_over_processes() -> None:
    supernet = make_supernet()
    synchronise(supernet, Halves())
    with pytest.raises(ConfigError, match="sync_batch_norm"):
        second_order("exact", make_gates(closed=True), supernet)
