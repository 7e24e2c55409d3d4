"""Batch norm as modules: torch's with a faster path, and operations whose last batch norm is left to the sum of a node.

The equations are in `norm_rows`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as _TorchBatchNorm

from datanas.core.errors import ConfigError
from datanas.core.processes import ALONE, Processes
from datanas.kernels.bare import is_bare
from datanas.kernels.fx_leaf import fx_leaf
from datanas.kernels.norm_rows import TRACKING, WIDE, gradients_of, normalise, statistics, track
from datanas.kernels.switch import first_order, own_kernels, runs_by_rows


@contextmanager
def statistics_kept(foreign: Sequence[_TorchBatchNorm] = ()) -> Iterator[None]:
    """Run a block in which no `BatchNorm2d` of this file updates its running statistics, and none of `foreign`.

    Other threads are not concerned, unless they run the same `foreign` modules.
    """
    token = TRACKING.set(False)
    tracked = [norm.track_running_stats for norm in foreign]
    for norm in foreign:
        norm.track_running_stats = False
    try:
        yield
    finally:
        TRACKING.reset(token)
        for norm, was in zip(foreign, tracked, strict=True):
            norm.track_running_stats = was


def foreign_norms(module: nn.Module) -> tuple[_TorchBatchNorm, ...]:
    """The batch norms in a module that are not of this file."""
    return tuple(
        part for part in module.modules() if isinstance(part, _TorchBatchNorm) and not isinstance(part, BatchNorm2d)
    )


@fx_leaf
class BatchNorm2d(nn.BatchNorm2d):
    """torch's batch norm, faster on the CPU in channels-last layout for few channels or without a graph.

    Attributes:
        processes: those over which the statistics of a batch are taken; each has its share of it.
    """

    processes: Processes = ALONE

    def forward(self, x: Tensor) -> Tensor:
        is_shared = self.processes.size > 1 and self.training
        if runs_by_rows(x) and (is_shared or x.shape[1] < WIDE // 2 or not torch.is_grad_enabled()):
            result: Tensor = _BatchNorm.apply(x, self.weight, self.bias, self)
            return result
        if is_shared:
            return self._shared(x)
        if TRACKING.get():
            return super().forward(x)
        with statistics_kept([self]):
            return super().forward(x)

    def _shared(self, x: Tensor) -> Tensor:
        """With the statistics of all processes, by functions that have derivatives of any order."""
        wide, others = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, self.processes
        mean = others.total(wide.mean(dim=(0, 2, 3))) / others.size
        centred = wide - mean[:, None, None]
        variance = others.total(centred.square().mean(dim=(0, 2, 3))) / others.size
        count = others.size * x.numel() // x.shape[1]
        with torch.no_grad():
            track(self, mean.detach(), variance.detach(), count)
        scaled = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scaled = scaled * self.weight
        result = centred * scaled[:, None, None]
        if self.bias is not None:
            result = result + self.bias[:, None, None]
        return result.to(x.dtype)


def synchronise(module: nn.Module, processes: Processes) -> None:
    """Let the batch norms of a module take their statistics over all processes.

    Raises:
        ConfigError: it holds batch norms that cannot.
    """
    if foreign := foreign_norms(module):
        raise ConfigError(f"sync_batch_norm: {type(foreign[0]).__name__} cannot; use datanas.kernels.norm.BatchNorm2d")
    for part in module.modules():
        if isinstance(part, BatchNorm2d):
            part.processes = processes


@contextmanager
def each_alone(module: nn.Module) -> Iterator[None]:
    """Run a block in which no batch norm of a module asks other processes."""
    norms = [part for part in module.modules() if isinstance(part, BatchNorm2d)]
    before = [norm.processes for norm in norms]
    for norm in norms:
        norm.processes = ALONE
    try:
        yield
    finally:
        for norm, was in zip(norms, before, strict=True):
            norm.processes = was


class EndsInNorm(ABC):
    """A module whose last child is a batch norm: its output is that norm of `features`."""

    @abstractmethod
    def features(self, x: Tensor, rectified: Tensor | None = None) -> Tensor:
        """What the batch norm is given, without calling the layers where a kernel can do without.

        Args:
            rectified: relu(x), where the caller has it and no graph is kept; an operation that begins with a ReLU takes
                it instead.
        """

    def in_turn(self, x: Tensor) -> Tensor:
        """The output with every layer called, one after the other."""
        for layer in self._layers.values():
            x = layer(x)
        return x

    def is_as_made(self) -> bool:
        """Whether its layers are still of the kind that `features` was written for; any may have been exchanged."""
        return True

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        return cast(nn.BatchNorm2d, self._layers[next(reversed(self._layers))])

    @property
    def _layers(self) -> dict[str, nn.Module]:
        return self._modules  # type: ignore[attr-defined,no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        if own_kernels() and is_bare(self) and self.is_as_made():  # type: ignore[arg-type]
            normalised: Tensor = self.last_norm(self.features(x))
            return normalised
        return self.in_turn(x)


def before_norm(module: nn.Module, x: Tensor, rectified: Tensor | None = None) -> tuple[Tensor, nn.BatchNorm2d | None]:
    """The output of an operation without its last batch norm, and that batch norm; or the output, and None.

    The second where the operation does not end in a batch norm, where it is not for this file's functions, and where
    something hangs on the calls of its layers.
    """
    if not is_bare(module) or (isinstance(module, EndsInNorm) and not module.is_as_made()):
        return module(x), None
    return _before_norm(module, x, rectified)


def _before_norm(module: nn.Module, x: Tensor, rectified: Tensor | None) -> tuple[Tensor, nn.BatchNorm2d | None]:
    norm: nn.Module
    if isinstance(module, EndsInNorm):
        x, norm = module.features(x, rectified), module.last_norm
    elif type(module) is nn.Sequential and len(module) > 0:
        *parts, last = module
        for part in parts:
            x = part(x)
        return before_norm(last, x) if isinstance(last, EndsInNorm) else _before_norm(last, x, None)
    elif type(module) in (nn.BatchNorm2d, BatchNorm2d):
        norm = module
    else:
        return module(x), None
    if type(norm) in (nn.BatchNorm2d, BatchNorm2d) and runs_by_rows(x):
        return x, norm  # type: ignore[return-value]
    return norm(x), None


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor | None, bias: Tensor | None, norm: nn.BatchNorm2d) -> Tensor:
        moments = ctx.statistics = statistics(z, norm)
        ctx.save_for_backward(z, weight)
        return normalise(z, moments, weight, bias)

    @staticmethod
    @first_order
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        z, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        return *gradients_of(z, ctx.statistics, weight, gradient), None
