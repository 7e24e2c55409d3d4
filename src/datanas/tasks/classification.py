"""Image classification (Section 5.1): head and auxiliary tower of DARTS' networks, cross-entropy, accuracy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float, Float32, Float64, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from datanas import seeding
from datanas.config import ComponentConfig
from datanas.data.augment import Augment, augment, normalisation, normalise
from datanas.data.base import ImageData
from datanas.data.batches import Stream, sequential, split, stratified
from datanas.data.file_set import ImageFileData
from datanas.errors import ConfigError, DataError
from datanas.ops.norm import BatchNorm2d
from datanas.tasks import register_task
from datanas.tasks.base import Model, Part, Task
from datanas.tasks.stems import STEM_KINDS, StemKind, image_stem, require_size

EVALUATION_BATCH = 250
TOP = 5


class AuxiliaryTower(nn.Module):
    """A second classifier on the features of the second reduction cell (weight 0.4 in Section 5.1).

    The features are pooled to 2x2 by overlapping 5x5 windows, as DARTS does at 8x8 and 7x7; smaller ones adaptively.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(width, 128, 1, bias=False),
            BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        if min(x.shape[2:]) >= 6:
            x = F.avg_pool2d(x, 5, stride=(x.shape[2] - 5, x.shape[3] - 5))
        else:
            x = F.adaptive_avg_pool2d(x, 2)
        x = self.features(x).mean(dim=(2, 3))
        return cast(Tensor, self.classifier(x))


class ClassifierHead(nn.Module):
    """Global average pooling and a linear classifier; an auxiliary tower where the body gives features for one."""

    def __init__(self, widths: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        *tapped, last = widths
        self.auxiliary = AuxiliaryTower(tapped[0], num_classes) if tapped else None
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, Tensor]:
        """(batch, num_classes) logits; in training mode with an auxiliary tower (logits, auxiliary logits)."""
        logits: Tensor = self.classifier(features[-1].mean(dim=(2, 3)))
        if self.auxiliary is None or not self.training:
            return logits
        return logits, self.auxiliary(features[0])


@dataclass(frozen=True)
class ImageBatch:
    """Augmented images and their labels.

    Attributes:
        part: where they come from; label smoothing is for training only.
    """

    images: Float32[Tensor, "batch channels height width"]
    labels: Int64[Tensor, " batch"]
    part: Part


