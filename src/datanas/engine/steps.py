"""One guarded update: nothing that is not finite reaches a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datanas.core.errors import NonFiniteError
from datanas.core.processes import ALONE, Processes


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast to bfloat16 where it is asked for."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


class Averaging:
    """The mean over processes of what each finds in its share of a batch.

    Args:
        processes: those that share it.
        network: its running statistics are averaged along, so that all hold the same.
    """

    def __init__(self, processes: Processes = ALONE, network: nn.Module | None = None) -> None:
        self._processes = processes
        self._statistics: list[Tensor] = []
        if processes.size > 1 and network is not None:
            self._statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]

    def __call__(self, loss: Tensor, gradients: Iterable[Tensor | None]) -> Tensor:
        """Average the gradients in place; gives the mean loss, detached."""
        mean = loss.detach().float().clone()
        if self._processes.size > 1:
            present = [gradient for gradient in gradients if gradient is not None]
            self._processes.average([mean, *present, *self._statistics])
        return mean


UNSHARED = Averaging()


def update(
    loss: Tensor,
    parameters: Sequence[Tensor],
    optimizer: Optimizer,
    clip: float,
    what: str,
    average: Averaging = UNSHARED,
) -> float:
    """Backpropagate, average, clip, check, step.

    Args:
        clip: the largest norm of the gradient.
        what: names the update and its batch in an error ("weight step 12").
        average: over the processes.

    Returns:
        The mean loss.

    Raises:
        NonFiniteError: the loss or the gradient is not finite; the parameters are as before.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    mean = average(loss, (parameter.grad for parameter in parameters))
    norm = nn.utils.clip_grad_norm_(parameters, clip)
    value, size = torch.stack([mean, norm.detach().float()]).tolist()
    _require_finite(what, loss=value, gradient=size)
    optimizer.step()
    return float(value)


def update_alpha(
    loss: Tensor,
    alphas: Sequence[Tensor],
    optimizer: Optimizer,
    what: str,
    average: Averaging = UNSHARED,
    task_loss: Tensor | None = None,
) -> float:
    """As `update`, with gradients for the alphas alone and without clipping; checks the alphas afterwards.

    An alpha that the loss does not depend on stays as it is.

    Returns:
        The mean of `task_loss`, the part of the loss that is the task's; by default of all of it.
    """
    gradients: Sequence[Tensor | None] = [None] * len(alphas)
    if alphas and loss.requires_grad:
        gradients = torch.autograd.grad(loss, alphas, allow_unused=True)
    parts = [loss.detach().float(), (loss if task_loss is None else task_loss).detach().float().to(loss.device)]
    whole, value = average(torch.stack(parts), gradients).tolist()
    present = [gradient for gradient in gradients if gradient is not None]
    size = float(torch.stack([gradient.norm() for gradient in present]).norm()) if present else 0.0
    _require_finite(what, loss=whole, gradient=size)
    for alpha, gradient in zip(alphas, gradients, strict=True):
        alpha.grad = gradient
    before = [alpha.detach().clone() for alpha in alphas]
    optimizer.step()
    if not all(bool(alpha.isfinite().all()) for alpha in alphas):
        with torch.no_grad():
            for alpha, old in zip(alphas, before, strict=True):
                alpha.copy_(old)
        raise NonFiniteError(f"{what}: alpha is no longer finite; try a smaller search.alpha.lr")
    return float(value)


def _require_finite(what: str, **values: float) -> None:
    for name, value in values.items():
        if value != value or value in (float("inf"), float("-inf")):
            raise NonFiniteError(f"{what}: the {name} is {value}; try a smaller learning rate")
