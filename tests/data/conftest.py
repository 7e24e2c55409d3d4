"""Tiny image folders and archives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write `per_class` images into each class folder below `tmp_path / inside`."""

    def make(
        inside: str = "",
        classes: Sequence[str] = ("ant", "bee"),
        per_class: int = 5,
        size: tuple[int, int] = (6, 4),
        mode: str = "RGB",
        suffix: str = ".png",
    ) -> Path:
        random = np.random.default_rng(0)
        for name in classes:
            folder = tmp_path / inside / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(folder / f"{number}{suffix}")
        return tmp_path

    return make


@pytest.fixture
def save_npz(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays as one .npz, leaving out those that are None."""

    def save(**arrays: object) -> Path:
        present: dict[str, Any] = {name: array for name, array in arrays.items() if array is not None}
        np.savez(tmp_path / "data.npz", **present)
        return tmp_path / "data.npz"

    return save
