"""Batch norm taken apart, so that a node adds up normalised operations without writing any of them down.

With zhat = (z - mean) / sqrt(var + eps), w and b the scale and the shift, y = w zhat + b and g the gradient of y,

- y is one multiple of z and a constant for each channel;
- <g, y> = sum_c w_c D_c + b_c S_c, where D = sum g zhat and S = sum g over a channel's pixels;
- the gradient of z is w / sqrt(var + eps) (g - S / n - zhat D / n), n pixels; without the last two terms where the
  statistics are running ones.

So forward needs one pass over z for the statistics, and backward one for D and S. Both run on a view with several
pixels side by side where there are few channels, which torch's own kernels are slow at.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datanas.core.processes import ALONE, Processes

Maps = Float[Tensor, "batch channels height width"]
PerChannel = Float[Tensor, " channels"]
WIDE = 64
"""Columns from which torch's reductions over rows are fast."""
TRACKING: ContextVar[bool] = ContextVar("datanas_tracking", default=True)
"""Whether batch norms update their running statistics; each thread has its own."""


@dataclass(frozen=True)
class Statistics:
    """What a batch norm divides by.

    Attributes:
        mean, inverse_deviation: of each channel.
        of_batch: whether they are those of the batch, so that a gradient flows through them.
        processes: those that share the batch.
    """

    mean: PerChannel
    inverse_deviation: PerChannel
    of_batch: bool
    processes: Processes = ALONE


def statistics(z: Maps, norm: nn.BatchNorm2d) -> Statistics:
    """The statistics that `norm` uses on `z`; running ones are updated as torch does.

    Raises:
        ValueError: one pixel a channel has no deviation.
    """
    if not (norm.training or norm.running_mean is None):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return Statistics(norm.running_mean, (norm.running_var + norm.eps).rsqrt(), of_batch=False)
    count = z.numel() // z.shape[1]
    processes = getattr(norm, "processes", ALONE) if norm.training else ALONE
    if count * processes.size == 1:
        raise ValueError(f"batch norm needs more than one value a channel, got shape {tuple(z.shape)}")
    mean, variance = _moments(z)
    if processes.size > 1:
        means, variances = processes.gather(torch.stack((mean, variance))).unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square_().mean(0)
    track(norm, mean, variance, count * processes.size)
    return Statistics(mean, (variance + norm.eps).rsqrt(), of_batch=True, processes=processes)


def track(norm: nn.BatchNorm2d, mean: PerChannel, variance: PerChannel, count: int) -> None:
    """Update the running statistics as torch does."""
    if norm.training and norm.track_running_stats and TRACKING.get() and norm.running_mean is not None:
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        share = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
        norm.running_var.lerp_((variance * (count / (count - 1))).to(norm.running_var.dtype), share)


def _moments(z: Maps) -> tuple[PerChannel, PerChannel]:
    """Mean and (biased) variance of each channel."""
    channels = z.shape[1]
    table = rows(z)
    mean, variance = torch.batch_norm_update_stats(table, None, None, 0.0)
    if table.shape[1] == channels:
        return mean, variance
    means = mean.view(-1, channels)
    mean = means.mean(0)
    return mean, variance.view(-1, channels).mean(0) + (means - mean).square_().mean(0)


def products(gradient: Maps, z: Maps, moments: Statistics) -> tuple[PerChannel, PerChannel]:
    """D = sum of gradient times zhat, and S = sum of gradient, of each channel."""
    channels = z.shape[1]
    table = rows(z)
    side_by_side = table.shape[1] // channels
    mean, deviation = moments.mean, moments.inverse_deviation
    if side_by_side > 1:
        mean, deviation = _repeated(mean, side_by_side), _repeated(deviation, side_by_side)
    _, dot, total = torch.ops.aten.native_batch_norm_backward(
        rows(gradient), table, None, None, None, mean, deviation, True, 0.0, [False, True, True]
    )
    if side_by_side > 1:
        dot, total = dot.view(-1, channels).sum(0), total.view(-1, channels).sum(0)
    return dot, total


def scale(moments: Statistics, weight: PerChannel | None, factor: float = 1.0) -> PerChannel:
    """What z is multiplied by in factor * y."""
    scaled = moments.inverse_deviation if weight is None else moments.inverse_deviation * weight
    return scaled if factor == 1.0 else scaled * factor


def shift(moments: Statistics, scale: PerChannel, bias: PerChannel | None, factor: float = 1.0) -> PerChannel:
    """What is then added."""
    shifted = -moments.mean * scale
    return shifted if bias is None else shifted.add_(bias, alpha=factor)


def into_input(
    gradient: Maps, z: Maps, moments: Statistics, scale: PerChannel, dot: PerChannel, total: PerChannel
) -> Maps:
    """The gradient of z, from what `products` and `scale` gave."""
    if not moments.of_batch:
        return apply_rows(gradient, scale, torch.zeros_like(scale))
    if moments.processes.size > 1:
        dot, total = moments.processes.gather(torch.stack((dot, total))).mean(0)
    count = z.numel() // z.shape[1]
    by_z = dot * moments.inverse_deviation * scale * (-1.0 / count)
    constant = total * scale * (-1.0 / count) - by_z * moments.mean
    result = apply_rows(z, by_z, constant)
    add_rows(result, gradient, scale)
    return result


def rows(x: Maps) -> Float[Tensor, "rows columns"]:
    """A view of a channels-last tensor: a row for each pixel, or for several where there are few channels."""
    channels = x.shape[1]
    wanted = WIDE // channels if channels < WIDE // 2 else 1
    pixels = x.numel() // channels
    while pixels % wanted:
        wanted -= 1
    return x.permute(0, 2, 3, 1).view(pixels // wanted, wanted * channels)


def apply_rows(x: Maps, scale: PerChannel, shift: PerChannel) -> Maps:
    """scale * x + shift for each channel, in the layout of x."""
    result = torch.empty_like(x)
    table = rows(x)
    side_by_side = table.shape[1] // x.shape[1]
    torch.addcmul(_repeated(shift, side_by_side), table, _repeated(scale, side_by_side), out=rows(result))
    return result


def add_rows(total: Maps, x: Maps, scale: PerChannel) -> None:
    """Add scale * x to `total`, in place."""
    table = rows(x)
    rows(total).addcmul_(table, _repeated(scale, table.shape[1] // x.shape[1]))


def _repeated(values: PerChannel, times: int) -> Tensor:
    return values if times == 1 else torch.cat((values,) * times)


def normalise(z: Maps, moments: Statistics, weight: PerChannel | None, bias: PerChannel | None) -> Maps:
    """y = w zhat + b."""
    scaled = scale(moments, weight)
    return apply_rows(z, scaled, shift(moments, scaled, bias))


def gradients_of(
    z: Maps, moments: Statistics, weight: PerChannel | None, gradient: Maps
) -> tuple[Maps, PerChannel | None, PerChannel | None]:
    """The gradients of `normalise` into z, the scale and the shift."""
    dot, total = products(gradient, z, moments)
    into_z = into_input(gradient, z, moments, scale(moments, weight), dot, total)
    return (into_z, None, None) if weight is None else (into_z, dot, total)
