"""Scalars, pictures and hyper-parameters for TensorBoard, without torch and without a thread."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tensorboard.compat.proto.event_pb2 import Event, SessionLog, SourceMetadata
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.metadata import (
    NULL_TENSOR,
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    create_summary_metadata,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

_PREFIX = "events.out.tfevents."
_RGB = 3
_SIZE = slice(16, 20), slice(20, 24)
"""Where a PNG file has its width and height, as big-endian numbers."""


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

    @classmethod
    def last(cls, folder: Path) -> EventFile | None:
        """The folder's last event file, to write more behind its end; None where there is none.

        Raises:
            OSError: it cannot be written.
        """
        files = sorted(folder.glob(f"{_PREFIX}*"))
        if not files:
            return None
        file = cls.__new__(cls)
        file._records = RecordWriter(open(files[-1], "ab", buffering=0))  # noqa: SIM115
        return file

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write one event with a scalar for each name.

        Raises:
            OSError: it cannot be written.
        """
        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def show(self, step: int, pictures: Mapping[str, bytes]) -> None:
        """Write one event with PNG files by their names.

        Raises:
            OSError: it cannot be written.
        """
        values = []
        for name, content in pictures.items():
            width, height = (int.from_bytes(content[each], "big") for each in _SIZE)
            image = Summary.Image(width=width, height=height, colorspace=_RGB, encoded_image_string=content)
            values.append(Summary.Value(tag=name, image=image))
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def begin(self, settings: Mapping[str, bool | float | str]) -> None:
        """Write with which hyper-parameters the run begins.

        No list of them all is written: TensorBoard makes it of the runs that it is shown together.

        Raises:
            OSError: it cannot be written.
        """
        now = time.time()
        info = SessionStartInfo(start_time_secs=now)
        for name, value in settings.items():
            if isinstance(value, bool):
                info.hparams[name].bool_value = value
            elif isinstance(value, str):
                info.hparams[name].string_value = value
            else:
                info.hparams[name].number_value = value
        self._tell(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info), now)

    def end(self) -> None:
        """Write that the run is complete.

        Raises:
            OSError: it cannot be written.
        """
        now = time.time()
        info = SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=now)
        self._tell(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info), now)

    def _tell(self, tag: str, data: HParamsPluginData, now: float) -> None:
        value = Summary.Value(tag=tag, metadata=create_summary_metadata(data), tensor=NULL_TENSOR)
        self._write(Event(wall_time=now, step=0, summary=Summary(value=[value])))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def _stamp(folder: Path) -> int:
    """The time in seconds, or later: TensorBoard reads a folder's files in the order of their names."""
    stamps = [path.name.removeprefix(_PREFIX).split(".")[0] for path in folder.glob(f"{_PREFIX}*")]
    return max([int(time.time()), *(int(stamp) + 1 for stamp in stamps if stamp.isdecimal())])
