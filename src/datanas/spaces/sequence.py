"""What a task over sequences hands to a recurrent body, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from datanas.core.errors import ConfigError
from datanas.spaces.network_config import NetworkConfig


class RecurrentConfig(NetworkConfig):
    """The settings of a network of one recurrent layer."""

    channels: int = Field(850, ge=1, description="hidden units (Section 5.7)")


@dataclass(frozen=True)
class SequenceShape:
    """What a stem of sequences says of itself, as its attribute `shape`.

    Attributes:
        width: of an input at one step.
        hidden: units of the hidden state that its dropout mask is made for.
    """

    width: int
    hidden: int


class Sequences(NamedTuple):
    """Inputs of a recurrent body.

    Attributes:
        inputs: (time, batch, width).
        state: (batch, ...) what the body carried away from the steps before; None at a beginning.
        mask: (batch, hidden) what the hidden state is multiplied by before a matrix, the same at all steps; None for
            ones.
    """

    inputs: Float[Tensor, "time batch width"]
    state: Float[Tensor, "batch carried"] | None
    mask: Float[Tensor, "batch hidden"] | None


class Carried(NamedTuple):
    """Outputs of a recurrent body.

    Attributes:
        outputs: (time, batch, hidden).
        state: what to carry on.
    """

    outputs: Float[Tensor, "time batch hidden"]
    state: Float[Tensor, "batch carried"]


def sequence_shape(stem: nn.Module, hidden: int, space: str) -> SequenceShape:
    """The shape of a stem that a body of `hidden` units can follow.

    Raises:
        ConfigError: it is another kind of stem.
    """
    shape = getattr(stem, "shape", None)
    if not isinstance(shape, SequenceShape) or shape.hidden != hidden:
        raise ConfigError(f"task.name: {space} needs a task whose stem gives sequences, such as language")
    return shape
