"""Agreement of clusters with classes, against every assignment there is, and what two views say of each other."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datanas.tasks.matching import agreement, joint_shares, k_means, matched_accuracy, view_information


def brute_force(clusters: list[int], classes: list[int]) -> float:
    """The best share over all injections of clusters into classes, padded so that there are enough."""
    names = range(max(max(clusters), max(classes)) + 1)
    hits = (
        sum(assigned[cluster] == true for cluster, true in zip(clusters, classes, strict=True))
        for assigned in itertools.permutations(names)
    )
    return max(hits) / len(clusters)


@settings(deadline=None)  # the first call imports scipy
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=20))
def test_the_best_matching_is_found(pairs: list[tuple[int, int]]) -> None:
    clusters, classes = map(list, zip(*pairs, strict=True))
    assert matched_accuracy(np.array(clusters), np.array(classes)) == pytest.approx(brute_force(clusters, classes))


@pytest.mark.parametrize(("clusters", "classes"), [([0], [0, 1]), ([], [])])
def test_images_without_a_class_are_refused(clusters: list[int], classes: list[int]) -> None:
    with pytest.raises(ValueError, match="each image needs a cluster and a class"):
        matched_accuracy(np.array(clusters, np.int64), np.array(classes, np.int64))


def test_renamed_classes_are_found_whole() -> None:
    classes = torch.arange(30) % 3
    assert agreement((classes + 1) % 3, classes) == pytest.approx({"nmi": 1.0, "ari": 1.0, "accuracy": 1.0})


def test_the_numbering_of_clusters_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    clusters, classes = (torch.randint(0, 5, (200,), generator=generator) for _ in range(2))
    renamed = torch.tensor([3, 0, 4, 1, 2])[clusters]
    assert agreement(renamed, classes) == pytest.approx(agreement(clusters, classes))


def test_one_cluster_for_all_says_nothing() -> None:
    found = agreement(torch.zeros(12, dtype=torch.int64), torch.arange(12) % 4)
    assert found == pytest.approx({"nmi": 0.0, "ari": 0.0, "accuracy": 0.25}, abs=1e-12)


def test_mutual_information_is_that_of_the_counts() -> None:
    clusters, classes = torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 1, 1])
    counts = np.array([[2, 0], [1, 2], [0, 1]]) / 6
    rows, columns = counts.sum(1), counts.sum(0)
    mutual = sum(p * math.log(p / (rows[i] * columns[j])) for (i, j), p in np.ndenumerate(counts) if p > 0)
    mean = -(np.sum(rows * np.log(rows)) + np.sum(columns * np.log(columns))) / 2
    assert agreement(clusters, classes)["nmi"] == pytest.approx(mutual / mean)


def shares(images: int, clusters: int, seed: int) -> Tensor:
    x = 2 * torch.randn(images, clusters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.softmax(dim=1)


def test_joint_shares_are_a_sum_over_images() -> None:
    first, second = shares(7, 3, 0), shares(7, 3, 1)
    expected = sum(torch.outer(a, b) for a, b in zip(first, second, strict=True))
    torch.testing.assert_close(joint_shares(first, second), expected)
    assert joint_shares(first.float(), second.float()).dtype == torch.float64


def test_information_is_that_of_a_loop() -> None:
    joint = joint_shares(shares(20, 4, 0), shares(20, 4, 1))
    joint = (joint + joint.T) / 2 / 20
    expected = 0.0
    for a in range(4):
        for b in range(4):
            expected += float(joint[a, b] * (joint[a, b] / (joint[a].sum() * joint[:, b].sum())).log())
    assert view_information(20 * joint) == pytest.approx(expected)


def test_information_of_sure_even_and_steady_clusters_is_greatest() -> None:
    sure = torch.eye(5, dtype=torch.float64).repeat(4, 1)
    assert view_information(joint_shares(sure, sure)) == pytest.approx(math.log(5))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.tensor([[1.0, 0.0]] * 6), torch.tensor([[1.0, 0.0]] * 6)),  # all in one cluster
        (torch.full((6, 2), 0.5), torch.full((6, 2), 0.5)),  # each image in all
        (torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 2)),
    ],
)
def test_collapsed_unsure_or_unsteady_clusters_hold_none(first: Tensor, second: Tensor) -> None:
    assert view_information(joint_shares(first, second)) == pytest.approx(0.0, abs=1e-12)


def test_k_means_finds_what_lies_apart_and_repeats() -> None:
    classes = torch.arange(30) % 3
    points = 10.0 * classes[:, None] + torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    found = k_means(points, 3, seed=2**40 + 1)
    assert agreement(found, classes)["accuracy"] == 1.0
    assert torch.equal(found, k_means(points, 3, seed=2**40 + 1))
