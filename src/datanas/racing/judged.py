"""What a race and a front share: the recipe of a finished search, and the examples that it has left to a judge."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.paths import is_file, shown
from datanas.core.settings import merge
from datanas.engine.changes import flat
from datanas.engine.config import Config, resolve
from datanas.engine.earlier_run import load_run_config
from datanas.engine.search_result import RESULT_FILE
from datanas.engine.setup import load_task, select_device
from datanas.runs.folder import RunFolder, read_json
from datanas.tasks import tasks
from datanas.tasks.base import Task

Settings = Mapping[str, Any] | Sequence[tuple[str, object]]
_NOTHING_LEFT = (
    "{run}: the search has used all training examples, so none are left to judge by; search again with "
    "--search.choice race, or with --search.judge 0.1"
)


def free_sizes(recipe: Mapping[str, Any], said: Collection[str]) -> None:
    """Leave the sizes of a recipe's race to the time where somebody says one, but for those said along with it.

    Args:
        said: dotted names of what somebody says besides the recipe, which is changed.
    """
    search = recipe.get("search")
    race = search.get("race") if isinstance(search, Mapping) else None
    if "search.race.time" in said and isinstance(race, dict):
        for name in {"candidates", "epochs"} - {each.removeprefix("search.race.") for each in said}:
            race.pop(name, None)


def recipe_of(runs: Sequence[Path], settings: Settings) -> Config:
    """The recipe of the first search, with what was asked for on top.

    Raises:
        ConfigError: they do not fit each other, are not finished, or have left nothing to a judge.
    """
    recipes = [_finished(run) for run in runs]
    for run, other in zip(runs[1:], recipes[1:], strict=True):
        for section in ("space", "task", "data"):
            if getattr(other, section) != getattr(recipes[0], section):
                raise ConfigError(
                    f"{run}: another {section} than {runs[0]} has; a race compares candidates that can be trained alike"
                )
    raw = recipes[0].model_dump(mode="json")
    raw["run"] |= {"name": None}
    raw["truth"] = {}
    free_sizes(raw, {name for name, _ in (flat(settings) if isinstance(settings, Mapping) else settings)})
    if isinstance(settings, Mapping):
        raw, settings = merge(raw, settings), ()
    config = resolve(raw, list(settings))
    _require_alike(config, recipes[0])
    known = tasks[config.task.name]
    for run, each in zip(runs, recipes, strict=True):
        if not (each.search.leaves_aside or known.has_validation or known.validation_is_up_to_data):
            raise ConfigError(_NOTHING_LEFT.format(run=run))
        if each.search.judge != recipes[0].search.judge:
            raise ConfigError(f"{run}: search.judge is not that of {runs[0]}; what one left the other has used")
    if config.devices * config.num_nodes > 1:
        raise ConfigError("devices: a race runs its trainings side by side; say how many with search.race.processes")
    return config


def _require_alike(config: Config, searched: Config) -> None:
    """What is trained must be what was searched, and the judge's examples those that the search has left.

    Raises:
        ConfigError: a setting says otherwise; which.
    """
    for section in ("space", "data"):
        new, old = (getattr(each, section).model_dump() for each in (config, searched))
        changed = [name for name in new if name != "root" and new[name] != old.get(name)]
        if changed:
            raise ConfigError(
                f"{section}.{changed[0]}: is settled by the search; leave it out, or search again with it"
            )
    if config.search.judge != searched.search.judge:
        raise ConfigError("search.judge: is settled by the search, which has used all other examples; leave it out")


def _finished(run: Path) -> Config:
    if not is_file(run / "config.yaml", CheckpointError):
        raise ConfigError(f"not a run folder: no config.yaml in {shown(run)}")
    if not (run / RESULT_FILE).is_file():
        if (run / "genotypes").is_dir() or (run / "checkpoints").is_dir():
            raise ConfigError(f"{run}: no finished search; go on with it: datanas search --resume {run}")
        raise ConfigError(f"{run}: no search, and a race needs finished ones")
    return load_run_config(run)


def load_judged(config: Config, run: Path | None) -> tuple[Task[Any], torch.device, float, int]:
    """The task with its data, the judge's examples set aside; the device; seconds of loading; examples of the judge.

    Args:
        run: whose search it was; None of a race without.

    Raises:
        ConfigError: too few are left to the judge.
    """
    began = time.monotonic()
    device = select_device(config)
    task = load_task(config, device)
    seconds = time.monotonic() - began
    task.set_aside(config.search.judge or None)
    return task, device, seconds, _examples_of_judge(config, task, run)


def _examples_of_judge(config: Config, task: Task[Any], run: Path | None) -> int:
    if task.has_validation:
        return len(task.chosen().get("validation", ()))
    settings = config.search
    if not settings.leaves_aside:
        raise ConfigError(_NOTHING_LEFT.format(run=run))
    there = len(task.chosen()["validation"])
    if settings.judge is not None:
        least = min(1000 * settings.judge / there, 0.2)
        if settings.judge < least - 1e-3:
            raise ConfigError(
                f"search.judge: {there} examples are too few to judge by; at least 1,000 or a fifth are needed: "
                f"search again with --search.judge {least:.2g}, or with --search.choice race"
            )
    return there


REQUEST_FILE = "request.json"


def open_or_create(config: Config, kind: str, request: Mapping[str, Any] | None = None) -> RunFolder:
    """The run folder of that name, to go on with it, or a new one.

    Args:
        request: what is asked for besides the configuration; stands in request.json.

    Raises:
        ConfigError: the one that is there has other settings.
        CheckpointError: it is of another kind.
    """
    name = config.run.name
    if name is not None and (config.run.root / name / "config.yaml").is_file():
        folder = RunFolder.open(config.run.root / name)
        folder.require_kind(kind, "; choose another --run.name")
        is_same = _substance(load_run_config(folder.path)) == _substance(config)
        if not is_same or (request is not None and read_json(folder.path / REQUEST_FILE) != request):
            folder.close()
            raise ConfigError(f"{folder.path}: is a {kind} with other settings; choose another --run.name")
        return folder
    folder = RunFolder.create(config.run.root, name, kind)
    here = config.run.model_copy(update={"name": folder.path.name})
    files = {} if request is None else {REQUEST_FILE: json.dumps(request, indent=2) + "\n"}
    folder.settle({**files, "config.yaml": config.model_copy(update={"run": here}).to_yaml()}, kind)
    return folder


def _substance(config: Config) -> Mapping[str, Any]:
    """What makes it this one and no other."""
    data = config.model_dump(mode="json", exclude={"run", "threads", "code_folders"})
    data["search"]["race"].pop("processes")
    return data
