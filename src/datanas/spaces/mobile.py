"""The space of ProxylessNAS and FBNet at any size: stages of inverted residuals, each layer chosen for itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import NONE, ChoiceGroup
from datanas.codes.layer_code import IDENTITY, chain_edges
from datanas.codes.stage_code import MOBILE_PRIMITIVES, Stage, groups_of, stages_of
from datanas.core.errors import ArchitectureError
from datanas.core.settings import ComponentConfig
from datanas.ops import OpSettings, operations
from datanas.spaces import register_space
from datanas.spaces.layered import Layer, LayeredSpace
from datanas.spaces.plans import known_once

Count = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(ge=0.01, le=1000)]


@register_space("mobile")
class MobileSpace(LayeredSpace):
    """Inverted residuals of kernel 3, 5 or 7 and expansion 3 or 6, and the identity where the shape stays.

    Cai, Zhu and Han (ICLR 2019) and Wu et al. (CVPR 2019). The defaults are the stages of ProxylessNAS for images of
    32 pixels: layers and widths are its own, the stride of the first stage and that of the stem are left out. With one
    layer a stage and primitives such as mb6_k3, mb6_k3_x2, mb6_k3_x3 the depth of each stage is chosen.
    """

    class Config(ComponentConfig):
        name: Literal["mobile"] = "mobile"
        channels: int = Field(16, ge=1, description="channels of the supernet's stem")
        layers: Annotated[tuple[Count, ...], Field(min_length=1)] = Field(
            (4, 4, 4, 4, 4, 1), description="of each stage"
        )
        widths: tuple[Factor, ...] = Field(
            (1.5, 2.5, 5, 6, 12, 20), description="of each stage, in multiples of the stem's; to a hundredth"
        )
        strides: tuple[Literal[1, 2], ...] = Field((1, 2, 2, 1, 2, 1), description="of each stage's first layer")
        primitives: tuple[str, ...] = Field(
            MOBILE_PRIMITIVES, description="identity is offered where the shape stays, the others everywhere"
        )
        features: int = Field(1280, ge=1, description="channels of the last 1x1 convolution")
        several: bool = Field(False, description="a layer of an architecture may hold several operations, added up")

        @field_validator("primitives")
        @classmethod
        def change_shapes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
            others = [name for name in known_once(names, operations) if name != IDENTITY]
            if unfit := [name for name in others if not can_change_shape(name)]:
                raise ValueError(f"{unfit[0]} cannot change the channels, as the first layer of a stage has to")
            if len(others) < 2:
                raise ValueError(
                    f"must hold at least two operations that change the shape, such as mb3_k3 and mb6_k5, got {names}"
                )
            return names

        @model_validator(mode="after")
        def one_each(self) -> MobileSpace.Config:
            for name in ("widths", "strides"):
                count = len(getattr(self, name))
                if count != len(self.layers):
                    raise ValueError(
                        f"{name}: must be one for each of the {len(self.layers)} stages that layers says, got {count}"
                    )
            return self

    name: ClassVar[str] = "mobile"

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def stages(self) -> list[Stage]:
        """The stages of the supernet."""
        rows = zip(self.config.layers, self.config.widths, self.config.strides, strict=True)
        return [Stage(round(100 * width), stride, layers) for layers, width, stride in rows]

    def groups(self) -> dict[str, ChoiceGroup]:
        choice_groups = {}
        count, begun = sum(self.config.layers), 0
        for group in groups_of(self.stages):
            middle, begun = begun + (group.layers - 1) / 2, begun + group.layers
            names = tuple(name for name in self.config.primitives if not (group.is_entry and name == IDENTITY))
            choice_groups[group.name] = ChoiceGroup(
                group.name,
                chain_edges(group.layers),
                names,
                outputs=(group.layers,),
                inputs=1,
                single=not self.config.several,
                depth=middle / max(count - 1, 1),
            )
        return choice_groups

    def layers(self) -> tuple[Layer, ...]:
        return layers_of(self.stages, self.config.channels)

    @classmethod
    def network_layers(cls, architecture: Architecture, channels: int) -> tuple[Layer, ...]:
        """As in `LayeredSpace`; an identity in the first layer of a stage that has another shape is refused."""
        stages = stages_of(architecture.cells)
        layers = layers_of(stages, channels)
        entries = {group.name for group in groups_of(stages) if group.is_entry}
        for layer in layers:
            cell = architecture.cells[layer.group]
            names = cell.primitives
            if layer.group in entries and IDENTITY in names and cell.code[layer.edge, names.index(IDENTITY)]:
                raise ArchitectureError(
                    f"cells.{layer.group}: {IDENTITY} cannot bring {layer.channels} channels to {layer.out_channels} "
                    f"at stride {layer.stride}; choose another operation there"
                )
        return layers


def layers_of(stages: Sequence[Stage], channels: int) -> tuple[Layer, ...]:
    """The layers of stages behind a stem of so many channels; widths are rounded, and at least 1."""
    layers: list[Layer] = []
    before = channels
    for group in groups_of(stages):
        width = max(1, int(group.width * channels / 100 + 0.5))
        for edge in range(group.layers):
            layers.append(Layer(group.name, edge, before, width, group.stride))
            before = width
    return tuple(layers)


@cache
def can_change_shape(primitive: str) -> bool:
    """Whether an operation can give another number of channels than it reads."""
    if primitive == NONE:
        return False
    with torch.device("meta"):
        module = operations[primitive](OpSettings(2, out_channels=3)).eval()
        return bool(module(torch.empty(1, 2, 4, 4)).shape[1] == 3)
