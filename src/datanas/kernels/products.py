"""Matrix products whose factors may be rounded to a shorter type, as autocast does, with results in their own."""

from __future__ import annotations

import torch
from torch import Tensor


def product_type(x: Tensor) -> torch.dtype:
    """The type of matrix products here: that of autocast where it is on, else that of `x`."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right in the type of `right`."""
    return left.to(right.dtype) @ right


def write_product(out: Tensor, left: Tensor, right: Tensor, start: Tensor | None = None) -> None:
    """out = start + left @ right, the product in the type of `right`."""
    if out.dtype != right.dtype:
        result = product(left, right)
        out.copy_(result if start is None else start + result)
    elif start is None:
        torch.mm(left, right, out=out)
    else:
        torch.addmm(start, left, right, out=out)


def add_product(total: Tensor, left: Tensor, right: Tensor, dtype: torch.dtype) -> None:
    """total += left @ right, the product in `dtype`."""
    if total.dtype == dtype:
        total.addmm_(left, right)
    else:
        total += left.to(dtype) @ right.to(dtype)
