"""From feature maps to one vector an image."""

from __future__ import annotations

import pytest
import torch

import datanas
from datanas.tasks.embedding import EmbeddingHead, FlatHead
from datanas.tasks.stems import ImageItself


@pytest.mark.parametrize(("side", "dimensions"), [(84, 1600), (28, 256), (8, 64), (37, 256)])
def test_a_network_of_five_cells_embeds_images_of_any_size(side: int, dimensions: int) -> None:
    """84 / 2 / 2 / 2 leaves 11, of which pooling makes 5: 64 channels of 5x5 (Section 5.5)."""
    network = datanas.build_network(datanas.architecture("gdas"), task="fewshot", channels=2, cells=5).eval()
    assert network(torch.randn(2, 3, side, side)).shape == (2, dimensions)


def test_a_map_is_pooled_and_projected() -> None:
    head = EmbeddingHead(3, 2)
    features = torch.randn(4, 3, 5, 4)
    pooled = torch.stack(
        [features[:, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].amax((2, 3)) for y in range(2) for x in range(2)], dim=-1
    )
    weights, bias = head.project.weight[:, :, 0, 0], head.project.bias
    assert bias is not None
    expected = torch.einsum("oi,bip->bop", weights, pooled) + bias[:, None]
    torch.testing.assert_close(head((features,)), expected.flatten(1))


def test_a_map_of_one_pixel_is_not_pooled() -> None:
    head = EmbeddingHead(3, 2)
    features = torch.randn(4, 3, 1, 5)
    torch.testing.assert_close(head((features,)), head.project(features).flatten(1))


def test_a_flat_head_learns_nothing() -> None:
    features = torch.randn(4, 3, 5, 4)
    assert torch.equal(FlatHead()((features,)), features.view(4, 60))
    assert not list(FlatHead().parameters())


def test_no_stem_hands_on_the_image() -> None:
    x = torch.randn(2, 3, 6, 6)
    stem = ImageItself(3)
    assert all(each is x for each in stem(x))
    assert stem.shape.channels == (3, 3)
