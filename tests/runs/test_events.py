"""What TensorBoard's own readers find in a run folder: pictures, hyper-parameters, and what a run has reached."""

from __future__ import annotations

import errno
import os
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import pytest
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from datanas.runs import Metrics
from datanas.runs import events as events_module
from datanas.runs.heat_map import HeatMap
from datanas.runs.metrics import add_pictures, add_result

MAP = HeatMap(["0 to 2", "1 to 2"], ["none", "skip_connect"], [[0.1, 0.4], [0.3, 0.2]])


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def run(folder: Path, settings: dict[str, bool | float | str], score: float) -> None:
    """A run of two steps from its beginning to its end."""
    folder.mkdir(exist_ok=True)
    with Metrics(folder, 0, lambda: settings) as metrics:
        for step in (1, 2):
            metrics.log(step, {"loss": 1.0 / step}, {"P/normal": MAP})
    add_result(folder, 2, {"accuracy": score})


def plugin(root: Path) -> tuple[Any, str, Any]:
    """What the plugin of hyper-parameters makes of the runs in a folder: its experiment and session groups."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(root))
    multiplexer.Reload()
    context = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(root))))
    request_context, name = RequestContext(), "experiment"
    metadata = context.hparams_metadata(request_context, name)
    found = context.experiment_from_metadata(request_context, name, True, metadata, [])
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=9, allowed_statuses=[api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING]
    )
    return found, name, list_session_groups.Handler(request_context, context, name, request).run().session_groups


def test_tables_are_pictures_step_by_step(tmp_path: Path) -> None:
    run(tmp_path, {}, 0.5)
    events = read(tmp_path).Images("P/normal")
    assert [event.step for event in events] == [1, 2]
    assert events[0].encoded_image_string == MAP.to_png()
    with Image.open(BytesIO(events[0].encoded_image_string)) as picture:
        assert (events[0].width, events[0].height) == picture.size


def test_hyper_parameters_are_compared_by_what_runs_have_reached(tmp_path: Path) -> None:
    run(tmp_path / "a", {"seed": 0, "sampler.name": "egs", "sampler.merged": True}, 0.5)
    run(tmp_path / "b", {"seed": 1, "sampler.name": "darts"}, 0.75)
    experiment, _, groups = plugin(tmp_path)
    assert {info.name for info in experiment.hparam_infos} >= {"seed", "sampler.name"}
    found = {group.sessions[0].name: group for group in groups}
    assert found["a"].hparams["sampler.name"].string_value == "egs"
    assert found["a"].hparams["sampler.merged"].bool_value is True
    assert found["b"].hparams["seed"].number_value == 1
    scores = {
        name: {value.name.tag: value.value for value in group.metric_values}["final/accuracy"]
        for name, group in found.items()
    }
    assert scores == {"a": 0.5, "b": 0.75}
    assert {group.sessions[0].status for group in groups} == {api_pb2.STATUS_SUCCESS}


def test_what_comes_at_the_end_goes_into_the_same_file(tmp_path: Path) -> None:
    run(tmp_path, {}, 0.5)
    (tmp_path / "cells.png").write_bytes(MAP.to_png())
    add_pictures(tmp_path, 2, {"cells": tmp_path / "cells.png"})
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    found = read(tmp_path)
    assert [event.step for event in found.Images("cells")] == [2]
    assert [(event.step, event.value) for event in found.Scalars("final/accuracy")] == [(2, 0.5)]
    assert [event.step for event in found.Scalars("loss")] == [1, 2]


def test_a_run_that_goes_on_says_its_settings_no_second_time(tmp_path: Path) -> None:
    for start, step in ((0, 1), (1, 2)):
        with Metrics(tmp_path, start, lambda: {"seed": 3}) as metrics:
            metrics.log(step, {"loss": 1.0})
    files = sorted(tmp_path.glob("events.out.tfevents.*"))
    assert [b"session_start_info" in file.read_bytes() for file in files] == [True, False]


def test_a_run_that_was_stopped_before_its_first_figures_says_its_settings_when_it_goes_on(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0, lambda: {"seed": 3}):
        pass
    with Metrics(tmp_path, 7, lambda: {"seed": 3}) as metrics:
        metrics.log(10, {"loss": 1.0})
    (file,) = tmp_path.glob("events.out.tfevents.*")
    assert b"session_start_info" in file.read_bytes()


def test_an_end_that_cannot_be_written_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run(tmp_path, {}, 0.5)
    monkeypatch.setattr(events_module.EventFile, "log", fail)
    with pytest.warns(UserWarning, match="lacks its end: No space left"):
        add_result(tmp_path, 2, {"accuracy": 0.5})


def test_without_a_file_nothing_is_added(tmp_path: Path) -> None:
    add_result(tmp_path, 2, {"accuracy": 0.5})
    assert os.listdir(tmp_path) == []
