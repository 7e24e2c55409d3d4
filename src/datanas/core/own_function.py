"""Functions of one's own that a setting names as `module:attribute`, so that every process of a run finds them.

A run resumes from files and trains in processes of its own, which know a function by an importable name alone. The
folder that its module lies in is noted beside the name (`code_folder`), unless Python finds it everywhere.
"""

from __future__ import annotations

import importlib
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator

from datanas.core.errors import ConfigError, nearest
from datanas.core.paths import shown

Function = Callable[..., Any]
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_MAIN = ("__main__", "__mp_main__")


class NamesFunction:
    """Marks a field whose value names a function."""


def _checked(value: object) -> object:
    if value is None or value in ("", "null", "none"):
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"must name a function that can be imported, as module:attribute (my_functions:focal), got {value!r}"
        )
    return value


OwnFunction = Annotated[str | None, BeforeValidator(_checked), NamesFunction()]
"""The type of a setting that names a function, or none; that it is there, `find_function` tells."""


def named_functions(section: BaseModel, path: str = "") -> Iterator[tuple[str, str]]:
    """The settings that name a function, by their dotted names, with the function's name."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from named_functions(value, f"{path}{name}.")
        elif value is not None and any(isinstance(each, NamesFunction) for each in field.metadata):
            yield f"{path}{name}", value


def find_function(name: str, folders: Sequence[Path] = ()) -> Function:
    """What `module:attribute` stands for.

    A module that is not imported yet is looked for in `folders`, where Python looks, and in the current folder.

    Raises:
        ConfigError: there is no such module or attribute, importing it fails, it is nothing to call, or another module
            of that name than that in `folders` is imported.
    """
    home, _, attribute = name.partition(":")
    _require_no_other(home, folders)
    module = sys.modules.get(home) or _import(home, folders)
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            known = [each for each in vars(value) if not each.startswith("_") and callable(getattr(value, each))]
            where = shown(getattr(module, "__file__", None) or home)
            raise ConfigError(f"{name!r}: {where} has no {attribute!r}; {nearest(part, known)}")
        value = getattr(value, part)
    if isinstance(value, type):
        raise ConfigError(f"{name!r}: is a class; give an instance of it a name in the module, and say that")
    if not callable(value):
        raise ConfigError(f"{name!r}: is {type(value).__name__}, and a function is needed")
    function: Function = value
    return function


def _require_no_other(home: str, folders: Sequence[Path]) -> None:
    """Refuse to take a module that is imported for another one of its name."""
    imported = getattr(sys.modules.get(home), "__file__", None)
    relative = Path(*home.split("."))
    files = (folder / each for folder in folders for each in (relative.with_suffix(".py"), relative / "__init__.py"))
    noted = next((file for file in files if file.is_file()), None)
    if imported is not None and noted is not None and noted.resolve() != Path(imported).resolve():
        raise ConfigError(
            f"module {home!r}: {shown(noted)} is meant, and {shown(imported)} is imported already in this process; "
            "call one of them differently, or start another process"
        )


def _import(home: str, folders: Sequence[Path]) -> ModuleType:
    before, here = list(sys.path), str(Path.cwd())
    sys.path[:] = [*(str(folder) for folder in folders if folder.is_dir()), *before, here]
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(home)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{home}.".startswith(f"{error.name}."):
            noted = "".join(f", {shown(folder)}" for folder in dict.fromkeys(folders) if str(folder) != here)
            raise ConfigError(
                f"no module {error.name!r} is in the current folder {shown(here)}{noted} or where Python looks; give "
                "the name of a .py file without its ending, and start from its folder or name it in code_folders"
            ) from None
        raise ConfigError(f"module {home!r} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before
    folder = code_folder(home)
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))  # for what the functions import when they run
    return module


def code_folder(name: str) -> Path | None:
    """The folder in which Python has to look for an imported module; None where it always does.

    Args:
        name: of the module, or of a function in it.
    """
    module = sys.modules.get(name.partition(":")[0].partition(".")[0])
    file = getattr(module, "__file__", None)
    paths = list(getattr(module, "__path__", ()))
    if not (file or paths):
        return None
    folder = Path(paths[0]).absolute().parent if paths else Path(str(file)).absolute().parent
    usual = (sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    return None if any(folder.is_relative_to(each) for each in usual) else folder


def function_name(function: Function | str, setting: str) -> str:
    """The `module:attribute` by which another process finds a function.

    Args:
        function: a function, or another object to call, that a module of its own holds; or already such a name.
        setting: what it is given for, for messages ("loss").

    Raises:
        ConfigError: it has none; the message says how it gets one.
    """
    if isinstance(function, str):
        return function
    if isinstance(function, type) or not callable(function):
        what = f"the class {function.__name__}" if isinstance(function, type) else type(function).__name__
        raise ConfigError(f"{setting}: must be a function or its name, such as my_functions:focal, got {what}")
    home, own = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if home not in _MAIN and home in sys.modules and own is not None and _NAME.fullmatch(name := f"{home}:{own}"):
        try:
            if _is_file(sys.modules[home]) and find_function(name) == function:
                return name
        except ConfigError:
            pass  # what stands there is another
    for home, module in sorted(sys.modules.items()):
        if home not in _MAIN and isinstance(module, ModuleType) and _is_file(module):
            for label, each in list(vars(module).items()):
                if each is function:
                    return f"{home}:{label}"
    raise ConfigError(
        f"{setting}: {own or type(function).__name__} {_because(function)}, and the processes of a fit, and a fit that "
        "goes on, find it by an importable name alone; write it at the top of a file of its own, such as "
        f"my_functions.py, import it from there, and give that, or the name: {setting}='my_functions:NAME'"
    )


def _is_file(module: ModuleType) -> bool:
    return bool(getattr(module, "__file__", None))


def _because(function: Function) -> str:
    """Why no other process can import this."""
    own = getattr(function, "__qualname__", "")
    if own.endswith("<lambda>"):
        return "has no name"
    if "<locals>" in own:
        return "is defined inside another function"
    if getattr(function, "__module__", None) in _MAIN and own:
        return "is defined in __main__, the script or notebook that was started"
    return "stands at the top of no module that is imported"
