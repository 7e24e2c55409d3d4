"""Lets griffe show the examples in docstrings as code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"  # doctest: .*")


class FencedDoctests(Extension):
    """Puts each example, from its `>>>` to the next empty line, into a fence."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of what was read."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(example: re.Match[str]) -> str:
    indent, code = example["indent"], _DIRECTIVE.sub("", example[0])
    return f"{indent}```pycon\n{code}\n{indent}```"
