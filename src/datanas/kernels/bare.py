"""What a kernel that takes the place of modules must know of them: whether anything else hangs on their being called.

Hooks run where a module is called, and so does what `torch.nn.utils` puts on weights: pruning, the older weight norm
and spectral norm are hooks before the forward pass, newer ones are parametrisations. A kernel that reads the weights
of modules without calling them would leave all of that out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

Geometry = tuple[object, ...]
Weight = tuple[dict[str, nn.Parameter | None], str, Tensor]
"""The dictionary of a module in which a weight stands, its name there, and the weight."""


def is_bare(module: nn.Module) -> bool:
    """Whether a module and all its parts do nothing when called but their class's own forward pass.

    Not so if one has hooks, a parametrised weight, or a forward of its own instance; nor while hooks of all modules
    are set. It is asked for every operation in every step, so it reads the modules' dictionaries.
    """
    return not torch_module._has_any_global_hook() and has_no_hooks(module)  # type: ignore[no-untyped-call]


def has_no_hooks(module: nn.Module) -> bool:
    """The same, whatever hooks of all modules are set."""
    own = module.__dict__
    if (
        own["_forward_pre_hooks"]
        or own["_forward_hooks"]
        or own["_backward_hooks"]
        or own["_backward_pre_hooks"]
        or "forward" in own
    ):
        return False
    parts = own["_modules"]
    if not parts:
        return True
    return "parametrizations" not in parts and all(has_no_hooks(part) for part in parts.values() if part is not None)


GEOMETRY = ("stride", "padding", "dilation", "groups", "padding_mode")


def geometry(conv: nn.Module) -> Geometry:
    """What a kernel takes for granted of a convolution: its class, how it moves over a map, and whether it has a bias.

    Of any other module something that no convolution has.
    """
    own = conv.__dict__
    return type(conv), own["_parameters"].get("bias") is None, *map(own.get, GEOMETRY)


def operation_weights(modules: Iterable[nn.Module]) -> list[Weight]:
    """The weights that modules hold now, those of their parts too."""
    weights: list[Weight] = []
    for module in modules:
        _gather(module, weights)
    return weights


def _gather(module: nn.Module, weights: list[Weight]) -> None:
    own = module.__dict__
    table = own["_parameters"]
    for name, weight in table.items():
        if weight is not None:
            weights.append((table, name, weight))
    for part in own["_modules"].values():
        if part is not None:
            _gather(part, weights)


@contextmanager
def weights_held(weights: Sequence[Weight]) -> Iterator[None]:
    """Run a block in which modules have the weights that they had, such as those that `functional_call` lent them."""
    exchanged = [(table, name, table.get(name), then) for table, name, then in weights if table.get(name) is not then]
    for table, name, _, then in exchanged:
        table[name] = then  # type: ignore[assignment]
    try:
        yield
    finally:
        for table, name, now, _ in exchanged:
            table[name] = now
