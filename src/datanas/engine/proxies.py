"""Scores of a network before any training. They tell poor networks from better ones, and are no judge of good ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from datanas.kernels.switch import plain_kernels


def naswot(network: nn.Module, x: Any) -> float:
    """The NASWOT score: log |det K| (Mellor, Turner, Storkey and Crowley, ICML 2021).

    With c_i the bits that say which rectifiers of the network input i opens,

        K_ij = N - hamming(c_i, c_j),   N the number of rectifiers,

    so that K measures how alike the linear maps are that two inputs meet. The more they differ, the higher the score.

    Args:
        network: in training mode, so that batch norm takes its statistics from `x`; its running statistics stay.
        x: a batch of at least two different inputs.

    Returns:
        -inf where two inputs open the same rectifiers, NaN where the network has none.
    """
    kernel: Tensor | None = None

    def note(output: Tensor) -> None:
        nonlocal kernel
        open_ = (output.detach() > 0).flatten(1).double()
        alike = open_ @ open_.T + (1 - open_) @ (1 - open_).T
        kernel = alike if kernel is None else kernel + alike

    with _state_restored(network), torch.no_grad(), plain_kernels(), _Rectifiers(note):
        network(x)
    if kernel is None:
        return math.nan
    sign, log_determinant = torch.linalg.slogdet(kernel)
    return float(log_determinant) if float(sign) != 0 else -math.inf


def synflow(network: nn.Module, x: Any) -> float:
    """The logarithm of the SynFlow score (Tanaka, Kunin, Yamins and Ganguli, NeurIPS 2020).

    With every parameter theta replaced by its absolute value, batch norm left out and an input of ones,

        R = sum of the outputs,   score = sum over theta of  theta dR / dtheta,

    which as a score of architectures is due to Abdelfattah, Mehrotra, Dudziak and Lane (ICLR 2021). In double, since
    the numbers grow with the depth.

    Args:
        network: any mode; its parameters stay as they are.
        x: one input, of which only the shape counts.

    Returns:
        -inf where no path of parameters leads to an output.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in parameters]
    dtypes = [parameter.dtype for parameter in parameters]
    with _state_restored(network), plain_kernels(), _without_norm(network):
        try:
            for parameter in parameters:
                parameter.data = parameter.data.double().abs()
            ones = torch.ones_like(x, dtype=torch.double)
            output = network(ones)
            first = output[0] if isinstance(output, tuple) else output
            slopes = torch.autograd.grad(first.sum(), parameters, allow_unused=True)
            total = sum(
                float((parameter.detach() * slope).sum())
                for parameter, slope in zip(parameters, slopes, strict=True)
                if slope is not None
            )
        finally:
            for parameter, old, dtype in zip(parameters, before, dtypes, strict=True):
                parameter.data = old.to(dtype)
    return math.log(total) if total > 0 else -math.inf


@contextmanager
def _state_restored(network: nn.Module) -> Iterator[None]:
    """Run a block and put back the network's buffers and mode."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    training = network.training
    network.train()
    try:
        yield
    finally:
        network.train(training)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])


class _Rectifiers(TorchFunctionMode):
    """Gives the output of every ReLU that runs to `note`, module or function alike."""

    _RELU = (torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu)

    def __init__(self, note: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in self._RELU:
            self._note(output)
        return output


@contextmanager
def _without_norm(network: nn.Module) -> Iterator[None]:
    """Run a block in which batch norm hands on what it gets."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        norm.forward = lambda x: x  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def rank_sums(scores: Sequence[Sequence[float]]) -> list[float]:
    """For each candidate the sum of its ranks by each score, the least rank for the lowest; NaN ranks lowest.

    Args:
        scores: by proxy, then candidate.
    """
    totals = [0.0] * len(scores[0])
    for values in scores:
        known = [-math.inf if math.isnan(value) else value for value in values]
        for index, value in enumerate(known):
            below = sum(other < value for other in known)
            ties = sum(other == value for other in known)
            totals[index] += below + (ties + 1) / 2
    return totals
