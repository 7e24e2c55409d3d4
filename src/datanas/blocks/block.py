"""What every choice block is: candidates by name, gates while a child is drawn, a plain module once it is chosen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from datanas.blocks.naming import require_name
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.egs import check_samples
from datanas.kernels.gates import Gates

Memo = dict[int, Any]
"""What was copied already, by the id of the original, as `copy.deepcopy` keeps it."""


class Block(nn.Module):
    """Part of a user's module that a search chooses for.

    Args:
        samples: M, how many draws choose among its candidates; None for the M of the search.
        name: blocks of one name choose alike.
        costs: by candidate; None for what the block finds itself.

    Attributes:
        gates: what is open, while a child is drawn.
        calls: how often it has run so far.
    """

    def __init__(self, samples: int | None, name: str | None, costs: Mapping[str, float] | None) -> None:
        super().__init__()
        if samples is not None:
            check_samples(samples)
        if name is not None:
            require_name(name, "name")
        self.samples, self.name = samples, name
        self.costs = None if costs is None else {each: float(cost) for each, cost in costs.items()}
        self.gates: Gates | None = None
        self.calls = 0

    @property
    @abstractmethod
    def primitives(self) -> tuple[str, ...]:
        """The candidates' names, in the order of the gates."""

    @abstractmethod
    def own_cost(self, candidate: str) -> float:
        """What a candidate costs, where nobody has said."""

    @abstractmethod
    def resolved(self, factors: Mapping[str, float], memo: Memo) -> nn.Module:
        """A copy that is left with what is kept.

        Args:
            factors: of the candidates that are kept, by name.
            memo: what was copied already.
        """

    def cost_of(self, candidate: str) -> float:
        """What a candidate costs: as was said, or its number of parameters."""
        return self.own_cost(candidate) if self.costs is None else self.costs[candidate]

    def group(self, name: str) -> ChoiceGroup:
        """What a search knows of it: one edge, from what comes in to what goes out."""
        return ChoiceGroup(name, ((0, 1),), self.primitives, outputs=(1,), inputs=1, samples=self.samples)

    def agrees_with(self, other: Block) -> bool:
        """Whether two blocks can choose alike."""
        return (type(self), self.primitives, self.samples) == (type(other), other.primitives, other.samples)

    def drawn(self) -> Gates:
        """The gates of the child that is drawn, for a call that begins.

        Raises:
            RuntimeError: none is, or this is a copy that `nn.DataParallel` made.
        """
        if getattr(self, "_is_replica", False):
            raise RuntimeError(
                "a choice cannot run in nn.DataParallel, whose copies the search does not know; use "
                "nn.parallel.DistributedDataParallel, one process for each device"
            )
        if self.gates is None:
            raise RuntimeError(
                f"nothing is chosen among {', '.join(self.primitives)}: run this module within `with search.sample():` "
                "or `with search.running(architecture):`, where search = datanas.Search(module), or rebuild it by "
                "datanas.resolve(module, architecture)"
            )
        self.calls += 1
        return self.gates

    def scaled(self, factors: Sequence[float]) -> Sequence[float]:
        """The factors that the block makes of its gates."""
        return factors

    def scaled_values(self, values: Tensor) -> Tensor:
        """The same of gates that require a gradient."""
        return values

    def require_costs(self) -> None:
        """Refuse costs of other candidates than it has.

        Raises:
            ConfigError: they are.
        """
        if self.costs is not None and set(self.costs) != set(self.primitives):
            given = ", ".join(self.costs) or "none"
            raise ConfigError(f"costs must be given for {', '.join(self.primitives)}, got {given}")

    def __getstate__(self) -> dict[str, Any]:
        """Without the child that is drawn: a copy of a block belongs to no search."""
        return {**self.__dict__, "gates": None}
