"""Class probabilities of an image seen at several scales, and mirrored (Chen et al., 2017, Section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional as F

from datanas.tasks.base import Model


def log_probabilities(
    model: Model, images: Float32[Tensor, "batch 3 h w"], scales: Sequence[float], *, flip: bool
) -> Float32[Tensor, "batch classes h w"]:
    """The logarithm of the mean probability of each class over scales, and over both sides with `flip`."""
    size = (images.shape[2], images.shape[3])
    log_sum: Tensor | None = None
    for scale in scales:
        scaled_size = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        scaled = images if scale == 1 else F.interpolate(images, scaled_size, mode="bilinear", align_corners=False)
        for view in (False, True) if flip else (False,):
            logits: Tensor = model(scaled.flip(-1) if view else scaled)
            logits = (logits.flip(-1) if view else logits).float()
            if scale != 1:
                logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
            log_probs = logits.log_softmax(dim=1)
            log_sum = log_probs if log_sum is None else torch.logaddexp(log_sum, log_probs)
    assert log_sum is not None
    return log_sum - math.log(len(scales) * (2 if flip else 1))
