"""The ways from images into a body of convolutional cells, which several tasks share."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from datanas.core.errors import ConfigError
from datanas.kernels.norm import BatchNorm2d
from datanas.spaces.base import StemShape

CONVOLUTIONAL = "convolutional cells, such as darts_v2"
STEM_MULTIPLIER = 3
CELLS_STRIDE = 4
"""By how much the two reduction cells of a body divide height and width."""
StemKind = Literal["cifar", "cifar_half", "plain", "plain_half", "imagenet"]
WithNone = StemKind | Literal["none"]
"""Or none at all, before a network that reads the image itself."""
STEM_KINDS = (
    "cifar has three times the first cell's width, plain just that; cifar_half and plain_half halve the image first "
    "(Section 5.5), imagenet divides it by eight"
)


def image_stem(kind: WithNone, in_channels: int, channels: int, dense: int = 0) -> nn.Module:
    """A stem by its name, with fresh weights.

    Args:
        channels: width of the first cell.
        dense: as for `StemShape`.
    """
    if kind == "none":
        return ImageItself(in_channels)
    if kind == "imagenet":
        return ImageNetStem(in_channels, channels, dense)
    multiplier = 1 if kind.startswith("plain") else STEM_MULTIPLIER
    return CifarStem(in_channels, channels, stem_stride(kind), multiplier, dense)


def stem_stride(kind: StemKind) -> int:
    """By how much a stem divides height and width."""
    return 8 if kind == "imagenet" else 2 if kind.endswith("_half") else 1


def require_size(image_shape: tuple[int, int, int], kind: WithNone) -> None:
    """Refuse images that stem and cells would divide away; what reads the image itself says so itself.

    Args:
        image_shape: (c, h, w).

    Raises:
        ConfigError: a side is smaller than the product of all strides.
    """
    if kind == "none":
        return
    needed, side = stem_stride(kind) * CELLS_STRIDE, min(image_shape[1:])
    if side < needed:
        raise ConfigError(
            f"task.stem: a network behind the stem {kind} divides height and width by {needed}, but these images have "
            f"{side} pixels; take a stem that divides less, or larger images"
        )


class ImageItself(nn.Module):
    """The way into a network that begins with the image, such as `conv4`: no stem at all."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.shape = StemShape((in_channels, in_channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class CifarStem(nn.Module):
    """One 3x3 convolution to `multiplier` times the first cell's width; both cell inputs are its output."""

    def __init__(
        self, in_channels: int, channels: int, stride: int = 1, multiplier: int = STEM_MULTIPLIER, dense: int = 0
    ) -> None:
        super().__init__()
        width = multiplier * channels
        self.conv = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.norm = BatchNorm2d(width)
        self.shape = StemShape((width, width), dense=dense)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.conv(x))
        return x, x


class ImageNetStem(nn.Module):
    """Three 3x3 convolutions of stride 2; the cell inputs are the outputs of the second and the third."""

    def __init__(self, in_channels: int, channels: int, dense: int = 0) -> None:
        super().__init__()
        half = max(channels // 2, 1)
        self.first = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, channels, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(channels),
        )
        self.second: nn.Module = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(channels),
        )
        self.shape = StemShape((channels, channels), halved=True, dense=dense)

    def leave_out_unread(self, reads: tuple[bool, bool]) -> None:
        """Drop the last convolution where the body does not read the second map, which is then the first once more."""
        if not reads[1]:
            self.second = nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.first(x)
        return s0, self.second(s0)
