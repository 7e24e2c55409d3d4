"""A search space of one chain: three choices in a row between stem and head."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.codes.cell import Cell
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import LiveCount, live_cell, live_stack
from datanas.codes.text_form import TextForm, register_text_form
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import ComponentConfig
from datanas.kernels.gates import Gates
from datanas.ops import NONE, OpSettings
from datanas.spaces import register_space
from datanas.spaces.base import Body, Costs, Space, StemShape
from datanas.spaces.network_config import NetworkConfig
from datanas.spaces.plans import CellNodes, CellPlan, feature_size, network_plan, operation_cost, supernet_plan

BEGINNING = "chain: "
EDGES = ((0, 1), (1, 2), (2, 3))
PRIMITIVES = ("none", "skip_connect", "sep_conv_3x3", "avg_pool_3x3")


class ChainBody(Body):
    """The chain; zeros where it is broken."""

    def __init__(self, plan: CellPlan, settings: OpSettings) -> None:
        super().__init__()
        self.nodes = CellNodes(plan, settings)
        self.outputs = plan.outputs
        self.out_channels = (settings.channels,)

    def forward(self, stem: tuple[Tensor, Tensor], gates: Mapping[str, Gates] | None = None) -> tuple[Tensor]:
        x = stem[1]
        values = self.nodes([x], gates["chain"] if gates is not None else None)
        last = values[self.outputs[0]] if self.outputs else None
        return (0 * x if last is None else last,)


def write(cells: Mapping[str, Cell]) -> str:
    """One operation on each edge, in a row; several with a plus between them."""
    cell = cells["chain"]
    parts = ["+".join(name for name, bit in zip(cell.primitives, row, strict=True) if bit) or NONE for row in cell.code]
    return BEGINNING + ", ".join(parts)


def read(text: str) -> dict[str, Cell]:
    rows = text.removeprefix(BEGINNING).split(", ")
    code = np.array([[name in row.split("+") for name in PRIMITIVES] for row in rows], np.uint8)
    if len(rows) != len(EDGES) or not code.any(axis=1).all():
        raise ArchitectureError(f"chain: must have {len(EDGES)} operations of {', '.join(PRIMITIVES)}, got {text}")
    return {"chain": Cell(PRIMITIVES, EDGES, (3,), code, 1)}


register_text_form(TextForm("chain", BEGINNING, read, write, frozenset({"chain"})))


def require_width(stem: nn.Module, channels: int) -> None:
    shape = getattr(stem, "shape", None)
    if not isinstance(shape, StemShape) or shape.channels[1] != channels or shape.dense:
        raise ConfigError("task.stem: chain needs a stem of its own width, such as plain")


@register_space("chain")
class Chain(Space):
    class Config(ComponentConfig):
        name: Literal["chain"] = "chain"
        channels: int = Field(8, ge=1)

    class Network(NetworkConfig):
        channels: int = Field(8, ge=1)
        pooling_norm: bool = False
        prune: bool = True

    name: ClassVar[str] = "chain"
    fixed: ClassVar[Mapping[str, Any]] = {"cells": 1}
    defaults: ClassVar[Mapping[str, Any]] = {
        "task": {"name": "classification", "stem": "plain"},
    }

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def width(self) -> int:
        return self.config.channels

    def groups(self) -> dict[str, ChoiceGroup]:
        return {"chain": ChoiceGroup("chain", EDGES, PRIMITIVES, outputs=(3,), inputs=1)}

    def supernet_body(self, stem: nn.Module) -> ChainBody:
        require_width(stem, self.width)
        return ChainBody(supernet_plan(self.groups()["chain"]), OpSettings(self.width, affine=False))

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Any) -> ChainBody:
        require_width(stem, settings.channels)
        if "chain" not in architecture.cells:
            raise ArchitectureError("cells: a network of space chain needs one named 'chain'")
        live = live_cell(architecture.cells["chain"]) if settings.prune else None
        built_with = OpSettings(settings.channels, pooling_norm=settings.pooling_norm)
        return ChainBody(network_plan(architecture, "chain", live), built_with)

    @classmethod
    def count_live(cls, architecture: Architecture, settings: Any) -> LiveCount:
        return live_stack([architecture.cells["chain"]]).count

    def identities(self, group: str) -> frozenset[str]:
        return frozenset({"skip_connect"})

    def parameter_free(self, group: str) -> frozenset[str]:
        return frozenset(PRIMITIVES) - {"sep_conv_3x3"}

    def costs(self, stem: nn.Module, example: Tensor) -> dict[str, Costs]:
        size = feature_size(stem, example)
        found = np.array([operation_cost(primitive, self.width, 1, size) for primitive in PRIMITIVES], float)
        parameters, macs = (np.tile(column, (3, 1)) for column in found.T)
        return {"chain": Costs(parameters, macs)}
