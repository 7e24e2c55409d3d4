"""The recipes that come with the package, by name: `small/cifar10`."""

from __future__ import annotations

from pathlib import Path

from datanas.core.errors import ConfigError, nearest
from datanas.core.paths import exists, shown

_PACKAGE = Path(__file__).parent.parent
FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent.parent / "recipes")
"""In an installed package, and in a checkout."""


def recipes() -> dict[str, Path]:
    """Their files by name, in alphabetical order; none where they were not installed."""
    root = next((folder for folder in FOLDERS if folder.is_dir()), None)
    if root is None:
        return {}
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in sorted(root.glob("*/*.yaml"))}


def find_recipe(given: Path) -> Path:
    """A recipe's file: the path itself, or what comes with the package under this name.

    Raises:
        ConfigError: there is neither.
    """
    if exists(given, ConfigError):
        return given
    known = recipes()
    name = given.with_suffix("") if given.suffix in (".yaml", ".yml") else given
    short = name.as_posix().removeprefix("recipes/")
    if short in known:
        return known[short]
    if given.suffix:
        return given  # told by whoever reads it, where it is missing
    raise ConfigError(
        f"--config: no file {shown(given)}, and no recipe of that name; {nearest(given.as_posix(), known)}"
    )


def summary(recipe: Path) -> str:
    """The sentence that a recipe begins with."""
    first = recipe.read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip()
