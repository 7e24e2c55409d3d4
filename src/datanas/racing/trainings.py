"""Trainings of candidates side by side, each in a folder of its own inside a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from datanas.comparison.pool import Command, run_all
from datanas.core.atomic import write_atomic
from datanas.core.errors import CheckpointError, Interrupted
from datanas.engine.config import Config
from datanas.racing.candidates import Candidate
from datanas.racing.outcome import Trained
from datanas.runs.metrics import decode


def training_of(config: Config, epochs: int) -> Config:
    """The training of a candidate: from scratch, with a schedule of its own, judged at its end."""
    train = config.train
    weights = train.weights.model_copy(update={"warm_up_epochs": min(train.weights.warm_up_epochs, epochs / 4)})
    changes = {
        "epochs": epochs,
        "revised": (),
        "validate_every": epochs,
        "validation": 0.0,
        "parts": "judge",
        "test": False,
        "average_after": None,
        "start_from": None,
        "max_macs": config.search.race.max_macs or train.max_macs,
        "examples": config.search.race.examples,
        "weights": weights,
    }
    return config.model_copy(update={"train": train.model_copy(update=changes)})


def train_all(
    path: Path,
    stage: str,
    wanted: Mapping[int, tuple[Candidate, Config]],
    workers: int,
    threads: int,
    say: Callable[[str], None],
    resumed_by: str,
) -> dict[int, Trained]:
    """Train candidates as far as an earlier attempt has not, and read what they reach; those that fail are left out.

    Args:
        path: the run, in which each has its folder PATH/STAGE/candidate-NN.
        stage: such as "rung-1".
        wanted: by number, each with its training (`training_of`).
        workers: how many run at a time.
        threads: CPU threads of each.
        say: takes a line of progress.
        resumed_by: the command that goes on with the run.

    Raises:
        CheckpointError: fewer than two could be trained, or not even the only one.
        Interrupted: a signal came; every training has saved its state.
    """
    commands, folders = [], {}
    for number, (candidate, training) in wanted.items():
        run = candidate_folder(path, stage, number)
        file = path / "recipes" / f"{stage}-candidate-{number:02d}.yaml"
        file.parent.mkdir(exist_ok=True)
        here = training.run.model_copy(update={"root": run.parent, "name": run.name, "keep": 1})
        config = training.model_copy(update={"run": here, "threads": threads})
        write_atomic(file, config.to_yaml().encode())
        cell = file.with_suffix(".json")
        write_atomic(cell, candidate.architecture.to_json().encode())
        arguments = ("train", str(cell), "--config", str(file), "--quiet")
        log = path / "logs" / f"{file.stem}.log"
        name = f"{stage.replace('-', ' ')}, candidate {number} ({candidate.origin})"
        commands.append(Command(name, arguments, run / "evaluation.json", log))
        folders[number] = run
    try:
        failed = run_all(commands, workers, threads, say)
    except Interrupted as error:
        raise Interrupted(f"{error}; go on with: {resumed_by}", error.exit_code - 128) from None
    results = {number: trained for number, run in folders.items() if (trained := _trained(run)) is not None}
    if len(results) < min(2, len(wanted)):
        words = next(iter(failed.values()), "nothing was measured")
        raise CheckpointError(f"{path}: fewer than two candidates could be trained: {words}")
    return results


def candidate_folder(path: Path, stage: str, number: int) -> Path:
    """Where a candidate is trained in a stage of the run `path`."""
    return path / stage / f"candidate-{number:02d}"


def _trained(run: Path) -> Trained | None:
    """What a training has measured; None of one that failed."""
    try:
        evaluation = decode(json.loads((run / "evaluation.json").read_bytes()))
    except FileNotFoundError:
        return None
    return Trained(
        evaluation["score"],
        evaluation["preference"],
        evaluation["parameters"],
        evaluation["macs"],
        evaluation["channels"],
        evaluation.get("interval") and tuple(evaluation["interval"]),
    )
