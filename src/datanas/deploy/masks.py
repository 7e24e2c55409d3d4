"""Networks that tell the class of every pixel, and pictures of what they tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import chain, count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datanas.core.atomic import write_atomic
from datanas.core.errors import DataError
from datanas.core.paths import require_unused
from datanas.data.augment import normalise
from datanas.data.decode.masks import reduced_size
from datanas.data.sets.mask_folder import NAMES_FILE
from datanas.deploy.pictures import Inputs
from datanas.deploy.predictions import MaskPredictions
from datanas.deploy.predictor import BATCH_SIZE, ImagePredictor
from datanas.tasks.mask_task import output_strides
from datanas.tasks.multi_scale import log_probabilities

TOGETHER = 8
"""Images that are in memory at a time, at most."""


class MaskPredictor(ImagePredictor[MaskPredictions]):
    """The class of every pixel of images of any size, seen as the test images were: at all scales of the task."""

    @property
    def classes(self) -> tuple[str, ...]:
        """What each number in a mask stands for."""
        return self.use.outputs or tuple(map(str, range(self.num_classes)))

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
        least, size, reduced = max(output_strides(self.settings.stem)), tuple(pixels.shape[1:]), self._reduced(pixels)
        if min(reduced.shape[1:]) < least:
            seen = f"{reduced.shape[2]}x{reduced.shape[1]}"
            raise DataError(f"{name}: is seen as {seen}, but the network needs {least} pixels each way")
        images = normalise(reduced[None].to(self.device), *self.moments)
        scores = log_probabilities(self.network, images, self.settings.test_scales, flip=self.settings.test_flip)
        mask: NDArray[np.uint8] = scores[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
        if mask.shape == size:
            return mask
        return np.array(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))

    def _reduced(self, pixels: Tensor) -> Tensor:
        """An image with its longer side as long as training images were, at most, reduced as these were."""
        longest, (height, width) = self.form.longest, pixels.shape[1:]
        if longest is None or max(height, width) <= longest:
            return pixels
        image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        reduced = np.array(image.resize(reduced_size((width, height), longest), Image.Resampling.BILINEAR))
        return torch.from_numpy(reduced).permute(2, 0, 1)


class MaskFolder:
    """A new folder of masks: PNG with a palette, whose number is the class, and the names of the classes.

    Raises:
        ConfigError: the folder is in use.
        StorageError: it cannot be written.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        require_unused(folder)
        self._folder = folder
        self._names = "".join(f"{name}\n" for name in classes)
        self._taken: set[str] = set()

    def add(self, name: str, mask: NDArray[np.uint8]) -> Path:
        """Write a mask under the name of its image, with a number behind it where that was taken before."""
        if not self._taken:
            write_atomic(self._folder / NAMES_FILE, self._names.encode())
        stem = Path(name).stem
        names = chain([stem], (f"{stem}-{number}" for number in count(2)))
        free = next(each for each in names if each.lower() not in self._taken)  # some systems heed no case
        self._taken.add(free.lower())
        file = self._folder / f"{free}.png"
        image = Image.fromarray(mask).convert("P")
        image.putpalette(PALETTE)
        data = BytesIO()
        image.save(data, "PNG")
        write_atomic(file, data.getvalue())
        return file


def colour(number: int) -> tuple[int, int, int]:
    """The colour of a class in PASCAL VOC's map: bit i of a channel is a bit of the number, three apart."""
    red, green, blue = (sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(3)) for channel in range(3))
    return red, green, blue


PALETTE = [value for number in range(256) for value in colour(number)]
"""The colours of all classes, one channel after the other."""
