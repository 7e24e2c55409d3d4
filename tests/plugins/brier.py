"""Classification by the squared error of the probabilities."""

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from datanas.tasks import register_task
from datanas.tasks.base import Model
from datanas.tasks.classification import Classification, ImageBatch


@register_task("brier")
class Brier(Classification):
    class Config(Classification.Config):
        name: Literal["brier"] = "brier"  # type: ignore[assignment]

    def loss(self, model: Model, batch: ImageBatch) -> Tensor:
        output = model(batch.images)
        logits = output[0] if isinstance(output, tuple) else output
        wanted = F.one_hot(batch.labels, self.num_classes).float()
        loss: Tensor = (logits.float().softmax(dim=1) - wanted).square().sum(dim=1).mean()
        return loss
