"""A trained network of images with its normalisation inside, and images by which a file of it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from datanas.core.errors import CheckpointError, ConfigError, StorageError
from datanas.core.paths import exists, shown
from datanas.data.augment import to_unit
from datanas.data.decode.image_form import as_given
from datanas.deploy.network_file import FileUse, is_network_file
from datanas.deploy.pictures import Inputs
from datanas.deploy.predict import load
from datanas.deploy.predictor import ImagePredictor
from datanas.deploy.rows import ClassPredictor

TOLERANCE = 1e-4
"""By how much an output of a file may differ, of its largest value."""
MADE_UP = 3
"""Images of noise by which a file is checked where none are given."""
TOGETHER = 64
"""Images that are checked in one pass."""


class WholeNetwork(nn.Module):
    """A network behind the normalisation of its images, which are brought between the limits first where there are.

    It gives a list of the network's outputs.
    """

    mean: Tensor
    std: Tensor
    low: Tensor | None
    high: Tensor | None

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor, limits: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        low, high = (None, None) if limits is None else (each[:, None, None] for each in limits)
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.network = network
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("std", std[:, None, None])

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.low is not None and self.high is not None:
            images = images.maximum(self.low).minimum(self.high)
        return tree_leaves(self.network((images - self.mean) / self.std))


@dataclass(frozen=True)
class Portable:
    """What a file is made of.

    Attributes:
        network: takes images in 0..1, or the numbers themselves where the training data were no pixels.
        noise: some images, (n, c, h, w), to record it by.
        images: by which it is checked; the noise where none were given.
        classes: what the outputs stand for.
        task: that it was trained for.
        use: what `datanas.load` takes besides (`FileUse`).
        has_classes: whether its first output scores classes, of which one is the likeliest.
    """

    network: WholeNetwork
    noise: Tensor
    images: Tensor
    classes: Sequence[str] | None
    task: str
    use: dict[str, Any]
    has_classes: bool


def portable(path: str | Path, check: Inputs | None, kind: str) -> Portable:
    """The network of a run or of an export, ready to become a file.

    Args:
        path: a run or a folder of `datanas export`, as for `datanas.load`.
        check: images by which the file is checked, as for `predict`; None for some of noise.
        kind: of file, for the message.

    Raises:
        ConfigError: the network takes no images, or is checked by images of any size.
        CheckpointError: there is no trained network.
    """
    if is_network_file(path):
        raise ConfigError(f"{shown(Path(path))}: is a file already; export the run that it was made of")
    predictor = load(path)
    if not isinstance(predictor, ImagePredictor):
        raise ConfigError(f"task {predictor.task}: only networks of images become {kind} here")
    form = predictor.form
    mean, std = predictor.moments
    limits = None
    if form.value_range is not None:  # the file takes the numbers as they are
        low, high = map(torch.tensor, form.value_range)
        limits = low, high
        mean, std = low + mean * (high - low), std * (high - low)
    side = getattr(predictor.settings, "crop", 64)
    shape = (form.channels, form.height or side, form.width or side)
    noise = torch.rand(MADE_UP, *shape, generator=torch.Generator().manual_seed(0))
    if check is not None and form.height is None:
        raise ConfigError("--check: a network of images of any size is checked by noise; leave it out")
    images = noise if check is None else to_unit(predictor.read(check))
    if form.value_range is not None:
        noise, images = (as_given(each, *form.value_range) for each in (noise, images))
    network = WholeNetwork(predictor.network, mean, std, limits).eval()
    has_classes = isinstance(predictor, ClassPredictor)
    use = FileUse.of(predictor.settings, predictor.num_classes, predictor.use).model_dump(mode="json")
    return Portable(network, noise, images, predictor.output_names, predictor.task, use, has_classes)


def require_same(path: str | Path, error: float) -> None:
    """Refuse a file whose outputs differ from the network's by this share of the largest value.

    Raises:
        CheckpointError: it is more than `TOLERANCE`.
    """
    if not error <= TOLERANCE:
        raise CheckpointError(
            f"{path}: the exported network computes something else, by {error:.1e} of the largest output"
        )


def require_free(file: Path) -> None:
    """Refuse a file that is there.

    Raises:
        ConfigError: it is.
        StorageError: its folder cannot be looked at.
    """
    if exists(file, StorageError):
        raise ConfigError(f"{shown(file)}: exists; choose another file")


def relative_difference(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of an output, as a share of the largest value."""
    return max(
        float((each - good).abs().max() / good.abs().max()) for each, good in zip(outputs, expected, strict=True)
    )
