"""Architectures drawn uniformly, and changed in one place: what random search and evolution are made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.samplers.limits import Limits

Code = Float[Tensor, "edges ops"]
TRIES = 10_000
"""Random cells that are drawn for one within limits."""


def random_codes(groups: Mapping[str, ChoiceGroup], generator: torch.Generator) -> dict[str, Code]:
    """A uniformly random cell for every group: one operation an edge, or as many inputs a node as DARTS' rule keeps.

    In the latter case the inputs are different edges, with one operation other than `none` each, as in Li and
    Talwalkar (UAI 2019).
    """
    return {name: _random_code(group, generator) for name, group in groups.items()}


def random_codes_within(
    groups: Mapping[str, ChoiceGroup], generator: torch.Generator, limits: Limits | None
) -> dict[str, Code]:
    """The same among those that keep the limits: drawn until one does.

    Raises:
        ConfigError: none of `TRIES` does.
    """
    for _ in range(TRIES):
        codes = random_codes(groups, generator)
        if limits is None or keeps(codes, groups, limits):
            return codes
    raise ConfigError(f"budget: of {TRIES} random cells none is within it; allow more, or take another sampler")


def keeps(codes: Mapping[str, Code], groups: Mapping[str, ChoiceGroup], limits: Limits) -> bool:
    """Whether cells keep the limits, and are live: a dead one costs nothing."""
    is_live = all(group.lets_through(codes[name]) for name, group in groups.items())
    return is_live and limits.allow(limits.cost(codes, groups))


def mutated_within(
    codes: Mapping[str, Code],
    groups: Mapping[str, ChoiceGroup],
    generator: torch.Generator,
    limits: Limits | None,
) -> dict[str, Code]:
    """As `mutated`, with a change that keeps the limits; of many tries in vain the same cells."""
    for _ in range(TRIES // 100):
        changed = mutated(codes, groups, generator)
        if limits is None or keeps(changed, groups, limits):
            return changed
    return dict(codes)


def _random_code(group: ChoiceGroup, generator: torch.Generator) -> Code:
    edges, ops = group.shape
    code = torch.zeros(group.shape)
    if group.single:
        return code.scatter_(1, torch.randint(ops, (edges, 1), generator=generator), 1.0)
    for part in group.by_target:
        for index in torch.randperm(len(part), generator=generator)[: group.fan_in].tolist():
            code[part[index], _operation(group, generator)] = 1.0
    return code


def random_probs(group: ChoiceGroup) -> Float[Tensor, "edges ops"]:
    """How likely each operation is to be on each edge of a random cell; `none` takes what an unused edge leaves."""
    if group.single:
        return torch.full(group.shape, 1 / group.shape[1], dtype=torch.double)
    allowed = torch.tensor(_operations(group))
    probs = torch.zeros(group.shape, dtype=torch.double)
    for part in group.by_target:
        used = min(group.fan_in, len(part)) / len(part)
        probs[torch.tensor(part)[:, None], allowed] = used / len(allowed)
    rest = 1 - probs.sum(dim=1, keepdim=True)
    if group.null is None:
        return probs + rest / group.shape[1]
    probs[:, group.null] = rest.squeeze(1)
    return probs


def mutated(
    codes: Mapping[str, Code], groups: Mapping[str, ChoiceGroup], generator: torch.Generator
) -> dict[str, Code]:
    """The same cells with one change: another operation, or another input (Real et al., AAAI 2019, Section 3).

    Where an edge holds one operation there are no inputs to change. The cell is chosen at random too.
    """
    names = list(codes)
    name = names[_below(len(names), generator)]
    change = _moved_input if not groups[name].single and _below(2, generator) else _other_operation
    return {**codes, name: change(codes[name], groups[name], generator)}


def _other_operation(code: Code, group: ChoiceGroup, generator: torch.Generator) -> Code:
    chosen = code.nonzero().tolist()
    edge, op = chosen[_below(len(chosen), generator)]
    others = [other for other in _operations(group) if other != op]
    changed = code.clone()
    if others:
        changed[edge, op] = 0.0
        changed[edge, others[_below(len(others), generator)]] = 1.0
    return changed


def _moved_input(code: Code, group: ChoiceGroup, generator: torch.Generator) -> Code:
    """One operation moved to a free edge into the same node; the same code where no node has one."""
    used = code.any(dim=1).tolist()
    moves = [(edge, free) for part in group.by_target for edge in part if used[edge] for free in part if not used[free]]
    changed = code.clone()
    if moves:
        edge, free = moves[_below(len(moves), generator)]
        changed[free], changed[edge] = code[edge], 0.0
    return changed


def _operation(group: ChoiceGroup, generator: torch.Generator) -> int:
    allowed = _operations(group)
    return allowed[_below(len(allowed), generator)]


def _operations(group: ChoiceGroup) -> list[int]:
    """What an edge that is used may hold."""
    return [op for op in range(group.shape[1]) if group.single or op != group.null]


def _below(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))
