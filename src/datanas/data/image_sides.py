"""How large the images of a folder are, from the headers of some of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from datanas.data.image_list import SUFFIXES, is_hidden
from datanas.data.open_image import BrokenImageError, opened

_LISTED = 20_000


def some_sizes(root: Path, count: int = 64) -> list[tuple[int, int]]:
    """(width, height) of some images below a folder, spread over it; what cannot be opened is passed over."""
    files = list(islice(_images_below(root), _LISTED))
    found = []
    for file in files[:: max(1, len(files) // count)][:count]:
        try:
            with opened(file) as image:
                found.append((image.width, image.height))
        except BrokenImageError:
            continue
    return found


def _images_below(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (
            Path(folder) / name
            for name in sorted(files)
            if Path(name).suffix.lower() in SUFFIXES and not is_hidden(name)
        )
