"""Classification of images in files behaves as that of images in memory, without holding them there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.processes import Processes
from datanas.core.settings import merge, validate
from datanas.data.augment import normalise
from datanas.data.sets.image_files import ImageFiles
from datanas.data.types.file_set import ImageFileData
from datanas.tasks.classification import Classification

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images a class for training, and four for testing, of three classes."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 4)):
        for name in ("ant", "bee", "cow"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number:02d}.png")
    return root


def load(root: Path, **settings: Any) -> ImageFileData:
    settings = {"root": root, "size": 8, "resize": 8, "workers": 2, **settings}
    return ImageFiles(validate(ImageFiles.Config, settings, "data")).load()


def task(root: Path, **settings: Any) -> Classification:
    settings = merge({"train_augment": {"cutout": 0}}, settings)
    return Classification(validate(Classification.Config, settings, "task"), load(root), CPU, 0)


def test_a_batch_is_a_function_of_its_step(root: Path) -> None:
    made, other = task(root), task(root)
    for each in (made, other):
        each.split_train(0.25, 6)
    forward = [made.batch("train", step).images for step in range(7)]
    backward = [other.batch("train", step).images for step in reversed(range(7))][::-1]
    assert all(torch.equal(one, two) for one, two in zip(forward, backward, strict=True))
    assert not torch.equal(forward[0], forward[1])


def test_crops_are_not_cropped_again(root: Path) -> None:
    """With black borders every pixel of a padded crop would be black with some chance."""
    padded = task(root, train_augment={"crop_padding": 8, "flip": False})
    plain = task(root, train_augment={"crop_padding": 0, "flip": False})
    for each in (padded, plain):
        each.split_train(0, 6)
    assert torch.equal(padded.batch("train", 0).images, plain.batch("train", 0).images)


def test_parts_of_a_search_are_disjoint_and_balanced(root: Path) -> None:
    made = task(root)
    made.split_search("2:1", 4, None)
    weights, alpha = (made.chosen()[part] for part in ("weights", "alpha"))
    assert sorted([*weights.tolist(), *alpha.tolist()]) == list(range(36))
    labels = made.data.train.labels
    assert torch.bincount(labels[weights]).tolist() == [8, 8, 8]
    assert torch.bincount(labels[alpha]).tolist() == [4, 4, 4]


def test_what_is_measured_is_the_centre_of_each_image(root: Path) -> None:
    made = task(root)
    seen: list[torch.Tensor] = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return torch.zeros(len(x), 3)

    assert made.evaluate(network, "test")["accuracy"] == pytest.approx(1 / 3)
    images, _ = made.data.test.begin(torch.arange(12))()
    expected = normalise(images, made.data.mean, made.data.std)
    found = torch.cat(seen)
    assert sorted(map(float, found.sum(dim=(1, 2, 3)))) == pytest.approx(
        sorted(map(float, expected.sum(dim=(1, 2, 3))))
    )


def test_shuffled_labels_are_those_of_the_batches(root: Path) -> None:
    made, before = task(root), task(root)
    made.shuffle_labels()
    assert not torch.equal(made.data.train.labels, before.data.train.labels)
    assert torch.bincount(made.data.train.labels).tolist() == [12, 12, 12]
    made.split_train(0, 36)
    before.split_train(0, 36)
    one, other = made.batch("train", 0), before.batch("train", 0)
    assert torch.equal(one.images, other.images)
    assert not torch.equal(one.labels, other.labels)


def test_its_fingerprint_is_that_of_the_files_and_their_split(root: Path, tmp_path: Path) -> None:
    made, again, other = task(root), task(root), task(root)
    made.split_train(0.25, 4)
    again.split_train(0.25, 4)
    other.split_train(0.5, 4)
    assert made.fingerprint() == again.fingerprint() != other.fingerprint()


class OneOfTwo(Processes):
    size = 2

    def __init__(self, rank: int) -> None:
        self.rank = rank


def test_two_processes_share_a_batch(root: Path) -> None:
    whole = task(root)
    whole.split_train(0, 8)
    batch = whole.batch("train", 3)
    shares = []
    for rank in range(2):
        made = task(root)
        made.processes = OneOfTwo(rank)
        made.split_train(0, 8)
        shares.append(made.batch("train", 3))
    assert torch.equal(torch.cat([share.images for share in shares]), batch.images)
    assert torch.equal(torch.cat([share.labels for share in shares]), batch.labels)


def test_it_says_how_images_are_prepared(root: Path) -> None:
    data = load(root, resize=16)
    made = Classification(Classification.Config(), data, CPU, 0)
    expected = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_pct": 0.5}
    assert made.preprocessing() == expected
    assert data.mean.tolist() == pytest.approx(expected["mean"])
