"""What the annotations of functions are checked by while they are tested; a whole number is a real one too."""

from __future__ import annotations

from typing import Any

from beartype import BeartypeConf, beartype

_CONFIGURED: Any = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Any) -> Any:
    """The function, which looks at its arguments and at what it returns."""
    return _CONFIGURED(function)
