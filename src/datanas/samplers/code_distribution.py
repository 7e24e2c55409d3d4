"""What a search method holds of its codes: probabilities, rankings, and the rules by which one is derived."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datanas import posterior
from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.core.settings import ComponentConfig
from datanas.samplers.derivation import (
    LOG_P,
    Derivation,
    DerivationConfig,
    Rule,
    assemble,
    derive_likeliest,
    top_edges,
    top_operations,
)
from datanas.samplers.limits import Limits
from datanas.samplers.live import is_live
from datanas.samplers.rules_within import top_edges_within, top_operations_within
from datanas.samplers.vectors import Merge, Scope, Vectors


class SamplerConfig(ComponentConfig):
    """What the settings of most methods hold."""

    derivation: DerivationConfig = DerivationConfig()


class CodeDistribution(nn.Module, ABC):
    """A distribution of codes, a probability vector a node or an edge, of which architectures are derived.

    Attributes:
        scope: what one probability vector covers.
        samples: M, how often each vector is drawn from, but those of a group that has its own M (`samples_of`).
        normalise: how a node combines its operations, "sum" or "mean".
        limits: what the operations of a derived architecture may cost, once the engine has told it; None for no limits.
        single_op: whether every edge of an architecture holds exactly one operation.
    """

    default_rule: ClassVar[Rule] = "likeliest"
    independent: ClassVar[bool] = True
    """Whether P is a product of its vectors, so that expectations under it can be computed."""

    draws_several: ClassVar[bool] = False
    """Whether a vector may be drawn from more than once, so that groups can have an M of their own."""

    heeds_limits: ClassVar[bool] = True
    """Whether it derives within `limits`."""

    def __init__(
        self, config: ComponentConfig, groups: Mapping[str, ChoiceGroup], space: str, *, scope: Scope, merge: Merge
    ) -> None:
        super().__init__()
        self.config = config
        self.groups = dict(groups)
        self.space = space
        self.scope: Scope = scope
        self.samples = 1
        self.normalise: Literal["sum", "mean"] = "sum"
        self.limits: Limits | None = None
        self.vectors = {name: Vectors(group, scope, merge) for name, group in groups.items()}
        self.derivation = config.derivation if isinstance(config, SamplerConfig) else DerivationConfig()
        self.single_op = any(group.single for group in groups.values())
        self._check_rule()

    def _check_rule(self) -> None:
        rule = self.derivation.rule
        if self.single_op and (rule == "top_edges" or (rule == "top_operations" and self.derivation.operations > 1)):
            raise ConfigError(
                f"sampler.derivation: {rule} does not leave one operation on each edge, as space {self.space} needs; "
                "likeliest does"
            )

    @property
    def rule(self) -> Rule:
        """The derivation rule that holds."""
        if self.derivation.rule is not None:
            return self.derivation.rule
        chooses_edges = self.default_rule == "top_edges"
        return (
            "likeliest" if chooses_edges and any(group.single for group in self.groups.values()) else self.default_rule
        )

    def samples_of(self, name: str) -> int:
        """How often the vectors of a group are drawn from: its own M, where the method draws several times."""
        own = self.groups[name].samples
        return self.samples if own is None or not self.draws_several else own

    @abstractmethod
    def vector_probs(self, name: str) -> Float[Tensor, "vectors entries"]:
        """The probability vectors of a group as they stand, in double and without gradient."""

    def probabilities(self) -> dict[str, Tensor]:
        """P as it stands, by group, shape (edges, ops), without gradient; what logs and pictures show."""
        return {name: layout.shares(self.vector_probs(name)) for name, layout in self.vectors.items()}

    def inclusion(self) -> dict[str, Tensor]:
        """By group, how likely each operation is to be in a sampled child; P itself where one is drawn."""
        return {
            name: layout.to_edges(posterior.inclusion_probs(self.vector_probs(name), self.samples_of(name)))
            for name, layout in self.vectors.items()
        }

    def flatness(self) -> dict[str, float]:
        """By group, 1 for a P that prefers nothing and 0 for one that has decided."""
        return {name: layout.flatness(self.vector_probs(name)) for name, layout in self.vectors.items()}

    def op_scores(self) -> dict[str, Tensor]:
        """What the rules `top_operations` and `top_edges` compare, by group, shape (edges, ops); P itself."""
        return self.probabilities()

    def derive(self, n: int = 1) -> Derivation:
        """The architecture to keep, and the `n` likeliest where the rule ranks them.

        For the rule `best_sample` this is the likeliest: comparing samples takes a supernet, which the engine has.
        """
        settings, groups = self.derivation, self.groups
        if self.rule in ("likeliest", "best_sample"):
            probs = {name: self.vector_probs(name) for name in groups}
            likeliest = derive_likeliest(
                probs,
                self.vectors,
                {name: self.samples_of(name) for name in groups},
                n,
                space=self.space,
                scope=self.scope,
                aggregate=self.normalise,
                raw=settings.raw,
                limits=self.limits,
            )
            return likeliest if self.independent else likeliest.ranked_by("log of the product of the shares")
        op_scores = self.op_scores()
        if self.limits is not None:
            return self.derivation_of(self._ruled_within(op_scores, self.limits))
        if self.rule == "top_edges":
            codes = {name: top_edges(op_scores[name], group, none=settings.none) for name, group in groups.items()}
        else:
            codes = {
                name: top_operations(op_scores[name], group, settings.operations, none=settings.none or self.single_op)
                for name, group in groups.items()
            }
        return self.derivation_of(codes)

    def _ruled_within(self, op_scores: Mapping[str, Tensor], limits: Limits) -> dict[str, Tensor]:
        settings = self.derivation
        if self.rule == "top_edges":
            codes = top_edges_within(op_scores, self.groups, limits, none=settings.none)
        else:
            none = settings.none or self.single_op
            codes = top_operations_within(op_scores, self.groups, limits, settings.operations, none=none)
        if codes is None:
            raise ConfigError(f"budget: no code that the rule {self.rule} could keep is within it; try likeliest")
        return codes

    def inclusion_of(self, probs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How likely each operation is to be in the network that is kept, by group, shape (edges, ops); differentiable.

        Eq. 14. Where an edge holds one operation, its p_k^M among those of all, as the derivation weighs them. The rule
        `top_edges` keeps `fan_in` edges into a node, here each as likely as the others, and no `none`.

        Args:
            probs: the vectors of a draw, shape (vectors, entries).
        """
        inclusion = {}
        for name, layout in self.vectors.items():
            if layout.group.single:
                powers = probs[name] ** self.samples_of(name)
                inclusion[name] = layout.to_edges(powers / powers.sum(dim=1, keepdim=True))
                continue
            inclusion[name] = layout.to_edges(posterior.inclusion_probs(probs[name], self.samples_of(name)))
            if self.rule == "top_edges" and not self.derivation.none:
                inclusion[name] = self._on_kept_edges(inclusion[name], layout.group)
        return inclusion

    def _on_kept_edges(self, table: Tensor, group: ChoiceGroup) -> Tensor:
        share = torch.ones(len(group.edges), 1, dtype=table.dtype)
        for part in group.by_target:
            share[list(part)] = min(group.fan_in, len(part)) / len(part)
        if group.null is None:
            return table * share
        rest = (1 - table[:, group.null : group.null + 1]).clamp_min(1e-6)
        return table * share / rest

    def derivation_of(self, codes: Mapping[str, Tensor]) -> Derivation:
        """The derivation of these codes, by group, shape (edges, ops), as the only architecture of the ranking.

        Where P is no product it has no number.
        """
        architecture = self.assemble(codes)
        if not self.independent:
            return Derivation(architecture, ((architecture, 0.0),))
        log_prob = min(self.log_prob(codes), 0.0)
        notes: dict[str, float | int] = {"samples": max(map(self.samples_of, self.groups))}
        if log_prob > -torch.inf:
            notes["log_prob"] = log_prob
        architecture = replace(architecture, posterior=notes)
        return Derivation(architecture, ((architecture, log_prob),), LOG_P)

    def assemble(self, codes: Mapping[str, Tensor]) -> Architecture:
        """The architecture of these codes, by group, shape (edges, ops)."""
        return assemble(codes, self.groups, space=self.space, scope=self.scope, aggregate=self.normalise)

    def log_prob(self, codes: Mapping[str, Tensor]) -> float:
        """The log-probability that M draws from P give the network of these codes; -inf where they cannot.

        Where an edge holds one operation, that they give nothing else.
        """
        total = 0.0
        for name, layout in self.vectors.items():
            probs, code = self.vector_probs(name), layout.to_vectors(codes[name])
            if not layout.group.single:
                total += float(posterior.log_prob(code, probs, self.samples_of(name), null=layout.null).sum())
                continue
            if layout.null is not None:
                code[:, layout.null] = (code.sum(dim=1) == 0) | (code[:, layout.null] != 0)
            total += self.samples_of(name) * float((probs * code).sum(dim=1).log().sum())
        return total

    def candidates(self, n: int, generator: torch.Generator) -> list[Architecture]:
        """Up to `n` different architectures, drawn from P, for the rule `best_sample`; live if there are any."""
        samples = {name: 1 if self.single_op else self.samples_of(name) for name in self.vectors}
        drawn = {
            name: posterior.sample(self.vector_probs(name), samples[name], n, generator=generator)
            for name in self.vectors
        }
        tables = [
            {name: layout.to_edges(drawn[name][index]) for name, layout in self.vectors.items()} for index in range(n)
        ]
        if self.limits is not None:
            tables = [each for each in tables if self.limits.allow(self.limits.cost(each, self.groups))]
        live = tables if self.derivation.raw else [each for each in tables if is_live(each, self.vectors)] or tables
        return list(dict.fromkeys(self.assemble(each) for each in live))
