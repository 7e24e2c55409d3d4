"""Scalars for TensorBoard, without torch and without a thread."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_PREFIX = "events.out.tfevents."


class EventFile:
    """A new events.out.tfevents.* in `folder`.

    Args:
        folder: the run folder.
        purge_step: the readers forget what older event files of the folder say from this step on.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        path = folder / f"{_PREFIX}{_stamp(folder):010d}.{socket.gethostname()}.{os.getpid()}.0"
        self._records = RecordWriter(open(path, "xb", buffering=0))  # noqa: SIM115
        source = SourceMetadata(writer="datanas.runs.events")
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2", source_metadata=source))
        if purge_step is not None:
            session = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=purge_step, session_log=session))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write one event with a scalar for each name.

        Raises:
            OSError: it cannot be written.
        """
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def _stamp(folder: Path) -> int:
    """The time in seconds, or later: TensorBoard reads a folder's files in the order of their names."""
    stamps = [path.name.removeprefix(_PREFIX).split(".")[0] for path in folder.glob(f"{_PREFIX}*")]
    return max([int(time.time()), *(int(stamp) + 1 for stamp in stamps if stamp.isdecimal())])
