"""The architecture distribution constraint over all choice groups of a search, as it enters the alpha loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.constraint import constraint
from datanas.core.errors import ConfigError
from datanas.core.settings import Section
from datanas.samplers.vectors import Vectors


class ConstraintConfig(Section):
    """The architecture distribution constraint (Eq. 12, 16-19), and how it enters the alpha loss (Eq. 13)."""

    kind: Literal["none", "l1", "l2", "kl", "entropy", "power"] = "entropy"
    gamma: float = Field(1e-2, ge=0, description="weight in the alpha loss")
    power: float = Field(1.0, gt=0, description="t of Eq. 12, for kind `power`")
    warm_up: float = Field(0.0, ge=0, le=1, description="share of the search over which gamma rises from 0")
    reduction: Literal["sum", "mean"] = "sum"
    target: Literal["code", "normalised"] = "code"
    through_gates: bool = Field(False, description="let the gradient also flow through f(P)")
    over: Literal["vectors", "architecture"] = Field(
        "vectors",
        description="what P and code are compared over: each probability vector, or their sum over all choice groups "
        "of one layout, such as all cells of `conv_stack`",
    )
    depth_power: float = Field(
        0.0,
        ge=-8,
        le=8,
        description="a choice group at depth d (0 at the stem, 1 at the head) weighs as (1 + d)^depth_power does, in "
        "the mean 1; for spaces that say where a group stands, such as `conv_stack`",
    )

    @model_validator(mode="after")
    def power_fits_kind(self) -> ConstraintConfig:
        if self.power != 1.0 and self.kind not in ("l1", "power"):
            raise ValueError(f"power belongs to kind `power`, not to `{self.kind}`")
        return self


def constraint_terms(
    settings: ConstraintConfig,
    probs: Mapping[str, Float[Tensor, "vectors entries"]],
    codes: Mapping[str, Float[Tensor, "vectors entries"]],
    vectors: Mapping[str, Vectors],
    weights: Mapping[str, float],
) -> Iterator[Float[Tensor, ""]]:
    """The terms of the constraint over choice groups g with the weights w_g, without gamma.

    | over         | terms                                                                                |
    |--------------|--------------------------------------------------------------------------------------|
    | vectors      | for each g: w_g G(P_g, f_g)                                                          |
    | architecture | for each layout W G(sum of w_g P_g / W, sum of w_g f_g / W), W the sum of its w_g    |

    The sum of probability vectors is divided by W, so that it is one again, and G multiplied by it; of l1 that is the
    distance of the sums. Groups are of one layout where they differ in name, depth and M alone.

    Args:
        probs, codes: P and what was drawn from it, by group.
        weights: w_g by group; empty for 1 everywhere.
    """
    parts = [[name] for name in vectors] if settings.over == "vectors" else _by_layout(vectors)
    for names in parts:
        given = {name: weights.get(name, 1.0) for name in names}
        whole = sum(given.values())
        term = constraint(
            _mean([(probs[name], weight / whole) for name, weight in given.items()]),
            _mean([(_target(codes[name], settings), weight / whole) for name, weight in given.items()]),
            settings.kind,
            settings.power,
            through_gates=settings.through_gates,
            reduction=settings.reduction,
            mask=vectors[names[0]].mask,
        )
        yield term if whole == 1 else whole * term


def depth_weights(groups: Mapping[str, ChoiceGroup], power: float, space: str) -> dict[str, float]:
    """The weight of each choice group, (1 + depth)^power over the mean of these; empty for a power of 0.

    Raises:
        ConfigError: a group has no depth.
    """
    if power == 0:
        return {}
    raw = {name: (1 + group.depth) ** power for name, group in groups.items() if group.depth is not None}
    if len(raw) < len(groups):
        raise ConfigError(
            f"sampler.constraint.depth_power: the choice groups of space {space} stand at no one depth; leave it at 0, "
            f"or take a space of which each does, such as conv_stack; got {power:g}"
        )
    mean = sum(raw.values()) / len(raw)
    return {name: weight / mean for name, weight in raw.items()}


def _by_layout(vectors: Mapping[str, Vectors]) -> list[list[str]]:
    """The names of the groups of each layout."""
    names: dict[ChoiceGroup, list[str]] = {}
    for name, layout in vectors.items():
        names.setdefault(replace(layout.group, name="", samples=None, depth=None), []).append(name)
    return list(names.values())


def _target(code: Tensor, settings: ConstraintConfig) -> Tensor:
    return code if settings.target == "code" else code / code.sum(dim=1, keepdim=True)


def _mean(parts: list[tuple[Tensor, float]]) -> Tensor:
    if len(parts) == 1:
        return parts[0][0]
    return torch.stack([share * value for value, share in parts]).sum(dim=0)
