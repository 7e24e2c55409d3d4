"""Ageing evolution over the supernet (Real et al., AAAI 2019; on shared weights as in Guo et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers import register_sampler
from datanas.samplers.derivation import Derivation, Rule
from datanas.samplers.interface import BaseSampler, Draw, SamplerConfig, Update
from datanas.samplers.uniform import mutated_within, random_codes, random_codes_within, random_probs


@register_sampler("evolution")
class Evolution(BaseSampler):
    """Trains the weights on uniformly random cells; each alpha step breeds one cell and measures it on its batch.

    The first cells are random. After that the best of a random few of the population is changed in one place, and the
    new cell takes the place of the oldest. So a fitness measured on younger weights is forgotten in time. The
    rule `best_sample` then compares the population anew. Real et al. train every cell from scratch.
    """

    class Config(SamplerConfig):
        name: Literal["evolution"] = "evolution"
        population: int = Field(50, ge=2, description="cells that live")
        tournament: int = Field(10, ge=1, description="of which the best is the parent")

    default_rule: ClassVar[Rule] = "best_sample"
    differentiable: ClassVar[bool] = False
    independent: ClassVar[bool] = False
    config: Config
    fitness: Tensor
    born: Tensor

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space)
        self.register_buffer("fitness", torch.zeros(config.population))
        self.register_buffer("born", torch.zeros((), dtype=torch.int64))
        for name, group in groups.items():
            self.register_buffer(f"cells_{name}", torch.zeros(config.population, *group.shape))

    def _alive(self) -> int:
        return min(int(self.born), self.config.population)

    def _cells(self, name: str) -> Tensor:
        """The cells of a group that live, shape (alive, edges, ops)."""
        cells: Tensor = getattr(self, f"cells_{name}")
        return cells[: self._alive()]

    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        return self._as_draw(random_codes(self.groups, generator))

    def draw_for_alpha(self, progress: float, generator: torch.Generator) -> Draw:
        alive = self._alive()
        if alive < self.config.population:
            return self._as_draw(random_codes_within(self.groups, generator, self.limits))
        few = torch.randperm(alive, generator=generator)[: self.config.tournament]
        parent = int(few[self.fitness[few].argmax()])
        codes = {name: self._cells(name)[parent].clone() for name in self.groups}
        return self._as_draw(mutated_within(codes, self.groups, generator, self.limits))

    def _as_draw(self, codes: Mapping[str, Tensor]) -> Draw:
        return Draw(codes, {name: self.vector_probs(name).float() for name in codes}, codes)

    def after_alpha_step(self, update: Update) -> None:
        index = int(self.born) % self.config.population
        for name, code in update.draw.codes.items():
            getattr(self, f"cells_{name}")[index] = code
        self.fitness[index] = -update.task_loss
        self.born += 1

    def vector_probs(self, name: str) -> Tensor:
        """How often each operation lives on an edge; what is on no cell's edge counts as `none`, or evenly without."""
        group, alive = self.groups[name], self._alive()
        rest = torch.full(group.shape, 1 / group.shape[1], dtype=torch.double)
        if alive == 0:
            return random_probs(group)
        if group.null is not None:
            rest = torch.zeros_like(rest)
            rest[:, group.null] = 1.0
        often = self._cells(name).double().mean(dim=0)
        return often + (1 - often.sum(dim=1, keepdim=True)) * rest

    def _ranking(self) -> list[tuple[Architecture, float]]:
        order = self.fitness[: self._alive()].argsort(descending=True, stable=True).tolist()
        fitness_of: dict[Architecture, float] = {}
        for index in order:
            built = self.assemble({name: self._cells(name)[index] for name in self.groups})
            fitness_of.setdefault(built, float(self.fitness[index]))
        return list(fitness_of.items())

    def derive(self, n: int = 1) -> Derivation:
        """The fittest, ranked by their fitness: minus the loss on the batch that they met."""
        if self.derivation.rule in ("top_operations", "top_edges"):
            return super().derive(n)
        ranking = self._ranking()
        if not ranking:
            nothing = torch.Generator().manual_seed(0)
            architecture = self.assemble(random_codes_within(self.groups, nothing, self.limits))
            return Derivation(architecture, ((architecture, 0.0),))
        return Derivation(ranking[0][0], tuple(ranking[:n])).ranked_by("fitness (minus loss)")

    def candidates(self, n: int, generator: torch.Generator) -> list[Architecture]:
        return [architecture for architecture, _ in self._ranking()[:n]] or super().candidates(n, generator)
