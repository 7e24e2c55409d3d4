"""Images with masks as a task's data: parts, and batches of what is cut out of the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

import torch
from jaxtyping import Float32, Int64, UInt8
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.settings import ComponentConfig
from datanas.data.augment_masks import MaskAugment, cut_image, cut_mask, draw_windows
from datanas.data.batches import Order, held_out, left_to_judge, split, unlabelled
from datanas.data.types.masks import VOID, SegmentationData, SegmentationSet
from datanas.tasks.base import Part
from datanas.tasks.region_tally import ScoredClasses
from datanas.tasks.stemmed_task import StemmedTask
from datanas.tasks.stems import CELLS_STRIDE, STEM_KINDS, StemKind, stem_stride


@dataclass(frozen=True)
class SegmentationBatch:
    """Augmented images and their masks.

    Attributes:
        pixels: how many have a class in the batch of all processes, divided by the number of processes: the sum of the
            loss over these masks divided by it is, on average over the processes, the mean over the whole batch.
    """

    images: Float32[Tensor, "batch 3 side side"]
    masks: UInt8[Tensor, "batch side side"]
    pixels: float


def output_strides(stem: StemKind) -> dict[int, int]:
    """By how much features may be smaller than the image behind a stem, and for each how many reductions are dense."""
    whole = stem_stride(stem) * CELLS_STRIDE
    return {whole // 2**dense: dense for dense in range(3)}


class MaskTask(StemmedTask[SegmentationBatch]):
    """A task on images with masks in memory, of which some classes are scored."""

    class Config(ComponentConfig):
        stem: StemKind = Field("cifar_half", description=STEM_KINDS)
        output_stride: int | None = Field(
            None,
            description="by how much the features are smaller than the image; below what the strides give, the last "
            "reduction cells keep the resolution (atrous); null: what the strides give",
        )
        crop: int = Field(64, ge=8, description="height and width of what is cut out of training images")
        augment: MaskAugment = MaskAugment()
        classes: tuple[str, ...] | None = Field(
            None, min_length=1, description="those that are scored, others count as void when measuring; null for all"
        )

        @model_validator(mode="after")
        def reachable(self) -> Self:
            possible = output_strides(self.stem)
            if self.output_stride is not None and self.output_stride not in possible:
                raise ValueError(
                    f"output_stride: stem {self.stem} allows {', '.join(map(str, possible))}, got {self.output_stride}"
                )
            if self.crop < max(possible):
                raise ValueError(f"crop: stem {self.stem} needs at least {max(possible)}, got {self.crop}")
            return self

        @property
        def dense(self) -> int:
            """How many reduction cells keep the resolution."""
            return 0 if self.output_stride is None else output_strides(self.stem)[self.output_stride]

    smallest_share: ClassVar[int] = 2  # the head pools each image to one place, of which batch norm needs two
    validation_is_up_to_data: ClassVar[bool] = True
    default_size: ClassVar[int | None] = 64
    config: Config
    data: SegmentationData

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if not isinstance(data, SegmentationData):
            raise ConfigError(f"data.name: task {config.name} takes images with masks, as data set mask_folder")
        assert isinstance(config, self.Config)
        self.config = config
        self.data = data
        self.settle_augmentations("augment")
        self.device = device
        self.has_validation = data.validation is not None
        self._pool = torch.arange(len(data.train))  # of which parts are made
        self._seed = seed
        self._parts = {name: part.to(device) for name, part in data.parts().items()}
        self._orders: dict[Part, Order] = {}
        self._chosen: dict[str, Tensor] = {}
        self._measured: dict[Part, Tensor] = {}
        self._require_size()
        self._scored = ScoredClasses(data.classes, config.classes)
        for part in self._parts:
            self._measurable(cast(Part, part))  # told now where there is nothing to measure

    def _require_size(self) -> None:
        stride = max(output_strides(self.config.stem))
        for name, part in self.data.parts().items():
            for image, (height, width) in zip(part.names, part.sizes, strict=True):
                if min(height, width) < stride:
                    raise DataError(
                        f"{name} image {image} is {width}x{height}, but stem {self.config.stem} and the cells divide "
                        f"height and width by {stride}; take larger images or another task.stem"
                    )

    @property
    def example_shape(self) -> tuple[int, int, int]:
        return 3, self.config.crop, self.config.crop

    @property
    def num_classes(self) -> int:
        return len(self.data.classes)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.data.classes

    def describe(self) -> dict[str, Any]:
        return {
            "classes": list(self.data.classes),
            "scored": self._scored.names,
            **{name: len(part) for name, part in self.data.parts().items()},
            "shape": list(self.example_shape),
        }

    def chosen(self) -> Mapping[str, Tensor]:
        return self._chosen

    def contents(self) -> Iterator[bytes]:
        for images in self.data.parts().values():
            yield from images.contents()

    def shuffle_labels(self) -> None:
        """Give the training images each other's masks, drawn to their size."""
        train = self.data.train
        order = torch.randperm(len(train), generator=seeding.generator(self._seed, "shuffled labels")).tolist()
        masks = tuple(
            F.interpolate(train.masks[other][None, None], size, mode="nearest-exact")[0, 0]
            for other, size in zip(order, train.sizes, strict=True)
        )
        self.data = replace(self.data, train=replace(train, masks=masks))
        self._parts["train"] = self.data.train.to(self.device)
        self._measured.clear()

    def _set_aside(self, share: float | None) -> None:
        held, self._pool = left_to_judge(unlabelled(len(self.data.train)), share)
        self._choose("validation", held)
        self._measurable("validation")

    def split_search(self, ratio: str, batch_size: int, examples: int | None) -> None:
        """Images at random: a mask has many classes, so none is the one by which to balance the parts."""
        chosen = self._pool
        if examples is not None and examples < len(chosen):
            chosen = self._drawn(chosen, examples, "images")
        first, second = split(unlabelled(len(chosen)), ratio, self._seed)
        for part, indices in (("weights", chosen[first]), ("alpha", chosen[second])):
            self._add(cast(Part, part), indices, batch_size)
        self._measurable("alpha")

    def split_train(self, validation: float, batch_size: int) -> None:
        held, kept = held_out(unlabelled(len(self._pool)), validation, self._seed)
        self._add("train", self._pool[kept], batch_size)
        if validation > 0:
            self._choose("validation", self._pool[held])
            self._measurable("validation")

    def _add(self, part: Part, indices: Tensor, batch_size: int) -> None:
        if len(indices) < self.smallest_share:
            raise DataError(
                f"{len(indices)} images for the part {part!r} are too few; at least {self.smallest_share} are needed"
            )
        self._orders[part] = Order(indices, batch_size, self._seed, part)
        self._choose(part, indices)
        self.require_share(self._orders[part].batch_size)

    def _choose(self, part: Part, indices: Tensor) -> None:
        self._chosen[part] = indices
        self._measured.pop(part, None)

    def steps_per_epoch(self, part: Part) -> int:
        return self._orders[part].steps_per_epoch

    def left_out(self, part: Part) -> int:
        return self._orders[part].left_out

    def batch(self, part: Part, step: int) -> SegmentationBatch:
        order, data = self._orders[part], self._parts["train"]
        indices = order.at(step).tolist()
        sizes, generator = data.sizes, seeding.generator(self._seed, f"augment/{part}", step)
        windows = draw_windows([sizes[i] for i in indices], self.config.crop, self.augmentations["augment"], generator)
        share = self.processes.share(len(indices))
        # Of all masks: each process then knows, unasked, how many pixels the whole batch has.
        masks = torch.stack([cut_mask(data.masks[i], window) for i, window in zip(indices, windows, strict=True)])
        own = zip(indices[share], windows[share], strict=True)
        images = torch.stack([cut_image(data.images[i], window, *self._moments) for i, window in own])
        pixels = int((masks != VOID).sum()) / self.processes.size
        return SegmentationBatch(images.contiguous(memory_format=torch.channels_last), masks[share], pixels)

    @property
    def _moments(self) -> tuple[Tensor, Tensor]:
        return self.data.mean, self.data.std

    def _examples(self, part: Part) -> SegmentationSet:
        """What the indices of a part count."""
        return self._parts["train"] if part in self._chosen else self._parts[part]

    def _measurable(self, part: Part) -> Int64[Tensor, " n"]:
        """The images of a part that have a scored pixel; others change no figure.

        Raises:
            DataError: there are none.
        """
        if part not in self._measured:
            masks = self._examples(part).masks
            indices = self._chosen.get(part, torch.arange(len(masks)))
            scored = [i for i in indices.tolist() if (self._scored.labels(masks[i]) != VOID).any()]
            if not scored:
                raise DataError(
                    f"no pixel of the {len(indices)} images of the part {part!r} is of a class that is scored"
                )
            self._measured[part] = torch.tensor(scored)
        return self._measured[part]

    def _drawn(self, indices: Int64[Tensor, " n"], count: int, stream: str) -> Int64[Tensor, " count"]:
        """So many of some images, at random, in their order."""
        order = torch.randperm(len(indices), generator=seeding.generator(self._seed, stream))
        return indices[order[: max(count, 1)].sort().values]
