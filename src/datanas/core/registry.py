"""What can be chosen by name: operations, spaces, samplers, tasks and data sets.

A registry fills itself on first use: every module of its package is imported, then the entry points of the group
`datanas.plugins`. So a new component is one new file, inside the package or outside it.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar

from datanas.core.errors import ConfigError, nearest
from datanas.core.paths import is_file, shown

T = TypeVar("T")
_plugins_loaded = False
_PLUGIN = "datanas_plugin_"
"""How the module of a plugin's file is called."""


class Registry(Generic[T]):
    """Names of one kind of component and what they stand for.

    Args:
        kind: the kind in messages, singular ("sampler").
        package: the package whose modules register the built-in ones ("datanas.samplers").
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._explanations: dict[str, str] = {}
        self._lent: ContextVar[Mapping[str, T]] = ContextVar(f"datanas_{kind}_lent", default=MappingProxyType({}))
        self._filled = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters its object under `name`.

        Raises:
            ConfigError: another object has that name.
        """

        def enter(entry: T) -> T:
            known = self._entries.get(name)
            if known is not None and _origin(known) != _origin(entry):
                raise ConfigError(f"{self.kind} {name!r} is registered twice: {_origin(known)} and {_origin(entry)}")
            self._entries[name] = entry
            return entry

        return enter

    @contextmanager
    def lent(self, name: str, entry: T) -> Iterator[None]:
        """Run a block of code in which `name` stands for an object that no list shows, in this thread alone."""
        token = self._lent.set({**self._lent.get(), name: entry})
        try:
            yield
        finally:
            self._lent.reset(token)

    def explain(self, name: str, why: str) -> None:
        """Say what is to be said where `name` is asked for and not there."""
        self._explanations[name] = why

    def __getitem__(self, name: str) -> T:
        if name in (lent := self._lent.get()):
            return lent[name]
        self._fill()
        if name not in self._entries:
            if name in self._explanations:
                raise ConfigError(f"{self.kind} {name!r}: {self._explanations[name]}")
            raise ConfigError(f"unknown {self.kind} {name!r}; {nearest(name, self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._fill()
        return name in self._entries or name in self._lent.get()

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(sorted(self._entries))

    def _fill(self) -> None:
        if self._filled:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        load_entry_points()
        self._filled = True


def _origin(entry: object) -> str:
    return f"{getattr(entry, '__module__', '?')}.{getattr(entry, '__qualname__', repr(entry))}"


def load_entry_points() -> None:
    """Import every installed plugin (entry point group `datanas.plugins`), once."""
    global _plugins_loaded
    if not _plugins_loaded:
        _plugins_loaded = True
        for point in entry_points(group="datanas.plugins"):
            try:
                point.load()
            except Exception as error:
                _plugins_loaded = False
                raise ConfigError(f"plugin {point.value}: {type(error).__name__}: {error}") from error


def load_plugin(path: str | Path) -> None:
    """Import one Python file so that its decorators register what it holds.

    Raises:
        ConfigError: the file does not exist or fails to import.
    """
    if not is_file(path, ConfigError):
        raise ConfigError(f"plugin {shown(path)}: no such file")
    file = Path(path).resolve()
    name = f"{_PLUGIN}{file.stem}_{blake2b(str(file).encode(), digest_size=4).hexdigest()}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"plugin {path}: {type(error).__name__}: {error}") from error


def loaded_plugins() -> list[Path]:
    """The files that `load_plugin` has imported."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_PLUGIN)]
    return [Path(file) for module in modules if (file := getattr(module, "__file__", None))]
