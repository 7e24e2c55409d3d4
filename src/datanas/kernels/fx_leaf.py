"""Modules that torch.fx meets as one call, as it does those of `torch.nn`.

torch.fx records what is done to stand-ins without sizes. A forward pass that asks a map for its size, its layout or
its device cannot be recorded, and one that changes running statistics would do so while it is recorded. Such modules
enter themselves into the graph, whatever tracer is at work: `torch.fx.symbolic_trace`, that of torchvision's
`create_feature_extractor`, or a user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from torch import nn
from torch.fx import Proxy, Tracer

ClassT = TypeVar("ClassT", bound=type[nn.Module])


def fx_leaf(cls: ClassT) -> ClassT:
    """Let torch.fx record a call of a module of this class, and not what the module does."""
    inner: Callable[..., Any] = cls.forward

    @wraps(inner)
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        tracer = _tracer_of((*args, *kwargs.values()))
        if tracer is None or tracer.root is self:
            return inner(self, *args, **kwargs)
        return tracer.create_proxy("call_module", tracer.path_of_module(self), args, kwargs)

    cls.forward = forward
    return cls


def _tracer_of(values: Iterable[object]) -> Tracer | None:
    """The tracer whose stand-ins are among the values, or in tuples and lists among them."""
    for value in values:
        if isinstance(value, Proxy):
            return value.tracer if isinstance(value.tracer, Tracer) else None
        if isinstance(value, tuple | list) and (tracer := _tracer_of(value)) is not None:
            return tracer
    return None
