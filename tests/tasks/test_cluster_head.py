"""The way out of a clustering network, and why it is not a plain linear layer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.tasks.adaptive_pairs import label_features, relations, similarities, thresholds
from datanas.tasks.cluster_head import ClusterHead


@pytest.fixture
def maps() -> tuple[Tensor, ...]:
    return (torch.randn(64, 12, 4, 4, generator=torch.Generator().manual_seed(0)).relu(),)


@pytest.fixture
def head() -> ClusterHead:
    torch.manual_seed(0)
    return ClusterHead(12, 5)


def test_its_features_are_the_mean_over_pixels(head: ClusterHead, maps: tuple[Tensor, ...]) -> None:
    found = head(maps)
    assert found.labels.shape == (64, 5)
    torch.testing.assert_close(found.features, maps[0].mean(dim=(2, 3)))


def test_its_layers_begin_as_the_identity(head: ClusterHead, maps: tuple[Tensor, ...]) -> None:
    """Written out: a map a cluster, normalised; then normalised twice more without being mixed."""
    x = F.batch_norm(F.conv2d(maps[0], head.maps.weight), None, None, training=True).relu().mean(dim=(2, 3))
    for _ in range(2):
        x = F.batch_norm(x, None, None, training=True).relu()
    torch.testing.assert_close(head(maps).labels, label_features(x), rtol=1e-4, atol=1e-5)


def similar_share(labels: Tensor) -> float:
    """Of all pairs at the first thresholds."""
    found = relations(similarities(labels), *thresholds(0.0))
    return float((found.selected & found.similar).sum() / (len(labels) * (len(labels) - 1) / 2))


def test_fresh_label_features_differ(head: ClusterHead, maps: tuple[Tensor, ...]) -> None:
    assert similar_share(head(maps).labels.detach()) < 0.3


def test_those_of_a_linear_layer_are_all_alike(maps: tuple[Tensor, ...]) -> None:
    """Negative control."""
    torch.manual_seed(0)
    linear = nn.Linear(12, 5)
    assert similar_share(label_features(linear(maps[0].mean(dim=(2, 3)))).detach()) > 0.99


def test_its_weights_all_learn(head: ClusterHead, maps: tuple[Tensor, ...]) -> None:
    head(maps).labels[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
