"""Networks that tell the class of every pixel, and pictures of what they tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datanas.core.atomic import write_atomic
from datanas.core.errors import ConfigError, DataError, StorageError
from datanas.core.paths import path_errors, shown
from datanas.data.augment import normalise
from datanas.data.sets.mask_folder import NAMES_FILE
from datanas.deploy.pictures import Inputs
from datanas.deploy.predictions import MaskPredictions
from datanas.deploy.predictor import BATCH_SIZE, ImagePredictor
from datanas.tasks.multi_scale import log_probabilities
from datanas.tasks.segmentation import output_strides

TOGETHER = 8
"""Images that are in memory at a time, at most."""


class MaskPredictor(ImagePredictor[MaskPredictions]):
    """The class of every pixel of images of any size, seen as the test images were: at all scales of the task."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What each number in a mask stands for."""
        return self._use.outputs or tuple(map(str, range(self._count)))

    def predict(self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False) -> MaskPredictions:
        parts = list(self.predict_batches(inputs, batch_size=batch_size, skip_broken=skip_broken))
        names = tuple(name for part in parts for name in part.names)
        return MaskPredictions(names, self.classes, tuple(mask for part in parts for mask in part.masks))

    def predict_batches(
        self, inputs: Inputs, *, batch_size: int = BATCH_SIZE, skip_broken: bool = False
    ) -> Iterator[MaskPredictions]:
        """As `predict`, some images after the others: of as many as there may be."""
        for names, pixels in self._batches(inputs, min(batch_size, TOGETHER), skip_broken):
            masks = tuple(self._mask(name, each) for name, each in zip(names, pixels, strict=True))
            yield MaskPredictions(names, self.classes, masks)

    @torch.inference_mode()
    def _mask(self, name: str, pixels: Tensor) -> NDArray[np.uint8]:
        least, size = max(output_strides(self.settings.stem)), tuple(pixels.shape[1:])
        if min(size) < least:
            raise DataError(f"{name}: is {size[1]}x{size[0]}, but the network needs {least} pixels each way")
        images = normalise(self._reduced(pixels)[None].to(self.device), *self.moments)
        found = log_probabilities(self.network, images, self.settings.test_scales, flip=self.settings.test_flip)
        mask: NDArray[np.uint8] = found[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
        if mask.shape == size:
            return mask
        return np.array(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))

    def _reduced(self, pixels: Tensor) -> Tensor:
        """An image with its longer side as long as training images were, at most, reduced as these were."""
        longest, (height, width) = self.form.longest, pixels.shape[1:]
        if longest is None or max(height, width) <= longest:
            return pixels
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        reduced = (max(1, round(side * longest / max(height, width))) for side in (width, height))
        found = np.array(image.resize((next(reduced), next(reduced)), Image.Resampling.BILINEAR))
        return torch.from_numpy(found).permute(2, 0, 1)


class MaskFolder:
    """A new folder of masks: PNG with a palette, whose number is the class, and the names of the classes.

    Raises:
        ConfigError: the folder is in use.
        StorageError: it cannot be written.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        with path_errors(folder, StorageError):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ConfigError(f"{shown(folder)}: exists and is not empty; choose another folder")
        self._folder = folder
        self._names = "".join(f"{name}\n" for name in classes)
        self._taken: dict[str, int] = {}

    def add(self, name: str, mask: NDArray[np.uint8]) -> Path:
        """Write a mask under the name of its image, with a number behind it where that was taken before."""
        if not self._taken:
            write_atomic(self._folder / NAMES_FILE, self._names.encode())
        stem = Path(name).stem
        count = self._taken[stem] = self._taken.get(stem, 0) + 1
        file = self._folder / (f"{stem}.png" if count == 1 else f"{stem}-{count}.png")
        image = Image.fromarray(mask).convert("P")
        image.putpalette([value for number in range(256) for value in colour(number)])
        data = BytesIO()
        image.save(data, "PNG")
        write_atomic(file, data.getvalue())
        return file


def colour(number: int) -> tuple[int, int, int]:
    """The colour of a class in PASCAL VOC's map: bit i of a channel is a bit of the number, three apart."""
    red, green, blue = (sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3))
    return red, green, blue
