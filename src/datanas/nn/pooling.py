"""Pooling by codes: each pixel, token or graph node belongs to up to M clusters, and a cluster is what it holds."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from datanas.egs import Estimator
from datanas.nn.activation import EnsembleGumbelSoftmax
from datanas.posterior import inclusion_probs


class Pooled(NamedTuple):
    """What a pooling gives.

    Attributes:
        features: of the clusters, (batch, clusters, features); zero where a cluster holds nothing.
        code: which item belongs to which clusters, 0 or 1, in the shape of the input with clusters for features.
    """

    features: Float[Tensor, "batch clusters features"]
    code: Float[Tensor, ...]


class EnsemblePooling(nn.Module):
    """Aggregates the features of items within clusters, to up to M of which each item is assigned.

    The assignment is a code z of Ensemble Gumbel-Softmax, whose logits are a linear function of the item's features:

        features_c = sum_i z_ic x_i             aggregate = "sum"
        features_c = sum_i z_ic x_i / sum_i z_ic             "mean"

    In evaluation mode nothing is drawn. `code` is then the likeliest one, and features are those that draws have on
    average, with w_ic = 1 - (1 - p_ic)^M, the probability that item i is in cluster c:

        features_c = sum_i w_ic x_i                                                     aggregate = "sum"
        features_c = sum_i w_ic x_i / sum_i w_ic * (1 - prod_i (1 - w_ic))                          "mean"

    The first is exact; the second, whose last factor is the probability that the cluster holds anything, is exact where
    all items are equally likely to be in it. With `evaluation="likeliest"` features are those of the code. Reordering
    the items reorders the code and leaves the clusters' features as they are.

    Args:
        features: the number of features of an item.
        clusters: the number of clusters.
        samples: M, at most so many clusters of an item.
        aggregate: how the items of a cluster become one.
        tau, estimator: as for `EnsembleGumbelSoftmax`.
        evaluation: what features are made of in evaluation mode.

    Raises:
        ValueError: an argument that cannot be.

    Example:
        >>> pool = datanas.nn.EnsemblePooling(features=3, clusters=4, samples=2)
        >>> pool(torch.randn(2, 3, 8, 8)).features.shape  # images
        torch.Size([2, 4, 3])
        >>> pool(torch.randn(2, 7, 3), mask=torch.arange(7) < torch.tensor([[7], [5]])).code.shape  # sequences
        torch.Size([2, 7, 4])
        >>> pool(torch.randn(9, 3), index=torch.tensor([0] * 4 + [1] * 5)).code.shape  # two graphs
        torch.Size([9, 4])
    """

    def __init__(
        self,
        features: int,
        clusters: int,
        samples: int,
        *,
        aggregate: Literal["sum", "mean"] = "mean",
        tau: float | tuple[float, float] = 1.0,
        estimator: Estimator = "shared_ties",
        evaluation: Literal["expected", "likeliest"] = "expected",
    ) -> None:
        super().__init__()
        for label, count in (("features", features), ("clusters", clusters)):
            if count < 1:
                raise ValueError(f"{label} must be at least 1, got {count}")
        if aggregate not in ("sum", "mean"):
            raise ValueError(f"aggregate must be sum or mean, got {aggregate!r}")
        if evaluation not in ("expected", "likeliest"):
            raise ValueError(f"evaluation must be expected or likeliest, got {evaluation!r}")
        self.features, self.clusters, self.aggregate, self.evaluation = features, clusters, aggregate, evaluation
        self.logits = nn.Linear(features, clusters)
        self.assign = EnsembleGumbelSoftmax(samples, tau, estimator)

    def forward(
        self,
        x: Float[Tensor, ...],
        mask: Bool[Tensor, "batch items"] | None = None,
        index: Int64[Tensor, " items"] | None = None,
        size: int | None = None,
    ) -> Pooled:
        """Pool images, sequences or graphs.

        Args:
            x: images (batch, features, height, width), sequences (batch, items, features), or the nodes of all graphs
                of a batch (items, features).
            mask: for sequences, False at items that only pad one; they belong to no cluster.
            index: for graphs, that of each node.
            size: the number of graphs, if the last ones may be without nodes; by default up to the last that has one.

        Raises:
            ValueError: shapes that do not fit, or a mask or an index for the wrong kind of input.
        """
        if x.ndim not in (2, 3, 4):
            raise ValueError(f"x must be images (4 dimensions), sequences (3) or graph nodes (2), got {tuple(x.shape)}")
        at = 1 if x.ndim == 4 else -1
        if x.shape[at] != self.features:
            raise ValueError(f"x must have {self.features} features in dimension {at}, got {tuple(x.shape)}")
        if (mask is not None and x.ndim != 3) or ((index is not None) != (x.ndim == 2)):
            raise ValueError(
                "a mask is for sequences (batch, items, features); graph nodes (items, features), and they "
                "alone, need the index of their graph"
            )
        if x.ndim == 4:
            pooled = self._pool(x.flatten(2).transpose(1, 2), None)
            return Pooled(pooled.features, pooled.code.transpose(1, 2).reshape(-1, self.clusters, *x.shape[2:]))
        if index is None:
            if mask is not None and mask.shape != x.shape[:2]:
                raise ValueError(f"mask must have the shape {tuple(x.shape[:2])}, got {tuple(mask.shape)}")
            return self._pool(x, mask)
        if index.shape != x.shape[:1]:
            raise ValueError(f"index must have the shape {tuple(x.shape[:1])}, got {tuple(index.shape)}")
        graph, position, shape = _rows(index, size)
        padded = x.new_zeros(*shape, self.features).index_put((graph, position), x)
        is_item = torch.zeros(shape, dtype=torch.bool, device=x.device).index_put(
            (graph, position), torch.ones_like(index, dtype=torch.bool)
        )
        pooled = self._pool(padded, is_item)
        return Pooled(pooled.features, pooled.code[graph, position])

    def _pool(self, x: Float[Tensor, "batch items features"], mask: Tensor | None) -> Pooled:
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        logits = self.logits(x)
        is_item = 1.0 if mask is None else mask.unsqueeze(-1)
        code = self.assign(logits).to(x.dtype) * is_item
        if self.training or self.evaluation == "likeliest":
            weights, holds = code, torch.ones_like(code[:, 0])
        else:
            weights = inclusion_probs(logits.softmax(-1), self.assign.samples).to(x.dtype) * is_item
            holds = 1 - (1 - weights).prod(1)
        totals = weights.transpose(1, 2) @ x
        if self.aggregate == "mean":
            counts = weights.sum(1)
            totals = totals * (holds / counts.masked_fill(counts == 0, 1.0)).unsqueeze(-1)
        return Pooled(totals, code)

    def extra_repr(self) -> str:
        return f"{self.features}, clusters={self.clusters}, aggregate={self.aggregate!r}"


def _rows(index: Tensor, size: int | None) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """For each node its graph and its place there, and the shape of the table of all places."""
    if len(index) == 0:
        return index, index, (size or 0, 0)
    counts = torch.bincount(index, minlength=size or 0)
    if size is not None and len(counts) > size:
        raise ValueError(f"index must be below size {size}, got {int(index.max())}")
    order = index.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    position = torch.empty_like(index)
    position[order] = torch.arange(len(index), device=index.device) - starts[index[order]]
    return index, position, (len(counts), int(counts.max()))
