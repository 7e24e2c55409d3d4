"""The space of NAS-Bench-Macro (Su et al., CVPR 2021): eight layers in three stages, each chosen for itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.layer_code import MACRO_GROUP, MACRO_LAYERS, MACRO_PRIMITIVES, MACRO_STAGES, chain_edges
from datanas.core.settings import ComponentConfig
from datanas.spaces import register_space
from datanas.spaces.layered import Layer, LayeredConfig, LayeredSpace


@register_space("macro")
class MacroSpace(LayeredSpace):
    """The benchmark's layers; the first of each stage doubles the width and halves the size.

    An identity is there a 1x1 convolution of stride 2 with batch norm, as in the benchmark, so that no primitive is
    without parameters on every edge.
    """

    class Config(ComponentConfig):
        name: Literal["macro"] = "macro"
        channels: int = Field(16, ge=1, description="channels of the supernet's stem; the benchmark's networks have 32")
        features: int = Field(320, ge=1, description="channels of its last 1x1 convolution; theirs have 1280")
        several: bool = Field(False, description="a layer of an architecture may hold several operations, added up")

    Network = LayeredConfig
    name: ClassVar[str] = "macro"

    def __init__(self, config: Config) -> None:
        self.config = config

    def groups(self) -> dict[str, ChoiceGroup]:
        edges = chain_edges(MACRO_LAYERS)
        is_single = not self.config.several
        return {
            MACRO_GROUP: ChoiceGroup(
                MACRO_GROUP, edges, MACRO_PRIMITIVES, outputs=(MACRO_LAYERS,), inputs=1, single=is_single
            )
        }

    def layers(self) -> tuple[Layer, ...]:
        return _layers(self.config.channels)

    @classmethod
    def network_layers(cls, architecture: Architecture, channels: int) -> tuple[Layer, ...]:
        return _layers(channels)


def _layers(width: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for count in MACRO_STAGES:
        layers.append(Layer(MACRO_GROUP, len(layers), width, 2 * width, stride=2))
        width *= 2
        layers += [Layer(MACRO_GROUP, len(layers) + index, width, width) for index in range(count - 1)]
    return tuple(layers)
