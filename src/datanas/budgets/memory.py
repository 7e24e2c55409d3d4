"""Peak activation memory of inference, by following every tensor of one forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datanas.budgets.base import CostModel, CostTable, NetworkSize
from datanas.core.errors import ConfigError
from datanas.kernels.switch import plain_kernels


class Memory(CostModel):
    """Bytes of all tensors, weights aside, that a forward pass of one example holds at the same time at most.

    The input is one of them. It depends on the order of the operations, so no table adds up to it.
    """

    name: ClassVar[str] = "memory"
    unit: ClassVar[str] = "B"
    is_additive: ClassVar[bool] = False

    def additive(self, size: NetworkSize) -> CostTable:
        raise ConfigError("budget.memory: peak memory is no sum over operations")

    def measure(self, network: nn.Module, example: Any) -> float:
        return float(peak_activations(network, example))


def peak_activations(network: nn.Module, example: Any) -> int:
    """The bytes; costs nothing where network and example lie on the meta device.

    torch's own kernels are followed, one by one as eager execution runs them; what they use inside is not seen.
    """
    training = network.training
    network.eval()
    weights = [*network.parameters(), *network.buffers()]
    with torch.no_grad(), plain_kernels(), _Follow(weights) as followed:
        followed.take_in(example)
        network(example)
    network.train(training)
    return int(followed.peak)


class _Follow(TorchDispatchMode):  # type: ignore[no-untyped-call, unused-ignore]
    """Adds up the storages that are made while it is on, and takes off those that are freed."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {id(storage): storage for each in weights for storage in [each.untyped_storage()]}
        self._held: dict[int, weakref.finalize[Any, Any]] = {}
        self.now = self.peak = 0

    def take_in(self, tensors: Any) -> None:
        """Count the storages of these tensors that are not known yet."""
        for tensor in tree_leaves(tensors):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key = id(storage)
            if key in self._known or key in self._held:
                continue
            size = storage.nbytes()
            self._held[key] = weakref.finalize(storage, self._let_go, key, size)
            self._held[key].atexit = False
            self.now += size
            self.peak = max(self.peak, self.now)

    def _let_go(self, key: int, size: int) -> None:
        self._held.pop(key, None)
        self.now -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.take_in(result)
        return result
