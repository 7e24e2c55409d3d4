"""The widest network whose multiply-adds stay within a bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from datanas.budgets.base import CostModel
from datanas.budgets.counted import Macs
from datanas.budgets.models import models_of
from datanas.codes.architecture import Architecture
from datanas.core.errors import ConfigError
from datanas.engine.config import Config
from datanas.engine.rebuild import network_for
from datanas.tasks.base import Task


def widest(
    macs_of: Callable[[int], float],
    bound: float,
    start: int = 1,
    setting: str = "max_macs",
    unit: str = "multiply-adds",
) -> int:
    """The largest width whose multiply-adds, or whatever is bounded, are at most `bound`.

    Args:
        macs_of: multiply-adds at a width, which grow with it.
        start: about where to look first.
        setting: what set the bound, for the message.
        unit: of what is bounded, for the message.

    Raises:
        ConfigError: even width 1 exceeds the bound.
    """
    macs_of = cache(macs_of)
    fits, exceeds = 0, max(start, 1)
    while macs_of(exceeds) <= bound:
        fits, exceeds = exceeds, max(2 * exceeds, _guess(exceeds, macs_of, bound) + 1)
    for turn in count():
        if exceeds - fits <= 1:
            break
        middle = (fits + exceeds) // 2 if turn % 2 else _guess(fits or exceeds, macs_of, bound)
        middle = min(max(middle, fits + 1), exceeds - 1)
        fits, exceeds = (middle, exceeds) if macs_of(middle) <= bound else (fits, middle)
    if fits == 0:
        raise ConfigError(
            f"{setting}: the narrowest network, of 1 channel, needs {macs_of(1):,.0f} {unit}, more than {bound:,.0f}; "
            "allow as many, or take fewer cells, smaller examples or a stem that reduces them further"
        )
    return fits


def _guess(width: int, macs_of: Callable[[int], float], bound: float) -> int:
    """The width that meets the bound where multiply-adds grow by its square, as they nearly do; not far from here."""
    macs = macs_of(width)
    return 8 * width if 64 * macs <= bound else int(width * math.sqrt(bound / macs))


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

    With `budget.fill` the bounds of the budget count likewise, and the narrowest of what they leave room for is taken.
    Nothing is computed: networks are built and counted on the meta device, for examples as large as the task's.

    Raises:
        ConfigError: a bound is too low for any network, or the network cannot be built.
    """
    models = models_of(config.budget) if config.budget.fill else {}
    bounds: dict[str, tuple[CostModel, float]] = {
        f"budget.{name}": (model, config.budget.bounds[name])
        for name, model in models.items()
        if name in config.budget.bounds
    }
    if config.train.max_macs is not None:
        bounds["train.max_macs"] = Macs(), config.train.max_macs
    if not bounds or not config.train.Network.has_width:
        return config
    example = tree_map_only(torch.Tensor, lambda each: each.to("meta"), task.example())

    @cache
    def network_of(channels: int) -> nn.Module:
        with on_meta():
            return network_for(architecture, config_at_width(without_auxiliary(config), channels), task)

    def cost_of(channels: int, setting: str) -> float:
        cost = bounds[setting][0].measure(network_of(channels), example)
        if cost is None:
            raise ConfigError(
                f"{setting}: its table is of networks of one size; leave budget.fill off, or the bound out"
            )
        return cost

    widths = [
        widest(partial(cost_of, setting=setting), bound, config.train.network_config.width, setting, model.unit)
        for setting, (model, bound) in bounds.items()
    ]
    return config_at_width(config, min(widths))


def without_auxiliary(config: Config) -> Config:
    """The configuration of the network that inference runs."""
    return config.model_copy(update={"train": config.train.with_network(config.train.network_config.untowered())})


def keep_width(before: Config, now: Config) -> Config:
    """What is asked for now, with the channels that the same bound has led to before."""
    finds = now.train.max_macs is not None or now.budget.fill
    if not finds or now.train.max_macs != before.train.max_macs or now.budget != before.budget:
        return now
    return config_at_width(now, before.train.network_config.width)


def config_at_width(config: Config, width: int) -> Config:
    """The configuration with the network of `train` so wide."""
    settings = config.train.network_config.at_width(width)
    return config.model_copy(update={"train": config.train.with_network(settings)})
