"""Scenes of pasted photographs, whose masks say where each piece lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from datanas.data.sets.photo_scenes import PhotoScenes, compose

FLAT = [np.full((40, 60, 3), 10 * number, np.uint8) for number in range(5)]
"""Photographs whose every pixel tells which it is."""


@pytest.mark.parametrize("seed", range(5))
def test_a_mask_is_exact(seed: int) -> None:
    image, mask = compose(FLAT, 24, 4, np.random.default_rng(seed))
    assert image.shape == (24, 24, 3)
    assert (image == 10 * mask[..., None]).all()


def test_shapes_are_rectangles_and_ellipses_of_the_size_that_is_said() -> None:
    def filled(seed: int) -> tuple[float, int, int]:
        _, mask = compose(FLAT, 40, 1, np.random.default_rng(seed))
        values, counts = np.unique(mask, return_counts=True)
        if len(values) == 1:
            return 0.0, 20, 20
        rows, columns = np.nonzero(mask == values[counts.argmin()])
        height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
        return len(rows) / (height * width), height, width

    found = [filled(seed) for seed in range(60)]
    shares = [share for share, _, _ in found if share]
    assert sum(share == 1 for share in shares) > 10
    assert sum(0.7 < share < 0.85 for share in shares) > 10
    assert all(share == 1 or 0.7 < share < 0.85 for share in shares)


def scenes(**settings: Any) -> Any:
    return PhotoScenes(PhotoScenes.Config(train_scenes=8, test_scenes=4, size=32, **settings)).load()


def test_the_seed_decides_the_scenes() -> None:
    first, second = scenes(), scenes(seed=1)
    assert first.train.images[0].equal(scenes().train.images[0])
    assert not first.train.images[0].equal(second.train.images[0])


def test_more_scenes_leave_the_first_as_they_are() -> None:
    more = PhotoScenes(PhotoScenes.Config(train_scenes=12, test_scenes=4, size=32)).load()
    assert all(torch.equal(*pair) for pair in zip(scenes().train.masks, more.train.masks[:8], strict=True))


def test_training_and_test_scenes_share_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    column = np.arange(400) * 255 // 400
    photo = np.broadcast_to(column[None, :, None], (64, 400, 3)).astype(np.uint8)
    monkeypatch.setattr("datanas.data.sets.photo_scenes.read_photo", lambda name: photo)
    data = scenes()
    train, test = (torch.stack(part.images) for part in (data.train, data.test))
    assert train.max() < 0.75 * 255 <= test.min() + 1
