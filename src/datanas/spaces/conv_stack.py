"""The space of DATA's cells with a cell of its own at each depth: one choice group for every cell of the supernet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ArchitectureError
from datanas.spaces import register_space
from datanas.spaces.conv_body import INPUTS, cell_kinds
from datanas.spaces.conv_space import ConvConfig, ConvSpace

FEWEST = 5
"""Cells of a supernet, so that every stage has a normal cell of which a deeper network is built."""


@register_space("conv_stack")
class ConvStackSpace(ConvSpace):
    """The cells of `conv_cell`, each chosen for itself (the whole architecture of DATA, TPAMI 2020, Section 6).

    A group is named by kind and place: `normal_0`, `normal_1`, `reduce_2`. The groups are those of `space.cells`
    whatever the depth of a network, whose cells are those that were searched at the same place of the same stage
    (`searched_places`).

    Args:
        depth: cells of the supernet, where these are not as many as were searched.
    """

    class Config(ConvConfig):
        name: Literal["conv_stack"] = "conv_stack"
        cells: int = Field(8, ge=FEWEST, description="cells of the supernet, each searched for itself")

    name: ClassVar[str] = "conv_stack"
    shallow: ClassVar[Mapping[str, Any]] = {"cells": FEWEST}
    is_one_network: ClassVar[bool] = True

    def __init__(self, config: Config, depth: int | None = None) -> None:
        self.config = config
        self._depth = config.cells if depth is None else depth

    def groups(self) -> dict[str, ChoiceGroup]:
        names = stack_groups(self.config.cells)
        return {name: self.cell_group(name, depth=place / (len(names) - 1)) for place, name in enumerate(names)}

    def cell_groups(self) -> tuple[str, ...]:
        names = stack_groups(self.config.cells)
        return tuple(names[place] for place in searched_places(self.config.cells, self._depth))

    @classmethod
    def network_groups(cls, architecture: Architecture, cells: int) -> tuple[str, ...]:
        searched = len(architecture.cells)
        names = stack_groups(max(searched, FEWEST))
        if set(architecture.cells) != set(names):
            raise ArchitectureError(
                f"cells: a network of space {cls.name} has a cell for each place of at least {FEWEST}, such as "
                f"{', '.join(names)}; the architecture has {', '.join(architecture.cells)}"
            )
        for name, cell in architecture.cells.items():
            if cell.inputs != INPUTS:
                raise ArchitectureError(f"cells.{name}.inputs: must be {INPUTS}, got {cell.inputs}")
        return tuple(names[place] for place in searched_places(searched, cells))

    def at_size(self, channels: int, cells: int) -> ConvStackSpace:
        return ConvStackSpace(self.config.model_copy(update={"channels": channels}), depth=cells)


def stack_groups(cells: int) -> tuple[str, ...]:
    """The name of the choice group of each cell in a searched stack."""
    return tuple(f"{kind}_{place}" for place, kind in enumerate(cell_kinds(cells)))


def searched_places(searched: int, cells: int) -> tuple[int, ...]:
    """For each cell of a network of `cells` the place of that which it is, among `searched` ones.

    The stages are those between the reduction cells. A reduction cell is the searched one behind the same stage; of n
    normal cells in a stage the j-th is the (j m // n)-th of the m that were searched there, counted from 0. With as
    many cells as were searched each is itself.

    >>> searched_places(5, 8)
    (0, 0, 1, 2, 2, 3, 4, 4)
    """
    here, there = _stages(searched), _stages(cells)
    by_place: dict[int, int] = {}
    for (own, own_end), (normal, end) in zip(here, there, strict=False):  # one cell makes fewer stages
        by_place |= {place: own[j * len(own) // len(normal)] for j, place in enumerate(normal)}
        if end is not None and own_end is not None:
            by_place[end] = own_end
    return tuple(by_place[place] for place in range(cells))


def _stages(cells: int) -> list[tuple[list[int], int | None]]:
    """For each stage the places of its normal cells, and that of the reduction cell behind it."""
    stages: list[tuple[list[int], int | None]] = []
    normal: list[int] = []
    for place, kind in enumerate(cell_kinds(cells)):
        if kind == "normal":
            normal.append(place)
        else:
            stages.append((normal, place))
            normal = []
    return [*stages, (normal, None)]
