"""The embedded default: patches of ten photographs that ship inside scikit-image and scikit-learn."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset, ImageData, ImageSet, check_images

# Read as files: scikit-image's own functions download a photograph that an edition does not ship.
PHOTOS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "retina": ("skimage", "data/retina.jpg"),
    "immunohistochemistry": ("skimage", "data/ihc.png"),
    "hubble_deep_field": ("skimage", "data/hubble_deep_field.jpg"),
    "stereo_motorcycle": ("skimage", "data/motorcycle_left.png"),
    "china": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}
_SIDE, _STRIDE = 32, 16
_BANDS = 5  # from left to right


@register_dataset("photos")
class Photos(Dataset[ImageData]):
    """Colour patches of 32x32 pixels; the class is the photograph.

    Training patches come from its left three quarters and test patches from the right quarter, so they share no pixel.
    Patches overlap, so those of one of five bands of a photograph are a group: what is held out of the training patches
    is of other places, as the test patches are.
    """

    class Config(ComponentConfig):
        name: Literal["photos"] = "photos"
        per_class: int = Field(default=400, ge=1, description="training patches a class, at most")
        test_per_class: int = Field(default=100, ge=1, description="test patches a class, at most")
        group_by_place: bool = Field(
            default=True, description="what is held out of the training patches is of other places than the rest"
        )

    config: Config

    def load(self) -> ImageData:
        train, test, bands = [], [], []
        for number, name in enumerate(PHOTOS):
            photo = read_photo(name)
            cut = photo.shape[1] * 3 // 4
            patches, band = _patches(photo[:, :cut], self.config.per_class)
            train.append(patches)
            bands.append(_BANDS * number + band)
            test.append(_patches(photo[:, cut:], self.config.test_per_class)[0])
        groups = torch.cat(bands) if self.config.group_by_place else None
        data = ImageData(_label(train), _label(test), tuple(PHOTOS), bears_mirroring=True, train_groups=groups)
        check_images(data.train, data.test, data.classes, "photos")
        return data


def read_photo(name: str) -> NDArray[np.uint8]:
    """The pixels (h, w, 3) of one of PHOTOS.

    Raises:
        DataError: the package that ships it is not there.
    """
    package, path = PHOTOS[name]
    try:
        with (files(package) / path).open("rb") as stream, Image.open(stream) as image:
            return np.asarray(image.convert("RGB"))
    except ModuleNotFoundError:
        raise DataError("photos: scikit-image is not installed; install datanas[demo]") from None
    except OSError as error:
        raise DataError(f"photos: {name} of {package} cannot be read ({error}); install datanas[demo]") from None


def _patches(region: NDArray[np.uint8], count: int) -> tuple[UInt8[Tensor, "n 3 32 32"], Int64[Tensor, " n"]]:
    """At most `count` patches, evenly spaced over all those of the region, row by row, and the band of each."""
    windows = np.lib.stride_tricks.sliding_window_view(region, (_SIDE, _SIDE), axis=(0, 1))[::_STRIDE, ::_STRIDE]
    rows, columns = windows.shape[:2]
    count = min(count, rows * columns)
    chosen = np.arange(count) * (rows * columns) // count
    bands = chosen % columns * _BANDS // columns
    return torch.from_numpy(windows[chosen // columns, chosen % columns]), torch.from_numpy(bands)


def _label(parts: list[Tensor]) -> ImageSet:
    labels = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part) for part in parts]))
    return ImageSet(torch.cat(parts), labels)
