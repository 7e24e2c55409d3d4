"""Two processes that exchange what they find, as threads of this one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import torch
from torch import Tensor

from datanas.core.processes import Processes

T = TypeVar("T")


class OneOfTwo(Processes):
    """One of the two.

    Args:
        table: what each last gave, by rank.
        barrier: where each waits for the other.
    """

    size = 2

    def __init__(self, rank: int, table: dict[int, Tensor], barrier: Barrier) -> None:
        self.rank = rank
        self._table, self._barrier = table, barrier

    def gather(self, tensor: Tensor) -> Tensor:
        self._table[self.rank] = tensor.detach().clone()
        self._barrier.wait()
        gathered = torch.stack([self._table[rank] for rank in range(self.size)])
        self._barrier.wait()
        return gathered

    def total(self, tensor: Tensor) -> Tensor:
        total: Tensor = _Total.apply(tensor, self)
        return total


class _Total(torch.autograd.Function):
    """A sum whose gradient is summed too, as that of a process group."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, one: OneOfTwo) -> Tensor:
        ctx.one = one
        return one.gather(tensor).sum(dim=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.one.gather(gradients[0]).sum(dim=0), None


def together(work: Callable[[Processes], T]) -> list[T]:
    """What `work` gives in each of two processes."""
    table: dict[int, Tensor] = {}
    barrier = Barrier(2, timeout=60)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda rank: work(OneOfTwo(rank, table, barrier)), range(2)))
