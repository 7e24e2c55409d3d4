"""What people name an architecture by: a name, a file, a run folder, or its text.

Torch is imported only where a name is that of no published cell.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from datanas.codes.architecture import Architecture
from datanas.codes.genotype import holds_genotype
from datanas.codes.layer_code import is_layer_code
from datanas.codes.published import architectures as architectures
from datanas.codes.published import letters, published
from datanas.core.errors import ArchitectureError, ConfigError, nearest
from datanas.core.paths import LONGEST, is_file, shown
from datanas.references import references

ARCHITECTURE_FILE = "architecture.json"
_SUFFIXES = (".json", ".txt", ".log")


def architecture(name: str) -> Architecture:
    """The published cell `name`, or a network to compare with; case and punctuation do not matter ("DARTS-V2").

    Of a reference of many networks "KIND:VARIANT" names one, such as "timm:efficientnet_b0".

    >>> import datanas
    >>> datanas.architecture("GDAS").space
    'conv_cell'

    Raises:
        ConfigError: there is none of that name.
    """
    if (named := _variant(name)) is not None:
        kind, variant = named
        return references[kind].named(variant)
    cell = published(name)
    if cell is not None:
        return cell
    for known in references:
        if letters(known) == letters(name):
            return references[known].architecture()
    near = nearest(name[:LONGEST].lower(), [*architectures(), *references])
    raise ConfigError(f"unknown architecture {shown(name)!r}; {near}")


def find_architecture(given: Architecture | str | Path) -> Architecture:
    """The architecture of a file, of a run folder, of a text, or of the registry; one that is there already.

    A file holds what `Architecture.save` wrote or a genotype, be it one line or the log of a search; a text likewise.

    Raises:
        ArchitectureError: the file cannot be read, or file or text hold no architecture.
        ConfigError: no such file and no such name, or a folder that holds none.
    """
    if isinstance(given, Architecture):
        return given
    if isinstance(given, str) and _is_text(given):
        return Architecture.from_text(given)
    if isinstance(given, str) and _variant(given) is not None:
        return architecture(given)
    path = Path(given)
    if _is_there(path, Path.is_dir):
        path = path / ARCHITECTURE_FILE
        if not is_file(path, ArchitectureError):
            raise ConfigError(f"architecture {shown(given)}: a folder without {ARCHITECTURE_FILE}")
    if isinstance(given, Path) or _is_there(path, Path.exists):
        return Architecture.load(path)
    if len(given) <= LONGEST and ("/" in given or path.suffix in _SUFFIXES):
        raise ConfigError(f"architecture {given}: no such file")
    return architecture(given)


def run_folder(given: Architecture | str | Path) -> Path | None:
    """The run folder that stands for an architecture; None for a file, a text, a name, or an architecture itself."""
    if isinstance(given, Architecture) or (isinstance(given, str) and _is_text(given)):
        return None
    path = Path(given)
    return path if _is_there(path / "config.yaml", Path.is_file) else None


def variant_name(name: str) -> str:
    """The same name of a network, with the path of its weights in full, wherever it is read.

    Raises:
        ConfigError: there is no such network.
    """
    source = architecture(name).source or {}
    return f"{source['name']}@{source['weights']}" if "weights" in source else name


def _variant(name: str) -> tuple[str, str] | None:
    """Kind and variant of "KIND:VARIANT", where a reference of that kind is known."""
    kind, colon, variant = name.partition(":")
    return (kind, variant) if colon and kind in references else None


def _is_text(given: str) -> bool:
    """Whether this is an architecture written out, not what it is called or where it is.

    A run folder may be called by a date, so digits are a code only where they lead nowhere.
    """
    if is_layer_code(given):
        return not _is_there(Path(given), Path.exists)
    return holds_genotype(given) or given.lstrip("\ufeff \t\r\n").startswith("{") or "\n" in given.strip()


def _is_there(path: Path, check: Callable[[Path], bool]) -> bool:
    """Whether a path leads somewhere; what can be no path does not."""
    try:
        return check(path)
    except ValueError:
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise ArchitectureError(f"{shown(path)}: {error.strerror or error}") from None
