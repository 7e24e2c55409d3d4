"""What the operations of an architecture may cost together: additive bounds by choice group. Plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.codes.liveness import live_edges

ROUNDING = 1e-9
"""Share of a bound by which sums of floating point may pass it."""


@dataclass(frozen=True)
class Limits:
    """Bounds on additive costs.

    Attributes:
        names: of the costs.
        tables: by group, float64 (edges, ops, costs): what each operation costs where it is live; `none` costs nothing.
        bounds: float64 (costs,): what all live operations may cost together; a constant of the network is taken off.
    """

    names: tuple[str, ...]
    tables: Mapping[str, Float[np.ndarray, "edges ops costs"]]
    bounds: Float[np.ndarray, " costs"]

    def __post_init__(self) -> None:
        for name, table in self.tables.items():
            if not np.isfinite(table).all() or (table < 0).any():
                raise ValueError(f"costs of {name} must be finite and not negative")

    @property
    def scaled(self) -> Limits:
        """The same in units of each bound, so that all bounds are 1; where a bound is not above 0, as it was."""
        units = np.where(self.bounds > 0, self.bounds, 1.0)
        tables = {name: table / units for name, table in self.tables.items()}
        return Limits(self.names, tables, self.bounds / units)

    def cost(
        self, codes: Mapping[str, Tensor], groups: Mapping[str, ChoiceGroup], *, live_only: bool = True
    ) -> Float[np.ndarray, " costs"]:
        """What the live operations of codes, by group, shape (edges, ops), cost together; with dead ones if asked."""
        total = np.zeros(len(self.names))
        for name, group in groups.items():
            code = (codes[name].detach().numpy() > 0).astype(float)
            if live_only:
                live = live_edges(group.edges, group.is_open(codes[name]), group.outputs, group.inputs).edges
                code = code * np.array(live)[:, None]
            total += np.einsum("eo,eoc->c", code, self.tables[name])
        return total

    def allow(self, cost: Float[np.ndarray, " costs"]) -> bool:
        """Whether operations may cost that much."""
        return bool((cost <= self.bounds + ROUNDING * np.abs(self.bounds)).all())
