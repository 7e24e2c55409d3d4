"""The interface of cost models: what a network costs, and what each operation adds to that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from torch import nn

from datanas.codes.architecture import Architecture, Cell
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.spaces.base import Space


@dataclass(frozen=True)
class CostTable:
    """An additive cost of a network of known size.

    Attributes:
        constant: what every network of that size costs.
        tables: by group, float64 (edges, ops): what an operation adds, in all the cells that it is in; 0 for `none`.
    """

    constant: float
    tables: Mapping[str, Float[np.ndarray, "edges ops"]]


@dataclass(frozen=True)
class NetworkSize:
    """The networks that are meant: those of a space, of one size, behind one stem.

    Attributes:
        space: at the size of the network; its `costs` are those of a network.
        groups: its choice groups.
        stem: as the network has it, on the meta device.
        example: an input of one example, on the meta device.
        build: the network of an architecture, on the meta device, without an auxiliary tower.
    """

    space: Space
    groups: Mapping[str, ChoiceGroup]
    stem: nn.Module
    example: Any
    build: Callable[[Architecture], nn.Module]


class CostModel(ABC):
    """One kind of cost.

    Attributes:
        name: as in the section `budget`.
        unit: for people.
        is_additive: whether it has a table. What has none is heeded where networks are counted: when an architecture
            is kept, and when it is trained.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    is_additive: ClassVar[bool] = True

    @abstractmethod
    def additive(self, size: NetworkSize) -> CostTable:
        """What the operations add, all of them live.

        Of a network with dead parts the sum is an upper bound: it counts the ways into cells that nothing reads.

        Raises:
            ConfigError: the space does not say what its networks cost.
        """

    def measure(self, network: nn.Module, example: Any) -> float | None:
        """What this very network costs, exactly; None where only the table says."""
        return None


def sparse_reference(groups: Mapping[str, ChoiceGroup], space: str, tables: Mapping[str, np.ndarray]) -> Architecture:
    """An architecture in which all is live, with the cheapest operation on each edge."""
    cells = {}
    for name, group in groups.items():
        code = np.zeros(group.shape, np.uint8)
        for edge, costs in enumerate(tables[name].tolist()):
            allowed = [op for op in range(len(costs)) if op != group.null]
            code[edge, min(allowed, key=lambda op, costs=costs: (costs[op], op))] = 1  # type: ignore[misc]
        cells[name] = Cell(group.primitives, group.edges, group.outputs, code, inputs=group.inputs)
    return Architecture(cells, space=space)


def counted_table(size: NetworkSize, kind: str, count: Callable[[nn.Module], float], factor: float = 1.0) -> CostTable:
    """The table of a cost that a space knows, and the constant that is left of one whole network.

    Raises:
        ConfigError: a cost is negative or not finite, or costs do not add up.
    """
    size.space.require_additive_costs()
    costs = size.space.costs(size.stem, size.example)
    tables = {name: factor * np.asarray(getattr(costs[name], kind), np.float64) for name in size.groups}
    for name, table in tables.items():
        if not np.isfinite(table).all() or (table < 0).any():
            raise ConfigError(
                f"budget.{kind}: space {size.space.name} gives {name} costs that are negative or not finite"
            )
    reference = sparse_reference(size.groups, size.space.name, tables)
    whole = count(size.build(reference))
    spent = sum(float((tables[name] * cell.code).sum()) for name, cell in reference.cells.items())
    return CostTable(whole - spent, tables)
