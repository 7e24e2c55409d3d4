"""The way out of a body into a map of classes: DeepLab v3's head (Chen et al., 2017), and a second one to train by."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.kernels.norm import BatchNorm2d

Logits = Float[Tensor, "batch classes height width"]


def deeplab_head(in_channels: int, classes: int, width: int, rates: Sequence[int]) -> nn.Sequential:
    """torchvision's `DeepLabHead`, whose width it fixes to 256, with the width as an argument.

    Atrous convolutions and image pooling side by side, a 3x3 convolution and the classifier. With 256 it has the names
    and shapes of theirs, so that their weights fit.

    Args:
        width: channels of each branch and of what follows.
        rates: dilation of each atrous branch.
    """
    from torchvision.models.segmentation.deeplabv3 import ASPP  # here, since every command would wait for it

    head = nn.Sequential(
        ASPP(in_channels, rates, width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, classes, 1),
    )
    _take_own_norms(head)
    return head


def fcn_head(in_channels: int, classes: int) -> nn.Sequential:
    """torchvision's `FCNHead`: a 3x3 convolution to a quarter of the channels, and the classifier."""
    from torchvision.models.segmentation.fcn import FCNHead

    head: nn.Sequential = FCNHead(in_channels, classes)
    _take_own_norms(head)
    return head


def _take_own_norms(module: nn.Module) -> None:
    """Exchange torch's batch norms for those that can take their statistics over several processes."""
    for name, part in module.named_children():
        if type(part) is nn.BatchNorm2d:
            setattr(module, name, BatchNorm2d(part.num_features))
        else:
            _take_own_norms(part)


class SegmentationHead(nn.Module):
    """Logits of every pixel: those of the head, drawn out to the size of the image.

    An auxiliary head stands on the first of two features, those of the second reduction cell. Features are rectified
    first, as those of the networks are for which both heads were made.

    Args:
        widths: channels of the body's features, one or two.
        width, rates: as for `deeplab_head`.
    """

    reads_input = True

    def __init__(self, widths: tuple[int, ...], classes: int, width: int, rates: Sequence[int]) -> None:
        super().__init__()
        *tapped, last = widths
        self.auxiliary = fcn_head(tapped[0], classes) if tapped else None
        self.classifier = deeplab_head(last, classes, width, rates)

    def forward(
        self, features: tuple[Float[Tensor, "batch channels h w"], ...], images: Float[Tensor, "batch c height width"]
    ) -> Logits | tuple[Logits, Logits]:
        """Logits at the size of the images; in training mode with an auxiliary head (logits, auxiliary logits)."""
        size = (images.shape[2], images.shape[3])
        logits = _drawn_out(self.classifier(features[-1].relu()), size)
        if self.auxiliary is None or not self.training:
            return logits
        return logits, _drawn_out(self.auxiliary(features[0].relu()), size)


def _drawn_out(logits: Float[Tensor, "batch classes h w"], size: tuple[int, int]) -> Logits:
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
