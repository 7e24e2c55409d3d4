"""The figures of a run, step by step: one line of JSON each, for TensorBoard the scalars, settings and pictures."""

from __future__ import annotations

import errno
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from datanas.core.atomic import storage_errors, write_atomic
from datanas.core.errors import CheckpointError

if TYPE_CHECKING:
    from datanas.runs.events import EventFile
    from datanas.runs.heat_map import HeatMap

Value: TypeAlias = "float | str | Sequence[Value] | None"
Settings: TypeAlias = "Mapping[str, bool | float | str]"
_NAME = "metrics.jsonl"
_EVENT_FILES = "events.out.tfevents.*"
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Metrics:
    """Appends to metrics.jsonl and to an event file in `folder`; a line is there for readers once `log` returns.

    Args:
        folder: the run folder.
        resume_step: the step that the run goes on from: what was logged for later steps is dropped.
        settings: gives the hyper-parameters that TensorBoard shows of a run from its beginning.

    Raises:
        CheckpointError: a line other than the last cannot be read.
        StorageError: the file cannot be written.
    """

    def __init__(
        self, folder: Path, resume_step: int | None = None, settings: Callable[[], Settings] | None = None
    ) -> None:
        self._folder = folder
        self._path = folder / _NAME
        self._purge_step = None if resume_step is None else resume_step + 1
        self._settings = None if any(folder.glob(_EVENT_FILES)) else settings
        self._events: EventFile | None = None
        self._is_silent = False
        if self._path.exists():
            self._repair(resume_step)
        with storage_errors(self._path):
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115

    def _repair(self, resume_step: int | None) -> None:
        lines = _lines(self._path)
        kept = [text for text, line in lines if resume_step is None or line["step"] <= resume_step]
        content = b"".join(text + b"\n" for text in kept)
        if content != self._path.read_bytes():
            write_atomic(self._path, content)

    def log(
        self, step: int, values: Mapping[str, Value], heat_maps: Mapping[str, HeatMap] | None = None, **more: Value
    ) -> None:
        """Append {"step": step, "time": Unix seconds, **values, **more}; its numbers go to TensorBoard, with pictures.

        The line is strict JSON: floats that are not finite are the strings "nan", "inf" and "-inf".

        Where TensorBoard's file cannot be written, a warning says so once.

        Raises:
            StorageError: the line cannot be written.
            ValueError: a value is named "step" or "time".
        """
        figures = {**values, **more}
        if reserved := figures.keys() & {"step", "time"}:
            raise ValueError(f"a metric must not be named {min(reserved)!r}: every line has that field")
        line = {"step": step, "time": round(time.time(), 3), **figures}
        self._append(json.dumps(encode(line), allow_nan=False).encode() + b"\n")
        scalars = {name: float(value) for name, value in figures.items() if isinstance(value, (int, float))}
        if scalars and not self._is_silent:
            try:
                events = self._event_file()
                events.log(step, scalars)
                if heat_maps:
                    events.show(step, {name: each.to_png() for name, each in heat_maps.items()})
            except OSError as error:
                self._is_silent = True
                reason = error.strerror or error
                warnings.warn(f"{self._folder}: no more goes to TensorBoard's file: {reason}", stacklevel=2)

    def sync(self) -> None:
        """Wait until the device holds every line.

        Raises:
            StorageError: it cannot be written.
        """
        with storage_errors(self._path):
            os.fsync(self._file.fileno())

    def _append(self, line: bytes) -> None:
        with storage_errors(self._path):
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _event_file(self) -> EventFile:
        if self._events is None:
            # TensorBoard takes half a second to import.
            from datanas.runs.events import EventFile

            self._events = EventFile(self._folder, self._purge_step)
            if self._settings is not None:
                self._events.begin(self._settings())
        return self._events

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        if self._events is not None:
            with suppress(OSError):
                self._events.close()

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def add_result(folder: Path, step: int, scores: Mapping[str, float]) -> None:
    """Add what a complete run has reached to TensorBoard's file: scalars final/NAME, by which it compares settings.

    Where it cannot be written, a warning says so; where there is none, the run has warned of that.
    """

    def write(events: EventFile) -> None:
        events.log(step, {f"final/{name}": value for name, value in scores.items()})
        events.end()

    _append(folder, write)


def add_pictures(folder: Path, step: int, files: Mapping[str, Path]) -> None:
    """Add the PNG files of a complete run to it, by the names given; otherwise as `add_result`."""
    _append(folder, lambda events: events.show(step, {name: file.read_bytes() for name, file in files.items()}))


def _append(folder: Path, write: Callable[[EventFile], None]) -> None:
    from datanas.runs.events import EventFile  # as in `Metrics`

    try:
        if (events := EventFile.last(folder)) is not None:
            with events:
                write(events)
    except OSError as error:
        warnings.warn(f"{folder}: TensorBoard's file lacks its end: {error.strerror or error}", stacklevel=3)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, or of that in a run folder, in order.

    The strings "nan", "inf" and "-inf" come back as floats. A last line that a crash cut short is left out.

    Raises:
        CheckpointError: there is no such file, or another line cannot be read.
    """
    return [decode(line) for _, line in _lines(path / _NAME if path.is_dir() else path)]


def _lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    try:
        *complete, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from None
    lines = []
    for number, text in enumerate([*complete, last], start=1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or not isinstance(line.get("step"), int):
                raise ValueError("no step")
        except ValueError:
            if number > len(complete):
                break
            raise CheckpointError(f"{path}: line {number} is damaged; remove it to go on") from None
        lines.append((text, line))
    return lines


def encode(value: object) -> object:
    """Plain data with its floats that are not finite as strings, so that it fits strict JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, Mapping):
        return {name: encode(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [encode(inner) for inner in value]
    return value


def decode(value: Any) -> Any:
    """Plain data with the floats that `encode` made strings."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value)
    if isinstance(value, dict):
        return {name: decode(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [decode(inner) for inner in value]
    return value
