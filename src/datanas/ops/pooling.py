"""3x3 pooling, followed by batch norm while searching (Section 5)."""

from __future__ import annotations

from torch import nn

from datanas.ops import OpSettings, register_op


def _pooling(pool: nn.Module, settings: OpSettings) -> nn.Module:
    return nn.Sequential(pool, nn.BatchNorm2d(settings.channels, affine=False)) if settings.pooling_norm else pool


@register_op("max_pool_3x3")
def max_pool_3x3(settings: OpSettings) -> nn.Module:
    return _pooling(nn.MaxPool2d(3, settings.stride, padding=1), settings)


@register_op("avg_pool_3x3")
def avg_pool_3x3(settings: OpSettings) -> nn.Module:
    """The average leaves out the padding."""
    return _pooling(nn.AvgPool2d(3, settings.stride, padding=1, count_include_pad=False), settings)
