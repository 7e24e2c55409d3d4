"""How clusters agree with classes, and with themselves where an image is seen twice.

Shapes: n images, k clusters, d features.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from datanas.kernels.hardware import widest_float

Clusters = Int64[Tensor, " n"]

RESTARTS = 3


def agreement(clusters: Clusters, classes: Int64[Tensor, " n"]) -> dict[str, float]:
    """`nmi`, `ari` and `accuracy` of a clustering, which depend on no numbering of the clusters.

    nmi is the mutual information over the mean of both entropies, in 0..1; ari is the Rand index less what chance gives
    (Hubert and Arabie 1985), at most 1 and about 0 by chance, also below. Both are scikit-learn's.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    predicted, true = clusters.cpu().numpy(), classes.cpu().numpy()
    return {
        "nmi": float(normalized_mutual_info_score(true, predicted)),
        "ari": float(adjusted_rand_score(true, predicted)),
        "accuracy": matched_accuracy(predicted, true),
    }


def matched_accuracy(clusters: NDArray[np.int64], classes: NDArray[np.int64]) -> float:
    """The share of images in the class that their cluster stands for, where each cluster stands for one class.

    Of all assignments, no two clusters to one class, the best counts; it is found by the Hungarian method. With more
    clusters than classes some stand for none.

    Args:
        clusters, classes: (n,), numbers from 0.

    Raises:
        ValueError: different numbers of images, or none.
    """
    if len(clusters) != len(classes) or not len(clusters):
        raise ValueError(f"each image needs a cluster and a class, got {len(clusters)} and {len(classes)}")
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((clusters.max() + 1, classes.max() + 1), np.int64)
    np.add.at(counts, (clusters, classes), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(clusters))


def joint_shares(first: Float[Tensor, "n k"], second: Float[Tensor, "n k"]) -> Float[Tensor, "k k"]:
    """The sum over images of how far they belong to cluster a when seen once and to b when seen again, in the widest
    float of the device.

    Over n it is the matrix P of Ji, Henriques and Vedaldi (ICCV 2019, Eq. 2), before it is made symmetric.

    Args:
        first, second: each image's shares of the clusters in two views; rows sum to 1.
    """
    wide = widest_float(first.device)
    return first.to(wide).T @ second.to(wide)


def view_information(joint: Float[Tensor, "k k"]) -> float:
    """The mutual information, in nats, between the clusters of two views of an image (Ji et al., ICCV 2019, Eq. 3).

    It is 0 where all images share one cluster, or where a view says nothing of the other, and log k where every image
    is surely in the cluster of its other view and clusters are of one size. No label is needed for it.

    Args:
        joint: not negative and not all 0; it is made symmetric and scaled to the sum 1.
    """
    joint = joint.cpu().double()
    joint = (joint + joint.T) / (2 * joint.sum())
    independent = joint.sum(dim=0)[:, None] * joint.sum(dim=1)[None, :]
    return max(0.0, float((torch.xlogy(joint, joint) - torch.xlogy(joint, independent)).sum()))


def k_means(points: Float[Tensor, "n d"], clusters: int, seed: int) -> Clusters:
    """The clusters of scikit-learn's k-means, the best of three starts by k-means++."""
    from sklearn.cluster import KMeans

    made = KMeans(clusters, n_init=RESTARTS, random_state=seed % 2**32)
    return torch.from_numpy(made.fit_predict(points.float().cpu().numpy())).long()
