"""What a run does not go on with: other settings, other data, numbers that are not finite."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.faults.trial import Outcome, Tally, differences

from datanas.runs.checkpoint import latest_step, load_checkpoint

Command = Callable[..., Outcome]
COMPLETE = pytest.mark.complete


@pytest.mark.parametrize(
    ("key", "value", "was"),
    [
        ("seed", "1", "0"),
        pytest.param("sampler.samples", "3", "4", marks=COMPLETE),
        pytest.param("search.batch_size", "10", "20", marks=COMPLETE),
        ("search.weights.lr", "0.1", "0.025"),
        pytest.param("space.channels", "3", "2", marks=COMPLETE),
        ("sync_batch_norm", "true", "False"),
    ],
)
def test_other_settings(
    key: str, value: str, was: str, command: Command, arguments: list[str], tmp_path: Path, tally: Tally
) -> None:
    assert command("search", *arguments, kill_after_step=5).code == -signal.SIGKILL
    run = tmp_path / "run"
    before = (run / "config.yaml").read_bytes()
    for given in (["search", *arguments], ["search", "--quiet", "--resume", run]):
        outcome = command(*given, f"--{key}", value)
        is_told = f"error: {key}: {was} in the run, {value.title() if value == 'true' else value} now" in outcome.err
        same = (run / "config.yaml").read_bytes() == before and latest_step(run) == 3
        tally("8. other settings", outcome.code == 2 and is_told and same, outcome.err)


def test_settings_that_may_change(
    command: Command, arguments: list[str], reference: Mapping[str, Path], tmp_path: Path, digits: Path, tally: Tally
) -> None:
    assert command("search", *arguments, kill_after_step=5).code == -signal.SIGKILL
    moved = shutil.copy(digits, tmp_path / "moved.npz")
    more = ["--data.root", moved, "--run.keep", 5, "--run.checkpoint_every", 2, "--process_timeout", 9]
    again = command("search", *arguments, *more)
    found = differences(tmp_path / "run", reference["search"])
    # What was derived notes the seed and the data's name, not where the data lay.
    tally("8. settings that may change", again.code == 0 and not found, (again.err, found))


def test_another_number_of_threads_is_noted(command: Command, arguments: list[str], tmp_path: Path) -> None:
    assert command("search", *arguments, kill_after_step=5).code == -signal.SIGKILL
    assert command("search", *arguments, "--threads", 2).code == 0
    (note,) = json.loads((tmp_path / "run" / "env.json").read_text())["resumed"]
    assert (note["bit_exact"], note["because"]) == (False, ["threads 1 -> 2"])
    assert note["changed"] == {"threads": [1, 2]}


def test_a_longer_run(command: Command, arguments: list[str], tmp_path: Path, tally: Tally) -> None:
    assert command("search", *arguments).code == 0
    longer = command("search", "--quiet", "--resume", tmp_path / "run", "--search.epochs", 5)
    shorter = command("search", "--quiet", "--resume", tmp_path / "run", "--search.epochs", 2)
    survived = longer.code == 0 and latest_step(tmp_path / "run") == 15 and shorter.code == 2
    tally("8. settings that may change", survived and "has made 15 steps, more than 6" in shorter.err, shorter.err)


def test_another_architecture(
    command: Command, arguments: list[str], reference: Mapping[str, Path], tally: Tally
) -> None:
    assert command("train", reference["search"], *arguments, kill_after_step=5).code == -signal.SIGKILL
    outcome = command("train", "darts_v2", *arguments)
    tally("8. other settings", outcome.code == 2 and "trains another architecture" in outcome.err, outcome.err)


def is_finite(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return bool(value.isfinite().all())
    if isinstance(value, Mapping):
        return all(map(is_finite, value.values()))
    return all(map(is_finite, value)) if isinstance(value, list | tuple) else True


@pytest.mark.parametrize("value", ["nan", *(pytest.param(each, marks=COMPLETE) for each in ("inf", "-inf"))])
@pytest.mark.parametrize(
    ("where", "call", "named"),
    [
        ("loss", 13, "alpha step 7, batch 1 of pass 3 through 'alpha': the loss is "),
        ("loss", 14, "weight step 7, batch 1 of pass 3 through 'weights': the loss is "),
        ("gradient", 15, "alpha step 8, batch 2 of pass 3 through 'alpha': the gradient is "),
        ("gradient", 16, "weight step 8, batch 2 of pass 3 through 'weights': the gradient is "),
        ("alpha", 8, "alpha step 8, batch 2 of pass 3 through 'alpha': alpha is no longer finite"),
    ],
)
def test_what_is_not_finite(
    where: str,
    call: int,
    named: str,
    value: str,
    command: Command,
    arguments: list[str],
    reference: Mapping[str, Path],
    tmp_path: Path,
    tally: Tally,
) -> None:
    outcome = command("search", *arguments, poison=[where, call, value])
    run = tmp_path / "run"
    assert outcome.code == 4, outcome.err
    assert f"error: {named}" in outcome.err
    step, saved = load_checkpoint(run)
    assert step == 6
    assert is_finite(saved)
    again = command("search", *arguments)
    found = differences(run, reference["search"])
    tally("9. a loss, gradient or alpha that is not finite", again.code == 0 and not found, (again.err, found))


def change_pixel(data: dict[str, np.ndarray]) -> None:
    data["train_x"][5, 3, 3] ^= 1


def change_label(data: dict[str, np.ndarray]) -> None:
    data["train_y"][7] = (data["train_y"][7] + 1) % 10


def change_test_image(data: dict[str, np.ndarray]) -> None:
    data["test_x"][0, 0, 0] ^= 1


def change_order(data: dict[str, np.ndarray]) -> None:
    for name in ("train_x", "train_y"):
        data[name] = data[name][::-1]


@pytest.mark.parametrize(
    "change",
    [change_pixel, change_test_image, *(pytest.param(each, marks=COMPLETE) for each in (change_label, change_order))],
)
def test_data_that_changed(
    change: Callable[[dict[str, np.ndarray]], None],
    command: Command,
    arguments: list[str],
    reference: Mapping[str, Path],
    tmp_path: Path,
    digits: Path,
    tally: Tally,
) -> None:
    assert command("search", *arguments, kill_after_step=5).code == -signal.SIGKILL
    with np.load(digits) as found:
        data = {name: found[name].copy() for name in found.files}
    change(data)
    np.savez(tmp_path / "changed.npz", **data)
    outcome = command("search", *arguments, "--data.root", tmp_path / "changed.npz")
    assert outcome.code == 8, outcome.err
    assert "have changed since" in outcome.err
    again = command("search", *arguments)
    found = differences(tmp_path / "run", reference["search"])
    tally("13. data that changed since the run began", again.code == 0 and not found, (again.err, found))
