"""The recurrent space of DARTS and DATA: activations in highway connections between the nodes of one cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from datanas.codes.architecture import RECURRENT_PRIMITIVES, Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import LiveCell, LiveCount, live_cell, live_stack
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import ComponentConfig
from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.gates import Gates
from datanas.kernels.recurrence import RecurrentSteps
from datanas.ops import NONE
from datanas.ops.activations import activations
from datanas.spaces import register_space
from datanas.spaces.base import Body, Costs, Space
from datanas.spaces.plans import every_choice, known_once, require_known
from datanas.spaces.sequence import Carried, RecurrentConfig, Sequences, sequence_shape
from datanas.spaces.workload import CellWork, Workload

GROUP = "recurrent"
UNSEARCHED = 4
"""Nodes of a cell that nothing is searched for: two inputs, the first node that reads them, the output."""


class RecurrentBody(Body):
    """One cell, run over sequences."""

    def __init__(self, steps: RecurrentSteps, hidden: int) -> None:
        super().__init__()
        self.steps = steps
        self.out_channels = (hidden,)

    def forward(self, x: Sequences, gates: Mapping[str, Gates] | None = None) -> Carried:
        state = x.inputs.new_zeros(x.inputs.shape[1], *self.out_channels) if x.state is None else x.state
        outputs = self.steps(x.inputs, state, x.mask, gates[GROUP] if gates is not None else None)
        return Carried(outputs, outputs[-1])


@register_space("recurrent_cell")
class RecurrentCellSpace(Space):
    """A cell of which every searched node reads any earlier ones by any activations (DARTS, ICLR 2019; Section 5.7).

    The first node reads input and hidden state; the output is the mean of the searched nodes. While searching, every
    node is normalised over the batch.
    """

    class Config(ComponentConfig):
        name: Literal["recurrent_cell"] = "recurrent_cell"
        hidden: int = Field(300, ge=1, description="units of the supernet's hidden state")
        nodes: int = Field(
            12, ge=5, le=20, description="nodes of a cell: two inputs, the first node, the searched ones, the output"
        )
        primitives: Annotated[tuple[str, ...], Field(min_length=2)] = RECURRENT_PRIMITIVES

        @field_validator("primitives")
        @classmethod
        def known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            return known_once(names, activations)

    class Network(RecurrentConfig):
        prune: bool = Field(True, description="leave out activations that cannot reach the output")

    name: ClassVar[str] = "recurrent_cell"
    task: ClassVar[str] = "language"
    fixed: ClassVar[Mapping[str, Any]] = {"cells": 1}
    runs_of_probe: ClassVar[int] = 8

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def width(self) -> int:
        return self.config.hidden

    def groups(self) -> dict[str, ChoiceGroup]:
        targets = range(1, self.config.nodes - UNSEARCHED + 1)
        edges = tuple((source, target) for target in targets for source in range(target))
        return {GROUP: ChoiceGroup(GROUP, edges, self.config.primitives, outputs=tuple(targets), inputs=1, fan_in=1)}

    def supernet_body(self, stem: nn.Module) -> RecurrentBody:
        hidden = self.config.hidden
        shape = sequence_shape(stem, hidden, self.name)
        group = self.groups()[GROUP]
        choices = [choice.built(activations[choice.operation]) for choice in every_choice(group)]
        nodes = 1 + len(group.by_target)
        steps = RecurrentSteps(choices, nodes, group.outputs, width=shape.width, hidden=hidden, norm=True)
        return RecurrentBody(steps, hidden)

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Network) -> RecurrentBody:
        """As in `Space`; there is no batch norm.

        The mean of the output nodes is over all of them either way: one that nothing enters counts as zero.
        """
        cell = architecture.cells.get(GROUP)
        if cell is None or cell.inputs != 1:
            raise ArchitectureError(f"cells: a recurrent_cell network needs one named {GROUP!r}, with one input")
        hidden = settings.channels
        shape = sequence_shape(stem, hidden, cls.name)
        factors = architecture.weights(GROUP)
        require_known(architecture, GROUP, activations)
        code = live_cell(cell).code if settings.prune else cell.code
        choices = [
            CellOperation(edge, op, source, target, activations[cell.primitives[op]], float(factors[edge, op]))
            for edge, (source, target) in enumerate(cell.edges)
            for op in np.flatnonzero(code[edge]).tolist()
        ]
        steps = RecurrentSteps(choices, cell.nodes, cell.outputs, width=shape.width, hidden=hidden, norm=False)
        return RecurrentBody(steps, hidden)

    @classmethod
    def count_live(cls, architecture: Architecture, settings: Any) -> LiveCount:
        return live_stack([architecture.cells[GROUP]]).count

    def identities(self, group: str) -> frozenset[str]:
        """None: in a highway connection `identity` passes on a learned part of what it reads."""
        return frozenset()

    def parameter_free(self, group: str) -> frozenset[str]:
        return frozenset({NONE} & set(self.config.primitives))

    def costs(self, stem: nn.Module, example: Any) -> dict[str, Costs]:
        """Multiply-adds of one step of one sequence.

        The weights belong to the nodes, whatever these read, so an operation costs no parameters. Activations on one
        edge share its product, which a sum cannot say: of those together on an edge the cost is an upper bound.
        """
        group = self.groups()[GROUP]
        macs = np.full(group.shape, 2.0 * self.config.hidden**2)
        if group.null is not None:
            macs[:, group.null] = 0
        return {GROUP: Costs(np.zeros(group.shape), macs)}

    def at_size(self, channels: int, cells: int) -> RecurrentCellSpace:
        if cells != 1:
            raise ConfigError(f"train.cells: a {self.name} network has one layer; leave it out, got {cells}")
        return RecurrentCellSpace(self.config.model_copy(update={"hidden": channels}))

    def work(self, stem: nn.Module, example: Any) -> list[CellWork]:
        """One cell: the activations of one step, each with the product of its edge."""
        group = self.groups()[GROUP]
        row = tuple(None if name == NONE else Workload(name, self.config.hidden) for name in group.primitives)
        return [CellWork(GROUP, (row,) * len(group.edges))]

    def live_cells(self, architecture: Architecture) -> list[LiveCell | None]:
        return [live_cell(architecture.cells[GROUP])]

    def probe(
        self, workload: Workload, batch: int, device: torch.device, *, pooling_norm: bool = False
    ) -> Callable[[], object]:
        """One step of a cell whose nodes read each other in a row; what its first node takes is spread over them."""
        units, nodes = workload.channels, 1 + self.runs_of_probe
        choices = [
            CellOperation(node - 1, 0, node - 1, node, activations[workload.primitive]) for node in range(1, nodes)
        ]
        steps = RecurrentSteps(choices, nodes, (nodes - 1,), width=units, hidden=units, norm=False)
        steps = steps.to(device).eval()
        x, state = torch.randn(1, batch, units, device=device), torch.randn(batch, units, device=device)
        return lambda: steps(x, state, None)
