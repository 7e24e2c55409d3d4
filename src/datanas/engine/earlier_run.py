"""What a run folder that is there already says: its recipe, and the state that it has saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.own_function import find_function
from datanas.core.paths import is_file, json_object, shown
from datanas.core.settings import read_yaml
from datanas.engine.components import lay_over
from datanas.engine.config import Config, resolve
from datanas.engine.earlier import with_unsaid
from datanas.lookup import run_folder
from datanas.runs.checkpoint import load_checkpoint

TRAIN = "train"
"""In the folder of a fit, that of its training."""

_log = logging.getLogger(__name__)


def trained_run(run: str | Path) -> Path:
    """The run folder of a training: that inside, of the folder of a fit.

    Raises:
        CheckpointError: the system cannot tell what is there.
    """
    inner = Path(run) / TRAIN
    return inner if is_file(inner / "config.yaml", CheckpointError) else Path(run)


def to_finish(run: Path) -> str:
    """What goes on with a training that has no network yet, for people."""
    fits = (folder for folder in (run, run.parent) if json_object(folder / "env.json").get("kind") == "fit")
    fit = next(fits, None)
    return "finish it with train --resume" if fit is None else f"finish it with datanas fit --resume {shown(fit)}"


def load_run_config(run: str | Path, *, learns: bool = True) -> Config:
    """The resolved configuration of a run folder.

    Args:
        learns: whether its loss and its transforms are wanted; a network is measured without functions of one's own,
            which may be gone by then. Where its metric is gone, too, a warning says that the task's is taken.
    """
    path = Path(run) / "config.yaml"
    if not is_file(path, CheckpointError):
        raise CheckpointError(f"not a run folder: no config.yaml in {shown(run)}")
    raw = with_unsaid(read_yaml(path), Path(run))
    return resolve(raw if learns else {**raw, "task": _to_measure(raw, Path(run))})


def _to_measure(raw: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The section `task` as a network is measured by it."""
    section = _without_functions(raw.get("task") or {})
    if (name := section.get("metric")) is not None:
        try:
            find_function(name, [Path(folder) for folder in raw.get("code_folders") or ()])
        except ConfigError as gone:
            _log.warning("%s was measured by task.metric, which is not there (%s); the task's own is taken", run, gone)
            del section["metric"]
            section.pop("lower_is_better", None)
    return section


def _without_functions(section: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the settings that name functions of one's own."""
    return {
        name: _without_functions(value) if isinstance(value, Mapping) else value
        for name, value in section.items()
        if name not in ("loss", "transform")
    }


_OF_THE_PLACE = ("run", "truth", "devices", "num_nodes", "strategy", "process_timeout")
"""What a training does not take over from the run whose architecture it trains: where it is, who makes it."""


def with_recipe_of(
    source: Architecture | str | Path,
    recipe: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What is asked for of a training, laid over the recipe of the run whose architecture is trained.

    Args:
        source: what is trained; only of a run folder there is anything to take over.
        recipe: what is asked for; it lies on top.
        settings: what is asked for besides, by dotted names. Where it or the recipe names another task, the run's way
            of training is not taken over: that of the other task holds.

    Raises:
        CheckpointError, ConfigError: the run's recipe cannot be read.
    """
    folder = run_folder(source)
    if folder is None:
        return dict(recipe)
    before = load_run_config(folder).model_dump(mode="json")
    task = settings.get("task.name") or settings.get("task") or _named(recipe.get("task"))
    inherited = {name: value for name, value in before.items() if name not in _OF_THE_PLACE}
    inherited["run"] = {name: value for name, value in before["run"].items() if name not in ("root", "name")}
    if task not in (None, before["task"]["name"]):
        inherited = {
            name: value for name, value in inherited.items() if name not in ("train", "search", "space", "sampler")
        }
    return lay_over(inherited, recipe)


def _named(section: object) -> object:
    return section.get("name") if isinstance(section, Mapping) else section


def load_job_state(run: Path, kind: str, step: int | None = None) -> tuple[int, dict[str, Any]]:
    """A step and the state that a run saved there; its last checkpoint for None.

    Raises:
        CheckpointError: there is no usable one, or it is of a run of another kind.
    """
    step, saved = load_checkpoint(run, step)
    if saved.get("kind") != kind:
        raise CheckpointError(f"{run}: a {kind} run is needed, this is a {saved.get('kind')} run")
    return step, saved


def load_chosen_state(run: Path, kind: str, checkpoint: Literal["last", "best"]) -> tuple[int, dict[str, Any]]:
    """The step and state of the last checkpoint, or of the best.

    Raises:
        CheckpointError: as `load_job_state`, or no epoch has been compared yet.
    """
    step, saved = load_job_state(run, kind)
    if checkpoint == "last":
        return step, saved
    if saved["best"] is None:
        raise CheckpointError(f"{run}: has no best checkpoint: nothing was measured after an epoch")
    return load_job_state(run, kind, int(saved["best"][1]))
