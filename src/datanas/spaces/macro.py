"""The space of NAS-Bench-Macro (Su et al., CVPR 2021): eight layers in three stages, each chosen for itself."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.layer_code import MACRO_GROUP, MACRO_LAYERS, MACRO_PRIMITIVES, chain_edges
from datanas.core.settings import ComponentConfig
from datanas.spaces import register_space
from datanas.spaces.layered import Layer, LayeredConfig, LayeredSpace

STAGES = (2, 3, 3)


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

    @classmethod
    def layers(cls, settings: Any) -> tuple[Layer, ...]:
        found: list[Layer] = []
        width = settings.channels
        for count in STAGES:
            for place in range(count):
                is_first = place == 0
                found.append(
                    Layer(MACRO_GROUP, len(found), width, 2 * width if is_first else width, 2 if is_first else 1)
                )
                width = found[-1].out_channels
        return tuple(found)
