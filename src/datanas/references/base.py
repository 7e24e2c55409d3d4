"""Networks in which nothing is chosen, to compare searched ones with."""

from __future__ import annotations

from typing import Any

from torch import nn

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.core.settings import ComponentConfig
from datanas.spaces.base import Body, Costs, Space


class Reference(Space):
    """A space of one network: `datanas train NAME` trains it under the budget and settings of a searched cell."""

    def __init__(self, config: ComponentConfig) -> None:
        raise ConfigError(
            f"space.name: in {self.name} there is nothing to choose; train it by `datanas train {self.name}`"
        )

    @property
    def width(self) -> int:
        raise NotImplementedError

    def groups(self) -> dict[str, ChoiceGroup]:
        return {}

    def supernet_body(self, stem: nn.Module) -> Body:
        raise NotImplementedError

    def costs(self, stem: nn.Module, example: Any) -> dict[str, Costs]:
        return {}

    def identities(self, group: str) -> frozenset[str]:
        return frozenset()

    def parameter_free(self, group: str) -> frozenset[str]:
        return frozenset()
