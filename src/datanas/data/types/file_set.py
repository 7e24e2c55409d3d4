"""Labelled image files that are decoded when they are needed, in threads, while the network computes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from datanas.core.errors import DataError
from datanas.core.paths import read_bytes
from datanas.data.base import Labels
from datanas.data.decode.crops import DRAWS, View, centre_square, random_box
from datanas.data.decode.image_form import ImageForm
from datanas.data.decode.images import read_image
from datanas.data.decode.open_image import BrokenImageError, PixelForm, TooLargeError
from datanas.data.types.source import Take

_log = logging.getLogger(__name__)
MOST_COMPARED = 20_000
"""Files that are read at the start to tell equal ones: more would take as long as training on them."""


@dataclass(frozen=True)
class Reading:
    """How image files become squares of one size.

    Attributes:
        size: side of the square, in pixels.
        resize: what the shorter side is scaled to before the centre of `size` is cut out, where images are measured.
        smallest_crop: share of the area that a random crop for training takes at least.
        form: what pixels become.
        workers: threads that decode.
        ahead: batches that are begun before they are asked for.
    """

    size: int
    resize: int
    smallest_crop: float
    form: PixelForm
    workers: int
    ahead: int

    @property
    def centre(self) -> View:
        """What is measured of an image."""
        return View(self.size, partial(centre_square, share=self.size / self.resize))

    def crop(self, draws: list[float]) -> View:
        """What a network is trained on; `draws` as for `random_box`."""
        return View(self.size, partial(random_box, draws=draws, smallest=self.smallest_crop))


@dataclass(frozen=True, eq=False)
class FileSet:
    """Image files and their classes; of the files only names and sizes are kept in memory.

    Attributes:
        root: the folder that the names begin in.
        names: the files, one an image.
        sizes: (n,), their bytes.
        labels: (n,), int64, on the CPU.
        reading: how they are read.
        where: the data set and its source, to begin a message with.
        device: where batches are handed out.
    """

    root: Path
    names: tuple[str, ...]
    sizes: Int64[Tensor, " n"]
    labels: Labels
    reading: Reading
    where: str
    device: torch.device | str = "cpu"
    crops: ClassVar[bool] = True

    @property
    def ahead(self) -> int:
        return self.reading.ahead

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> FileSet:
        return replace(self, device=device)

    def with_labels(self, labels: Labels) -> FileSet:
        """The same files under other labels."""
        return replace(self, labels=labels)

    def begin(
        self, indices: Int64[Tensor, " m"], share: slice = slice(None), crop: torch.Generator | None = None
    ) -> Take:
        """As `ImageSource.begin`. Taking a file that is broken raises a DataError that names it."""
        whole, chosen = len(indices), indices[share].cpu()
        views = [self.reading.centre] * len(chosen)
        if crop is not None:
            draws = torch.rand(whole, DRAWS, generator=crop, dtype=torch.float64)[share]
            views = [self.reading.crop(each) for each in draws.tolist()]
        form, side = self.reading.form, self.reading.size
        pixels = np.empty((len(chosen), form.channels, side, side), np.uint8)

        def read(row: int, file: Path, view: View) -> None:
            pixels[row] = read_image(file, form, view)[0]

        files = [self.root / self.names[index] for index in chosen.tolist()]
        jobs = [
            self._pool.submit(read, row, file, view) for row, (file, view) in enumerate(zip(files, views, strict=True))
        ]

        def take() -> tuple[Tensor, Tensor]:
            for file, job in zip(files, jobs, strict=True):
                try:
                    job.result()
                except BrokenImageError as error:
                    for rest in jobs:
                        rest.cancel()
                    if isinstance(error, TooLargeError):
                        raise DataError(f"{self.where}: {file} has {error}") from None
                    raise DataError(
                        f"{self.where}: {file} is broken ({error}); mend it, or begin a new run without it: "
                        "--data.skip_broken true leaves such files out"
                    ) from None
            return torch.from_numpy(pixels).to(self.device), self.labels[chosen].to(self.device)

        return take

    def contents(self) -> Iterator[bytes]:
        """Labels, names and sizes: reading every pixel would take as long as training on it."""
        yield self.labels.numpy().tobytes()
        yield "\0".join(self.names).encode(errors="surrogateescape")
        yield self.sizes.numpy().tobytes()

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # Its threads end with it, when nothing holds these files any more and what was begun is done.
        return ThreadPoolExecutor(self.reading.workers, thread_name_prefix="decode")


@dataclass(frozen=True, eq=False)
class ImageFileData:
    """A classified set of image files, split into training and test images.

    Attributes:
        mean, std: of each channel, in 0..1, by which pixels are normalised.
        bears_mirroring: whether a mirrored image is known to be as good an image of its class.
        train_groups: as of `ImageSets`.
    """

    train: FileSet
    test: FileSet
    classes: tuple[str, ...]
    mean: Float32[Tensor, " c"]
    std: Float32[Tensor, " c"]
    bears_mirroring: bool = False
    train_groups: Int64[Tensor, " n"] | None = None

    def with_train_labels(self, labels: Labels) -> ImageFileData:
        """The same images, those for training under other labels."""
        return replace(self, train=self.train.with_labels(labels))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(c, h, w)."""
        reading = self.train.reading
        return reading.form.channels, reading.size, reading.size

    @property
    def centre_share(self) -> float:
        """How much of an image's shorter side is measured."""
        return self.test.reading.size / self.test.reading.resize

    @property
    def image_form(self) -> ImageForm:
        """What any other image has to become to be measured."""
        form = self.test.reading.form
        return ImageForm.of(self.image_shape, form, is_scaled=True, centre_share=self.centre_share)


def tell_equal_files(train: FileSet, test: FileSet) -> None:
    """Warn of files to test on whose bytes are those of a file for training.

    Only files of equal sizes are read, and none where these are more than MOST_COMPARED.
    """
    sizes = set(train.sizes.tolist()) & set(test.sizes.tolist())
    alike = {part: [index for index, size in enumerate(part.sizes.tolist()) if size in sizes] for part in (train, test)}
    if not sizes or sum(map(len, alike.values())) > MOST_COMPARED:
        return
    trained: dict[bytes, str] = {}
    for index in alike[train]:
        trained.setdefault(_sum(train.root / train.names[index]), train.names[index])
    twice = [
        (name, trained[digest])
        for name in (test.names[index] for index in alike[test])
        if (digest := _sum(test.root / name)) in trained
    ]
    if twice:
        _log.warning(
            "%s: %d of %d files to test on are files for training too, such as %s, which is %s there; what is measured "
            "on them was learned by heart",
            *(test.where, len(twice), len(test), *twice[0]),
        )


def _sum(file: Path) -> bytes:
    return sha256(read_bytes(file, DataError)).digest()
