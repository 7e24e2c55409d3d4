"""Numbers that are to be told of an image: squared error of standardised targets, root mean squared error, R2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, cast

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from datanas.core.settings import ComponentConfig
from datanas.data.types.targets import Kind
from datanas.tasks import register_task
from datanas.tasks.classifier_head import ClassifierHead
from datanas.tasks.kind import Answers
from datanas.tasks.metric import Metric
from datanas.tasks.target_task import Outputs, TargetTask


class NumberHead(ClassifierHead):
    """A linear map of the pooled features, in the units of the targets.

    What is learned is standardised: outputs are multiplied by `scale` and moved by `offset`, which are not learned.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, widths: tuple[int, ...], outputs: int, auxiliary_norms: int = 2) -> None:
        super().__init__(widths, outputs, auxiliary_norms)
        self.register_buffer("offset", torch.zeros(outputs))
        self.register_buffer("scale", torch.ones(outputs))

    def forward(self, features: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, Tensor]:
        """(batch, outputs), with an auxiliary tower in training mode (outputs, auxiliary outputs)."""
        outputs = super().forward(features)
        if isinstance(outputs, tuple):
            return outputs[0] * self.scale + self.offset, outputs[1] * self.scale + self.offset
        return outputs * self.scale + self.offset


@register_task("regression")
class Regression(TargetTask):
    """Tell numbers of an image, such as an age or two coordinates."""

    class Config(TargetTask.Config):
        name: Literal["regression"] = "regression"

    target_kind: ClassVar[Kind] = "numbers"
    metric: ClassVar[Metric] = Metric("rmse", is_share=False, higher_is_better=False, digits=4)
    further: ClassVar[Sequence[Metric]] = (
        Metric("r2", is_share=False, digits=3),
        Metric("mae", is_share=False, digits=4),
    )
    keeps_answers: ClassVar[bool] = True
    races_briefly: ClassVar[bool] = True
    default_classes: ClassVar[int] = 1
    head_type: ClassVar[type[ClassifierHead]] = NumberHead
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        super().__init__(config, data, device, seed)
        known = self._targets["train"]
        self._offset, self._scale = known.mean(dim=0), known.std(dim=0, correction=0)

    def make_head(self, widths: tuple[int, ...], stem: nn.Module) -> nn.Module:
        """In the units of these targets."""
        head = cast(NumberHead, super().make_head(widths, stem))
        head.offset.copy_(self._offset)
        head.scale.copy_(self._scale)
        return head

    def distance(self, outputs: Outputs, targets: Outputs) -> Tensor:
        """The mean over images and targets of ((output - target) / deviation of the training targets)^2."""
        return ((outputs - targets) / self._scale).square().mean()

    def compared(self, values: Outputs) -> Outputs:
        """Standardised by the training targets, so that a loss does not know their units."""
        return (values - self._offset) / self._scale

    @classmethod
    def resampled_scores(cls, answers: Answers, counts: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
        error = (answers["outputs"] - answers["targets"]).cpu().double()
        return (counts @ error.square() / counts.sum(dim=1, keepdim=True)).sqrt().mean(dim=1)

    def figures(self, outputs: Outputs, targets: Outputs) -> dict[str, float]:
        """`rmse` and `mae` in the units of the targets, and `r2`; each the mean over targets, as in scikit-learn."""
        from sklearn.metrics import r2_score  # imported late: it takes a while

        error = (outputs - targets).cpu().double()
        return {
            "rmse": float(error.square().mean(dim=0).sqrt().mean()),
            "mae": float(error.abs().mean()),
            "r2": float(r2_score(targets.numpy(), outputs.nan_to_num().numpy())) if len(targets) > 1 else 0.0,
        }
