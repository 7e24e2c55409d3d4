"""A training that starts from the stem and body of another, and what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from datanas.core.errors import CheckpointError, Interrupted
from datanas.engine.config import resolve
from datanas.engine.dry_run import estimate_train
from datanas.engine.evaluation import NETWORK_FILE
from datanas.engine.starting import load_weights, start_from
from datanas.engine.train import TrainJob, train
from datanas.engine.train_result import TrainResult
from datanas.lookup import architecture

Make = Callable[..., dict[str, Any]]
CELL = architecture("darts_v2")


@pytest.fixture
def first(config: Make) -> TrainResult:
    """A network that has been trained before."""
    return train(CELL, config(train={"epochs": 1}), quiet=True)


def test_stem_and_body_are_those_of_the_first_and_the_head_is_fresh(
    first: TrainResult, train_job: Callable[..., TrainJob]
) -> None:
    fresh = train_job(seed=5)
    settings = fresh.config.model_copy(update={"train": fresh.config.train.model_copy(update={"ema": 0.9})})
    fill = partial(start_from, weights=load_weights(first.path), source="")
    job = TrainJob(settings, CELL, fresh.task, fresh.device, start=fill)
    before, plain = first.network.state_dict(), fresh.network.state_dict()
    for network in (job.network, job.evaluated):  # the average starts there too
        for name, value in network.state_dict().items():
            assert torch.equal(value, plain[name] if name.startswith("head.") else before[name])
    assert not torch.equal(before["stem.conv.weight"], plain["stem.conv.weight"])


def test_a_run_starts_from_a_folder_or_from_its_file_alike(first: TrainResult, config: Make) -> None:
    found = [
        train(CELL, config(train={"epochs": 1, "start_from": str(source)}), quiet=True).network.state_dict()
        for source in (first.path, first.path / NETWORK_FILE)
    ]
    alone = train(CELL, config(train={"epochs": 1}), quiet=True).network.state_dict()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert any(not torch.equal(value, alone[name]) for name, value in found[0].items())


def test_a_run_that_goes_on_needs_the_first_no_more(
    first: TrainResult, config: Make, interrupt: Callable[[type[TrainJob], int], None], tmp_path: Path
) -> None:
    source = tmp_path / "weights.safetensors"
    source.write_bytes((first.path / NETWORK_FILE).read_bytes())
    whole, broken = (config(train={"epochs": 2, "start_from": str(source)}) for _ in range(2))
    expected = train(CELL, whole, quiet=True).network.state_dict()
    interrupt(TrainJob, 1)
    with pytest.raises(Interrupted):
        train(CELL, broken, quiet=True)
    source.unlink()
    found = train(CELL, broken, quiet=True).network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"channels": 6}, r"train\.start_from: .*is \(.*\), the network needs \(.*same train\.channels"),
        ({"cells": 4}, r"only the (network|file) has body\..*number of cells"),
    ],
)
def test_another_network_is_refused_and_nothing_is_written(
    first: TrainResult, config: Make, over: dict[str, int], message: str
) -> None:
    settings = config(train={"epochs": 1, "start_from": str(first.path), **over})
    with pytest.raises(CheckpointError, match=message):
        train(CELL, settings, quiet=True)
    assert not (Path(settings["run"]["root"]) / settings["run"]["name"]).exists()


def test_an_estimate_refuses_what_the_training_would(first: TrainResult, config: Make) -> None:
    settings = resolve(config(train={"start_from": str(first.path), "channels": 6}))
    with pytest.raises(CheckpointError, match="the network needs"):
        estimate_train(settings, CELL)


def test_a_file_that_holds_no_network_is_refused(first: TrainResult, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_weights(tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match=r"is the training in .* finished"):
        load_weights(tmp_path)
    (tmp_path / "torn.safetensors").write_bytes((first.path / NETWORK_FILE).read_bytes()[:100])
    with pytest.raises(CheckpointError, match="not a network"):
        load_weights(tmp_path / "torn.safetensors")
    heads = {name: value for name, value in load_file(first.path / NETWORK_FILE).items() if name.startswith("head.")}
    save_file(heads, tmp_path / "head.safetensors")
    with pytest.raises(CheckpointError, match="holds no stem and body"):
        load_weights(tmp_path / "head.safetensors")
