"""`Choice`: a module whose candidates are chosen by a search (Eq. 2-3 with one edge)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datanas.blocks.block import Block, Memo
from datanas.blocks.kept import Kept
from datanas.blocks.naming import named_modules
from datanas.blocks.uncompiled import uncompiled
from datanas.core.errors import ConfigError
from datanas.kernels.candidate_sum import Ran, dense_sum, fixed_sum, learning_sum, require_alike
from datanas.kernels.candidates import Call, Candidate, ClosedCandidates, Leaves, aside, may_draw
from datanas.kernels.gates import Gates
from datanas.kernels.switch import own_kernels

Combine = Literal["sum", "mean"]


class Choice(Block):
    """Named candidates of which a search keeps one or several; what they give is added up.

    Called with what its candidates take. While a search has drawn a child, the open candidates run, and a closed one
    only where the gradient of its gate is wanted: in backward, without a graph. Which of them run makes no difference
    to the random numbers, running statistics and other buffers of the rest.

    Args:
        candidates: modules or functions by name, that take the same and give floating-point tensors of the same shapes.
        samples: M, how many draws choose among them: at most so many are kept, one if it is 1. None for the M of the
            search.
        combine: the "sum" of what is kept, or the "mean".
        name: blocks of one name choose alike, and so must have the same candidates; by default each chooses for itself,
            and is called by its place in the module, such as "layers/0/mix".
        costs: what each candidate costs, for `Search.expected_cost`; by default its number of parameters.

    Raises:
        ConfigError: candidates, names or costs that cannot be.
        ValueError: `samples` below 1.

    Example:
        >>> import datanas, torch
        >>> mix = datanas.Choice({"linear": torch.nn.Linear(3, 3), "skip": torch.nn.Identity()}, samples=2)
        >>> search = datanas.Search(mix, seed=0)
        >>> with search.sample():
        ...     mix(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        candidates: Mapping[str, nn.Module | Callable[..., Any]],
        *,
        samples: int | None = None,
        combine: Combine = "sum",
        name: str | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(samples, name, costs)
        if combine not in ("sum", "mean"):
            raise ConfigError(f"combine must be sum or mean, got {combine!r}")
        self.candidates = named_modules(candidates)
        self.combine: Combine = combine
        self.require_costs()
        self._is_checked = False
        self._may_draw: tuple[bool, ...] | None = None

    @property
    def primitives(self) -> tuple[str, ...]:
        return tuple(self.candidates)

    def own_cost(self, candidate: str) -> float:
        return float(sum(parameter.numel() for parameter in self.candidates[candidate].parameters()))

    def agrees_with(self, other: Block) -> bool:
        return super().agrees_with(other) and isinstance(other, Choice) and self.combine == other.combine

    def resolved(self, factors: Mapping[str, float], memo: Memo) -> nn.Module:
        scaled = dict(zip(factors, self.scaled(list(factors.values())), strict=True))
        modules = {name: copy.deepcopy(self.candidates[name], memo) for name in self.primitives if name in scaled}
        if len(modules) == 1 and next(iter(scaled.values())) == 1.0:
            return next(iter(modules.values()))
        return Kept(modules, scaled).train(self.training)

    def scaled(self, factors: Sequence[float]) -> Sequence[float]:
        return factors if self.combine == "sum" else [factor / sum(factors) for factor in factors]

    def scaled_values(self, values: Tensor) -> Tensor:
        return values if self.combine == "sum" else values / values.sum()

    @uncompiled
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        gates = self.drawn()
        candidates = self.every()
        call = Call.of(args, kwargs, draws=any(candidate.draws for candidate in candidates))
        factors = self.scaled(gates.host[0])
        opened = [candidate for candidate in candidates if factors[candidate.index] != 0.0]
        closed = [candidate for candidate in candidates if factors[candidate.index] == 0.0]
        ran = [(candidate, call.run(candidate, call.inputs.tensors)) for candidate in opened]
        require_alike(ran)
        self._check_once(call, closed, ran)
        device = ran[0][1].tensors[0].device
        if gates.dense or (gates.learns and not own_kernels()):
            return self._dense(call, closed, ran, self._values(gates, device))
        weights = [factors[candidate.index] for candidate in opened]
        if not gates.learns:
            return fixed_sum([leaves.apart_from(call.inputs.tensors) for _, leaves in ran], weights)
        mask = None if gates.grad_mask is None else gates.grad_mask[0]
        wanted = [candidate for candidate in closed if mask is None or mask[candidate.index] != 0.0]
        return learning_sum(ran, weights, self._values(gates, device), ClosedCandidates.of(call, wanted), mask)

    def every(self) -> list[Candidate]:
        """All candidates, in the order of the gates."""
        if self._may_draw is None:
            self._may_draw = tuple(may_draw(module) for module in self.candidates.values())
        items = zip(self.candidates.items(), self._may_draw, strict=True)
        return [Candidate(index, name, module, draws) for index, ((name, module), draws) in enumerate(items)]

    def _values(self, gates: Gates, device: torch.device) -> Tensor:
        return self.scaled_values(gates.values[0]).to(device, non_blocking=True)

    def _check_once(self, call: Call, closed: Sequence[Candidate], ran: Ran) -> None:
        """Run the closed candidates in the first call, so that one that does not fit is told now and not by chance."""
        if self._is_checked:
            return
        for candidate in closed:
            with torch.no_grad(), aside(candidate):
                require_alike([ran[0], (candidate, call.run(candidate, call.inputs.tensors))])
        self._is_checked = True

    def _dense(self, call: Call, closed: Sequence[Candidate], ran: Ran, values: Tensor) -> Any:
        """Every candidate with a graph of its own: the textbook execution, kept as the reference."""
        rest = [(candidate, self._beside(call, candidate)) for candidate in closed]
        return dense_sum(sorted([*ran, *rest], key=lambda each: each[0].index), values)

    @staticmethod
    def _beside(call: Call, candidate: Candidate) -> Leaves:
        with aside(candidate):
            return call.run(candidate, call.inputs.tensors)

    def extra_repr(self) -> str:
        parts = {"samples": self.samples, "name": self.name}
        shown = "".join(f", {key}={value!r}" for key, value in parts.items() if value is not None)
        return f"{self.combine} of {len(self.candidates)} candidates{shown}"
