"""Ensemble Gumbel-Softmax as an activation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datanas.core import seeding
from datanas.egs import Estimator, check_samples, ensemble_gumbel_softmax
from datanas.posterior import most_probable


class EnsembleGumbelSoftmax(nn.Module):
    """A binary code with 1 to M ones from each vector of logits (DATA, TPAMI 2020, definition after Eq. 10).

    While training the code is drawn, and its gradient is that of the estimator (`datanas.egs.ensemble_gumbel_softmax`):
    the code goes forward, the slope of a smooth function backward. In evaluation mode it is the likeliest code, exactly
    (`datanas.posterior.most_probable`), without a gradient.

    Args:
        samples: the number of draws M.
        tau: the temperature of the gradient, or a pair of its start and end, between which it goes with `progress`.
        estimator: of the gradient, one of the six.
        dim: along which the logits of one code stand.

    Attributes:
        progress: the share of the training that is done, 0 to 1, which drives the temperature. It is the user's to set,
            and is kept in the state dictionary.

    Shape:
        logits (..., K, ...) with K at `dim`; the code likewise, exactly 0 or 1, of the logits' type but float32 where
        that is of half precision.

    Raises:
        ValueError: `samples`, `tau` or `estimator` that cannot be.

    Example:
        >>> layer = datanas.nn.EnsembleGumbelSoftmax(samples=2, tau=(5.0, 1.0))
        >>> codes = layer(torch.zeros(4, 8))
        >>> bool(((codes.sum(-1) >= 1) & (codes.sum(-1) <= 2)).all())
        True
    """

    draws_asking = True

    def __init__(
        self,
        samples: int,
        tau: float | tuple[float, float] = 1.0,
        estimator: Estimator = "shared_ties",
        dim: int = -1,
    ) -> None:
        super().__init__()
        check_samples(samples)
        if estimator not in get_args(Estimator):
            raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, got {estimator!r}")
        ends = tuple(tau) if isinstance(tau, tuple | list) else (tau, tau)
        if len(ends) != 2 or not all(0 < end < math.inf for end in ends):
            raise ValueError(f"tau must be a positive number, or a pair of its start and end, got {tau!r}")
        self.samples, self.estimator, self.dim = samples, estimator, dim
        self.ends: tuple[float, float] = (float(ends[0]), float(ends[1]))
        self.progress = 0.0

    @property
    def tau(self) -> float:
        """The temperature as it stands."""
        start, end = self.ends
        return start + (end - start) * min(max(self.progress, 0.0), 1.0)

    def forward(self, logits: Float[Tensor, ...]) -> Float[Tensor, ...]:
        last = logits.movedim(self.dim, -1)
        if self.training:
            generator = seeding.current(logits.device)
            code = ensemble_gumbel_softmax(last, self.samples, self.tau, generator=generator, estimator=self.estimator)
        else:
            code = most_probable(last.detach().double().softmax(-1), self.samples)
            code = code.to(torch.promote_types(last.dtype, torch.float32))
        return code.movedim(-1, self.dim)

    def get_extra_state(self) -> dict[str, float]:
        return {"progress": self.progress}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        self.progress = float(state["progress"])

    def extra_repr(self) -> str:
        start, end = self.ends
        tau = f"{start:g}" if start == end else f"{start:g} to {end:g}"
        return f"samples={self.samples}, tau={tau}, estimator={self.estimator!r}, dim={self.dim}"
