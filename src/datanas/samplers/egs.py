"""DATA: Ensemble Gumbel-Softmax with the architecture distribution constraint (Sections 4.2 and 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import merge
from datanas.egs import Estimator, ensemble_gumbel_softmax
from datanas.samplers import register_sampler
from datanas.samplers.base import Draw, Merge, Sampler, SamplerConfig, Scope, Tau
from datanas.samplers.constraint_term import ConstraintConfig, constraint_terms, depth_weights
from datanas.samplers.prior import PriorConfig

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "scope": "edge",
        "normalise": "sum",
        "probs": "softmax",
        "tau": {"start": 1.0, "end": 1.0},
        "constraint": {"kind": "l1", "gamma": 1e-3, "reduction": "sum", "target": "code", "warm_up": 0.0},
        "estimator": "shared_ties",
        "init_std": 0.0,
        "prior": {"children": 0},
    },
    "official": {
        "scope": "edge",
        "merged_none": "sum",
        "normalise": "mean",
        "probs": "relu",
        "tau": {"start": 5.0, "end": 1.0},
        "constraint": {"kind": "l1", "gamma": 0.1, "reduction": "mean", "target": "normalised", "warm_up": 0.0},
        "estimator": "shared_ties",
        "init_std": 1e-3,
        "prior": {"children": 0},
    },
    "inclusion": {
        "scope": "node",
        "normalise": "sum",
        "probs": "softmax",
        "tau": {"start": 1.0, "end": 1.0},
        "constraint": {"kind": "l1", "gamma": 0.1, "reduction": "mean", "target": "code", "warm_up": 0.0},
        "estimator": "inclusion",
        "init_std": 0.0,
        "prior": {"children": 0},
    },
}
"""What each preset lays over the defaults. `paper` is the text, `official` the authors' program while searching.

Which were tried and what came of it: docs/default.md. `inclusion` is the text's sum with the slope of the inclusion
probability, which has no favourite.
"""


@register_sampler("egs")
class EGS(Sampler):
    """Draws M operations per probability vector with replacement, and keeps the most probable code."""

    class Config(SamplerConfig):
        name: Literal["egs"] = "egs"
        preset: Literal["default", "paper", "official", "inclusion"] = "default"
        samples: int = Field(4, ge=1, le=64, description="M, draws for each probability vector")
        scope: Scope = "node"
        merged_none: Merge = Field("mean", description="how the `none` of a node's edges become one, at scope node")
        normalise: Literal["sum", "mean"] = "mean"
        probs: Literal["softmax", "relu"] = "softmax"
        tau: Tau = Tau()
        constraint: ConstraintConfig = ConstraintConfig()
        estimator: Estimator = Field("shared_ties", description="of the gradient of a code; see docs/speed.md")
        init_std: float = Field(0.0, ge=0, description="deviation of alpha at the start")
        prior: PriorConfig = PriorConfig()

        @model_validator(mode="before")
        @classmethod
        def lay_over_preset(cls, raw: Any) -> Any:
            chosen = raw.get("preset", "default") if isinstance(raw, Mapping) else None
            return merge(PRESETS[chosen], raw) if isinstance(chosen, str) and chosen in PRESETS else raw

    config: Config
    alpha_weight_decay: ClassVar[float] = 0.0
    draws_several: ClassVar[bool] = True
    FLOOR: ClassVar[float] = 1e-8

    def __init__(self, config: Config, groups: Mapping[str, ChoiceGroup], space: str) -> None:
        super().__init__(config, groups, space, scope=config.scope, merge=config.merged_none)
        self.samples, self.normalise = config.samples, config.normalise
        self._depth_weights = depth_weights(groups, config.constraint.depth_power, space)
        self.init_normal(config.init_std, 1.0 if config.probs == "relu" else 0.0)

    def logits(self, name: str) -> Tensor:
        """Alpha, or log relu(alpha), of which the softmax is relu(alpha) / sum."""
        alpha: Tensor = self.alpha[name]
        return alpha if self.config.probs == "softmax" else (alpha.relu() + self.FLOOR).log()

    def start_from(self, logits: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, alpha in self.alpha.items():
                alpha.copy_(logits[name] if self.config.probs == "softmax" else logits[name].exp())

    def sample_group(self, name: str, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        tau, estimator = self.config.tau.at(progress), self.config.estimator
        samples = self.samples_of(name)
        return ensemble_gumbel_softmax(log_probs, samples, tau, generator=generator, estimator=estimator)

    def loss(self, task_loss: Tensor, draw: Draw, progress: float) -> Tensor:
        settings = self.config.constraint
        gamma = settings.gamma * (min(progress / settings.warm_up, 1.0) if settings.warm_up > 0 else 1.0)
        if settings.kind == "none" or gamma == 0:
            return task_loss
        total = task_loss.new_zeros((), device="cpu")
        for term in constraint_terms(settings, draw.probs, draw.codes, self.vectors, self._depth_weights):
            total = total + term
        return task_loss + gamma * total.to(task_loss.device)
