"""Unsupervised clustering (Section 5.6) by deep adaptive image clustering (Chang et al., ICCV 2017).

No label is read while searching or training: parts are drawn at random, batches hold images alone, and what a search
prefers is known without labels. They are read to report how clusters agree with classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from datanas import seeding
from datanas.config import ComponentConfig
from datanas.data.augment import Augment, augment, normalisation, normalise
from datanas.data.base import ImageData, Images, ImageSet, Labels
from datanas.data.batches import Stream, sequential, split, stratified
from datanas.data.file_set import ImageFileData
from datanas.data.source import ImageSource
from datanas.errors import ConfigError, DataError
from datanas.tasks import register_task
from datanas.tasks.adaptive_pairs import LabelFeatures, pair_loss, raised, relations, similarities, thresholds
from datanas.tasks.base import Model, Part, Task
from datanas.tasks.cluster_head import Assignment, ClusterHead
from datanas.tasks.cluster_tally import ClusterTally
from datanas.tasks.matching import agreement, k_means
from datanas.tasks.stems import STEM_KINDS, StemKind, image_stem, require_size

EVALUATION_BATCH = 250


@dataclass(frozen=True)
class ViewBatch:
    """Images, an augmented view of each, and when they are learned from; no labels.

    Attributes:
        finished: passes over their part that were finished before.
    """

    images: Float32[Tensor, "batch channels height width"]
    views: Float32[Tensor, "batch channels height width"]
    part: Part
    finished: int


@register_task("clustering")
class Clustering(Task[ViewBatch]):
    """Put images into clusters without labels."""

    class Config(ComponentConfig):
        name: Literal["clustering"] = "clustering"
        stem: StemKind = Field("cifar", description=STEM_KINDS)
        clusters: int | None = Field(None, ge=2, description="how many; null for the number of classes of the data")
        eta: float = Field(0.009, gt=0, description="step size of lambda; both thresholds meet after 0.41 / eta passes")
        relations: Literal["image", "view"] = Field(
            "image",
            description="by what pairs are found alike: the image itself, or the view of it that is learned from",
        )
        joined: bool = Field(False, description="cluster training and test images together, as the papers do")
        search_augment: Augment = Augment()
        train_augment: Augment = Augment()

    score: ClassVar[str] = "nmi"
    smallest_share: ClassVar[int] = 2  # the head averages each image to one place, and a pair takes two
    defaults: ClassVar[Mapping[str, Any]] = {
        "space": {"name": "conv_cell", "cells": 5},
        "search": {
            "epochs": 50,
            "weights": {"lr": 0.1, "schedule": "step", "decay": 0.1, "decay_every": 10},
        },
        "train": {
            "cells": 5,
            "epochs": 100,
            "auxiliary": False,
            "drop_path": 0.0,
            "weights": {"lr": 0.1, "schedule": "constant"},
        },
    }
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if not isinstance(data, ImageData | ImageFileData):
            raise ConfigError("data.name: task clustering takes image data sets")
        assert isinstance(config, self.Config)
        self.config = config
        self.data: ImageData | ImageFileData = data
        require_size(data.image_shape, config.stem)
        self.device = device
        self._seed = seed
        self._train: ImageSource = data.train.to(device)
        self._test: ImageSource = data.test.to(device)
        if config.joined:
            self._train = self._test = _joined(data).to(device)
        self._streams: dict[Part, Stream] = {}
        self._members: dict[Part, Int64[Tensor, " m"]] = {}
        self._lambda, self._finished = 0.0, 0
        self._add_members("test", torch.arange(len(self._test)))

    @classmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        return image_stem(config.stem, in_channels, channels)

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> ClusterHead:
        if len(widths) > 1:
            raise ConfigError("train.auxiliary: task clustering has no auxiliary classifier; leave it off")
        return ClusterHead(widths[-1], num_classes)

    @property
    def example_shape(self) -> tuple[int, int, int]:
        return self.data.image_shape

    @property
    def num_classes(self) -> int:
        """Clusters."""
        return len(self.data.classes) if self.config.clusters is None else self.config.clusters

    def preference(self, figures: Mapping[str, float]) -> float:
        """The information that an image's cluster has of that of its view.

        The loss will not do: it is least where all images are in one cluster.
        """
        return figures["information"]

    def describe(self) -> dict[str, Any]:
        return {
            "classes": list(self.data.classes),
            "clusters": self.num_classes,
            "train": len(self.data.train),
            "test": len(self.data.test),
            "joined": self.config.joined,
            "shape": list(self.example_shape),
        }

    def preprocessing(self) -> dict[str, Any]:
        """With `crop_pct`, the share of an image's shorter side that is measured, as timm calls it."""
        return {**normalisation(self.data.mean, self.data.std), "crop_pct": self.data.centre_share}

    def fingerprint(self) -> str:
        found = sha256(json.dumps(self.describe(), sort_keys=True).encode())
        for name in sorted(self._members):
            found.update(name.encode())
            found.update(self._members[name].numpy().tobytes())
        for images in (self.data.train, self.data.test):
            for piece in images.contents():
                found.update(piece)
        return found.hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """Where the thresholds are, and after how many passes."""
        return {"lambda": self._lambda, "finished": self._finished}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._lambda, self._finished = float(state["lambda"]), int(state["finished"])

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        """Parts at random: classes play no part in it."""
        total = len(self._train)
        chosen = torch.arange(total)
        if examples is not None and examples < total:
            chosen, _ = stratified(_unlabelled(total), Fraction(examples, total), self._seed, "images")
        first, second = split(_unlabelled(len(chosen)), ratio, self._seed)
        for part, indices in (("weights", chosen[first]), ("alpha", chosen[second])):
            self._add(cast(Part, part), indices, batch_size)

    def split_train(self, validation: float, batch_size: int) -> None:
        total = len(self._train)
        if validation == 0:
            self._add("train", torch.arange(total), batch_size)
            return
        held, kept = stratified(_unlabelled(total), Fraction(validation), self._seed, "validation")
        self._add("train", kept, batch_size)
        self._add_members("validation", held)

    def _add(self, part: Part, indices: Int64[Tensor, " m"], batch_size: int) -> None:
        self._add_members(part, indices)
        self._streams[part] = Stream(self._train, indices, batch_size, self._seed, part)
        self.require_share(self._streams[part].batch_size)

    def _add_members(self, part: Part, indices: Int64[Tensor, " m"]) -> None:
        if len(indices) < self.num_classes:
            raise DataError(
                f"task.clusters: {len(indices)} images of the part {part!r} cannot be put into {self.num_classes} "
                "clusters; take fewer clusters or more images"
            )
        self._members[part] = indices

    def steps_per_epoch(self, part: Part) -> int:
        return self._streams[part].steps_per_epoch

    def batch(self, part: Part, step: int) -> ViewBatch:
        stream = self._streams[part]
        share = self.processes.share(stream.batch_size)
        images, _ = stream.batch(step, share)
        settings = self.config.train_augment if part == "train" else self.config.search_augment
        if stream.data.crops:
            settings = settings.model_copy(update={"crop_padding": 0})
        generator = seeding.generator(self._seed, f"augment/{part}", step)
        moments = self.data.mean, self.data.std
        views = augment(images, settings, *moments, generator, whole=stream.batch_size, share=share)
        return ViewBatch(normalise(images, *moments), views, part, step // stream.steps_per_epoch)

    def loss(self, model: Model, batch: ViewBatch) -> Tensor:
        """The mean over the selected pairs of the whole batch, those of images in different processes among them."""
        if batch.part != "alpha":
            self._follow(batch.finished)
        believed: LabelFeatures | None = None
        if self.config.relations == "image":
            # First: a second pass moves running statistics, which the graph of one before it would hold.
            with torch.no_grad():
                believed = self._everyones(model(batch.images).labels)
        views = self._everyones(model(batch.views).labels)
        cosines = similarities(views)
        known = cosines.detach() if believed is None else similarities(believed)
        return pair_loss(cosines, relations(known, *thresholds(self._lambda)))

    def _follow(self, finished: int) -> None:
        """Let lambda rise once for every pass that was finished. It never falls: a batch may be asked for again."""
        while self._finished < finished:
            self._lambda = raised(self._lambda, self.config.eta)
            self._finished += 1

    def _everyones(self, own: LabelFeatures) -> LabelFeatures:
        """The label features of the batch in the order of the processes, of which each has its share."""
        rank, size, count = self.processes.rank, self.processes.size, len(own)
        if size == 1:
            return own
        return self.processes.total(F.pad(own, (0, 0, rank * count, (size - 1 - rank) * count)))

    @torch.inference_mode()
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """How clusters agree with classes, what is known of them without labels, and references.

        `nmi`, `ari` and `accuracy` (see `agreement`) read labels. `loss` is that of all pairs inside batches of images
        that are not augmented, as when the thresholds have met, so that it can be compared whenever it is measured;
        `information` is in nats (see `view_information`); `clusters` counts those that are not empty.

        Of all images of `test` or `validation` the agreement of two references is given too: k-means on `features/`,
        what the network has before its clusters, and on `pixels/`, where the images are in memory.
        """
        indices, tally = self._tally(model, part, limit)
        data = self._images(part)
        classes = data.labels.cpu()[indices]
        figures = tally.figures(classes)
        if part not in ("test", "validation") or limit is not None:
            return figures
        references = {"features": tally.features}
        if isinstance(data, ImageSet):
            references["pixels"] = data.select(indices).images.flatten(1)
        for name, points in references.items():
            found = k_means(points, self.num_classes, seeding.key(self._seed, "k-means"))
            figures |= {f"{name}/{figure}": value for figure, value in agreement(found, classes).items()}
        return figures

    @torch.inference_mode()
    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        """The same without the references, which take long."""
        indices, tally = self._tally(model, part, None)
        return tally.figures(self._images(part).labels.cpu()[indices])

    def _images(self, part: Part) -> ImageSource:
        return self._test if part == "test" else self._train

    def _tally(self, model: Model, part: Part, limit: int | None) -> tuple[Int64[Tensor, " m"], ClusterTally]:
        """Which images of a part were measured, in their order, and what was found of them."""
        data, members = self._images(part), self._members[part]
        # Shuffled, so that a network which takes its statistics from the batch sees images of every kind in it.
        order = torch.randperm(len(members), generator=seeding.generator(self._seed, "evaluate/order"))
        indices = members[order if limit is None else order[: max(limit, self.num_classes)]]
        # Of nearly equal size: batch norm can take no statistics of a last batch of one image.
        size = -(-len(indices) // -(-len(indices) // EVALUATION_BATCH))
        tally = ClusterTally(len(indices), self.num_classes, self.device)
        place = self.processes.rank * size
        for images, _ in sequential(data, indices, size, self.processes.rank, self.processes.size):
            tally.add(place, *self._seen_twice(model, images, place))
            place += self.processes.size * size
        tally.total(self.processes)
        return indices, tally

    def _seen_twice(self, model: Model, images: Images, place: int) -> tuple[Assignment, Assignment]:
        """What a network says of images, and of an augmented view of each: together, as one batch."""
        moments = self.data.mean, self.data.std
        generator = seeding.generator(self._seed, "evaluate/views", place)
        views = augment(images, self.config.search_augment, *moments, generator)
        found: Assignment = model(torch.cat((normalise(images, *moments), views)))
        halves = zip(found.labels.chunk(2), found.features.chunk(2), strict=True)
        seen, again = (Assignment(labels, features) for labels, features in halves)
        return seen, again


def _unlabelled(count: int) -> Labels:
    """One class for so many images, by which they are split at random."""
    return torch.zeros(count, dtype=torch.int64)


def _joined(data: ImageData | ImageFileData) -> ImageSet:
    """Training and test images, one after the other.

    Raises:
        ConfigError: they are not in memory.
    """
    if not isinstance(data, ImageData):
        raise ConfigError("task.joined: takes images in memory, not such as are read from their files when needed")
    train, test = data.train, data.test
    return ImageSet(torch.cat((train.images, test.images)), torch.cat((train.labels, test.labels)))
