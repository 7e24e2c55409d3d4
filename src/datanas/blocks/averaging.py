"""Gradients of alpha that several processes have found, as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def average_gradients(alphas: Sequence[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes of `torch.distributed`, where there are several.

    One exchange for all, so that processes in which different choices ran never wait for each other: who has no
    gradient counts as zero, and one that nobody has stays None.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return
    device = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
    has_one = torch.tensor([float(alpha.grad is not None) for alpha in alphas])
    total = torch.cat([has_one, *(_gradient(alpha).flatten() for alpha in alphas)]).to(device)
    distributed.all_reduce(total)
    counts, *means = torch.split(total.cpu(), [len(alphas), *(alpha.numel() for alpha in alphas)])
    for alpha, count, mean in zip(alphas, counts.tolist(), means, strict=True):
        if count:
            averaged = (mean / distributed.get_world_size()).view_as(alpha).to(alpha)
            alpha.grad = averaged if alpha.grad is None else alpha.grad.copy_(averaged)


def _gradient(alpha: nn.Parameter) -> Tensor:
    return torch.zeros_like(alpha) if alpha.grad is None else alpha.grad
