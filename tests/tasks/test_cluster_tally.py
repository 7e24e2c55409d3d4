"""What a pass over images adds up to, whatever the batches were."""

from __future__ import annotations

import math

import pytest
import torch

from datanas.tasks.adaptive_pairs import cluster_shares, label_features
from datanas.tasks.cluster_head import Assignment
from datanas.tasks.cluster_tally import ClusterTally
from datanas.tasks.matching import agreement, joint_shares, view_information

CPU = torch.device("cpu")
CLASSES = torch.arange(10) % 3


def said(seed: int) -> Assignment:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(10, 4, generator=generator, dtype=torch.float64)
    return Assignment(label_features(logits), torch.randn(10, 5, generator=generator))


def some(whole: Assignment, rows: slice) -> Assignment:
    return Assignment(whole.labels[rows], whole.features[rows])


@pytest.fixture
def tally() -> ClusterTally:
    """Of ten images in two batches, the later one entered first."""
    found = ClusterTally(10, 4, CPU)
    for rows in (slice(6, 10), slice(0, 6)):
        found.add(rows.start, some(said(0), rows), some(said(1), rows))
    return found


def test_clusters_and_features_stand_in_the_order_of_the_images(tally: ClusterTally) -> None:
    assert torch.equal(tally.clusters, said(0).labels.argmax(dim=1))
    torch.testing.assert_close(tally.sure, said(0).labels.amax(dim=1).to(tally.sure))
    assert torch.equal(tally.features, said(0).features)


def test_information_and_agreement_are_those_of_all_images(tally: ClusterTally) -> None:
    found = {**agreement(tally.clusters, CLASSES), **tally.figures()}
    first, second = (cluster_shares(said(seed).labels) for seed in (0, 1))
    assert found["information"] == pytest.approx(view_information(joint_shares(first, second)))
    assert found.items() >= agreement(tally.clusters, CLASSES).items()
    assert found["clusters"] == len(set(tally.clusters.tolist()))


def test_its_loss_is_the_mean_over_all_pairs_inside_batches(tally: ClusterTally) -> None:
    labels, losses = said(0).labels, []
    for rows in (range(6), range(6, 10)):
        for i in rows:
            for j in rows:
                if i < j:
                    cosine = float(labels[i] @ labels[j])
                    losses.append(-math.log(cosine if cosine >= 0.5 else 1 - cosine))
    assert len(losses) == 15 + 6
    assert {**agreement(tally.clusters, CLASSES), **tally.figures()}["loss"] == pytest.approx(sum(losses) / len(losses))
