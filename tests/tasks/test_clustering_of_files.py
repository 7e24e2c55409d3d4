"""Images that stay in their files are clustered as those in memory, without being held there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.data.sets.image_files import ImageFiles
from datanas.tasks.adaptive_pairs import label_features
from datanas.tasks.cluster_head import Assignment
from datanas.tasks.clustering import Clustering


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images for training and four for testing, of two classes each."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4)):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number:02d}.png")
    return root


def task(root: Path, **settings: Any) -> Clustering:
    data = ImageFiles(validate(ImageFiles.Config, {"root": root, "size": 8, "resize": 8, "workers": 2}, "data")).load()
    return Clustering(validate(Clustering.Config, settings, "task"), data, torch.device("cpu"), 0)


def undecided(x: Tensor) -> Assignment:
    return Assignment(label_features(x.flatten(1)[:, :2]), x.mean(dim=(2, 3)))


def test_a_view_is_one_of_the_random_crop_without_black_borders(root: Path) -> None:
    made = task(root, train_augment={"crop_padding": 8, "flip": False})
    made.split_train(0.0, 6)
    first, second = made.batch("train", 0), made.batch("train", 0)
    torch.testing.assert_close(first.views, first.images)
    assert torch.equal(first.views, second.views)


def test_figures_are_without_the_reference_on_pixels(root: Path) -> None:
    found = task(root).evaluate(undecided, "test")
    assert "features/nmi" in found
    assert not [name for name in found if name.startswith("pixels/")]


def test_they_cannot_be_joined(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"task\.joined: takes images in memory"):
        task(root, joined=True)
