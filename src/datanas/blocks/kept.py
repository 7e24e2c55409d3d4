"""What a choice of several candidates is once it is made: a plain module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from datanas.kernels.candidate_sum import fixed_sum, weighted_sum
from datanas.kernels.candidates import Leaves


class Kept(nn.Module):
    """The weighted sum of what modules give for the same input.

    Args:
        modules: by name, such as candidates that a search has kept.
        factors: of each, by the same names.
    """

    def __init__(self, modules: Mapping[str, nn.Module], factors: Mapping[str, float]) -> None:
        super().__init__()
        self.kept = nn.ModuleDict(modules)
        self.factors = tuple(factors[name] for name in modules)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        outputs = [module(*args, **kwargs) for module in self.kept.values()]
        # What torch.fx records are stand-ins, of which it is not known that they are tensors.
        if all(isinstance(output, Tensor | Proxy) for output in outputs):
            return weighted_sum(outputs, self.factors)
        return fixed_sum([Leaves.of(output) for output in outputs], self.factors)

    def extra_repr(self) -> str:
        return "" if set(self.factors) == {1.0} else f"factors={self.factors}"
