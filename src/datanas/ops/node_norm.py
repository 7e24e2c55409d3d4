"""Batch norm of the nodes of a recurrent cell, which meets every node once a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

Hidden = Float[Tensor, "batch hidden"]


class NodeNorms:
    """The batch norms of the nodes in one forward pass; none, where there are none.

    Every step is normalised by its own batch. The running statistics move once a pass, by the mean over its steps.
    """

    def __init__(self, norms: Sequence[nn.BatchNorm1d]) -> None:
        self._norms = norms
        self._found: list[list[Tensor]] = [[] for _ in norms]

    def __bool__(self) -> bool:
        return bool(self._norms)

    def of_batch(self, node: int) -> bool:
        """Whether the statistics are those of the batch."""
        norm = self._norms[node]
        return norm.training or norm.running_mean is None

    def __call__(self, node: int, state: Hidden) -> Hidden:
        """The normalised state, differentiable by torch."""
        if not self._norms:
            return state
        norm = self._norms[node]
        if not self.of_batch(node):
            return F.batch_norm(state, norm.running_mean, norm.running_var, eps=norm.eps)
        self._note(node, *torch.var_mean(state.detach(), dim=0, correction=0))
        return F.batch_norm(state, None, None, training=True, eps=norm.eps)

    def apply(self, node: int, state: Hidden) -> tuple[Hidden, Tensor]:
        """The normalised state, without a graph, and the inverse of its deviation."""
        norm = self._norms[node]
        if not self.of_batch(node):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            inverse = (norm.running_var + norm.eps).rsqrt()
            return (state - norm.running_mean) * inverse, inverse
        if len(state) == 1:
            raise ValueError("a batch of one sequence has no deviation; batch norm needs at least two")
        found, mean, inverse = torch.native_batch_norm(state, None, None, None, None, True, 0.0, norm.eps)
        self._note(node, inverse.pow(-2) - norm.eps, mean)
        return found, inverse

    def _note(self, node: int, variance: Tensor, mean: Tensor) -> None:
        norm = self._norms[node]
        if norm.training and norm.track_running_stats and norm.running_mean is not None:
            self._found[node].append(torch.stack((mean, variance)))

    @torch.no_grad()
    def track(self, batch: int) -> None:
        """Move the running statistics, as torch's batch norm does for a batch of this size."""
        for norm, found in zip(self._norms, self._found, strict=True):
            if found:
                assert norm.running_mean is not None
                assert norm.running_var is not None
                assert norm.num_batches_tracked is not None
                mean, variance = torch.stack(found).mean(dim=0)
                norm.num_batches_tracked.add_(1)
                share = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
                norm.running_mean.lerp_(mean, share)
                norm.running_var.lerp_(variance * (batch / (batch - 1)), share)
