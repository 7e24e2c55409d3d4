"""Semantic segmentation (Section 5.4): the head of DeepLab v3 on a body of cells, cross-entropy, mean intersection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.core import seeding
from datanas.core.errors import ConfigError, DataError
from datanas.core.exhibits import Exhibit
from datanas.core.settings import ComponentConfig
from datanas.data.augment import normalisation, normalise
from datanas.data.augment_masks import MaskAugment, cut_image, cut_mask, draw_windows
from datanas.data.batches import Order, held_out, left_to_judge, split, unlabelled
from datanas.data.types.masks import VOID, SegmentationData, SegmentationSet
from datanas.tasks import register_task
from datanas.tasks.base import ExhibitMaker, Model, Part, Task
from datanas.tasks.deeplab import SegmentationHead
from datanas.tasks.mask_exhibits import SHOWN, Segmented, mask_exhibits
from datanas.tasks.metric import Metric
from datanas.tasks.multi_scale import log_probabilities
from datanas.tasks.region_tally import RegionTally, ScoredClasses, by_pixel
from datanas.tasks.stems import CELLS_STRIDE, CONVOLUTIONAL, STEM_KINDS, StemKind, image_stem, stem_stride

EVALUATION_PIXELS = 1 << 20
"""Of the images that are measured together, at most; a larger one is measured alone."""
SMALLEST_SHARE = 2
"""Images a process: the head pools each to one place, of which batch norm needs two."""


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


@register_task("segmentation")
class Segmentation(Task[SegmentationBatch]):
    """Tell the class of every pixel of images in memory."""

    class Config(ComponentConfig):
        name: Literal["segmentation"] = "segmentation"
        stem: StemKind = Field("cifar_half", description=STEM_KINDS)
        output_stride: int | None = Field(
            None,
            description="by how much the features are smaller than the image; below what the strides give, the last "
            "reduction cells keep the resolution (atrous); null: what the strides give",
        )
        crop: int = Field(64, ge=8, description="height and width of what is cut out of training images")
        augment: MaskAugment = MaskAugment()
        atrous_rates: tuple[Annotated[int, Field(ge=1)], ...] = Field(
            (6, 12, 18), min_length=1, description="of the head; 6, 12, 18 at output stride 16, twice that at 8"
        )
        head_channels: int = Field(256, ge=1, description="width of the head")
        auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary head's loss, where it is used")
        classes: tuple[str, ...] | None = Field(
            None, min_length=1, description="those that are scored, others count as void when measuring; null for all"
        )
        test_scales: tuple[Annotated[float, Field(ge=0.1, le=10)], ...] = Field(
            (1.0,), min_length=1, description="scales at which an image is measured, by the mean of the probabilities"
        )
        test_flip: bool = Field(False, description="measure each image mirrored too")

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

    metric: ClassVar[Metric] = Metric("miou")
    cells: ClassVar[str] = CONVOLUTIONAL
    smallest_share: ClassVar[int] = SMALLEST_SHARE
    validation_is_up_to_data: ClassVar[bool] = True
    default_size: ClassVar[int | None] = 64
    default_classes: ClassVar[int] = 21
    defaults: ClassVar[Mapping[str, Any]] = {
        "data": {"name": "photo_scenes"},
        "search": {"batch_size": 16},
        "train": {
            "epochs": 350,
            "batch_size": 64,
            "drop_path": 0.0,
            "weights": {"lr": 0.028, "schedule": "poly", "weight_decay": 1e-4},
        },
    }
    config: Config

    def __init__(self, config: ComponentConfig, data: object, device: torch.device, seed: int) -> None:
        if not isinstance(data, SegmentationData):
            raise ConfigError("data.name: task segmentation takes images with masks, as data set mask_folder")
        assert isinstance(config, self.Config)
        self.config = config
        self.data = data
        self.device = device
        self.has_validation = data.validation is not None
        self._pool = torch.arange(len(data.train))  # of which parts are made
        self._seed = seed
        self._parts = {name: part.to(device) for name, part in data.parts().items()}
        self._orders: dict[Part, Order] = {}
        self._chosen: dict[str, Tensor] = {}
        self._measured: dict[Part, Tensor] = {}
        self._wrong: Tensor | None = None  # of a pass whose exhibits are wanted: the share of each image's pixels
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

    @classmethod
    def stem(cls, config: ComponentConfig, in_channels: int, channels: int) -> nn.Module:
        assert isinstance(config, cls.Config)
        return image_stem(config.stem, in_channels, channels, config.dense)

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> SegmentationHead:
        assert isinstance(config, cls.Config)
        return SegmentationHead(widths, num_classes, config.head_channels, config.atrous_rates)

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

    def preprocessing(self) -> dict[str, Any]:
        return normalisation(self.data.mean, self.data.std)

    def input_form(self) -> dict[str, Any]:
        return self.data.image_form.model_dump(mode="json")

    def suited_settings(self) -> Mapping[str, Any]:
        """Narrow networks and large crops (`recipes/small/camvid.yaml`)."""
        shortest = min(min(size) for part in self.data.parts().values() for size in part.sizes)
        stride = max(output_strides(self.config.stem))
        crop = max(stride, min(160, shortest // stride * stride))
        return {
            "task": {"output_stride": stride // 2, "crop": crop, "atrous_rates": (3, 6, 9), "head_channels": 64},
            "space": {"channels": 8},
            "search": {"batch_size": 8, "alpha_start": 0.1, "weights": {"lr": 0.05}, "gap": {"examples": 50}},
            "train": {
                "channels": 16,
                "batch_size": 8,
                "auxiliary": False,
                "weights": {"lr": 0.05, "schedule": "poly", "weight_decay": 1e-4, "warm_up_epochs": 1.0},
            },
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
        if len(indices) < SMALLEST_SHARE:
            raise DataError(
                f"{len(indices)} images for the part {part!r} are too few; at least {SMALLEST_SHARE} are needed"
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
        windows = draw_windows([sizes[i] for i in indices], self.config.crop, self._augment, generator)
        share = self.processes.share(len(indices))
        # Of all masks: each process then knows, unasked, how many pixels the whole batch has.
        masks = torch.stack([cut_mask(data.masks[i], window) for i, window in zip(indices, windows, strict=True)])
        own = zip(indices[share], windows[share], strict=True)
        images = torch.stack([cut_image(data.images[i], window, *self._moments) for i, window in own])
        pixels = int((masks != VOID).sum()) / self.processes.size
        return SegmentationBatch(images.contiguous(memory_format=torch.channels_last), masks[share], pixels)

    @property
    def _augment(self) -> MaskAugment:
        return self.config.augment.settled(bears_mirroring=self.data.bears_mirroring)

    def mirrored_parts(self) -> Mapping[str, bool]:
        return {"task.augment": bool(self._augment.flip)}

    @property
    def _moments(self) -> tuple[Tensor, Tensor]:
        return self.data.mean, self.data.std

    def loss(self, model: Model, batch: SegmentationBatch) -> Tensor:
        """Cross-entropy over the pixels that have a class; 0 where none has."""
        output = model(batch.images)
        labels = batch.masks.long()
        if not isinstance(output, tuple):
            return _summed_cross_entropy(output, labels) / (batch.pixels or 1.0)
        logits, auxiliary = output
        extra = self.config.auxiliary_weight * _summed_cross_entropy(auxiliary, labels)
        return (_summed_cross_entropy(logits, labels) + extra) / (batch.pixels or 1.0)

    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`miou` and `pixel_accuracy` in 0..1, `loss`, and `iou/<class>` of each class that is averaged.

        These are the scored ones that some pixel is of or was taken for. Images are whole, and what is found does not
        depend on how many are measured together. Test and validation images are seen at all scales that are asked for.
        """
        final = part in ("test", "validation")
        scales = self.config.test_scales if final else (1.0,)
        return self._measure(model, part, limit, scales, flip=final and self.config.test_flip)

    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        """The same at the scale of the images alone."""
        return self._measure(model, part, None, (1.0,), flip=False)

    @torch.inference_mode()
    def _measure(
        self, model: Model, part: Part, limit: int | None, scales: Sequence[float], *, flip: bool
    ) -> dict[str, float]:
        data, indices = self._examples(part), self._measurable(part)
        if limit is not None and limit < len(indices):
            indices = self._drawn(indices, limit, "evaluate")
        tally = RegionTally(self._scored, self.device)
        for together in list(_alike(data.sizes, indices))[self.processes.rank :: self.processes.size]:
            # Of an image alone a network that takes its statistics from the batch has none: it comes twice then.
            shown = together if len(together) >= SMALLEST_SHARE else 2 * together
            images = normalise(torch.stack([data.images[i] for i in shown]), *self._moments)
            log_probs = log_probabilities(model, images, scales, flip=flip)[: len(together)]
            masks = torch.stack([data.masks[i] for i in together])
            tally.add(log_probs, masks)
            if self._wrong is not None:
                self._wrong[together] = self._scored.share_of_wrong(log_probs, masks)
        return tally.figures(self.processes)

    def evaluate_with_exhibits(self, model: Model, part: Part) -> tuple[dict[str, float], ExhibitMaker]:
        """With the overlap of each class, and the images of which most pixels are wrong, with their masks."""
        self._wrong = torch.zeros(len(self._examples(part)), device=self.device)
        try:
            figures = self.evaluate(model, part)
            wrong = self.processes.total(self._wrong).tolist()
        finally:
            self._wrong = None
        return figures, lambda: self._exhibits(model, part, figures, wrong)

    @torch.inference_mode()
    def _exhibits(
        self, model: Model, part: Part, figures: Mapping[str, float], wrong: Sequence[float]
    ) -> Sequence[Exhibit]:
        """The few images that are shown pass the network again, since keeping all masks would take much memory."""
        data = self._examples(part)
        order = [i for together in _alike(data.sizes, self._measurable(part)) for i in together]
        shown = []
        for i in sorted(order, key=lambda i: -wrong[i])[:SHOWN]:
            view = normalise(data.images[i][None], *self._moments)
            log_probs = log_probabilities(model, view, self.config.test_scales, flip=self.config.test_flip)
            shown.append(Segmented(data.images[i], data.masks[i], log_probs[0].argmax(dim=0).byte(), wrong[i]))
        return mask_exhibits(figures, shown, self.data.classes)

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
            found = [i for i in indices.tolist() if (self._scored.labels(masks[i]) != VOID).any()]
            if not found:
                raise DataError(
                    f"no pixel of the {len(indices)} images of the part {part!r} is of a class that is scored"
                )
            self._measured[part] = torch.tensor(found)
        return self._measured[part]

    def _drawn(self, indices: Int64[Tensor, " n"], count: int, stream: str) -> Int64[Tensor, " count"]:
        """So many of some images, at random, in their order."""
        order = torch.randperm(len(indices), generator=seeding.generator(self._seed, stream))
        return indices[order[: max(count, 1)].sort().values]


def _summed_cross_entropy(
    logits: Float[Tensor, "batch classes h w"], labels: Int64[Tensor, "batch h w"]
) -> Float[Tensor, ""]:
    return F.cross_entropy(by_pixel(logits.float()), labels.flatten(), ignore_index=VOID, reduction="sum")


def _alike(sizes: Sequence[tuple[int, int]], indices: Int64[Tensor, " n"]) -> Iterator[list[int]]:
    """Images of one size, as many as are measured together."""
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index in indices.tolist():
        groups[sizes[index]].append(index)
    for (height, width), members in groups.items():
        count = max(2, EVALUATION_PIXELS // (height * width))
        for start in range(0, len(members), count):
            yield members[start : start + count]
