"""The widest network whose multiply-adds stay within a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.engine.config import Config
from datanas.engine.rebuild import network_for
from datanas.kernels.hardware import count_macs
from datanas.tasks.base import Task


def widest(macs_of: Callable[[int], int], bound: int, start: int = 1, setting: str = "max_macs") -> int:
    """The largest width whose multiply-adds are at most `bound`.

    Args:
        macs_of: multiply-adds at a width, which grow with it.
        start: about where to look first.
        setting: what set the bound, for the message.

    Raises:
        ConfigError: even width 1 exceeds the bound.
    """
    macs_of = cache(macs_of)
    exceeds = max(start, 1)
    while macs_of(exceeds) <= bound:
        exceeds *= 2
    fits = exceeds // 2
    while fits > 0 and macs_of(fits) > bound:
        fits, exceeds = fits // 2, fits
    if fits == 0:
        raise ConfigError(
            f"{setting}: the narrowest network, of 1 channel, needs {macs_of(1):,} multiply-adds, more than {bound:,}; "
            "allow as many, or take fewer cells, smaller examples or a stem that reduces them further"
        )
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if macs_of(middle) <= bound:
            fits = middle
        else:
            exceeds = middle
    return fits


@contextmanager
def on_meta() -> Iterator[None]:
    """Run a block that builds modules without memory or numbers."""
    with _Unfilled(), torch.device("meta"):
        yield


class _Unfilled(TorchFunctionMode):
    """Fills no tensors: there is nothing to fill, and of half of one channel torch warns that it holds nothing."""

    _FILLS = (nn.init.uniform_, nn.init.normal_, nn.init.constant_, nn.init.kaiming_uniform_)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in self._FILLS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def with_width(architecture: Architecture, config: Config, task: Task[Any]) -> Config:
    """The configuration with the channels that `train.max_macs` leaves room for; where it is not set, as it was.

    Nothing is computed: networks are built and counted on the meta device, for examples as large as the task's.

    Raises:
        ConfigError: the bound is too low for any network, or the network cannot be built.
    """
    bound = config.train.max_macs
    if bound is None:
        return config

    def macs_of(width: int) -> int:
        with on_meta():
            return count_macs(network_for(architecture, _at_width(config, width), task), example)

    example = tree_map_only(torch.Tensor, lambda each: each.to("meta"), task.example())
    return _at_width(config, widest(macs_of, bound, config.train.network_config.width, "train.max_macs"))


def keep_width(before: Config, now: Config) -> Config:
    """What is asked for now, with the channels that the same bound has led to before."""
    if now.train.max_macs is None or now.train.max_macs != before.train.max_macs:
        return now
    return _at_width(now, before.train.network_config.width)


def _at_width(config: Config, width: int) -> Config:
    settings = config.train.network_config.at_width(width)
    return config.model_copy(update={"train": config.train.with_network(settings)})
