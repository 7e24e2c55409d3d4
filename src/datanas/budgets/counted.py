"""Costs that are counted, not measured: parameters, multiply-adds, and the size of the weights."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from datanas.budgets.base import CostModel, CostTable, NetworkSize, counted_table
from datanas.kernels.hardware import count_macs, count_parameters

BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}


class Parameters(CostModel):
    """Learned numbers."""

    name: ClassVar[str] = "parameters"
    unit: ClassVar[str] = "parameters"

    def additive(self, size: NetworkSize) -> CostTable:
        return counted_table(size, "parameters", count_parameters)

    def measure(self, network: nn.Module, example: Any) -> float:
        return float(count_parameters(network))


class Macs(CostModel):
    """Multiply-adds of one forward pass of one example."""

    name: ClassVar[str] = "macs"
    unit: ClassVar[str] = "multiply-adds"

    def additive(self, size: NetworkSize) -> CostTable:
        return counted_table(size, "macs", lambda network: count_macs(network, size.example))

    def measure(self, network: nn.Module, example: Any) -> float:
        return float(count_macs(network, example))


class Size(CostModel):
    """Bytes of the learned numbers at a precision.

    The running statistics of batch norm are not among them: a network that is deployed has them in scale and shift.
    """

    name: ClassVar[str] = "size"
    unit: ClassVar[str] = "B"

    def __init__(self, precision: str) -> None:
        self._bytes = BYTES_OF[precision]

    def additive(self, size: NetworkSize) -> CostTable:
        return counted_table(size, "parameters", lambda network: self._bytes * count_parameters(network), self._bytes)

    def measure(self, network: nn.Module, example: Any) -> float:
        return float(self._bytes * count_parameters(network))
