"""Pixels counted over the batches of a part, and the figures that they give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from datanas.core.errors import ConfigError, nearest
from datanas.core.processes import Processes
from datanas.data.types.masks import VOID
from datanas.kernels.hardware import widest_float
from datanas.tasks.intersection import count_regions, intersection_over_union, pixel_accuracy


class ScoredClasses:
    """Those of the classes that are scored. When measuring, pixels of others count as void.

    Args:
        classes: the names of all.
        chosen: the names of the scored ones; None for all.

    Raises:
        ConfigError: a chosen class is not known.
    """

    def __init__(self, classes: Sequence[str], chosen: Sequence[str] | None) -> None:
        for name in chosen or ():
            if name not in classes:
                raise ConfigError(f"task.classes: the data have no class {name!r}; {nearest(name, classes)}")
        self.count = len(classes)
        self.by_number = {number: name for number, name in enumerate(classes) if chosen is None or name in chosen}
        self._labels = torch.tensor([number if number in self.by_number else VOID for number in range(256)])

    @property
    def names(self) -> list[str]:
        return list(self.by_number.values())

    def labels(self, masks: UInt8[Tensor, "*pixels"]) -> Int64[Tensor, "*pixels"]:
        """The classes of pixels, VOID for those that are not scored."""
        self._labels = self._labels.to(masks.device)
        return self._labels[masks.long()]


class RegionTally:
    """Regions of each of so many images, and the loss of all."""

    def __init__(self, scored: ScoredClasses, images: int, device: torch.device) -> None:
        self._scored = scored
        self._regions = torch.zeros(images, 3, scored.count, dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=widest_float(device), device=device)

    def add(
        self,
        images: Sequence[int],
        log_probs: Float32[Tensor, "batch classes h w"],
        masks: UInt8[Tensor, "batch h w"],
    ) -> None:
        """Count some images, of which the numbers are given."""
        labels = self._scored.labels(masks)
        self._regions[list(images)] = count_regions(log_probs.argmax(dim=1), labels, self._scored.count)
        self._loss += F.nll_loss(by_pixel(log_probs), labels.flatten(), ignore_index=VOID, reduction="sum")

    def total(self, processes: Processes) -> None:
        """Take in what the other processes have added, each of images of its own; to be called once."""
        self._regions, self._loss = processes.total(self._regions), processes.total(self._loss)

    def regions(self) -> Int64[Tensor, "images 3 scored"]:
        """Of each image, of the scored classes alone; on the CPU."""
        return self._regions.cpu()[..., list(self._scored.by_number)]

    def figures(self) -> dict[str, float]:
        """`miou`, `loss`, `pixel_accuracy`, and `iou/<class>` of the classes averaged.

        These are the scored ones that some pixel is of or was taken for; there must be such pixels.
        """
        regions = self.regions().sum(dim=0)
        overlap = dict(zip(self._scored.names, intersection_over_union(regions).tolist(), strict=True))
        averaged = {f"iou/{name}": share for name, share in overlap.items() if not math.isnan(share)}
        return {
            "miou": sum(averaged.values()) / len(averaged),
            "loss": float(self._loss / self._regions[:, 1].sum()),
            "pixel_accuracy": pixel_accuracy(self._regions.sum(dim=0)),
            **averaged,
        }


def by_pixel(values: Float32[Tensor, "batch classes h w"]) -> Float32[Tensor, "pixels classes"]:
    """A row a pixel: a view in channels-last layout, and the form in which the loss is deterministic on a GPU."""
    return values.permute(0, 2, 3, 1).flatten(0, 2)
