"""The interface of search methods: what they draw, and how they learn from it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.deprecation import take_older_methods
from datanas.core.settings import ComponentConfig
from datanas.samplers.code_distribution import CodeDistribution
from datanas.samplers.code_distribution import SamplerConfig as SamplerConfig
from datanas.samplers.derivation import Derivation as Derivation
from datanas.samplers.vectors import Merge as Merge
from datanas.samplers.vectors import Scope as Scope
from datanas.samplers.vectors import Vectors as Vectors
from datanas.spaces.base import Costs


@dataclass(frozen=True)
class Draw:
    """One sampled child, by choice group; on the host.

    Attributes:
        gates: the factor of each operation, shape (edges, ops). That of `none` counts only where a part of the channels
            bypasses the operations (`Sampler.partial_channels`): they are weighed by the sum over all columns.
        probs: the probability vectors that were drawn from, shape (vectors, entries); padding has probability 0.
        codes: the sampled codes before normalisation, shape (vectors, entries); a relaxed sample is its own code.
        grad_mask: which gates' gradients the method uses, shape (edges, ops); None for all.
    """

    gates: Mapping[str, Float[Tensor, "edges ops"]]
    probs: Mapping[str, Float[Tensor, "vectors entries"]]
    codes: Mapping[str, Float[Tensor, "vectors entries"]]
    grad_mask: Mapping[str, Bool[Tensor, "edges ops"]] | None = None


@dataclass(frozen=True)
class Update:
    """An alpha step that was made.

    Attributes:
        draw: the child that it was made with.
        task_loss: the mean over processes of the task's loss.
        before: the sampler's parameters before it, by name.
        lr: the optimiser's rate.
    """

    draw: Draw
    task_loss: float
    before: Mapping[str, Tensor]
    lr: float


class BaseSampler(CodeDistribution):
    """A search method: draws gates, learns from what comes of them, and derives an Architecture.

    It sees groups and numbers, never modules of a network. It lives on the host, where its few numbers cost nothing and
    where the supernet needs to know what to run. A method defines `draw` and `vector_probs`; most build on
    `datanas.samplers.base.Sampler`, whose P is a softmax of alpha.

    Attributes:
        partial_channels: candidates run on one part of so many of the channels while searching.
        costs: additive costs by choice group, once the engine has told them.
    """

    Config: ClassVar[type[ComponentConfig]]
    config: Any
    differentiable: ClassVar[bool] = True
    """Whether the gradient of the loss reaches alpha through the gates."""
    learns: ClassVar[bool] = True
    """Whether alpha steps are made at all."""
    uses_optimizer: ClassVar[bool] = True
    """Whether `search.alpha` moves the parameters, and not the method itself in `after_alpha_step`."""
    alpha_weight_decay: ClassVar[float] = 1e-3
    """Of `search.alpha`, where nothing is said; that of DARTS."""
    _OLDER_NAMES: ClassVar[Mapping[str, str]] = {
        "propose": "draw_for_alpha",
        "settle": "after_alpha_step",
        "strengths": "op_scores",
        "keep": "derivation_of",
    }

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        take_older_methods(cls, cls._OLDER_NAMES)

    def __init__(
        self,
        config: ComponentConfig,
        groups: Mapping[str, ChoiceGroup],
        space: str,
        *,
        scope: Scope = "edge",
        merge: Merge = "mean",
    ) -> None:
        super().__init__(config, groups, space, scope=scope, merge=merge)
        self.partial_channels = 1
        self.costs: Mapping[str, Costs] = {}

    def start_from(self, logits: Mapping[str, Float[Tensor, "edges ops"]]) -> None:
        """Set alpha so that the probability vectors are the softmax of these numbers, by group.

        Raises:
            NotImplementedError: the method knows no start but its own.
        """
        raise NotImplementedError(f"{type(self).__name__} starts in its own way")

    @abstractmethod
    def draw(self, progress: float, generator: torch.Generator, *, uniform: bool = False) -> Draw:
        """One child.

        Args:
            progress: share of the search that is done, 0..1; drives schedules.
            generator: the only source of chance.
            uniform: ignore what was learned and draw every operation alike, for pre-training.
        """

    def draw_for_alpha(self, progress: float, generator: torch.Generator) -> Draw:
        """The child that an alpha step is made with; most methods draw it like any other."""
        return self.draw(progress, generator)

    def loss(self, task_loss: Tensor, draw: Draw, progress: float) -> Tensor:
        """The alpha step's loss: the task's, plus what the method adds to it."""
        return task_loss

    def after_alpha_step(self, update: Update) -> None:
        """Do what the method does once an alpha step is made, without gradient."""
