"""Probabilities over scales and both sides."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from datanas.tasks.multi_scale import log_probabilities

IMAGES = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))


def lopsided(x: Tensor) -> Tensor:
    """Three logits a pixel that depend on its column."""
    return x * torch.arange(x.shape[3])


def test_one_scale_is_the_model_itself() -> None:
    found = log_probabilities(lopsided, IMAGES, (1.0,), flip=False)
    torch.testing.assert_close(found, lopsided(IMAGES).log_softmax(1))


def test_views_are_averaged_as_probabilities() -> None:
    found = log_probabilities(lopsided, IMAGES, (1.0, 0.5), flip=True)
    half = F.interpolate(IMAGES, (3, 4), mode="bilinear", align_corners=False)
    views = [lopsided(IMAGES), lopsided(IMAGES.flip(-1)).flip(-1)]
    for small in (lopsided(half), lopsided(half.flip(-1)).flip(-1)):
        views.append(F.interpolate(small, (6, 8), mode="bilinear", align_corners=False))
    torch.testing.assert_close(found.exp(), torch.stack([view.softmax(1) for view in views]).mean(0))
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, 6, 8))


def test_a_flip_makes_the_result_blind_to_sides() -> None:
    both = log_probabilities(lopsided, IMAGES, (1.0,), flip=True)
    torch.testing.assert_close(log_probabilities(lopsided, IMAGES.flip(-1), (1.0,), flip=True), both.flip(-1))
    alone = log_probabilities(lopsided, IMAGES, (1.0,), flip=False)
    assert not torch.allclose(log_probabilities(lopsided, IMAGES.flip(-1), (1.0,), flip=False), alone.flip(-1))
