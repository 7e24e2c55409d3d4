from __future__ import annotations

import errno
import json
import math
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datanas.core.errors import CheckpointError, StorageError
from datanas.runs import Metrics, read_metrics
from datanas.runs import events as events_module
from datanas.runs import metrics as metrics_module


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def write(folder: Path, steps: Iterable[int], resume_step: int | None = None) -> None:
    with Metrics(folder, resume_step) as metrics:
        for step in steps:
            metrics.log(step, {"loss": float(step)})


def test_a_line_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    before = time.time()
    with Metrics(tmp_path) as metrics:
        metrics.log(3, {"loss": 0.5, "epoch": 1}, stage="search", probs=[[0.25, 0.75]], missing=None)
        (line,) = read_metrics(tmp_path)
    assert before - 1 <= line.pop("time") <= time.time() + 1
    assert line == {
        "step": 3,
        "loss": 0.5,
        "epoch": 1,
        "stage": "search",
        "probs": [[0.25, 0.75]],
        "missing": None,
    }
    assert read_metrics(tmp_path / "metrics.jsonl") == read_metrics(tmp_path)


def test_lines_are_strict_json_and_come_back_as_floats(tmp_path: Path) -> None:
    with Metrics(tmp_path) as metrics:
        metrics.log(0, {"loss": math.nan, "probs": [math.inf, -math.inf, 1.0]})
    raw = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert (raw["loss"], raw["probs"]) == ("nan", ["inf", "-inf", 1.0])
    (line,) = read_metrics(tmp_path)
    assert math.isnan(line["loss"])
    assert line["probs"] == [math.inf, -math.inf, 1.0]


@pytest.mark.parametrize("name", ["step", "time"])
def test_a_reserved_name_is_refused(tmp_path: Path, name: str) -> None:
    with Metrics(tmp_path) as metrics, pytest.raises(ValueError, match=name):
        metrics.log(0, {name: 1})


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    values = [0.1, -3.0, math.inf, 1e-30]
    with Metrics(tmp_path) as metrics:
        for step, value in enumerate(values):
            metrics.log(step, {"loss": value, "epoch": step, "name": "text", "probs": [1.0]})
        assert len(scalars(tmp_path, "loss")) == len(values)
    assert scalars(tmp_path, "loss") == [(step, pytest.approx(value, rel=1e-6)) for step, value in enumerate(values)]
    assert scalars(tmp_path, "epoch") == [(step, float(step)) for step in range(4)]
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert sorted(accumulator.Tags()["scalars"]) == ["epoch", "loss"]


def test_without_numbers_there_is_no_event_file(tmp_path: Path) -> None:
    with Metrics(tmp_path) as metrics:
        metrics.log(0, {"name": "text"})
    assert os.listdir(tmp_path) == ["metrics.jsonl"]


def test_resuming_drops_the_later_lines(tmp_path: Path) -> None:
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3], resume_step=2)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_event_files_are_read_in_order_even_when_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [1, 2, 3, 4])
    monkeypatch.setattr(time, "time", lambda: 1.7e9)
    write(tmp_path, [2, 3], resume_step=1)
    assert scalars(tmp_path, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_resuming_from_the_start_drops_everything_but_step_0(tmp_path: Path) -> None:
    write(tmp_path, [0, 1, 2])
    write(tmp_path, [1], resume_step=0)
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1]


def test_without_a_resume_step_lines_are_appended(tmp_path: Path) -> None:
    write(tmp_path, [1, 2])
    write(tmp_path, [1])
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 1]


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b"\x00\x00\x00", b"3", b'"\xff', b"{}"])
@pytest.mark.parametrize("resume_step", [None, 5])
def test_a_torn_last_line_is_left_out_and_then_removed(tmp_path: Path, torn: bytes, resume_step: int | None) -> None:
    write(tmp_path, [1, 2])
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(torn)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    write(tmp_path, [3], resume_step)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    write(tmp_path, [3])
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("damage", [b"", b"junk", b"[1]", b'{"loss": 1}', b"\xff"])
def test_a_damaged_line_elsewhere_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 2}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: line 2 is damaged"):
        read_metrics(tmp_path)
    with pytest.raises(CheckpointError):
        Metrics(tmp_path)


def test_no_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: No such file"):
        read_metrics(tmp_path)


def test_a_full_disk_while_the_later_lines_are_dropped_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, [1, 2])

    def fail(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match="No space left"):
        Metrics(tmp_path, resume_step=1)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_a_disk_that_takes_a_part_of_a_line_is_a_storage_error(tmp_path: Path) -> None:
    write(tmp_path, [1])
    size = (tmp_path / "metrics.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Metrics(tmp_path) as metrics:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
        try:
            with pytest.raises(StorageError, match=r"metrics\.jsonl"):
                metrics.log(2, {"name": "text"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]


@pytest.mark.parametrize("call", ["__init__", "log"])
def test_an_event_file_that_cannot_be_written_is_a_warning_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    tried = []

    def fail(*_: object) -> NoReturn:
        tried.append(call)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(events_module.EventFile, call, fail)
    with Metrics(tmp_path) as metrics:
        with pytest.warns(UserWarning, match="no more goes to") as caught:
            metrics.log(1, {"loss": 1.0})
        (warning,) = caught
        assert str(warning.message) == f"{tmp_path}: no more goes to TensorBoard's file: No space left on device"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metrics.log(2, {"loss": 2.0})
            metrics.log(3, {"loss": 3.0})
    assert tried == [call]
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_sync_waits_for_the_file_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), fsync(descriptor)))
    with Metrics(tmp_path) as metrics:
        metrics.log(1, {"name": "text"})
        assert synced == []
        metrics.sync()
    assert synced == [(tmp_path / "metrics.jsonl").stat().st_ino]


def test_lines_that_do_not_reach_the_device_are_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Metrics(tmp_path) as metrics:
        metrics.log(1, {"name": "text"})
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match=r"metrics\.jsonl: cannot be written: Input/output error"):
            metrics.sync()


def test_logging_and_reading_do_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom datanas.runs import Metrics, read_metrics\n"
        "folder = Path(sys.argv[1])\nwith Metrics(folder) as metrics: metrics.log(1, {'loss': 1.0})\n"
        "print(len(read_metrics(folder)), 'torch' in sys.modules, 'tensorflow' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert answer.stdout == "1 False False\n"


def test_the_event_file_waits_for_the_first_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module.Metrics, "_event_file", pytest.fail)
    with Metrics(tmp_path) as metrics:
        metrics.log(0, {"name": "text"})
