"""Stages of layers: how the choice groups of a whole network are named after its shape, and its text.

A group's name holds all of the shape that the choices do not: "stage2_entry_w250_s2" is the first layer of the second
stage, which brings the maps to 250 % of the stem's channels at stride 2; "stage2_layers_w250" are those behind it,
which keep the shape. A stage whose first layer keeps it too has no entry. So an architecture can be rebuilt at any
width.

The text of a network is `mobile: w150 mb3_k3 identity | w250/2 mb6_k5 mb3_k7`: for each stage its width, its stride
where that is not 1, and an operation for each layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from reprlib import repr as shortened

import numpy as np

from datanas.codes.cell import Cell
from datanas.codes.layer_code import IDENTITY, chain_edges
from datanas.codes.text_form import Form
from datanas.core.errors import ArchitectureError, nearest

MOBILE = "mobile: "
MOBILE_PRIMITIVES = (IDENTITY, "mb3_k3", "mb3_k5", "mb3_k7", "mb6_k3", "mb6_k5", "mb6_k7")
_NUMBER = "[1-9][0-9]{0,5}"  # no network is wider
_GROUP = re.compile(rf"stage({_NUMBER})_(?:entry_w({_NUMBER})_s([12])|layers_w({_NUMBER}))")
_HEAD = re.compile(rf"w({_NUMBER})(?:/(2))?")


@dataclass(frozen=True)
class Stage:
    """Layers of one shape.

    Attributes:
        width: channels, in per cent of the stem's.
        stride: of the first layer.
        layers: how many there are.
    """

    width: int
    stride: int
    layers: int


@dataclass(frozen=True)
class StageGroup:
    """The layers of a stage that choose among the same operations: its entry, or those that keep the shape.

    Attributes:
        name: of the choice group.
        width, stride: as of `Stage`; the stride is that of the entry, else 1.
        layers: how many there are.
        is_entry: whether it is the one layer that changes the shape.
    """

    name: str
    width: int
    stride: int
    layers: int
    is_entry: bool


def groups_of(stages: Sequence[Stage]) -> list[StageGroup]:
    """The groups of stages in a row, behind a stem of 100 %."""
    groups = []
    for number, (before, stage) in enumerate(pairwise([Stage(100, 1, 0), *stages]), start=1):
        is_entry = stage.stride != 1 or stage.width != before.width
        if is_entry:
            name = f"stage{number}_entry_w{stage.width}_s{stage.stride}"
            groups.append(StageGroup(name, stage.width, stage.stride, 1, is_entry=True))
        if stage.layers > is_entry:
            rest = stage.layers - is_entry
            groups.append(StageGroup(f"stage{number}_layers_w{stage.width}", stage.width, 1, rest, is_entry=False))
    return groups


def stages_of(cells: Mapping[str, Cell]) -> list[Stage]:
    """The stages that cells belong to.

    Raises:
        ArchitectureError: they are not those of stages in a row.
    """
    by_number: dict[int, Stage] = {}
    for name, cell in cells.items():
        match = _GROUP.fullmatch(name)
        if match is None:
            raise ArchitectureError(
                f"cells: {shortened(name)} is no group of a stage, such as stage2_entry_w250_s2 or stage2_layers_w250"
            )
        number, width = int(match[1]), int(match[2] or match[4])
        before = by_number.get(number, Stage(width, 1, 0))
        by_number[number] = Stage(width, int(match[3] or before.stride), before.layers + len(cell.edges))
    stages = [by_number[number] for number in sorted(by_number)]
    wanted = {group.name: group.layers for group in groups_of(stages)}
    if wanted != {name: len(cell.edges) for name, cell in cells.items()}:
        raise ArchitectureError(
            f"cells: stages in a row would be {', '.join(f'{name} of {n}' for name, n in wanted.items())}; these are "
            f"{', '.join(f'{name} of {len(cell.edges)}' for name, cell in cells.items())}"
        )
    return stages


def read_stages(text: str, primitives: Sequence[str] | None = None) -> dict[str, Cell]:
    """The cells of a text.

    Args:
        text: begins with `MOBILE`.
        primitives: the candidate operations. Default: those of the space, and behind them in sorted order the further
            names of the text.

    Raises:
        ArchitectureError: it is none, or holds an operation that is not among `primitives`; the message names the
            stage.
    """
    chosen: list[list[str]] = []
    stages = []
    for number, part in enumerate(text.strip().removeprefix(MOBILE.strip()).split("|"), start=1):
        head, *names = part.split() or [""]
        match = _HEAD.fullmatch(head)
        if match is None or not names:
            raise ArchitectureError(
                f"stage {number}: must read w250 or w250/2 and an operation for each layer, got {shortened(part)}"
            )
        stages.append(Stage(int(match[1]), int(match[2] or 1), len(names)))
        chosen.append(names)
    rest = iter([name for names in chosen for name in names])
    if primitives is None:
        further = {name for names in chosen for name in names}.difference(MOBILE_PRIMITIVES)
        primitives = (*MOBILE_PRIMITIVES, *sorted(further))
    cells = {}
    for group in groups_of(stages):
        allowed = tuple(name for name in primitives if not (group.is_entry and name == IDENTITY))
        names = [next(rest) for _ in range(group.layers)]
        for name in names:
            if name not in allowed:
                why = "its shape changes there" if name == IDENTITY else nearest(name, allowed)
                raise ArchitectureError(f"{group.name}: {shortened(name)} cannot be chosen; {why}")
        code = np.array([[name == other for other in allowed] for name in names], np.uint8)
        cells[group.name] = Cell(allowed, chain_edges(group.layers), (group.layers,), code, 1)
    return cells


def print_stages(cells: Mapping[str, Cell]) -> str:
    """The text of cells of stages.

    Raises:
        ArchitectureError: they are others, or a layer has not just one operation.
    """
    stages = stages_of(cells)
    rows: list[str] = []
    for group in groups_of(stages):
        cell = cells[group.name]
        for layer, row in enumerate(cell.code.tolist(), start=1):
            if sum(row) != 1:
                raise ArchitectureError(
                    f"the text of stages has one operation a layer; layer {layer} of {group.name} has {sum(row)}"
                )
            rows.append(cell.primitives[row.index(1)])
    rest = iter(rows)
    parts = []
    for stage in stages:
        names = [next(rest) for _ in range(stage.layers)]
        parts.append(" ".join([f"w{stage.width}" + ("/2" if stage.stride == 2 else ""), *names]))
    return MOBILE + " | ".join(parts)


class StageForm(Form):
    """All stages of a network of the space `mobile`."""

    def holds(self, text: str) -> bool:
        return text.lstrip().startswith(MOBILE)

    def fits(self, groups: frozenset[str]) -> bool:
        return bool(groups) and all(_GROUP.fullmatch(name) for name in groups)

    def parse(self, text: str, primitives: Sequence[str] | None) -> tuple[str, dict[str, Cell]]:
        return "mobile", read_stages(text, primitives)

    def print(self, cells: Mapping[str, Cell]) -> str:
        return print_stages(cells)
