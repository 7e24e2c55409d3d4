"""Image classification (Section 5.1): head and auxiliary tower of DARTS' networks, cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.exhibits import Exhibit
from datanas.core.settings import ComponentConfig, merge
from datanas.data.augment import Augment, normalise
from datanas.data.batches import sequential, stratified
from datanas.kernels.fx_leaf import fx_leaf
from datanas.kernels.hardware import widest_float
from datanas.kernels.norm import BatchNorm2d
from datanas.tasks import register_task
from datanas.tasks.base import ExhibitMaker, Model, Part
from datanas.tasks.class_balance import (
    CLASS_WEIGHTS,
    ClassWeights,
    are_uneven,
    balanced_accuracy,
    class_counts,
    range_text,
    weights_of,
)
from datanas.tasks.class_exhibits import WORST, class_exhibits, confusion_counts, mistakes
from datanas.tasks.image_task import ImageTask
from datanas.tasks.metric import Metric

TOP = 5


@fx_leaf
class AuxiliaryTower(nn.Module):
    """A second classifier on the features of the second reduction cell (weight 0.4 in Section 5.1).

    The features are pooled to 2x2 by overlapping 5x5 windows, as DARTS does at 8x8 and 7x7; smaller ones adaptively.

    Args:
        width: channels of the features.
        norms: batch norms, 1 or 2; the towers of DARTS and DATA have 2 on CIFAR-10 and 1 on ImageNet.
    """

    def __init__(self, width: int, num_classes: int, norms: int = 2) -> None:
        super().__init__()
        last = [BatchNorm2d(768)] if norms == 2 else []
        self.features = nn.Sequential(
            nn.Conv2d(width, 128, 1, bias=False),
            BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            *last,
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

    def __init__(self, widths: tuple[int, ...], num_classes: int, auxiliary_norms: int = 2) -> None:
        super().__init__()
        *tapped, last = widths
        self.auxiliary = AuxiliaryTower(tapped[0], num_classes, auxiliary_norms) if tapped else None
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
class Classification(ImageTask[ImageBatch]):
    """Classify images, in memory or in files."""

    class Config(ImageTask.Config):
        name: Literal["classification"] = "classification"
        train_augment: Augment = Augment(cutout=16)
        class_weights: ClassWeights = Field("none", description=CLASS_WEIGHTS)
        label_smoothing: float = Field(0.0, ge=0, lt=1, description="while training, not while searching")
        auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary tower's loss, where it is used")
        auxiliary_norms: Literal[1, 2] | None = Field(
            None, description="batch norms of that tower; null: 2, but 1 behind the stem imagenet, as DARTS and DATA"
        )

    metric: ClassVar[Metric] = Metric("accuracy", counts_examples=True, has_error=True)
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        super().__init__(config, data, device, seed)
        self._counts = class_counts(self.data.train.labels, self.num_classes)
        weights = weights_of(self.config.class_weights, self._counts, self.data.classes)
        self._class_weights = None if weights is None else weights.to(device)
        self._answers: Tensor | None = None  # of a pass whose exhibits are wanted: each image's class, and how sure

    def suited_settings(self) -> Mapping[str, Any]:
        """With balanced weights of classes that are uneven."""
        found = super().suited_settings()
        return merge(found, {"task": {"class_weights": "balanced"}}) if are_uneven(self._counts) else found

    def notes(self) -> Sequence[str]:
        if not are_uneven(self._counts):
            return ()
        are_weighted = "does not weigh them" if self._class_weights is None else "weighs them"
        return (
            f"classes are uneven ({range_text(self._counts, self.data.classes)}); the loss {are_weighted} "
            f"(--task.class_weights), and balanced accuracy stands beside accuracy",
        )

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        norms = config.auxiliary_norms or (1 if config.stem == "imagenet" else 2)
        return ClassifierHead(widths, num_classes, norms)

    @property
    def num_classes(self) -> int:
        return len(self.data.classes)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.data.classes

    def describe(self) -> dict[str, Any]:
        return {
            "classes": list(self.data.classes),
            "train": len(self.data.train),
            "test": len(self.data.test),
            "shape": list(self.example_shape),
        }

    def shuffle_labels(self) -> None:
        order = torch.randperm(len(self._train), generator=seeding.generator(self._seed, "shuffled labels"))
        labels = self.data.train.labels
        self.data = self.data.with_train_labels(labels[order.to(labels.device)])
        self._train = self.data.train.to(self.device)

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        if examples is not None and examples < min(2 * self.num_classes, len(self.data.train)):
            raise DataError(f"search.examples: {examples} is too few for {self.num_classes} classes in two parts")
        super().split_search(ratio, batch_size, examples)

    def split_train(self, validation: float, batch_size: int) -> None:
        cutout, side = self.config.train_augment.cutout, min(self.example_shape[1:])
        if cutout >= 2 * side - 1:
            raise ConfigError(
                f"task.train_augment.cutout: {cutout} blanks every image of {side} pixels; half a side is a good size"
            )
        super().split_train(validation, batch_size)

    def batch(self, part: Part, step: int) -> ImageBatch:
        _, views, labels = self._drawn(part, step)
        return ImageBatch(views, labels, part)

    def loss(self, model: Model, batch: ImageBatch) -> Tensor:
        output = model(batch.images)
        smoothing = self.config.label_smoothing if batch.part == "train" else 0.0
        if isinstance(output, tuple):
            logits, auxiliary = output
            extra = self.config.auxiliary_weight * self._cross_entropy(auxiliary, batch.labels, smoothing)
            return self._cross_entropy(logits, batch.labels, smoothing) + extra
        return self._cross_entropy(output, batch.labels, smoothing)

    def _cross_entropy(self, logits: Tensor, labels: Int64[Tensor, " batch"], smoothing: float) -> Tensor:
        if self._class_weights is None:
            return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        # Divided by the images, not by their weights as torch does: so the losses of shares average to the batch's.
        total = F.cross_entropy(
            logits.float(), labels, weight=self._class_weights, label_smoothing=smoothing, reduction="sum"
        )
        return total / len(labels)

    @torch.inference_mode()
    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`accuracy` and `loss`; of more than five classes `top5`, the share of labels among the likeliest five; of
        uneven ones `balanced_accuracy`. Weights of classes are the training's alone.
        """
        indices = self._chosen[part]
        if limit is not None and limit < len(indices):
            labels = self._images(part).labels.cpu()[indices]
            indices = indices[stratified(labels, Fraction(limit, len(indices)), self._seed, "evaluate")[0]]
        counted = (1, TOP) if self.num_classes > TOP else (1,)
        classes = self.num_classes if are_uneven(self._counts) else 0
        found = torch.zeros(1 + len(counted) + 2 * classes, device=self.device, dtype=widest_float(self.device))
        for place, images, labels in self._measured(part, self._shuffled(indices)):
            logits: Tensor = model(normalise(images, self.data.mean, self.data.std))
            if self._answers is not None:
                sure, answers = logits.float().softmax(dim=1).max(dim=1)
                self._answers[:, place : place + len(logits)] = torch.stack((answers.to(found), sure.to(found)))
            lost = F.cross_entropy(logits.float(), labels, reduction="sum")
            whole = torch.stack((lost.to(found), *(_hits(logits, labels, top).to(found) for top in counted)))
            by_class: list[Tensor] = []
            if classes:
                right = labels[logits.argmax(dim=1) == labels]
                by_class = [torch.bincount(of, minlength=classes).to(found) for of in (right, labels)]
            found += torch.cat([whole, *by_class])
        found = self.processes.total(found)
        loss, *shares = (found[: 1 + len(counted)] / len(indices)).tolist()
        figures = dict(zip(("accuracy", f"top{TOP}"), shares, strict=False))
        if classes:
            figures["balanced_accuracy"] = balanced_accuracy(*found[1 + len(counted) :].view(2, classes))
        return {**figures, "loss": loss}

    def evaluate_with_exhibits(self, model: Model, part: Part) -> tuple[dict[str, float], ExhibitMaker]:
        """With the confusion matrix, figures of each class, and the mistakes of which the network is surest."""
        dtype = widest_float(self.device)
        self._answers = torch.zeros(2, len(self._chosen[part]), device=self.device, dtype=dtype)
        try:
            figures = self.evaluate(model, part)
            found = self.processes.total(self._answers).cpu()
        finally:
            self._answers = None
        return figures, lambda: self._exhibits(part, found)

    def _exhibits(self, part: Part, found: Float[Tensor, "2 n"]) -> Sequence[Exhibit]:
        indices, order = self._shuffled(self._chosen[part]).sort()
        source = self._images(part)
        labels, answers, sure = source.labels.cpu()[indices], found[0, order].long(), found[1, order]
        if not sure.all():  # a class built on this one measures otherwise
            return ()
        counts = confusion_counts(labels, answers, self.num_classes)
        shown = class_exhibits(counts, self.data.classes)
        wrong = (labels != answers).nonzero()[:, 0]
        worst = wrong[sure[wrong].argsort(descending=True, stable=True)[:WORST]]
        if len(worst):
            images, _ = next(sequential(source, indices[worst], len(worst)))
            truth, taken, shares = (column[worst].tolist() for column in (labels, answers, sure))
            shown.append(mistakes(list(images), truth, taken, shares, self.data.classes))
        return shown


def _hits(logits: Float[Tensor, "batch classes"], labels: Int64[Tensor, " batch"], top: int) -> Int64[Tensor, ""]:
    """How many labels are among the `top` likeliest classes."""
    if top == 1:
        return (logits.argmax(dim=1) == labels).sum()
    return (logits.topk(top, dim=1).indices == labels[:, None]).any(dim=1).sum()
