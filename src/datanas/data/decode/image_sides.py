"""How large the images of a folder are, from the headers of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datanas.data.decode.image_list import ImageList
from datanas.data.decode.open_image import BrokenImageError, opened


def some_sizes(root: Path, count: int = 64) -> list[tuple[int, int]]:
    """(width, height) in pixels of some images below a folder, spread over it; what cannot be opened is passed over.

    Raises:
        DataError: the folder cannot be read.
    """
    return sizes_of(ImageList(str(root)).below(root), count)


def sizes_of(files: Sequence[Path], count: int = 64) -> list[tuple[int, int]]:
    """(width, height) in pixels of some image files, spread over them; what cannot be opened is passed over."""
    sizes = []
    for file in files[:: max(1, len(files) // count)][:count]:
        try:
            with opened(file) as image:
                sizes.append((image.width, image.height))
        except BrokenImageError:
            continue
    return sizes
