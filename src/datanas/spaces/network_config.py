"""What networks can be set to: the part of a recipe's section `train` that each kind of network declares."""

from __future__ import annotations

from typing import ClassVar, Self, cast

from pydantic import Field
from torch import nn

from datanas.core.settings import Section
from datanas.kernels.mixed import set_drop_path


class NetworkConfig(Section):
    """The settings of one kind of network, which a space or a reference declares as its `Network`.

    `width_setting` names the one that a stem is built for, and that a bound of multiply-adds settles.
    """

    width_setting: ClassVar[str] = "channels"
    has_width: ClassVar[bool] = True
    """Whether it can be made as wide as a bound allows; a network that is as it is cannot."""

    @property
    def width(self) -> int:
        """Channels of the first cell, or hidden units."""
        return cast(int, getattr(self, self.width_setting))

    @property
    def is_pruned(self) -> bool:
        """Whether what is not live is left out (`datanas.codes.liveness`)."""
        return bool(getattr(self, "prune", True))

    def at_width(self, width: int) -> Self:
        """The same network of another width."""
        return self.model_copy(update={self.width_setting: width})

    def untowered(self) -> Self:
        """The same network without what only its training uses."""
        return self

    def advance(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Set what changes in a network while it is trained; nothing, where a kind does not say more."""

    def text(self) -> str:
        """How large the network is, for people."""
        return f"{self.width} channels"


class StackConfig(NetworkConfig):
    """A stack of cells (Section 5.1: 20 cells, C = 36)."""

    channels: int = Field(36, ge=1, description="width of the first cell")
    cells: int = Field(20, ge=1)
    drop_path: float = Field(0.2, ge=0, lt=1, description="reached linearly at the end")
    pooling_norm: bool = Field(False, description="batch norm after pooling, as while searching")
    prune: bool = Field(
        True,
        description="leave out operations and cells that cannot reach the output, or that the input does not reach",
    )

    def advance(self, network: nn.Module, epoch: int, epochs: int) -> None:
        set_drop_path(network, self.drop_path * epoch / epochs)

    def text(self) -> str:
        return f"{self.channels} channels in the first of {self.cells} cells"


class ToweredConfig(StackConfig):
    """The same with a tower for an auxiliary classifier; all that a network could be set to in version 0.1."""

    auxiliary: bool = Field(True, description="train with the auxiliary tower")

    def untowered(self) -> Self:
        return self.model_copy(update={"auxiliary": False})
