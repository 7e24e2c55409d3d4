"""Unsupervised clustering (Section 5.6) by deep adaptive image clustering (Chang et al., ICCV 2017).

No label is read while searching or training: parts are drawn at random, batches hold images alone, and what a search
prefers is known without labels. They are read to report how clusters agree with classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast

import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.exhibits import Exhibit
from datanas.core.settings import ComponentConfig, merge
from datanas.data.augment import augment, normalise
from datanas.data.base import ImageData, Images, ImageSet, Labels
from datanas.data.batches import sequential, unlabelled
from datanas.data.types.file_set import ImageFileData
from datanas.data.types.source import ImageSource
from datanas.tasks import register_task
from datanas.tasks.adaptive_pairs import LabelFeatures, pair_loss, raised, relations, similarities, thresholds
from datanas.tasks.base import FullEvaluation, Model, Part, Task
from datanas.tasks.cluster_exhibits import SAMPLES, cluster_exhibits
from datanas.tasks.cluster_head import Assignment, ClusterHead
from datanas.tasks.cluster_tally import ClusterTally
from datanas.tasks.image_task import ImageTask
from datanas.tasks.matching import agreement, k_means
from datanas.tasks.metric import Metric

_log = logging.getLogger(__name__)


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
class Clustering(ImageTask[ViewBatch]):
    """Put images into clusters without labels."""

    class Config(ImageTask.Config):
        name: Literal["clustering"] = "clustering"
        clusters: int | None = Field(None, ge=2, description="how many; null for the number of classes of the data")
        eta: float = Field(0.009, gt=0, description="step size of lambda; both thresholds meet after 0.41 / eta passes")
        relations: Literal["image", "view"] = Field(
            "image",
            description="by what pairs are found alike: the image itself, or the view of it that is learned from",
        )
        joined: bool = Field(False, description="cluster training and test images together, as the papers do")

    needs_labels: ClassVar[bool] = False
    _shows_what_it_evaluates: ClassVar[bool] = True
    _has_classes: ClassVar[bool] = True
    metric: ClassVar[Metric] = Metric("nmi")
    further: ClassVar[Sequence[Metric]] = (
        Metric("information", is_share=False, digits=4),
        Metric("clusters", is_share=False, digits=0),
    )
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

    def __new__(cls, config: ComponentConfig, data: object, device: torch.device, seed: int) -> Self:
        """Images without labels are measured otherwise (`UnlabelledClustering`)."""
        has_labels = not isinstance(data, ImageData | ImageFileData) or len(data.classes) > 1
        return super().__new__(cls if has_labels else cast(type[Self], UnlabelledClustering))

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.config, self.data, self.device, self._seed

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        super().__init__(config, data, device, seed)
        if self.data.train_groups is not None:
            _log.warning("task clustering: groups of images that belong together are not heeded")
        self._lambda, self._finished = 0.0, 0
        self._tallies: list[tuple[Tensor, ClusterTally]] | None = None  # of a pass whose exhibits are wanted

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> ClusterHead:
        if len(widths) > 1:
            raise ConfigError("train.auxiliary: task clustering has no auxiliary classifier; leave it off")
        return ClusterHead(widths[-1], num_classes)

    @classmethod
    def measuring(cls, record: Mapping[str, Any]) -> type[Task[Any]]:
        return UnlabelledClustering if record.get("classes") == [] else cls

    @property
    def num_classes(self) -> int:
        """Clusters."""
        return len(self.data.classes) if self.config.clusters is None else self.config.clusters

    def selection_score(self, figures: Mapping[str, float]) -> float:
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

    def suited_settings(self) -> Mapping[str, Any]:
        """Rates at which pairs are learned without labels (`recipes/small/clustering.yaml`)."""
        settings = super().suited_settings()
        slow = {"lr": 0.02, "weight_decay": 3e-4, "warm_up_epochs": 0.0, "nesterov": False}
        return merge(settings, {"task": {"eta": 0.03}, "search": {"weights": {"lr": 0.02}}, "train": {"weights": slow}})

    def state_dict(self) -> dict[str, Any]:
        """Where the thresholds are, and after how many passes."""
        return {"lambda": self._lambda, "finished": self._finished}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._lambda, self._finished = float(state["lambda"]), int(state["finished"])

    def _on_device(self) -> tuple[ImageSource, ImageSource]:
        if not self.config.joined:
            return super()._on_device()
        both = _joined(self.data).to(self.device)
        return both, both

    def _strata(self) -> Labels:
        """Parts are drawn at random: classes play no part in it."""
        return unlabelled(len(self._train))

    def _groups(self, indices: Int64[Tensor, " m"]) -> None:
        """None: clusters know no groups; a warning says so where the data have some."""

    def _choose(self, part: Part, indices: Int64[Tensor, " m"]) -> None:
        if len(indices) < self.num_classes:
            raise DataError(
                f"task.clusters: {len(indices)} images of the part {part!r} cannot be put into {self.num_classes} "
                "clusters; take fewer clusters or more images"
            )
        super()._choose(part, indices)

    def batch(self, part: Part, step: int) -> ViewBatch:
        images, views, _ = self._drawn(part, step)
        finished = step // self.steps_per_epoch(part)
        return ViewBatch(normalise(images, self.data.mean, self.data.std), views, part, finished)

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
        figures = self._figures(part, indices, tally)
        if not self._has_classes or part not in ("test", "validation") or limit is not None:
            return figures
        data = self._images(part)
        classes, references = data.labels.cpu()[indices], {"features": tally.features}
        if isinstance(data, ImageSet):
            references["pixels"] = data.select(indices).images.flatten(1)
        for name, points in references.items():
            clusters = k_means(points, self.num_classes, seeding.key(self._seed, "k-means"))
            figures |= {f"{name}/{figure}": value for figure, value in agreement(clusters, classes).items()}
        return figures

    @torch.inference_mode()
    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        """The same without the references, which take long."""
        return self._figures(part, *self._tally(model, part, None))

    def _figures(self, part: Part, indices: Int64[Tensor, " m"], tally: ClusterTally) -> dict[str, float]:
        classes = self._images(part).labels.cpu()[indices]
        return {**(agreement(tally.clusters, classes) if self._has_classes else {}), **tally.figures()}

    def evaluate_fully(self, model: Model, part: Part) -> FullEvaluation:
        """With what each cluster holds: how many images, of which class most, and those that are surest of it."""
        tallies: list[tuple[Tensor, ClusterTally]] = []
        self._tallies = tallies
        try:
            figures = self.evaluate(model, part)
        finally:
            self._tallies = None
        return FullEvaluation(figures, lambda: self._shown(part, *tallies[0]))

    def _shown(self, part: Part, indices: Int64[Tensor, " n"], tally: ClusterTally) -> Sequence[Exhibit]:
        indices, order = indices.sort()
        clusters, sure = tally.clusters.cpu()[order], tally.sure.cpu()[order]
        source, samples = self._images(part), {}
        for cluster in clusters.bincount().nonzero()[:, 0].tolist():
            members = (clusters == cluster).nonzero()[:, 0]
            members = members[sure[members].argsort(descending=True, stable=True)[:SAMPLES]]
            samples[cluster] = next(sequential(source, indices[members], len(members)))[0]
        classes = source.labels.cpu()[indices] if self._has_classes else None
        return cluster_exhibits(clusters, classes, samples, self.data.classes)

    def _tally(self, model: Model, part: Part, limit: int | None) -> tuple[Int64[Tensor, " m"], ClusterTally]:
        """Which images of a part were measured, in their order, and what was found of them."""
        indices = self._shuffled(self._chosen[part])
        if limit is not None:
            indices = indices[: max(limit, self.num_classes)]
        tally = ClusterTally(len(indices), self.num_classes, self.device)
        for first, images, _ in self._measured(part, indices):
            tally.add(first, *self._seen_twice(model, images, first))
        tally.total(self.processes)
        if self._tallies is not None:
            self._tallies.append((indices, tally))
        return indices, tally

    def _seen_twice(self, model: Model, images: Images, first: int) -> tuple[Assignment, Assignment]:
        """What a network says of images, and of an augmented view of each: together, as one batch."""
        moments = self.data.mean, self.data.std
        generator = seeding.generator(self._seed, "evaluate/views", first)
        views = augment(images, self.augmentations["search_augment"], *moments, generator)
        assignment: Assignment = model(torch.cat((normalise(images, *moments), views)))
        halves = zip(assignment.labels.chunk(2), assignment.features.chunk(2), strict=True)
        seen, again = (Assignment(labels, features) for labels, features in halves)
        return seen, again


class UnlabelledClustering(Clustering):
    """The same of images of which no classes are known: how clusters agree with them cannot be said.

    What is followed is the information that an image's cluster has of that of its view, in nats.
    """

    metric: ClassVar[Metric] = Metric("information", is_share=False)
    _has_classes: ClassVar[bool] = False
    further: ClassVar[Sequence[Metric]] = (Metric("clusters", is_share=False, digits=0),)

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        assert isinstance(config, self.Config)
        if config.clusters is None:
            raise ConfigError("task.clusters: the images have no labels to count, so say how many clusters to make")
        super().__init__(config, data, device, seed)
        _log.warning("the images have no labels: nmi, ari and accuracy are not known, information stands for them")

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "classes": []}


def _joined(data: ImageData | ImageFileData) -> ImageSet:
    """Training and test images, one after the other.

    Raises:
        ConfigError: they are not in memory.
    """
    if not isinstance(data, ImageData):
        raise ConfigError("task.joined: takes images in memory, not such as are read from their files when needed")
    train, test = data.train, data.test
    return ImageSet(torch.cat((train.images, test.images)), torch.cat((train.labels, test.labels)))
