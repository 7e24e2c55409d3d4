"""Vega, Vega-Lite and Vega-Embed, which draw the charts in the browser."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from datanas.core.errors import ConfigError

_NAME = "vegaEmbed"
"""What the program is called in the page (`page.js`)."""


def vega_program() -> str:
    """The program's source, fit to stand in a script of a page.

    Raises:
        ConfigError: the package that holds it is not installed.
    """
    source = str(_package().javascript_bundle(f"window.{_NAME} = vegaEmbed;"))
    return re.sub("</(?=script)", r"<\\/", source, flags=re.IGNORECASE)


def require_vega() -> None:
    """Tell before anything is read that the package is not there.

    Raises:
        ConfigError: it is not installed.
    """
    _package()


def _package() -> Any:
    try:
        return import_module("vl_convert")
    except ImportError:
        raise ConfigError(
            "a report needs vl-convert-python, which holds the charts' program: pip install 'datanas[report]'"
        ) from None
