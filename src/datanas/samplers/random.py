"""Random search, without and with weight sharing (Li and Talwalkar, UAI 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.errors import ConfigError
from datanas.samplers import register_sampler
from datanas.samplers.derivation import Derivation, Rule
from datanas.samplers.interface import BaseSampler, Draw, SamplerConfig
from datanas.samplers.uniform import random_codes, random_codes_within, random_probs


@register_sampler("random")
class RandomSearch(BaseSampler):
    """Trains the weights on uniformly random cells and keeps the best of a random sample (Section 3 there).

    No alpha step is made. Without weight sharing it keeps a random cell as it comes, whatever the supernet says.
    """

    class Config(SamplerConfig):
        name: Literal["random"] = "random"
        weight_sharing: bool = Field(True, description="choose by the supernet; otherwise keep a random cell")

    default_rule: ClassVar[Rule] = "best_sample"
    learns: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    config: Config
    kept: Tensor

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        self.register_buffer("kept", torch.randint(2**62, ()))  # the key of the cell that is kept unseen

    @property
    def rule(self) -> Rule:
        return super().rule if self.config.weight_sharing else "likeliest"

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        codes = random_codes(self.groups, generator)
        return Draw(codes, {name: self.vector_probs(name).float() for name in self.groups}, codes)

    def vector_probs(self, name: str) -> Tensor:
        return random_probs(self.groups[name])

    def _check_rule(self) -> None:
        super()._check_rule()
        if self.derivation.rule not in (None, "best_sample", "likeliest"):
            raise ConfigError(f"sampler.derivation.rule: random has nothing for {self.derivation.rule} to rank by")

    def derive(self, n: int = 1) -> Derivation:
        generator = torch.Generator().manual_seed(int(self.kept))
        cells = (random_codes_within(self.groups, generator, self.limits) for _ in range(n))
        architectures = list(dict.fromkeys(map(self.assemble, cells)))
        return Derivation(architectures[0], tuple((architecture, 0.0) for architecture in architectures))

    def candidates(self, n: int, generator: torch.Generator) -> list[Architecture]:
        architectures = (self.assemble(random_codes_within(self.groups, generator, self.limits)) for _ in range(n))
        return list(dict.fromkeys(architectures))
