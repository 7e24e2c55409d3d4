"""Semantic segmentation (Section 5.4): the head of DeepLab v3 on a body of cells, cross-entropy, mean intersection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Int64
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from datanas.core import seeding
from datanas.core.exhibits import Exhibit
from datanas.core.own_function import OwnFunction
from datanas.core.settings import ComponentConfig
from datanas.data.augment import normalise
from datanas.data.types.masks import VOID
from datanas.tasks import register_task
from datanas.tasks.base import FullEvaluation, Model, Part
from datanas.tasks.deeplab import SegmentationHead
from datanas.tasks.intersection import intersection_over_union, share_of_wrong
from datanas.tasks.kind import Answers
from datanas.tasks.mask_exhibits import SHOWN, Segmented, mask_exhibits
from datanas.tasks.mask_task import MaskTask, SegmentationBatch, output_strides
from datanas.tasks.metric import Metric
from datanas.tasks.multi_scale import log_probabilities
from datanas.tasks.own_loss import OWN_LOSS, OwnLoss
from datanas.tasks.region_tally import RegionTally, by_pixel

LIGHTER_CROPS = (96, 64)
"""Sides of what is cut out of images where there is no time for larger ones."""
EVALUATION_PIXELS = 1 << 20
"""Of the images that are measured together, at most; a larger one is measured alone."""


@register_task("segmentation")
class Segmentation(MaskTask):
    """Tell the class of every pixel of images in memory."""

    class Config(MaskTask.Config):
        name: Literal["segmentation"] = "segmentation"
        atrous_rates: tuple[Annotated[int, Field(ge=1)], ...] = Field(
            (6, 12, 18), min_length=1, description="of the head; 6, 12, 18 at output stride 16, twice that at 8"
        )
        head_channels: int = Field(256, ge=1, description="width of the head")
        auxiliary_weight: float = Field(0.4, ge=0, description="weight of the auxiliary head's loss, where it is used")
        test_scales: tuple[Annotated[float, Field(ge=0.1, le=10)], ...] = Field(
            (1.0,), min_length=1, description="scales at which an image is measured, by the mean of the probabilities"
        )
        test_flip: bool = Field(False, description="measure each image mirrored too")
        loss: OwnFunction = Field(None, description=OWN_LOSS)

    metric: ClassVar[Metric] = Metric("miou")
    keeps_answers: ClassVar[bool] = True
    answer_units: ClassVar[str] = "images"
    shared_answers: ClassVar[Sequence[str]] = ("true",)
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
        super().__init__(config, data, device, seed)
        self._own_loss: OwnLoss | None = None
        if self.config.loss is not None:
            self.draws_like_unknown = True
            scores = torch.randn(2, self.num_classes, 8, 8, generator=seeding.generator(0, "own loss"))
            masks = torch.arange(2 * 8 * 8).view(2, 8, 8) % self.num_classes
            masks[0, 0, 0] = VOID
            self._own_loss = OwnLoss(self.config.loss, scores, masks, device)

    @classmethod
    def head(cls, config: ComponentConfig, widths: tuple[int, ...], num_classes: int) -> SegmentationHead:
        assert isinstance(config, cls.Config)
        return SegmentationHead(widths, num_classes, config.head_channels, config.atrous_rates)

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

    def lighter_settings(self) -> Sequence[Mapping[str, Any]]:
        """Smaller crops, and fewer images to measure the gap on."""
        gap = {"search": {"gap": {"examples": 16}}}
        return [{"task": {"crop": crop}, **gap} for crop in LIGHTER_CROPS if crop < self.config.crop]

    def loss(self, model: Model, batch: SegmentationBatch) -> Tensor:
        """Cross-entropy over the pixels that have a class, or a loss of one's own; 0 where none has."""
        output = model(batch.images)
        labels = batch.masks.long()
        if self._own_loss is not None:
            return self._by_own_loss(output, labels)
        if not isinstance(output, tuple):
            return _summed_cross_entropy(output, labels) / (batch.pixels or 1.0)
        logits, auxiliary = output
        extra = self.config.auxiliary_weight * _summed_cross_entropy(auxiliary, labels)
        return (_summed_cross_entropy(logits, labels) + extra) / (batch.pixels or 1.0)

    def _by_own_loss(self, output: Tensor | tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        assert self._own_loss is not None
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        if not (labels != VOID).any():
            return 0.0 * logits.float().sum()
        loss = self._own_loss(logits.float(), labels)
        return loss + sum(self.config.auxiliary_weight * self._own_loss(each.float(), labels) for each in auxiliary)

    def evaluate(self, model: Model, part: Part, limit: int | None = None) -> dict[str, float]:
        """`miou` and `pixel_accuracy` in 0..1, `loss`, and `iou/<class>` of each class that is averaged.

        These are the scored ones that some pixel is of or was taken for. Images are whole, and what is found does not
        depend on how many are measured together. Test and validation images are seen at all scales that are asked for.
        """
        return self._tally(model, part, limit).figures()

    def monitor(self, model: Model, part: Part) -> dict[str, float]:
        """The same at the scale of the images alone."""
        return self._measure(model, part, None, (1.0,), flip=False).figures()

    def _tally(self, model: Model, part: Part, limit: int | None) -> RegionTally:
        final = part in ("test", "validation")
        scales = self.config.test_scales if final else (1.0,)
        return self._measure(model, part, limit, scales, flip=final and self.config.test_flip)

    @torch.inference_mode()
    def _measure(
        self, model: Model, part: Part, limit: int | None, scales: Sequence[float], *, flip: bool
    ) -> RegionTally:
        data, indices = self._examples(part), self._measurable(part)
        if limit is not None and limit < len(indices):
            indices = self._drawn(indices, limit, "evaluate")
        tally = RegionTally(self._scored, len(indices), self.device)
        rows = {image: row for row, image in enumerate(indices.tolist())}
        for together in list(_alike(data.sizes, indices))[self.processes.rank :: self.processes.size]:
            # Of an image alone a network that takes its statistics from the batch has none: it comes twice then.
            shown = together if len(together) >= self.smallest_share else 2 * together
            images = normalise(torch.stack([data.images[i] for i in shown]), *self._moments)
            log_probs = log_probabilities(model, images, scales, flip=flip)[: len(together)]
            masks = torch.stack([data.masks[i] for i in together])
            tally.add([rows[image] for image in together], log_probs, masks)
        tally.total(self.processes)
        return tally

    def evaluate_fully(self, model: Model, part: Part) -> FullEvaluation:
        """With the overlap of each class, and the images of which most pixels are wrong, with their masks.

        Answers are the `regions` of each image (`count_regions`), and of these `true` besides.
        """
        tally = self._tally(model, part, None)
        figures, regions = tally.figures(), tally.regions()
        answers = {"regions": regions, "true": regions[:, 1].clone()}
        return FullEvaluation(figures, lambda: self._shown(model, part, figures, regions), answers)

    @classmethod
    def resampled_scores(cls, answers: Answers, counts: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
        regions = answers["regions"].to(counts)
        summed = (counts @ regions.flatten(1)).view(-1, *regions.shape[1:])
        return intersection_over_union(summed).nanmean(dim=1)

    @torch.inference_mode()
    def _shown(
        self, model: Model, part: Part, figures: Mapping[str, float], regions: Int64[Tensor, "images 3 scored"]
    ) -> Sequence[Exhibit]:
        """The few images that are shown pass the network again, since keeping all masks would take much memory."""
        data, indices = self._examples(part), self._measurable(part).tolist()
        wrong = dict(zip(indices, share_of_wrong(regions).tolist(), strict=True))
        order = [i for together in _alike(data.sizes, self._measurable(part)) for i in together]
        shown = []
        for i in sorted(order, key=lambda i: -wrong[i])[:SHOWN]:
            view = normalise(data.images[i][None], *self._moments)
            log_probs = log_probabilities(model, view, self.config.test_scales, flip=self.config.test_flip)
            shown.append(Segmented(data.images[i], data.masks[i], log_probs[0].argmax(dim=0).byte(), wrong[i]))
        return mask_exhibits(figures, shown, self.data.classes)


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
