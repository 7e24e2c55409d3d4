"""What tasks on classified images share: their data and stem, and parts that are read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor

from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.settings import ComponentConfig
from datanas.data.augment import Augment, augment
from datanas.data.base import UNLABELLED, ImageData, Images, Labels
from datanas.data.batches import Stream, held_out, left_to_judge, sequential, split, stratified
from datanas.data.types.file_set import ImageFileData
from datanas.data.types.source import ImageSource
from datanas.data.types.targets import TargetData
from datanas.tasks import tasks
from datanas.tasks.base import BatchT, Part
from datanas.tasks.stemmed_task import StemmedTask
from datanas.tasks.stems import STEM_KINDS, WithNone, require_size

EVALUATION_BATCH = 250
_BATCHES = ((2500, 64), (1000, 32), (300, 16), (0, 8))
"""Images for training, and the largest batch of which half of them make some twenty steps an epoch."""

Indices = Int64[Tensor, " m"]
Views = Float32[Tensor, "n c h w"]


class ImageTask(StemmedTask[BatchT]):
    """A task on classified images, in memory or in files.

    One that is built on it says by which labels its parts are balanced (`_strata`), and what else a part must satisfy
    (`_choose`).
    """

    class Config(ComponentConfig):
        stem: WithNone = Field("cifar", description=f"{STEM_KINDS}; none before a network that reads the image itself")
        search_augment: Augment = Augment()
        train_augment: Augment = Augment()

    needs_labels: ClassVar[bool] = True
    """Whether images of one class alone, or of none that is known, are of no use."""
    takes: ClassVar[tuple[type, ...]] = (ImageData, ImageFileData)
    """The kinds of data that it works on."""
    config: Config
    data: ImageData | ImageFileData

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if not isinstance(data, self.takes):
            raise ConfigError(f"data.name: task {config.name} takes {_wanted(self.takes, data)}")
        assert isinstance(config, self.Config)
        self.config = config
        self.data = cast(ImageData | ImageFileData, data)
        if self.needs_labels and len(self.data.classes) < 2:
            raise DataError(_one_class(config.name, self.data.classes))
        self.settle_augmentations("search_augment", "train_augment")
        require_size(self.data.image_shape, config.stem)
        self.device = device
        self._seed = seed
        self._train, self._test = self._on_device()
        self._streams: dict[Part, Stream] = {}
        self._chosen: dict[str, Indices] = {}
        self._choose("test", torch.arange(len(self._test)))
        self._pool = torch.arange(len(self._strata()))  # of which parts are made

    def suited_settings(self) -> Mapping[str, Any]:
        count, side = len(self.data.train), min(self.data.image_shape[1:])
        batch = next(size for least, size in _BATCHES if count >= least)
        kind = "plain" if self.config.stem.startswith("plain") else "cifar"
        stem = kind if side <= 20 else f"{kind}_half" if side <= 80 else "imagenet"
        return {
            "task": {"stem": stem, "train_augment": {"cutout": side // 4}},
            "search": {
                "batch_size": batch,
                "alpha_start": 0.1,
                "weights": {"lr": 0.05 if batch >= 32 else 0.025},
                "gap": {"examples": 500},
            },
            "train": {
                "batch_size": min(96, 2 * batch),
                "weights": {"lr": 0.1 if batch >= 64 else 0.05, "weight_decay": 5e-4, "warm_up_epochs": 1.0}
                | {"nesterov": True},
            },
        }

    def preprocessing(self) -> dict[str, Any]:
        """With `crop_pct`, the share of an image's shorter side that is measured, as timm calls it."""
        return {**super().preprocessing(), "crop_pct": self.data.centre_share}

    def chosen(self) -> Mapping[str, Tensor]:
        return self._chosen

    def contents(self) -> Iterator[bytes]:
        for images in (self.data.train, self.data.test):
            yield from images.contents()

    def _on_device(self) -> tuple[ImageSource, ImageSource]:
        """The images that parts are made of, and those of the part `test`, handed out on the device."""
        return self.data.train.to(self.device), self.data.test.to(self.device)

    def _strata(self) -> Labels:
        """The labels by which the parts of the training images are balanced."""
        return self.data.train.labels

    def _groups(self, indices: Indices) -> Indices | None:
        """Which of these training images belong together; None where each stands for itself."""
        groups = self.data.train_groups
        return None if groups is None else groups[indices]

    def notes(self) -> Sequence[str]:
        groups = self._groups(torch.arange(len(self.data.train)))
        if groups is None:
            return ()
        return (f"the images for training are in {len(torch.unique(groups)):,} groups, which no split parts",)

    def _set_aside(self, share: float | None) -> None:
        all_images = torch.arange(len(self.data.train))  # however often something is set aside
        held, self._pool = left_to_judge(self._strata(), share, self._groups(all_images))
        self._choose("validation", held)

    def limit(self, examples: int) -> None:
        self._pool = self._balanced(self._pool, examples)

    def _balanced(self, indices: Indices, count: int | None) -> Indices:
        """So many of them, balanced over what the parts are balanced by; all for None."""
        if count is None or count >= len(indices):
            return indices
        first, _ = stratified(self._strata()[indices], Fraction(count, len(indices)), self._seed, "images")
        return indices[first]

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        strata, chosen = self._strata(), self._balanced(self._pool, examples)
        first, second = split(strata[chosen], ratio, self._seed, self._groups(chosen))
        for part, indices in (("weights", chosen[first]), ("alpha", chosen[second])):
            self._add(cast(Part, part), indices, batch_size)

    def split_train(self, validation: float, batch_size: int) -> None:
        held, kept = held_out(self._strata()[self._pool], validation, self._seed, self._groups(self._pool))
        self._add("train", self._pool[kept], batch_size)
        if validation > 0:
            self._choose("validation", self._pool[held])

    def _add(self, part: Part, indices: Indices, batch_size: int) -> None:
        """Make a part that is learned from."""
        self._choose(part, indices)
        self._streams[part] = Stream(self._train, indices, batch_size, self._seed, part)
        self.require_share(self._streams[part].batch_size)

    def _choose(self, part: Part, indices: Indices) -> None:
        """Let a part be these images."""
        self._chosen[part] = indices

    def steps_per_epoch(self, part: Part) -> int:
        return self._streams[part].steps_per_epoch

    def left_out(self, part: Part) -> int:
        return self._streams[part].left_out

    def _drawn(self, part: Part, step: int) -> tuple[Images, Views, Labels]:
        """This process's share of the images of one step, an augmented view of each, and their labels."""
        stream = self._streams[part]
        share = self.processes.share(stream.batch_size)
        images, labels = stream.batch(step, share)
        settings = self.augmentations["train_augment"] if part == "train" else self.augmentations["search_augment"]
        if stream.data.crops:
            settings = settings.model_copy(update={"crop_padding": 0})
        generator = seeding.generator(self._seed, f"augment/{part}", step)
        views = augment(
            images, settings, self.data.mean, self.data.std, generator, whole=stream.batch_size, share=share
        )
        return images, views, labels

    def _images(self, part: Part) -> ImageSource:
        """What the indices of a part count."""
        return self._test if part == "test" else self._train

    def _shuffled(self, indices: Indices) -> Indices:
        """In what order to measure: a network that takes its statistics from the batch sees images of every kind."""
        return indices[torch.randperm(len(indices), generator=seeding.generator(self._seed, "evaluate/order"))]

    def _measured(self, part: Part, indices: Indices) -> Iterator[tuple[int, Images, Labels]]:
        """This process's share of some images of a part, in batches, each after the place of its first in `indices`."""
        # Of nearly equal size: batch norm can take no statistics of a last batch of one image.
        size = -(-len(indices) // -(-len(indices) // EVALUATION_BATCH))
        rank, processes = self.processes.rank, self.processes.size
        batches = sequential(self._images(part), indices, size, rank, processes)
        for number, (images, labels) in enumerate(batches):
            yield (rank + number * processes) * size, images, labels


def _wanted(takes: tuple[type, ...], data: object) -> str:
    if isinstance(data, TargetData):
        others = " or ".join(name for name in tasks if tasks[name].target_kind == data.kind)
        return f"images of one class each; these have {data.kind}, for which there is --task.name {others}"
    if TargetData in takes:
        return "images with several labels, or with numbers, each (docs/data.md)"
    return "image data sets"


def _one_class(task: str, classes: tuple[str, ...]) -> str:
    fault = "only one class; at least two are needed"
    if classes == (UNLABELLED,):
        fault = "the images have no labels, neither class folders nor an array of them; two classes are needed"
    return (
        f"data.root: {fault} by task {task}; images without labels can be put into clusters with "
        "--task.name clustering --task.clusters N"
    )
