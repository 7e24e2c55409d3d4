"""Episodes of classes apart as a task's data: which classes a part holds, and the images of an episode."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor

from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.settings import ComponentConfig, Section
from datanas.data.augment import Augment, augment
from datanas.data.base import ImageData, Images
from datanas.data.batches import held_out, judge_share, left_to_judge, parse_ratio, unlabelled
from datanas.data.episodes import EpisodeSampler, EpisodeShape
from datanas.data.types.class_splits import ClassSplitData, choose_classes, regroup
from datanas.tasks.base import Part
from datanas.tasks.stemmed_task import StemmedTask
from datanas.tasks.stems import STEM_KINDS, WithNone, require_size

SEARCH_PARTS = ("weights", "alpha")
NOT_AUGMENTED = Augment(crop_padding=0, flip=False)


class Episode(Section):
    """What an episode holds."""

    way: int = Field(5, ge=2, description="classes")
    shot: int | None = Field(None, ge=1, description="images of each class to learn from; null: as in task.test")
    query: int = Field(15, ge=1, description="images of each class to recognise")


class TestEpisode(Section):
    """What an episode holds by which a network is measured, and how many there are."""

    way: int = Field(5, ge=2, description="classes")
    shot: int = Field(1, ge=1, description="images of each class to learn from")
    query: int = Field(15, ge=1, description="images of each class to recognise")
    episodes: int = Field(600, ge=2, description="over which accuracy is averaged")


@dataclass(frozen=True)
class EpisodeBatch:
    """The augmented images of some episodes, one episode after the other, class by class, shots first.

    Attributes:
        shape: of each episode.
    """

    images: Float32[Tensor, "batch channels height width"]
    shape: EpisodeShape


class EpisodeTask(StemmedTask[EpisodeBatch]):
    """A task on episodes. A part is a set of classes, and an example of a batch is an episode."""

    class Config(ComponentConfig):
        stem: WithNone = Field(
            "cifar_half", description=f"{STEM_KINDS}; none hands on the image and embeds by the body alone, for conv4"
        )
        search: Episode = Episode(way=10)
        train: Episode = Episode(way=30)
        test: TestEpisode = TestEpisode()
        episodes: int = Field(100, ge=1, description="of an epoch")
        search_augment: Augment = NOT_AUGMENTED
        train_augment: Augment = NOT_AUGMENTED
        test_classes: float = Field(
            0.3, gt=0, lt=1, description="share of the classes that is for testing, where the data do not part them"
        )

    default_size: ClassVar[int | None] = 84
    smallest_batch: ClassVar[int] = 1
    validation_is_up_to_data: ClassVar[bool] = True
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        assert isinstance(config, self.Config)
        if isinstance(data, ImageData):
            if len(data.classes) < 2:
                raise DataError(
                    f"data.root: there is only one class, or none that is known; task {config.name} needs classes to "
                    "learn and others to test on"
                )
            # Not by the seed of the run: runs of several seeds are to be compared on the same classes.
            data = regroup(data, Fraction(str(config.test_classes)), seed=0)
        if not isinstance(data, ClassSplitData):
            raise ConfigError(f"data.name: task {config.name} takes image data sets in memory, such as class_folders")
        self.config = config
        self.data = data
        self.settle_augmentations("search_augment", "train_augment")
        self.device = device
        self.has_validation = data.validation is not None
        self._pool: Int64[Tensor, " m"] | None = None
        self._seed = seed
        self._sets = {name: part.to(device) for name, part in data.parts().items()}
        self._sources: dict[str, str] = {}
        self._samplers: dict[str, EpisodeSampler] = {}
        self._batch_sizes: dict[str, int] = {}
        require_size(data.image_shape, config.stem)
        for name in self._sets.keys() - {"train"}:
            self._add(name, name)

    def describe(self) -> dict[str, Any]:
        description: dict[str, Any] = {"shape": list(self.example_shape)}
        for name, part in self.data.parts().items():
            description[name] = {"classes": len(part.classes), "images": len(part)}
        return description

    def chosen(self) -> Mapping[str, Tensor]:
        """The classes of each part."""
        return {part: sampler.chosen for part, sampler in self._samplers.items()}

    def contents(self) -> Iterator[bytes]:
        for name, part in sorted(self._sets.items()):
            yield json.dumps([name, part.classes]).encode()
            yield from part.images.contents()

    def shuffle_labels(self) -> None:
        train = self._sets["train"]
        order = torch.randperm(len(train), generator=seeding.generator(self._seed, "shuffled labels"))
        labels = train.images.labels[order.to(self.device)]
        self._sets["train"] = replace(train, images=replace(train.images, labels=labels))

    @property
    def _class_pool(self) -> Int64[Tensor, " m"]:
        """The training classes that parts are made of."""
        return torch.arange(len(self._sets["train"].classes)) if self._pool is None else self._pool

    def _set_aside(self, share: float | None) -> None:
        """Whole classes."""
        train = self._sets["train"]
        share = judge_share(len(train)) if share is None else share
        held, self._pool = left_to_judge(unlabelled(len(train.classes)), share)
        self._add("validation", "train", held)

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        """As in `Task`, by whole classes: alpha sees none of those that the weights are trained on.

        Args:
            examples: whole classes that hold no more images than this; None for all.
        """
        chosen = self._share(examples)
        first, second = (Fraction(str(number)) for number in parse_ratio(ratio))
        parts = choose_classes(len(chosen), first / (first + second), self._seed, "split")
        for name, indices in zip(("weights", "alpha"), parts, strict=True):
            self._add(name, "train", chosen[indices], batch_size)

    def _share(self, examples: int | None) -> Int64[Tensor, " m"]:
        """The numbers of the training classes to search with."""
        train, pool = self._sets["train"], self._class_pool
        sizes = torch.bincount(train.images.labels.cpu(), minlength=len(train.classes))
        if examples is None or examples >= int(sizes[pool].sum()):
            return pool
        order = pool[torch.randperm(len(pool), generator=seeding.generator(self._seed, "classes"))]
        return order[sizes[order].cumsum(0) <= examples].sort().values

    def split_train(self, validation: float, batch_size: int) -> None:
        """As in `Task`; what is held out are whole classes."""
        held, kept = held_out(unlabelled(len(self._class_pool)), validation, self._seed)
        self._add("train", "train", self._class_pool[kept], batch_size)
        if validation > 0:
            self._add("validation", "train", self._class_pool[held])

    def _add(self, part: str, source: str, chosen: Tensor | None = None, batch_size: int | None = None) -> None:
        """Draw the episodes of a part from these classes of a set."""
        section = "search" if part in SEARCH_PARTS else "train" if part == "train" else "test"
        settings: Episode | TestEpisode = getattr(self.config, section)
        shot = self.config.test.shot if settings.shot is None else settings.shot
        self._sources[part] = source
        self._samplers[part] = EpisodeSampler(
            self._sets[source].images.labels,
            self._sets[source].classes,
            EpisodeShape(settings.way, shot, settings.query),
            chosen,
            part=part,
            setting=f"task.{section}",
        )
        if batch_size is not None:
            self.require_share(batch_size)
            self._batch_sizes[part] = batch_size

    def steps_per_epoch(self, part: Part) -> int:
        return max(1, self.config.episodes // self._batch_sizes[part])

    def batch(self, part: Part, step: int) -> EpisodeBatch:
        sampler, episodes = self._samplers[part], self._batch_sizes[part]
        drawn = sampler.draw(episodes, seeding.generator(self._seed, f"episodes/{part}", step))
        share, each = self.processes.share(episodes), sampler.shape.images
        settings = self.augmentations["train_augment" if part == "train" else "search_augment"]
        images = augment(
            self._images(part, drawn[share]),
            settings,
            self.data.mean,
            self.data.std,
            seeding.generator(self._seed, f"augment/{part}", step),
            whole=episodes * each,
            share=slice(share.start * each, share.stop * each),
        )
        return EpisodeBatch(images, sampler.shape)

    def _images(self, part: str, indices: Tensor) -> Images:
        """The images of a part at these places, in one row."""
        pixels = self._sets[self._sources[part]].images.images
        return pixels[indices.flatten().to(pixels.device)]
