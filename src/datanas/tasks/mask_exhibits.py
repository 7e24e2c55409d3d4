"""What segmentation has to show: the overlap of each class, and images with their masks, true and found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxtyping import Shaped, UInt8
from torch import Tensor

from datanas.core.exhibits import Exhibit, FigureTable, Picture, Pictures
from datanas.tasks.thumbnails import blended, class_colours, in_a_row, picture_file, to_pixels

SHOWN = 8
"""Images that are shown."""
_SIDE = 160
_PALETTE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
"""Of Okabe and Ito (2008); with more classes than colours the legend names those that share one."""


class Segmented(NamedTuple):
    """An image, what its pixels are and were taken for, and the share of those with a class that are wrong."""

    image: Shaped[Tensor, "c h w"]
    truth: UInt8[Tensor, "h w"]
    predicted: UInt8[Tensor, "h w"]
    wrong: float


def mask_exhibits(
    figures: Mapping[str, float], worst: Sequence[Segmented], classes: Sequence[str]
) -> Sequence[Exhibit]:
    """A table and overlays.

    Args:
        figures: of `evaluate`, with `iou/<class>` among them.
        worst: the images to show.
        classes: the name of each number in a mask.
    """
    rows: list[list[str | float | int | None]] = [
        [name.removeprefix("iou/"), value] for name, value in figures.items() if name.startswith("iou/")
    ]
    note = "The overlap is the intersection of the pixels that are of a class and those taken for it, over their union."
    table = FigureTable("Each class", ("class", "overlap"), rows, ("overlap",), note)
    palette = [_PALETTE[number % len(_PALETTE)] for number in range(len(classes))]
    pictures = [_picture(each, palette, classes) for each in worst]
    legend = [
        (", ".join(name for number, name in enumerate(classes) if palette[number] == colour), colour)
        for colour in dict.fromkeys(palette)
    ]
    about = "Those of which most pixels are wrong. Left the image, then its true mask, right what the network found."
    return [table, Pictures("The worst images", pictures, about, legend)]


def _picture(each: Segmented, palette: Sequence[str], classes: Sequence[str]) -> Picture:
    image = to_pixels(each.image, _SIDE)
    size = image.shape[0], image.shape[1]
    masks = [blended(image, class_colours(mask, palette, size)) for mask in (each.truth, each.predicted)]
    names = [
        ", ".join(
            classes[number]
            for number in mask.flatten().long().bincount().nonzero()[:, 0].tolist()
            if number < len(classes)
        )
        for mask in (each.truth, each.predicted)
    ]
    alt = f"An image with pixels of {names[0] or 'no class'}, in which the network found {names[1]}."
    return Picture.of_file(picture_file(in_a_row([image, *masks])), f"{each.wrong:.0%} of its pixels wrong", alt)
