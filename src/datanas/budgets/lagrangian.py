"""Bounds in the alpha loss: an augmented Lagrangian of the expected costs, whose multipliers adapt.

With E the expected cost of the rebuilt network, in closed form (`posterior.expected_cost`), B its bound and
g = E / B - 1, each bound adds

    (max(0, m + rho g)^2 - m^2) / (2 rho)

to the loss, and after each alpha step its multiplier m becomes max(0, m + rate g) (Hestenes 1969; Powell 1969;
Rockafellar 1973 for inequalities). A cost of fixed weight w adds w E / unit instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from datanas.budgets.base import CostTable

RHO = 1.0
"""Curvature: how steeply the loss rises with the square of what is too much."""
RATE = 0.1
"""Of the multipliers, an alpha step."""


class BudgetLoss:
    """What the bounds add to the alpha loss.

    Args:
        tables: of each cost.
        bounds: of those that are bounded.
        weights: of those that have a fixed weight; the others' multipliers adapt.
        inclusion: at the start; what a cost without bound is expected to be there is its unit.

    Attributes:
        multipliers: of the bounds that adapt, by cost.
    """

    def __init__(
        self,
        tables: Mapping[str, CostTable],
        bounds: Mapping[str, float],
        weights: Mapping[str, float],
        inclusion: Mapping[str, Float[Tensor, "edges ops"]],
    ) -> None:
        self._constants = {name: table.constant for name, table in tables.items()}
        self._tables = {
            name: {group: torch.from_numpy(costs) for group, costs in table.tables.items()}
            for name, table in tables.items()
        }
        self._bounds, self._weights = dict(bounds), dict(weights)
        self.multipliers = {name: 0.0 for name in tables if name in bounds and name not in weights}
        expected = {name: float(value) for name, value in self.expected(inclusion).items()}
        self._units = {name: bounds.get(name, expected[name]) or 1.0 for name in tables}

    def expected(self, inclusion: Mapping[str, Float[Tensor, "edges ops"]]) -> dict[str, Tensor]:
        """E of each cost, from the probability of each operation to be in the network; differentiable."""
        expected = {}
        for name, tables in self._tables.items():
            total = torch.as_tensor(self._constants[name], dtype=torch.double)
            for group, costs in tables.items():
                total = total + (inclusion[group].double() * costs).sum()
            expected[name] = total
        return expected

    def loss(self, inclusion: Mapping[str, Float[Tensor, "edges ops"]]) -> Tensor:
        """What is added to the loss of an alpha step; on the host, a scalar."""
        expected = self.expected(inclusion)
        total = torch.zeros((), dtype=torch.double)
        for name, multiplier in self.multipliers.items():
            passed = expected[name] / self._bounds[name] - 1
            total = total + ((multiplier + RHO * passed).clamp_min(0).square() - multiplier**2) / (2 * RHO)
        for name, weight in self._weights.items():
            total = total + weight * expected[name] / self._units[name]
        return total.float()

    def adapt(self, inclusion: Mapping[str, Float[Tensor, "edges ops"]]) -> None:
        """Move the multipliers, once an alpha step is made; `inclusion` as it was in that step."""
        expected = self.expected(inclusion)
        for name, multiplier in self.multipliers.items():
            passed = float(expected[name].detach()) / self._bounds[name] - 1
            self.multipliers[name] = max(0.0, multiplier + RATE * passed)

    def passed(self, inclusion: Mapping[str, Float[Tensor, "edges ops"]]) -> list[str]:
        """Of the costs whose multipliers adapt, those whose expectation is above the bound."""
        expected = self.expected(inclusion)
        return [name for name in self.multipliers if float(expected[name].detach()) > self._bounds[name]]

    def figures(self, inclusion: Mapping[str, Float[Tensor, "edges ops"]]) -> dict[str, float]:
        """Expected costs and multipliers, for the metrics."""
        expected = {
            f"budget/expected/{name}": float(value.detach()) for name, value in self.expected(inclusion).items()
        }
        return expected | {f"budget/multiplier/{name}": value for name, value in self.multipliers.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"multipliers": dict(self.multipliers), "units": dict(self._units)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.multipliers = {name: float(state["multipliers"][name]) for name in self.multipliers}
        self._units = {name: float(state["units"][name]) for name in self._units}
