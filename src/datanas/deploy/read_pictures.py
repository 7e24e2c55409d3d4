"""From pictures to the pixels that a network was trained on: size, channels and depth as its data set made them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from datanas.core.errors import ConfigError, DataError
from datanas.data.augment import GREY
from datanas.data.decode.arrays import ValueRange
from datanas.data.decode.image_form import ImageForm
from datanas.data.decode.images import pixels_of, tell_traits, upright_size
from datanas.data.decode.open_image import BrokenImageError, Trait, opened, to_bytes
from datanas.deploy.pictures import Frame, Picture, names_of

_log = logging.getLogger(__name__)
_BEYOND = 1e-3
"""How far beyond 0..1 a floating value may lie: resampling overshoots a little."""


class PictureReader:
    """Reads pictures in batches, in threads, a batch ahead of the network.

    Args:
        form: what the network takes.
        white_level: the value that is white in pictures of more than 8 bits; None for that of the training images.

    Raises:
        ConfigError: a white is given to a network whose numbers have none.
    """

    def __init__(self, form: ImageForm, white_level: float | None = None) -> None:
        if white_level is not None and form.value_range is not None:
            raise ConfigError("white_level: the network was trained on numbers that have no white; leave it out")
        self._form = form if white_level is None else form.model_copy(update={"white": white_level})
        self._pixels = self._form.pixels

    def batches(
        self, pictures: Sequence[Picture], batch_size: int, *, skip_broken: bool = False
    ) -> Iterator[tuple[list[Picture], list[Tensor]]]:
        """Pictures and the pixels (c, h, w) of each.

        What was chosen or lost on the way is told with a count, after the last.

        Raises:
            DataError: a picture cannot be read, and is not to be skipped.
        """
        self._tell_dark(pictures)
        notes = _Notes(len(pictures), skip_broken=skip_broken)
        with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
            waiting: list[list[tuple[Picture, Future[_Read]]]] = []
            try:
                for start in range(0, len(pictures), batch_size):
                    chunk = pictures[start : start + batch_size]
                    waiting.append([(each, pool.submit(self._read, each)) for each in chunk])
                    if len(waiting) > 1:
                        yield notes.take(waiting.pop(0))
                for rest in waiting:
                    yield notes.take(rest)
            finally:
                pool.shutdown(cancel_futures=True)
        notes.tell(self._form)

    def _read(self, picture: Picture) -> _Read:
        source = picture.source
        if self._form.channels not in (1, 3) or self._form.value_range is not None:
            return self._read_numbers(source)
        if getattr(source, "tile", None) and (file := getattr(source, "filename", "")) and not _frame(source):
            source = Path(file)  # an image of Pillow that is not decoded yet: its file is read as any other
        if isinstance(source, np.ndarray):
            return self._read_frame(source)
        if isinstance(source, Path):
            with opened(source, self._pixels.max_pixels) as image:
                return self._as_trained(image, source)
        assert isinstance(source, Image.Image)
        try:
            return self._as_trained(source.copy(), b"")
        except BrokenImageError:
            raise
        except Exception as error:  # each decoder has errors of its own for damaged files
            raise BrokenImageError(f"{type(error).__name__}: {error}") from None

    def _tell_dark(self, pictures: Sequence[Picture]) -> None:
        """Warn of floating numbers up to 1 where the network has learned that a larger one is white."""
        white = self._form.white or 1.0
        if not self._form.is_floating or self._form.value_range is not None or white <= 1:
            return
        arrays = [each.source for each in pictures if isinstance(each.source, np.ndarray)]
        floating = [array for array in arrays if array.dtype.kind == "f"]
        if floating and max(float(array.max()) for array in floating) <= 1:
            _log.warning(
                "no floating pixel is above 1, but the network was trained on floating numbers of which %g is white, "
                "so it sees nearly black images; multiply them by %g if 1 is white",
                *(white, white),
            )

    def _as_trained(self, image: Image.Image, source: Path | bytes, *, is_converted: bool = False) -> _Read:
        """The pixels of an open image, what is worth telling of it, and whether it was of another size."""
        form, view = self._form, self._form.view
        size = upright_size(image)
        is_resized = view is not None and size != view.size
        if not is_resized and form.centre_share == 1:
            view = None
        pixels = replace(self._pixels, white_of_8_bits=None) if is_converted else self._pixels
        values, traits = pixels_of(image, source, pixels, view)
        unit: NDArray[Any] = values.astype(np.float32) / 255 if form.is_floating else values
        return unit, traits, is_resized

    def _read_numbers(self, source: object) -> _Read:
        """Of a network whose images are arrays alone: as its data set made pixels of them, each channel by itself."""
        form = self._form
        if not isinstance(source, np.ndarray):
            known = f"numbers in {form.channels} channels" if form.value_range is None else "numbers that are no pixels"
            raise BrokenImageError(
                f"an image file, but the network was trained on arrays of {known}; give such an array"
            )
        frame: Frame = source if source.ndim == 3 else source[..., None]
        if frame.shape[2] != form.channels:
            raise BrokenImageError(f"{frame.shape[2]} channels, but the network was trained on {form.channels}")
        if form.value_range is not None:
            if not np.isfinite(frame).all():
                raise BrokenImageError("numbers that are NaN or infinite")
            values: NDArray[Any] = ValueRange(*form.value_range).to_unit(frame, 2).clip(0, 1)
        elif form.is_floating:
            _require_unit(frame, form.white or 1.0)
            values = frame.astype(np.float32) / np.float32(form.white or 1.0)
        elif frame.dtype == np.uint8 and form.white_of_8_bits is not None:
            values = to_bytes(frame, form.white_of_8_bits)
        else:
            values = self._bytes(frame)
        return self._scaled(values)

    def _scaled(self, values: NDArray[Any]) -> _Read:
        """Values (h, w, c) of any kind as (c, h, w), of the size that the network was trained on."""
        view, size = self._form.view, (values.shape[1], values.shape[0])
        if view is None or size == view.size:
            return values.transpose(2, 0, 1), frozenset(), False
        planes = [Image.fromarray(np.ascontiguousarray(each)) for each in values.transpose(2, 0, 1)]
        bilinear, box = Image.Resampling.BILINEAR, view.cut(*size)
        return np.stack([np.asarray(each.resize(view.size, bilinear, box)) for each in planes]), frozenset(), True

    def _read_frame(self, frame: Frame) -> _Read:
        if self._form.is_floating and frame.dtype.kind == "f":
            return self._read_floating(frame)
        values = self._bytes(frame)
        image = Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2:] == (1,) else values))
        return self._as_trained(image, b"", is_converted=frame.dtype != np.uint8)

    def _bytes(self, frame: Frame) -> NDArray[np.uint8]:
        """Values as the data set turns them to bytes: floating ones of 0..1, and whole ones by its white."""
        if frame.dtype == np.uint8:
            return frame
        if frame.dtype.kind == "f":
            _require_unit(frame, 1.0)
            return to_bytes(frame.astype(np.float64), 1.0)
        if frame.dtype.kind not in "iu":
            raise BrokenImageError(f"pixels must be uint8 in 0..255 or floating in 0..1, got {frame.dtype}")
        low, high = int(frame.min()), int(frame.max())
        if low < 0:
            raise BrokenImageError(f"pixels below 0, the least is {low}")
        if self._form.white is not None:
            return to_bytes(frame, self._form.white)
        if high > 255 or frame.dtype.itemsize == 2:
            raise BrokenImageError(
                f"{frame.dtype} pixels of up to {high}, but the network was trained on 8 bits; give uint8, or "
                "say what is white (white_level)"
            )
        return frame.astype(np.uint8)

    def _read_floating(self, frame: Frame) -> _Read:
        """Of a network that was trained on floating numbers: no digit is lost to bytes."""
        form = self._form
        white = form.white or 1.0
        _require_unit(frame, white)
        values = frame.astype(np.float32) / np.float32(white)
        values = np.atleast_3d(values)[..., :3]
        if values.shape[2] == 2:
            values = values[..., :1]
        if values.shape[2] == 3 and form.channels == 1:
            values = (values @ np.array(GREY, np.float32))[..., None]
        return self._scaled(np.broadcast_to(values, (*values.shape[:2], form.channels)))


_Read = tuple[NDArray[Any], frozenset[Trait], bool]
"""Pixels (c, h, w), what is worth telling, and whether the picture was of another size."""


@dataclass
class _Notes:
    """What is to be told of `count` pictures."""

    count: int
    skip_broken: bool
    traits: dict[Trait, list[object]] = field(default_factory=lambda: defaultdict(list))
    broken: list[Picture] = field(default_factory=list)
    resized: list[Picture] = field(default_factory=list)

    def take(self, jobs: Sequence[tuple[Picture, Future[_Read]]]) -> tuple[list[Picture], list[Tensor]]:
        """The pictures that can be read, and their pixels."""
        pictures: list[Picture] = []
        tensors: list[Tensor] = []
        for picture, job in jobs:
            try:
                pixels, traits, is_resized = job.result()
            except BrokenImageError as error:
                if not self.skip_broken:
                    way_out = "; --skip-broken leaves such images out" if self.count > 1 else ""
                    raise DataError(f"{picture.name}: {_why(error)}{way_out}") from None
                self.broken.append(picture)
                continue
            pictures.append(picture)
            tensors.append(torch.from_numpy(np.array(pixels)))
            for trait in traits:
                self.traits[trait].append(picture.name)
            if is_resized:
                self.resized.append(picture)
        return pictures, tensors

    def tell(self, form: ImageForm) -> None:
        """Say it, each in one line.

        Raises:
            DataError: no picture could be read.
        """
        tell_traits(self.traits, self.count, "predict", form.pixels)
        if self.resized and not form.is_scaled:
            _log.warning(
                "%d of %d images are not %dx%d, the size that the network was trained on, such as %s; the shorter side "
                "is scaled and the centre taken",
                *(len(self.resized), self.count, form.width, form.height, self.resized[0].name),
            )
        if len(self.broken) == self.count:
            raise DataError(f"none of {self.count} images can be read, the first is {self.broken[0].name}")
        if self.broken:
            _log.warning("skipped %d broken of %d images: %s", len(self.broken), self.count, names_of(self.broken, 20))


def _require_unit(frame: Frame, white: float) -> None:
    low, high = float(frame.min()), float(frame.max())
    if not np.isfinite(frame).all():
        raise BrokenImageError("pixels that are NaN or infinite")
    if low < -_BEYOND * white or high > (1 + _BEYOND) * white:
        raise BrokenImageError(
            f"floating pixels of {low:g} to {high:g}, which must lie in 0..{white:g}; give the image itself, in "
            f"0..{white:g} or as uint8: it is normalised here"
        )


def _why(error: BrokenImageError) -> str:
    text = str(error)
    if text == "not an image":
        return "not an image; images, folders of images, .npy and .npz files are taken"
    if "--data.white_level" in text:
        return "has more than 8 bits a pixel, which the network was not trained on; say what is white: --white-level N"
    return text.replace("set --data.max_pixels N", "train with a larger --data.max_pixels")


def _frame(image: Any) -> int:
    """Which of several frames or pages somebody has turned an image of Pillow to."""
    tell = getattr(image, "tell", None)
    return int(tell()) if callable(tell) else 0
