"""Fresh weights for a module of whatever parts."""

from __future__ import annotations

from torch import nn

from datanas.core.errors import ConfigError


def renew(module: nn.Module) -> None:
    """Initialise every part anew by its own `reset_parameters`, and so running statistics.

    Raises:
        ConfigError: a part has parameters of its own and no such method.
    """
    # A part that initialises those within it otherwise than they would themselves, as attention does, comes last.
    for path, part in reversed(list(module.named_modules())):
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
