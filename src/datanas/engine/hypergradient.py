"""The second-order gradient of alpha (Liu, Simonyan and Yang, DARTS, ICLR 2019, Eq. 6-8), for any differentiable gates.

With weights w, gates g, the losses L_t of a weight batch and L_v of an alpha batch:

    w' = w - xi (mu buf + grad_w L_t(w, g) + lambda w)                           the look-ahead
    d/dg L_v(w'(g), g) = grad_g L_v(w', g) - xi d/dg <grad_w L_t(w, g), v>       with v = grad_w L_v(w', g)

The last product is `exact`, or taken from `finite_difference`s of grad_g L_t along v.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.func import functional_call, grad
from torch.optim import Optimizer

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.engine.steps import autocast
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import Gates
from datanas.kernels.norm import BatchNorm2d
from datanas.kernels.switch import plain_kernels
from datanas.network import Supernet
from datanas.tasks.base import Task

Product = Literal["exact", "finite_difference"]
Gradient = Sequence[Tensor | None]
"""One for each weight; None where the loss does not depend on it."""

STEP = 0.01
"""How far finite differences go along v, as in DARTS."""


class Bilevel(ABC):
    """Two losses of the same weights and gates.

    Attributes:
        weights: w.
        gates: g, without a graph.
    """

    weights: Sequence[Tensor]
    gates: Sequence[Tensor]

    @abstractmethod
    def train_gradient(self) -> Gradient:
        """grad_w L_t(w, g)."""

    @abstractmethod
    def train_gate_gradients(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """grad_g L_t at these weights."""

    @abstractmethod
    def validation_gradients(self, weights: Sequence[Tensor]) -> tuple[Tensor, Gradient, list[Tensor]]:
        """L_v, grad_w L_v and grad_g L_v at these weights."""

    @abstractmethod
    def train_loss(self, weights: Sequence[Tensor], gates: Sequence[Tensor]) -> Tensor:
        """L_t as a pure function that torch.func can differentiate twice."""

    @abstractmethod
    def look_ahead(self, gradient: Gradient, xi: float) -> list[Tensor]:
        """w', from grad_w L_t."""

    @abstractmethod
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over the processes into each tensor, in place."""


def unrolled(problem: Bilevel, xi: float, product: Product) -> tuple[Tensor, list[Tensor]]:
    """L_v(w', g), detached, and its gradient into each table of gates.

    The look-ahead and v are those of all processes, the result is what this one finds with them in its share of the
    batches: its mean over the processes is the gradient.
    """
    gradient = problem.train_gradient()
    problem.average(_present(gradient))
    value, v, direct = problem.validation_gradients(problem.look_ahead(gradient, xi))
    problem.average(_present(v))
    mixed = exact_product(problem, v) if product == "exact" else finite_difference_product(problem, v)
    return value.detach(), [first - xi * second for first, second in zip(direct, mixed, strict=True)]


def exact_product(problem: Bilevel, v: Gradient) -> list[Tensor]:
    """d/dg <grad_w L_t(w, g), v> by differentiating twice."""
    weights = [weight.detach() for weight in problem.weights]

    def along(gates: list[Tensor]) -> Tensor:
        slopes = grad(lambda at: problem.train_loss(at, gates))(weights)
        return sum(
            ((slope * part).sum() for slope, part in zip(slopes, v, strict=True) if part is not None),
            start=torch.zeros_like(slopes[0]).sum(),
        )

    product: list[Tensor] = grad(along)(list(problem.gates))
    return product


def finite_difference_product(problem: Bilevel, v: Gradient) -> list[Tensor]:
    """(grad_g L_t(w + eps v, g) - grad_g L_t(w - eps v, g)) / (2 eps) with eps = 0.01 / |v|; 0 where v is 0.

    It counts the jumps of the gradient at the kinks of ReLUs between the two, which `exact_product` does not see: in a
    supernet the two differ by several times their size.
    """
    present = _present(v)
    norm = float(torch.stack([part.norm() for part in present]).norm()) if present else 0.0
    if norm == 0.0:
        return [torch.zeros_like(table) for table in problem.gates]
    eps = STEP / norm
    weights = [weight.detach() for weight in problem.weights]
    ahead, behind = (
        problem.train_gate_gradients(
            [w if part is None else w + sign * eps * part for w, part in zip(weights, v, strict=True)]
        )
        for sign in (1, -1)
    )
    # Divided by the norm's inverse, so that a norm that is not finite leaves a product that is not either.
    return [(one - other) / (2 * STEP) * norm for one, other in zip(ahead, behind, strict=True)]


def sgd_step(optimizer: Optimizer, gradient: Gradient, xi: float) -> list[Tensor]:
    """w - xi (mu buf + gradient + lambda w): a step of SGD with the optimiser's momentum and weight decay.

    What has no gradient stays, as in SGD. Clipping and Nesterov's correction are left out, as in DARTS' code.
    """
    stepped = []
    gradients = iter(gradient)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            weight, slope = parameter.detach(), next(gradients)
            if slope is not None:
                slope = slope.add(weight, alpha=group["weight_decay"])
                buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
                if buffer is not None:
                    slope = slope.add(buffer, alpha=group["momentum"])
                weight = weight.sub(slope, alpha=xi)
            stepped.append(weight)
    return stepped


class SupernetBilevel(Bilevel):
    """A supernet's losses of a weight batch and of an alpha batch; what they compute leaves no trace.

    Gradients at other weights are made with these put into the supernet for as long as forward and backward take,
    for the package's kernels run closed operations in backward. Every pass sees the same random numbers.

    Args:
        supernet: its weights require gradients.
        task: gives the loss, the device and the processes.
        gates: by choice group, as the engine gives them.
        batches: the weight batch and the alpha batch.
        optimizer: of the weights.
        precision: as in `autocast`.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task[Any],
        gates: Mapping[str, Gates],
        batches: tuple[Any, Any],
        optimizer: Optimizer,
        precision: str,
    ) -> None:
        self._supernet = supernet
        self._task = task
        self._groups = gates
        self._train_batch, self._validation_batch = batches
        self._optimizer = optimizer
        self._precision = precision
        self.weights: list[nn.Parameter] = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]
        self.gates = [group.values.detach() for group in gates.values()]
        names = {id(parameter): name for name, parameter in supernet.named_parameters()}
        self._names = [names[id(parameter)] for parameter in self.weights]

    def train_gradient(self) -> Gradient:
        with self.undisturbed():
            return torch.autograd.grad(self._loss(self.gates, self._train_batch), self.weights, allow_unused=True)

    def train_gate_gradients(self, weights: Sequence[Tensor]) -> list[Tensor]:
        tables = self._leaves()
        # The difference of two of these would be lost in the rounding of bfloat16 or TF32.
        with frozen(self.weights), self._with(weights), _full_precision():
            loss = self._loss(tables, self._train_batch, "float32")
            return list(torch.autograd.grad(loss, tables, allow_unused=True, materialize_grads=True))

    def validation_gradients(self, weights: Sequence[Tensor]) -> tuple[Tensor, Gradient, list[Tensor]]:
        tables = self._leaves()
        with self._with(weights):
            loss = self._loss(tables, self._validation_batch)
            gradients = torch.autograd.grad(loss, [*self.weights, *tables], allow_unused=True)
        direct = [
            torch.zeros_like(table) if slope is None else slope
            for table, slope in zip(tables, gradients[len(weights) :], strict=True)
        ]
        return loss.detach(), gradients[: len(weights)], direct

    def train_loss(self, weights: Sequence[Tensor], gates: Sequence[Tensor]) -> Tensor:
        dense = {
            name: Gates(_as_asked(table, group), group.host, dense=True)
            for (name, group), table in zip(self._groups.items(), gates, strict=True)
        }
        state = dict(zip(self._names, weights, strict=True))
        state |= {name: buffer.clone() for name, buffer in self._supernet.named_buffers()}
        with plain_kernels(), autocast(self._task.device, self._precision):
            return self._task.loss(lambda x: functional_call(self._supernet, state, (x, dense)), self._train_batch)

    def look_ahead(self, gradient: Gradient, xi: float) -> list[Tensor]:
        return sgd_step(self._optimizer, gradient, xi)

    def average(self, tensors: Sequence[Tensor]) -> None:
        self._task.processes.average(tensors)

    def _leaves(self) -> list[Tensor]:
        return [table.clone().requires_grad_() for table in self.gates]

    def _loss(self, tables: Sequence[Tensor], batch: Any, precision: str | None = None) -> Tensor:
        gates = {
            name: replace(group, values=table)
            for (name, group), table in zip(self._groups.items(), tables, strict=True)
        }
        with autocast(self._task.device, precision or self._precision):
            return self._task.loss(self._supernet.child(gates), batch)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Run a block, then put back the buffers, the task's state and the random numbers."""
        buffers = list(self._supernet.buffers())
        before = [buffer.clone() for buffer in buffers]
        state = deepcopy(self._task.state_dict())
        try:
            with seeding.put_back():
                yield
        finally:
            _put(buffers, before)
            self._task.load_state_dict(state)

    @contextmanager
    def _with(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Run a block with these weights in the supernet, undisturbed."""
        before = [weight.detach().clone() for weight in self.weights]
        try:
            _put(self.weights, weights)
            with self.undisturbed():
                yield
        finally:
            _put(self.weights, before)


def unrolled_loss(
    supernet: Supernet,
    task: Task[Any],
    gates: Mapping[str, Gates],
    batches: tuple[Any, Any],
    optimizer: Optimizer,
    *,
    xi: float,
    product: Product,
    precision: str = "float32",
) -> Tensor:
    """L_v(w', g), whose gradient into each table of `gates` is the second-order one.

    Weights, buffers, the optimiser and the task's state stay as they are. To be called neither under `frozen` nor under
    autocast, but in a keyed block (`seeding.keyed`).

    Args:
        supernet, task, gates, batches, optimizer, precision: see `SupernetBilevel`.
        xi: the rate of the look-ahead; DARTS takes the weights' learning rate.
        product: see above; `exact` runs every operation through torch's own kernels.

    Raises:
        ConfigError: an exact product with batch norm over several processes.
    """
    if product == "exact" and any(
        part.processes.size > 1 for part in supernet.modules() if isinstance(part, BatchNorm2d)
    ):
        raise ConfigError(
            "search.hypergradient.product: exact does not work with sync_batch_norm; use finite_difference"
        )
    problem = SupernetBilevel(supernet, task, gates, batches, optimizer, precision)
    with problem.undisturbed():
        value, slopes = unrolled(problem, xi, product)
    for group, slope in zip(gates.values(), slopes, strict=True):
        value = value + ((group.values - group.values.detach()) * slope).sum()
    return value


def _present(gradient: Gradient) -> list[Tensor]:
    return [part for part in gradient if part is not None]


def _as_asked(table: Tensor, group: Gates) -> Tensor:
    """The same values, their gradient multiplied by the factors that are asked for."""
    if group.grad_mask is None:
        return table
    still = table.detach()
    return still + table.new_tensor(group.grad_mask) * (table - still)


@torch.no_grad()
def _put(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)
    torch.clear_autocast_cache()


@contextmanager
def _full_precision() -> Iterator[None]:
    """Run a block in which convolutions do not round to TF32."""
    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
