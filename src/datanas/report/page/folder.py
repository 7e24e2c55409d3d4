"""A run folder as a report reads it: what is there, what is not, and what cannot be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from datanas.codes.architecture import Architecture
from datanas.core.errors import ArchitectureError, CheckpointError
from datanas.core.exhibits import Exhibit, FigureTable, exhibit_from_json
from datanas.runs.metrics import decode, read_metrics
from datanas.runs.overview import Overview


class Folder:
    """A run folder.

    Attributes:
        faults: what cannot be read, a line each; grows while the folder is read.
    """

    def __init__(self, overview: Overview) -> None:
        self.overview = overview
        self.path: Path = overview.path
        self.faults: list[str] = [] if not overview.state.startswith("damaged") else [overview.state[9:]]

    def json(self, name: str) -> dict[str, Any]:
        """The object in a file; nothing where it is missing or cannot be read."""
        try:
            document = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            self._fault(f"{name} cannot be read")
            return {}
        return decode(document) if isinstance(document, dict) else {}

    def text(self, name: str) -> str:
        """A file's text; nothing where it is missing or cannot be read."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except (OSError, ValueError):
            self._fault(f"{name} cannot be read")
            return ""

    @cached_property
    def metrics(self) -> Sequence[Mapping[str, Any]]:
        """The lines that end an epoch, in order; nothing where the file is missing or damaged."""
        if not (self.path / "metrics.jsonl").is_file():
            return ()
        try:
            lines = read_metrics(self.path / "metrics.jsonl")
        except CheckpointError as error:
            self._fault(str(error).removeprefix(f"{self.path}/").partition(";")[0])
            return ()
        return [line for line in lines if isinstance(line.get("epoch"), int)]

    @cached_property
    def architecture(self) -> Architecture | None:
        """What the run kept or trains."""
        return self.architecture_of("architecture.json")

    def architecture_of(self, name: str) -> Architecture | None:
        """The architecture in a file; None where it is missing or cannot be read."""
        if not (self.path / name).is_file():
            return None
        try:
            return Architecture.load(self.path / name)
        except ArchitectureError:
            self._fault(f"{name} cannot be read")
            return None

    @cached_property
    def genotypes(self) -> Mapping[int, Path]:
        """The files of the architectures that a search would have kept, by epoch."""
        files = {}
        for path in sorted((self.path / "genotypes").glob("epoch-*.json")):
            number = path.stem.removeprefix("epoch-")
            if number.isdecimal():
                files[int(number)] = path
        return files

    @cached_property
    def _shown(self) -> Mapping[str, Any]:
        return self.json("exhibits.json")

    @property
    def exhibits(self) -> Sequence[Exhibit]:
        """What the task shows of a trained network."""
        return self._exhibits("exhibits")

    @property
    def costs(self) -> Sequence[FigureTable]:
        """Where the network's costs lie."""
        return [each for each in self._exhibits("costs") if isinstance(each, FigureTable)]

    @property
    def examples(self) -> int | None:
        """How many examples the score counts one by one; None where it counts none, or that is not known."""
        count = self._shown.get("examples")
        return count if isinstance(count, int) and count > 0 else None

    @property
    def part(self) -> str:
        """On which part the exhibits were made."""
        return str(self._shown.get("part", "test"))

    def _exhibits(self, key: str) -> Sequence[Exhibit]:
        entries, exhibits = self._shown.get(key), []
        for entry in entries if isinstance(entries, list) else ():
            try:
                exhibits.append(exhibit_from_json(entry))
            except ValueError as error:
                self._fault(f"exhibits.json: {error}")
        return exhibits

    def _fault(self, line: str) -> None:
        if line not in self.faults:
            self.faults.append(line)


def as_number(value: object) -> float | None:
    """A finite number; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value == value and abs(value) != float("inf") else None
