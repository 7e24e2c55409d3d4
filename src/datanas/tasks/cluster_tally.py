"""What is found of images batch by batch, to be measured when all were seen."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from datanas.core.processes import Processes
from datanas.kernels.hardware import widest_float
from datanas.tasks.adaptive_pairs import MEETING, cluster_shares, pair_losses, relations, similarities, thresholds
from datanas.tasks.cluster_head import Assignment
from datanas.tasks.matching import joint_shares, view_information


class ClusterTally:
    """Clusters and features of some images, and sums of what their figures are made of.

    Args:
        images: how many there are.
        clusters: how many an image can be in.

    Attributes:
        clusters: (images,), the cluster of each image that was added.
        sure: (images,), how far it belongs to that.
        features: (images, d), what the network has of it before the clusters; no columns before anything was added.
    """

    clusters: Int64[Tensor, " images"]
    sure: Float[Tensor, " images"]
    features: Float[Tensor, "images d"]

    def __init__(self, images: int, clusters: int, device: torch.device) -> None:
        self.clusters = torch.zeros(images, dtype=torch.int64, device=device)
        self.sure = torch.zeros(images, device=device)
        self.features = torch.zeros(images, 0, device=device)
        self._joint = torch.zeros(clusters, clusters, dtype=widest_float(device), device=device)
        self._pairs = torch.zeros(2, dtype=widest_float(device), device=device)

    def add(self, first: int, seen: Assignment, again: Assignment) -> None:
        """Enter the images from `first` on.

        Args:
            seen, again: what the network says of them and of another view of each.
        """
        rows = slice(first, first + len(seen.labels))
        cosines = similarities(seen.labels)
        self._pairs += torch.stack(pair_losses(cosines, relations(cosines, *thresholds(MEETING))))
        self._joint += joint_shares(cluster_shares(seen.labels), cluster_shares(again.labels))
        self.sure[rows], self.clusters[rows] = seen.labels.max(dim=1)
        self._widen(seen.features.shape[1])
        self.features[rows] = seen.features

    def total(self, processes: Processes) -> None:
        """Bring together what the processes have found, each of images of its own."""
        # One that had no images knows no width.
        self._widen(int(processes.gather(torch.tensor(self.features.shape[1])).max()))
        self.clusters, self.sure = processes.total(self.clusters), processes.total(self.sure)
        self.features = processes.total(self.features)
        self._joint, self._pairs = processes.total(self._joint), processes.total(self._pairs)

    def _widen(self, width: int) -> None:
        if not self.features.shape[1]:
            self.features = self.features.new_zeros(len(self.features), width)

    def figures(self) -> dict[str, float]:
        """`loss`, `information` and `clusters`."""
        total, count = self._pairs.tolist()
        return {
            "loss": total / max(count, 1),
            "information": view_information(self._joint),
            "clusters": float(self.clusters.bincount().count_nonzero()),
        }
