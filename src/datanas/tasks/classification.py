"""Image classification (Section 5.1): stems, head and auxiliary tower of DARTS' networks, cross-entropy, accuracy."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from hashlib import sha256
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from datanas import seeding
from datanas.config import ComponentConfig
from datanas.data.augment import Augment, augment, normalise
from datanas.data.base import ImageData
from datanas.data.batches import Stream, sequential, split, stratified
from datanas.errors import ConfigError, DataError
from datanas.ops.norm import BatchNorm2d
from datanas.spaces.base import StemShape
from datanas.tasks import register_task
from datanas.tasks.base import Model, Part, Task

STEM_MULTIPLIER = 3
EVALUATION_BATCH = 250


class CifarStem(nn.Module):
    """One 3x3 convolution to `multiplier` times the first cell's width; both cell inputs are its output."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1, multiplier: int = STEM_MULTIPLIER) -> None:
        super().__init__()
        width = multiplier * channels
        self.conv = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.norm = BatchNorm2d(width)
        self.shape = StemShape((width, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.conv(x))
        return x, x


class ImageNetStem(nn.Module):
    """Three 3x3 convolutions of stride 2; the cell inputs are the outputs of the second and the third."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = max(channels // 2, 1)
        self.first = nn.Sequential(
            nn.Conv2d(in_channels, half, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, channels, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(channels),
        )
        self.second = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, bias=False),
            BatchNorm2d(channels),
        )
        self.shape = StemShape((channels, channels), halved=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.first(x)
        return s0, self.second(s0)


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
    """Classify images in memory."""

    class Config(ComponentConfig):
        name: Literal["classification"] = "classification"
        stem: Literal["cifar", "cifar_half", "plain", "plain_half", "imagenet"] = Field(
            "cifar",
            description="cifar has three times the first cell's width, plain just that; cifar_half and plain_half "
            "halve the image first (Section 5.5), imagenet divides it by eight",
        )
        search_augment: Augment = Augment()
        train_augment: Augment = Augment(cutout=16)
        label_smoothing: float = Field(0.0, ge=0, lt=1, description="while training, not while searching")
        auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary tower's loss, where it is used")

    score: ClassVar[str] = "accuracy"
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if not isinstance(data, ImageData):
            raise ConfigError("data.name: task classification takes image data sets")
        assert isinstance(config, self.Config)
        self.config = config
        self.data = data
        self.device = device
        self._seed = seed
        self._train, self._test = data.train.to(device), data.test.to(device)
        self._streams: dict[Part, Stream] = {}
        self._held_out: dict[Part, Tensor | None] = {"test": None}

    @classmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        if config.stem == "imagenet":
            return ImageNetStem(in_channels, channels)
        stride = 2 if config.stem.endswith("_half") else 1
        return CifarStem(in_channels, channels, stride, 1 if config.stem.startswith("plain") else STEM_MULTIPLIER)

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

    def fingerprint(self) -> str:
        found = sha256(json.dumps(self.describe(), sort_keys=True).encode())
        parts = {part: indices for part, indices in self._held_out.items() if indices is not None}
        for name in sorted(parts):
            found.update(name.encode())
            found.update(parts[name].cpu().numpy().tobytes())
        for images in (self.data.train, self.data.test):
            found.update(images.labels.cpu().numpy().tobytes())
            found.update(images.images.contiguous().cpu().numpy().data)
        return found.hexdigest()

    def shuffle_labels(self) -> None:
        order = torch.randperm(len(self._train), generator=seeding.generator(self._seed, "shuffled labels"))
        labels = self.data.train.labels
        train = replace(self.data.train, labels=labels[order.to(labels.device)])
        self.data = replace(self.data, train=train)
        self._train = train.to(self.device)

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
        self.processes.share(self._streams[part].batch_size)  # told now where it cannot be
        self._held_out[part] = indices

    def steps_per_epoch(self, part: Part) -> int:
        return self._streams[part].steps_per_epoch

    def batch(self, part: Part, step: int) -> ImageBatch:
        stream = self._streams[part]
        share = self.processes.share(stream.batch_size)
        images, labels = stream.batch(step, share)
        settings = self.config.train_augment if part == "train" else self.config.search_augment
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
        """`accuracy` in 0..1 and `loss`."""
        data = self._test if part == "test" else self._train
        indices = self._held_out[part]
        indices = torch.arange(len(data)) if indices is None else indices
        if limit is not None and limit < len(indices):
            share = Fraction(limit, len(indices))
            picked, _ = stratified(data.labels.cpu()[indices], share, self._seed, "evaluate")
            indices = indices[picked]
        # Shuffled, so that a network which takes its statistics from the batch sees every class in it.
        indices = indices[torch.randperm(len(indices), generator=seeding.generator(self._seed, "evaluate/order"))]
        right = torch.zeros((), device=self.device, dtype=torch.float64)
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        # Of nearly equal size: batch norm can take no statistics of a last batch of one image.
        size = -(-len(indices) // -(-len(indices) // EVALUATION_BATCH))
        for images, labels in sequential(data, indices, size, self.processes.rank, self.processes.size):
            logits: Tensor = model(normalise(images, self.data.mean, self.data.std))
            right += (logits.argmax(dim=1) == labels).sum()
            total += F.cross_entropy(logits.float(), labels, reduction="sum")
        found = self.processes.total(torch.stack((right, total))) / len(indices)
        return {"accuracy": float(found[0]), "loss": float(found[1])}


def _cross_entropy(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], smoothing: float) -> Tensor:
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
