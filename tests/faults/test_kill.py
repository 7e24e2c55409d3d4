"""SIGKILL: after steps, between two updates, and before, in and after each piece of work on storage."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from tests.faults.trial import Outcome, Tally, differences, points_of

from datanas.runs.checkpoint import latest_step, load_checkpoint

Command = Callable[..., Outcome]
Reference = Mapping[str, Path]
COMPLETE = pytest.mark.complete


def some(values: Iterable[object], *short: object) -> list[object]:
    """Those of `values` to try, all but the `short` ones only on demand."""
    return [pytest.param(value, marks=[] if value in short else COMPLETE) for value in values]


@pytest.mark.parametrize("step", some(range(1, 13), 1, 6, 12))
def test_after_every_step_of_a_search(
    step: int, command: Command, arguments: list[str], reference: Reference, tmp_path: Path, tally: Tally
) -> None:
    killed = command("search", *arguments, kill_after_step=step)
    assert killed.code == -signal.SIGKILL, killed.err
    # By its name or by its folder: both go on.
    again = command("search", *(arguments if step % 2 else ["--quiet", "--resume", tmp_path / "run"]))
    found = differences(tmp_path / "run", reference["search"])
    tally("1. SIGKILL after a step of a search", again.code == 0 and not found, (again.err, found))


PARTS_OF_A_STATE = ("supernet", "sampler", "weight_optimizer", "alpha_optimizer", "alpha_steps", "sums")


@pytest.mark.parametrize("key", some(PARTS_OF_A_STATE, "sampler", "alpha_optimizer", "sums"))
def test_a_state_without_one_of_its_keys_is_found(
    key: str, command: Command, arguments: list[str], reference: Reference, tmp_path: Path
) -> None:
    """Negative control."""
    # In the middle of an epoch, where the sums of its figures count.
    assert command("search", *arguments, signal_after_step=[8, int(signal.SIGTERM)]).code == 143
    assert command("search", *arguments, forget=key).code == 0
    assert differences(tmp_path / "run", reference["search"])


def steps_killed(points: list[str], part: int, parts: int, complete: bool, short: int) -> list[int]:
    """Which of the points (from 1) this part of the tests tries."""
    chosen = list(range(1, len(points) + 1))
    if not complete:
        chosen = chosen[:: max(1, len(chosen) // short)]
    return chosen[part::parts]


PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_at_every_point_of_a_save(
    part: int,
    command: Command,
    begun: Callable[..., Path],
    reference: Reference,
    tmp_path: Path,
    tally: Tally,
    request: pytest.FixtureRequest,
) -> None:
    run = begun()
    # With one to keep, the save removes an older checkpoint too.
    resume = ["search", "--quiet", "--resume", run, "--run.keep", 1]
    points = points_of(command, *resume, place="save", tmp_path=tmp_path)
    assert {"half of write", "after fsync", "before rename", "after rename", "before rmdir"} <= set(points)
    for point in steps_killed(points, part, PARTS, request.config.getoption("complete"), short=4):
        shutil.rmtree(run)
        begun()
        killed = command(*resume, kill_at_point=["save", point])
        assert killed.code == -signal.SIGKILL, (point, killed.err)
        step, _ = load_checkpoint(run)
        again = command("search", "--quiet", "--resume", run)
        found = differences(run, reference["search"])
        survived = step in (9, 12) and again.code == 0 and not found
        tally("2. SIGKILL at a point inside a save", survived, (points[point - 1], step, again.err, found))


@COMPLETE
@pytest.mark.parametrize("part", range(8))
def test_at_every_other_point_of_a_search(
    part: int, command: Command, arguments: list[str], reference: Reference, tmp_path: Path, tally: Tally
) -> None:
    run = tmp_path / "run"
    points = points_of(command, "search", *arguments, place="all", tmp_path=tmp_path)
    for point in range(1 + part, len(points) + 1, 8):
        shutil.rmtree(run)
        killed = command("search", *arguments, kill_at_point=["all", point])
        assert killed.code == -signal.SIGKILL, (point, killed.err)
        again = command("search", *arguments)
        found = differences(run, reference["search"])
        survived = again.code == 0 and not found
        tally("2. SIGKILL at any other point of storage work", survived, (points[point - 1], again.err, found))


@pytest.mark.parametrize("step", some(range(1, 13), 2, 6))
def test_between_the_alpha_step_and_the_weight_step(
    step: int, command: Command, arguments: list[str], reference: Reference, tmp_path: Path, tally: Tally
) -> None:
    assert command("search", *arguments, kill_before_weight_step=step).code == -signal.SIGKILL
    again = command("search", *arguments)
    found = differences(tmp_path / "run", reference["search"])
    tally("4. SIGKILL between the two updates of a step", again.code == 0 and not found, (again.err, found))


@pytest.mark.parametrize("step", some(range(1, 13), 1, 5, 12))
def test_in_a_training(
    step: int, command: Command, arguments: list[str], reference: Reference, tmp_path: Path, tally: Tally
) -> None:
    killed = command("train", reference["search"], *arguments, kill_after_step=step)
    assert killed.code == -signal.SIGKILL, killed.err
    again = command("train", reference["search"], *arguments)
    found = differences(tmp_path / "run", reference["train"])
    tally("5. SIGKILL after a step of a training", again.code == 0 and not found, (again.err, found))


@pytest.mark.parametrize("key", ["network", "average", "optimizer"])
def test_a_training_without_one_of_its_keys_is_found(
    key: str, command: Command, arguments: list[str], reference: Reference, tmp_path: Path
) -> None:
    """Negative control."""
    given = ["train", reference["search"], *arguments]
    assert command(*given, kill_after_step=8).code == -signal.SIGKILL
    assert command(*given, forget=key).code == 0
    assert differences(tmp_path / "run", reference["train"])


@pytest.mark.parametrize("part", range(2))
def test_at_every_point_of_the_end_of_a_training(
    part: int,
    command: Command,
    begun: Callable[..., Path],
    reference: Reference,
    tmp_path: Path,
    tally: Tally,
    request: pytest.FixtureRequest,
) -> None:
    run = begun("train")
    points = points_of(command, "train", "--quiet", "--resume", run, place="all", tmp_path=tmp_path)
    for point in steps_killed(points, part, 2, request.config.getoption("complete"), short=4):
        shutil.rmtree(run)
        begun("train")
        killed = command("train", "--quiet", "--resume", run, kill_at_point=["all", point])
        assert killed.code == -signal.SIGKILL, (point, killed.err)
        again = command("train", "--quiet", "--resume", run)
        found = differences(run, reference["train"])
        tally("5. SIGKILL at a point of a training's end", again.code == 0 and not found, (points[point - 1], found))


@pytest.mark.parametrize("part", range(2))
def test_while_derive_writes(
    part: int,
    command: Command,
    reference: Reference,
    tmp_path: Path,
    tally: Tally,
    request: pytest.FixtureRequest,
) -> None:
    """A JSON file or a picture is the old one or the new one, never half of one."""
    run = Path(shutil.copytree(reference["search"], tmp_path / "run"))
    files = [tmp_path / f"derived{suffix}" for suffix in (".json", ".svg", ".png")]
    derive = ["derive", run, "-o", files[0]]
    assert command(*derive).code == 0
    new = [file.read_bytes() for file in files]
    assert command("derive", run, "-o", files[0], "--samples", 2).code == 0
    old = [file.read_bytes() for file in files]
    assert all(first != second for first, second in zip(old, new, strict=True))
    points = points_of(command, *derive, place="all", tmp_path=tmp_path)
    for point in steps_killed(points, part, 2, request.config.getoption("complete"), short=4):
        for file, content in zip(files, old, strict=True):
            file.write_bytes(content)
        assert command(*derive, kill_at_point=["all", point]).code == -signal.SIGKILL
        now = [file.read_bytes() for file in files]
        whole = all(content in pair for content, *pair in zip(now, old, new, strict=True))
        again = command(*derive)
        survived = whole and again.code == 0 and [file.read_bytes() for file in files] == new
        tally("5. SIGKILL while derive writes JSON and pictures", survived, (points[point - 1], again.err))


def test_a_run_that_was_killed_says_that_it_was_gone_on_with(
    command: Command, arguments: list[str], tmp_path: Path
) -> None:
    assert command("search", *arguments, kill_after_step=5).code == -signal.SIGKILL
    assert latest_step(tmp_path / "run") == 3
    assert command("search", *arguments).code == 0
    (note,) = json.loads((tmp_path / "run" / "env.json").read_text())["resumed"]
    assert (note["from_step"], note["bit_exact"], note["because"]) == (3, True, [])


def test_logging_and_evaluating_more_changes_no_bit_of_what_is_learned(
    command: Command, arguments: list[str], reference: Reference, tmp_path: Path
) -> None:
    more = ["--search.gap.children", 5, "--search.gap.examples", 40, "--search.gap.statistics_batches", 2]
    assert command("search", *arguments, *more, "--run.checkpoint_minutes", 1e-9, "--run.keep", 12).code == 0
    run = tmp_path / "run"
    assert len(list((run / "checkpoints").iterdir())) == 12
    states = [load_checkpoint(path)[1]["job"] for path in (run, reference["search"])]
    assert repr(states[0]) == repr(states[1])
    tensors = [
        (path / "checkpoints/step-00000012/state.safetensors").read_bytes() for path in (run, reference["search"])
    ]
    assert tensors[0] == tensors[1]


COUNTING = '''
"""Classification of which every loss depends on how many there were before."""

from typing import Literal

from datanas.tasks import register_task
from datanas.tasks.classification import Classification


@register_task("counting")
class Counting(Classification):
    class Config(Classification.Config):
        name: Literal["counting"] = "counting"

    count = 0

    def loss(self, model, batch):
        self.count += 1
        return super().loss(model, batch) * (1 + 0.01 * self.count)

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]
'''


@pytest.mark.parametrize("lost", [False, True])
def test_a_task_s_own_state_is_part_of_the_run(
    lost: bool, command: Command, tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    plugin = tmp_path / "counting.py"
    plugin.write_text(COUNTING)
    more = ["--plugin", plugin, "--task.name", "counting"]
    assert command("search", *tiny(tmp_path, "whole"), *more).code == 0
    given = ["search", *tiny(tmp_path), *more]
    assert command(*given, signal_after_step=[5, int(signal.SIGTERM)]).code == 143
    again = command(*given, **({"forget": "task"} if lost else {}))
    assert again.code == 0, again.err
    assert bool(differences(tmp_path / "run", tmp_path / "whole")) == lost


def test_on_the_cpu_deterministic_kernels_are_the_usual_ones(
    command: Command, arguments: list[str], reference: Reference, tmp_path: Path
) -> None:
    outcome = command("search", *arguments, "--deterministic", "true")
    assert (outcome.code, outcome.err) == (0, "")
    assert differences(tmp_path / "run", reference["search"]) == []
