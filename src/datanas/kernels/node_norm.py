"""Batch norm of the nodes of a recurrent cell, which meets every node once a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Hidden = Float[Tensor, "batch hidden"]


class NodeNorm(nn.BatchNorm1d):
    """The batch norm of one node, without scale and shift.

    Every step is normalised by its own batch. The running statistics move once a pass, by the mean over its steps.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden, affine=False)

    @property
    def of_batch(self) -> bool:
        """Whether the statistics are those of the batch."""
        return self.training or self.running_mean is None

    def forward(self, state: Hidden, moments: list[Tensor] | None = None) -> Hidden:
        """The normalised state, differentiable by torch.

        Args:
            moments: gets the mean and the variance, for `track`.
        """
        if not self.of_batch:
            return F.batch_norm(state, self.running_mean, self.running_var, eps=self.eps)
        if moments is not None:
            self._note(moments, *torch.var_mean(state.detach(), dim=0, correction=0))
        return F.batch_norm(state, None, None, training=True, eps=self.eps)

    def apply_once(self, state: Hidden, moments: list[Tensor]) -> tuple[Hidden, Tensor]:
        """The normalised state, without a graph, and the inverse of its deviation."""
        if not self.of_batch:
            assert self.running_mean is not None
            assert self.running_var is not None
            inverse = (self.running_var + self.eps).rsqrt()
            return (state - self.running_mean) * inverse, inverse
        if len(state) == 1:
            raise ValueError("a batch of one sequence has no deviation; batch norm needs at least two")
        normed, mean, inverse = torch.native_batch_norm(state, None, None, None, None, True, 0.0, self.eps)
        self._note(moments, inverse.pow(-2) - self.eps, mean)
        return normed, inverse

    def _note(self, moments: list[Tensor], variance: Tensor, mean: Tensor) -> None:
        if self.training and self.track_running_stats and self.running_mean is not None:
            moments.append(torch.stack((mean, variance)))

    @torch.no_grad()
    def track(self, moments: Sequence[Tensor], batch: int) -> None:
        """Move the running statistics, as torch's batch norm does for a batch of this size."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        mean, variance = torch.stack(list(moments)).mean(dim=0)
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (batch / (batch - 1)), share)


class NodeNorms:
    """The batch norms of the nodes in one forward pass; none, where there are none."""

    def __init__(self, norms: Sequence[NodeNorm]) -> None:
        self._norms = norms
        self._moments: list[list[Tensor]] = [[] for _ in norms]

    def __bool__(self) -> bool:
        return bool(self._norms)

    def of_batch(self, node: int) -> bool:
        return self._norms[node].of_batch

    def __call__(self, node: int, state: Hidden) -> Hidden:
        """As `NodeNorm.forward`."""
        return cast(Tensor, self._norms[node](state, self._moments[node])) if self._norms else state

    def apply(self, node: int, state: Hidden) -> tuple[Hidden, Tensor]:
        """As `NodeNorm.apply_once`."""
        return self._norms[node].apply_once(state, self._moments[node])

    def track(self, batch: int) -> None:
        """Move the running statistics of all."""
        for norm, moments in zip(self._norms, self._moments, strict=True):
            if moments:
                norm.track(moments, batch)