@register_task("classification")
class Classification(Task[ImageBatch]):
    """Classify images, in memory or in files."""

    class Config(ComponentConfig):
        name: Literal["classification"] = "classification"
        stem: StemKind = Field("cifar", description=STEM_KINDS)
        search_augment: Augment = Augment()
        train_augment: Augment = Augment(cutout=16)
        label_smoothing: float = Field(0.0, ge=0, lt=1, description="while training, not while searching")
        auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary tower's loss, where it is used")

    score: ClassVar[str] = "accuracy"
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if not isinstance(data, ImageData | ImageFileData):
            raise ConfigError("data.name: task classification takes image data sets")
        assert isinstance(config, self.Config)
        self.config = config
        self.data: ImageData | ImageFileData = data
        require_size(data.image_shape, config.stem)
        self.device = device
        self._seed = seed
        self._train, self._test = data.train.to(device), data.test.to(device)
        self._streams: dict[Part, Stream] = {}
        self._held_out: dict[Part, Tensor | None] = {"test": None}

    @classmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        return image_stem(config.stem, in_channels, channels)

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> nn.Module:
        return ClassifierHead(widths, num_classes)

    @property
    def example_shape(self) -> tuple[int, int, int]:
        return self.data.image_shape

    @property
    def num_classes(self) -> int:
        return len(self.data.classes)

    def describe(self) -> dict[str, Any]:
        return {
            "classes": list(self.data.classes),
            "train": len(self.data.train),
            "test": len(self.data.test),
            "shape": list(self.example_shape),
        }

    def preprocessing(self) -> dict[str, Any]:
        """With `crop_pct`, the share of an image's shorter side that is measured, as timm calls it."""
        return {**normalisation(self.data.mean, self.data.std), "crop_pct": self.data.centre_share}

    def fingerprint(self) -> str:
        found = sha256(json.dumps(self.describe(), sort_keys=True).encode())
        parts = {part: indices for part, indices in self._held_out.items() if indices is not None}
        for name in sorted(parts):
            found.update(name.encode())
            found.update(parts[name].cpu().numpy().tobytes())
        for images in (self.data.train, self.data.test):
            for piece in images.contents():
                found.update(piece)
        return found.hexdigest()

    def shuffle_labels(self) -> None:
        order = torch.randperm(len(self._train), generator=seeding.generator(self._seed, "shuffled labels"))
        labels = self.data.train.labels
        self.data = self.data.with_train_labels(labels[order.to(labels.device)])
        self._train = self.data.train.to(self.device)

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        labels = self.data.train.labels
        chosen = self._share(examples)
        first, second = split(labels[chosen], ratio, self._seed)
        for part, indices in (("weights", chosen[first]), ("alpha", chosen[second])):
            self._add(cast(Part, part), indices, batch_size)

    def _share(self, examples: int | None) -> Tensor:
        total = len(self.data.train)
        if examples is None or examples >= total:
            return torch.arange(total)
        if examples < 2 * self.num_classes:
            raise DataError(f"search.examples: {examples} is too few for {self.num_classes} classes in two parts")
        return stratified(self.data.train.labels, Fraction(examples, total), self._seed, "images")[0]

    def split_train(self, validation: float, batch_size: int) -> None:
        cutout, side = self.config.train_augment.cutout, min(self.example_shape[1:])
        if cutout >= 2 * side - 1:
            raise ConfigError(
                f"task.train_augment.cutout: {cutout} blanks every image of {side} pixels; half a side is a good size"
            )
        everything = torch.arange(len(self.data.train))
        if validation == 0:
            self._add("train", everything, batch_size)
            return
        held, kept = stratified(self.data.train.labels, Fraction(validation), self._seed, "validation")
        self._add("train", kept, batch_size)
        self._held_out["validation"] = held

    def _add(self, part: Part, indices: Tensor, batch_size: int) -> None:
        self._streams[part] = Stream(self._train, indices, batch_size, self._seed, part)
        self.require_share(self._streams[part].batch_size)
        self._held_out[part] = indices

    def steps_per_epoch(self, part: Part) -> int:
        return self._streams[part].steps_per_epoch

    def batch(self, part: Part, step: int) -> ImageBatch:
        stream = self._streams[part]
        share = self.processes.share(stream.batch_size)
        images, labels = stream.batch(step, share)
        settings = self.config.train_augment if part == "train" else self.config.search_augment
        if stream.data.crops:
            settings = settings.model_copy(update={"crop_padding": 0})
        generator = seeding.generator(self._seed, f"augment/{part}", step)
        moments = self.data.mean, self.data.std
        images = augment(images, settings, *moments, generator, whole=stream.batch_size, share=share)
        return ImageBatch(images, labels, part)

    def loss(self, model: Model, batch: ImageBatch) -> Tensor:
        output = model(batch.images)
        smoothing = self.config.label_smoothing if batch.part == "train" else 0.0
        if isinstance(output, tuple):
            logits, auxiliary = output
            extra = self.config.auxiliary_weight * _cross_entropy(auxiliary, batch.labels, smoothing)
            return _cross_entropy(logits, batch.labels, smoothing) + extra
        return _cross_entropy(output, batch.labels, smoothing)

    @torch.inference_mode()
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`accuracy` and `loss`; of more than five classes `top5`, the share of labels among the likeliest five."""
        data = self._test if part == "test" else self._train
        indices = self._held_out[part]
        indices = torch.arange(len(data)) if indices is None else indices
        if limit is not None and limit < len(indices):
            share = Fraction(limit, len(indices))
            picked, _ = stratified(data.labels.cpu()[indices], share, self._seed, "evaluate")
            indices = indices[picked]
        # Shuffled, so that a network which takes its statistics from the batch sees every class in it.
        indices = indices[torch.randperm(len(indices), generator=seeding.generator(self._seed, "evaluate/order"))]
        counted = (1, TOP) if self.num_classes > TOP else (1,)
        found = torch.zeros(1 + len(counted), device=self.device, dtype=torch.float64)
        # Of nearly equal size: batch norm can take no statistics of a last batch of one image.
        size = -(-len(indices) // -(-len(indices) // EVALUATION_BATCH))
        for images, labels in sequential(data, indices, size, self.processes.rank, self.processes.size):
            logits: Tensor = model(normalise(images, self.data.mean, self.data.std))
            lost = F.cross_entropy(logits.float(), labels, reduction="sum")
            found += torch.stack((lost.double(), *(_hits(logits, labels, top) for top in counted)))
        loss, *shares = (self.processes.total(found) / len(indices)).tolist()
        return {**dict(zip(("accuracy", f"top{TOP}"), shares, strict=False)), "loss": loss}


def _hits(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], top: int) -> Float64[Tensor, ""]:
    """How many labels are among the `top` likeliest classes."""
    if top == 1:
        return (logits.argmax(dim=1) == labels).sum().double()
    return (logits.topk(top, dim=1).indices == labels[:, None]).any(dim=1).sum().double()


def _cross_entropy(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], smoothing: float) -> Tensor:
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
