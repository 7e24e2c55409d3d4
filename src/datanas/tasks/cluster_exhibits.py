"""What clustering has to show: how large each cluster is, what is in it, and images of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Int64, Shaped
from torch import Tensor

from datanas.core.exhibits import Exhibit, FigureTable, Picture, Pictures
from datanas.tasks.thumbnails import images_in_a_row, picture_file

SAMPLES = 8
"""Images of a cluster that are shown."""
MOST_CLUSTERS = 30
"""Clusters of which images are shown, the largest ones."""
_SIDE = 64


def cluster_exhibits(
    clusters: Int64[Tensor, " n"],
    labels: Int64[Tensor, " n"] | None,
    samples: Mapping[int, Shaped[Tensor, "m c h w"]],
    names: Sequence[str],
) -> Sequence[Exhibit]:
    """A table and a row of images for each cluster that is not empty, the largest first.

    Args:
        clusters: of each image.
        labels: its class; None where that is not known.
        samples: images of each cluster.
        names: of the classes.
    """
    rows: list[list[str | float | int | None]] = []
    pictures = []
    for cluster in sorted(samples, key=lambda each: (-int((clusters == each).sum()), each)):
        inside = clusters == cluster
        count, said = int(inside.sum()), ""
        row: list[str | float | int | None] = [str(cluster), count]
        if labels is not None:
            number, commonest = labels[inside].bincount().max(dim=0)
            share = int(number) / count
            row += [names[int(commonest)], share]
            said = f", {share:.0%} {names[int(commonest)]}"
        rows.append(row)
        caption, alt = f"cluster {cluster}: {count:,} images{said}", f"Images of cluster {cluster}{said}."
        pictures.append(Picture.of_file(picture_file(images_in_a_row(samples[cluster], _SIDE)), caption, alt))
    heads = ("cluster", "images", *(("commonest class", "its share") if labels is not None else ()))
    table = FigureTable(
        "Each cluster", heads, rows, ("its share",), "Clusters have no names; their numbers mean nothing."
    )
    note = "Of each cluster the images that the network is surest of."
    return [table, Pictures("What the clusters hold", pictures[:MOST_CLUSTERS], note)]
