"""Linear classifiers of pooled features, with the auxiliary tower of DARTS' networks (Section 5.1)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.fx_leaf import fx_leaf
from datanas.kernels.norm import BatchNorm2d


@fx_leaf
class AuxiliaryTower(nn.Module):
    """A second classifier on the features of the second reduction cell (weight 0.4 in Section 5.1).

    The features are pooled to 2x2 by overlapping 5x5 windows, as DARTS does at 8x8 and 7x7; smaller ones adaptively.

    Args:
        width: channels of the features.
        norms: batch norms, 1 or 2; the towers of DARTS and DATA have 2 on CIFAR-10 and 1 on ImageNet.
    """

    def __init__(self, width: int, num_classes: int, norms: int = 2) -> None:
        super().__init__()
        last = [BatchNorm2d(768)] if norms == 2 else []
        self.features = nn.Sequential(
            nn.Conv2d(width, 128, 1, bias=False),
            BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *last,
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        if min(x.shape[2:]) >= 6:
            x = F.avg_pool2d(x, 5, stride=(x.shape[2] - 5, x.shape[3] - 5))
        else:
            x = F.adaptive_avg_pool2d(x, 2)
        x = self.features(x).mean(dim=(2, 3))
        return cast(Tensor, self.classifier(x))


class ClassifierHead(nn.Module):
    """Global average pooling and a linear classifier; an auxiliary tower where the body gives features for one."""

    def __init__(self, widths: tuple[int, ...], num_classes: int, auxiliary_norms: int = 2) -> None:
        super().__init__()
        *tapped, last = widths
        self.auxiliary = AuxiliaryTower(tapped[0], num_classes, auxiliary_norms) if tapped else None
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, Tensor]:
        """(batch, num_classes) logits; in training mode with an auxiliary tower (logits, auxiliary logits)."""
        logits: Tensor = self.classifier(features[-1].mean(dim=(2, 3)))
        if self.auxiliary is None or not self.training:
            return logits
        return logits, self.auxiliary(features[0])
