"""Older names of modules."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from datanas.core.moved import newer_names


@pytest.mark.parametrize("new", sorted(newer_names().values()))
def test_each_newer_name_is_a_module(new: str) -> None:
    assert import_module(new).__name__ == new


@pytest.mark.parametrize("old", sorted(newer_names()))
def test_no_older_name_is_taken_again(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=rf"^{old} is datanas\.\S+ now"):
        alias = import_module(old)
    assert alias.__doc__ == import_module(newer_names()[old]).__doc__


def test_what_an_older_name_holds_is_the_same_object() -> None:
    sys.modules.pop("datanas.config", None)
    with pytest.warns(DeprecationWarning, match="datanas.core.settings"):
        alias = import_module("datanas.config")
    assert alias.validate is import_module("datanas.core.settings").validate


@pytest.mark.parametrize("first", ["import datanas.architecture", "from datanas import architecture", "pass"])
def test_architecture_is_a_function_whatever_was_imported_before(first: str) -> None:
    code = (
        f"{first}; import datanas, sys; assert len(datanas.architecture('darts_v2').cells) == 2;"
        "from datanas.architecture import Architecture; assert Architecture is datanas.Architecture;"
        "assert len(datanas.architecture('darts_v2').cells) == 2; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_never_was_is_no_module() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("datanas.never_was")
