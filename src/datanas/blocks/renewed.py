"""Fresh weights for a module of whatever parts."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from datanas.core.errors import ConfigError


def renew(module: nn.Module) -> None:
    """Initialise every part anew by its own `reset_parameters`, and so running statistics.

    Frozen parameters stay, as those that somebody has trained before, and so do statistics of parts that are frozen
    whole. Parts that keep buffers and cannot reset them are named by a warning.

    Raises:
        ConfigError: a part has parameters of its own and no such method.
    """
    # A part that initialises those within it otherwise than they would themselves, as attention does, comes last.
    frozen = [(each, each.detach().clone()) for each in module.parameters() if not each.requires_grad]
    unchanged: list[str] = []
    for path, part in reversed(list(module.named_modules())):
        if _is_frozen(part):
            continue
        reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
        if reset is not None:
            reset()
        elif any(parameter is not None for parameter in part._parameters.values()):
            names = ", ".join(part._parameters)
            raise ConfigError(
                f"{path or 'the module'} ({type(part).__name__}) has the parameters {names} and no reset_parameters(), "
                "so it cannot be initialised anew; keep the weights (weights=True), or rebuild a module that you make "
                "afresh: datanas.resolve(module, architecture)"
            )
        elif part._buffers.keys() - part._non_persistent_buffers_set:
            unchanged.append(f"{path or 'the module'} ({type(part).__name__}: {', '.join(part._buffers)})")
    with torch.no_grad():
        for parameter, value in frozen:
            parameter.copy_(value)
    if unchanged:
        warnings.warn(
            f"{', '.join(reversed(unchanged))}: buffers stay as they are, since there is no reset_parameters()",
            UserWarning,
            stacklevel=3,
        )


def _is_frozen(part: nn.Module) -> bool:
    """Whether all parameters of a part are frozen: its own, or where it has none those within it."""
    own = [parameter for parameter in part._parameters.values() if parameter is not None] or list(part.parameters())
    return bool(own) and not any(parameter.requires_grad for parameter in own)
