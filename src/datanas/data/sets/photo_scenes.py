"""The embedded default of segmentation: pieces of ten photographs pasted into one canvas, with exact masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from datanas.core.seeding import key
from datanas.core.settings import ComponentConfig
from datanas.data import register_dataset
from datanas.data.base import Dataset
from datanas.data.sets.photos import PHOTOS, read_photo
from datanas.data.types.masks import SegmentationData, SegmentationSet, check_masks


@register_dataset("photo_scenes")
class PhotoScenes(Dataset[SegmentationData]):
    """A piece of one photograph with rectangles and ellipses of others upon it; a pixel's class is its photograph.

    Training scenes are made of the left three quarters of the photographs and test scenes of the right quarter, so they
    share no pixel.
    """

    class Config(ComponentConfig):
        name: Literal["photo_scenes"] = "photo_scenes"
        size: int = Field(default=64, ge=8, le=96, description="height and width of a scene")
        pieces: int = Field(default=3, ge=1, description="shapes that are pasted upon the background")
        train_scenes: int = Field(default=400, ge=1)
        test_scenes: int = Field(default=100, ge=1)
        seed: int = Field(default=0, description="of the choice of pieces, shapes and places")

    config: Config

    def load(self) -> SegmentationData:
        photos = [read_photo(name) for name in PHOTOS]
        cuts = [photo.shape[1] * 3 // 4 for photo in photos]
        data = SegmentationData(
            self._part("train", [photo[:, :cut] for photo, cut in zip(photos, cuts, strict=True)]),
            self._part("test", [photo[:, cut:] for photo, cut in zip(photos, cuts, strict=True)]),
            tuple(PHOTOS),
            bears_mirroring=True,
        )
        check_masks(data, "photo_scenes")
        return data

    def _part(self, part: Literal["train", "test"], photos: Sequence[NDArray[np.uint8]]) -> SegmentationSet:
        count = self.config.train_scenes if part == "train" else self.config.test_scenes
        images, masks = [], []
        for index in range(count):
            random = np.random.default_rng(key(self.config.seed, f"photo_scenes/{part}", index))
            image, mask = compose(photos, self.config.size, self.config.pieces, random)
            images.append(torch.from_numpy(image.transpose(2, 0, 1).copy()))
            masks.append(torch.from_numpy(mask))
        return SegmentationSet(tuple(images), tuple(masks), tuple(f"scene {index}" for index in range(count)))


def compose(
    photos: Sequence[NDArray[np.uint8]], side: int, pieces: int, random: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One scene (side, side, 3) and its mask (side, side), whose values are places in `photos`.

    A shape is a rectangle or an ellipse, a quarter to three quarters of a side wide and high, and lies inside. It hides
    what is beneath; those that come later lie above.
    """
    background = int(random.integers(len(photos)))
    image = _piece(photos[background], side, random)
    mask = np.full((side, side), background, np.uint8)
    rows, columns = np.mgrid[:side, :side]
    for _ in range(pieces):
        photo = int(random.integers(len(photos)))
        height, width = random.integers(side // 4, 3 * side // 4 + 1, size=2).tolist()
        top, left = int(random.integers(side - height + 1)), int(random.integers(side - width + 1))
        across = (rows - top - (height - 1) / 2) / (height / 2)
        along = (columns - left - (width - 1) / 2) / (width / 2)
        is_ellipse = random.integers(2) == 1
        covered = across**2 + along**2 <= 1 if is_ellipse else np.maximum(abs(across), abs(along)) <= 1
        image[covered] = _piece(photos[photo], side, random)[covered]
        mask[covered] = photo
    return image, mask


def _piece(photo: NDArray[np.uint8], side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A square of a photograph, at random."""
    top, left = (int(random.integers(length - side + 1)) for length in photo.shape[:2])
    return photo[top : top + side, left : left + side].copy()
