"""From data to an exported network in a given time: plan, search, race, train, measure, export; goes on when killed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datanas.core.console import say
from datanas.core.durations import read_seconds
from datanas.core.errors import ConfigError
from datanas.core.own_function import Function
from datanas.core.settings import merge, validate
from datanas.engine.components import lay_over, with_overrides
from datanas.engine.config import Config, resolve
from datanas.engine.earlier_run import TRAIN, load_run_config
from datanas.engine.process import process_kept
from datanas.engine.sections import RunConfig
from datanas.fitting.in_memory import is_in_memory, write_in_memory
from datanas.fitting.own_functions import names_of, settings_of_own
from datanas.fitting.plan import Plan
from datanas.fitting.planning import make_plan
from datanas.fitting.recognise import recognise, tell
from datanas.fitting.stages import CLOCK_FILE, PLAN_FILE, REQUEST_FILE, FitResult, Stages
from datanas.lookup import variant_name
from datanas.runs.folder import RunFolder, read_json
from datanas.tasks import tasks


@process_kept()
def fit(
    data: Any = None,
    time: str | float = "10m",
    *,
    task: str | None = None,
    config: Mapping[str, Any] | None = None,
    overrides: Sequence[tuple[str, object]] = (),
    max_macs: int | None = None,
    races: bool = True,
    references: Sequence[str] = (),
    loss: Function | str | None = None,
    metric: Function | str | None = None,
    transform: Function | str | None = None,
    groups: Any = None,
    same_plan_as: str | Path | None = None,
    resume: str | Path | None = None,
    quiet: bool = False,
) -> FitResult:
    """Search, choose, train and export a network for these data within a time; a fit of that name goes on.

    Args:
        data: a folder, a file or the name of a data set (`datanas.fitting.recognise`); or images and labels (X, y), a
            torch Dataset of (image, label), or a pair (training, testing) of two of these, which are written beside the
            run (`datanas.fitting.in_memory`).
        time: for all of it, such as "10m", or seconds.
        task: what to do with the data; None for what such data are usually for.
        config, overrides: settings that hold whatever is planned, nested and as dotted names.
        max_macs: a bound on the multiply-adds of the network.
        races: choose among trained candidates where there is time.
        references: networks that take part in the race besides, by name, such as "timm:efficientnet_b0"; where weights
            are at hand that its training starts from, "timm:efficientnet_b0@model.safetensors".
        loss: of one's own, in the place of the task's: (scores, targets) -> the mean, a scalar; a function that a
            module holds, or its name "my_functions:focal" (`task.loss`).
        metric: of one's own, likewise: (scores, targets) of a whole part -> the number by which networks are compared,
            the higher the better unless `task.lower_is_better` (`task.metric`).
        transform: of one's own, of each training image (channels, h, w) in 0..1, likewise
            (`task.train_augment.transform`, `task.search_augment.transform`).
        groups: of images in memory, (n,), whole numbers or words: those for training of one group, such as of one
            patient, are on one side of every split. Files have theirs in them (docs/data.md).
        same_plan_as: the folder of another fit whose plan is repeated, epochs and all, however long it takes.
        resume: the folder of a fit to go on with.
        quiet: no progress on stderr.

    Raises:
        ConfigError, DataError: before anything is written.
        Interrupted: a signal came; the same call goes on.

    >>> result = fit("pictures", "10m")  # doctest: +SKIP
    """
    if resume is not None:
        settled = (data, task, loss, metric, transform, groups, same_plan_as)
        if any(each is not None for each in settled) or config or overrides or references:
            raise ConfigError("a fit that is resumed is settled; give nothing but its folder")
        folder = RunFolder.open(Path(resume))
        folder.require_kind("fit")
    else:
        if data is None:
            raise ConfigError("fit needs data: a folder, a file, or the name of a data set")
        own, new_file = names_of(loss=loss, metric=metric, transform=transform), None
        if is_in_memory(data):
            read_time(time)
            data, is_new = _file_of(data, task, config, overrides, groups)
            new_file = data if is_new else None
        elif groups is not None:
            raise ConfigError("groups: are of images in memory; files say theirs themselves (docs/data.md)")
        try:
            folder = _begin(
                data, time, task, config, overrides, max_macs, races, references, own, same_plan_as, quiet=quiet
            )
        except BaseException:
            if new_file is not None:
                new_file.unlink(missing_ok=True)
            raise
    with folder:
        return Stages(folder, quiet=quiet).run()


def _file_of(
    data: Any, task: str | None, config: Mapping[str, Any] | None, overrides: Sequence[tuple[str, object]], groups: Any
) -> tuple[Path, bool]:
    """The .npz of data in memory, beside the run, and whether it was written only now."""
    own = with_overrides(lay_over(config or {}, {"data": {"name": "npz"}}), overrides)
    targets: Any = own["data"].get("targets", "auto") if task is None else tasks[task].target_kind or "classes"
    root = validate(RunConfig, own.get("run") or {}, "run").root
    before = {*root.glob("*.npz")}
    file, _ = write_in_memory(data, root, targets=targets, groups=groups)
    return file, file not in before


def _begin(
    data: str | Path,
    time_given: str | float,
    task: str | None,
    config: Mapping[str, Any] | None,
    overrides: Sequence[tuple[str, object]],
    max_macs: int | None,
    races: bool,
    references: Sequence[str],
    own: dict[str, str],
    same_plan_as: str | Path | None,
    *,
    quiet: bool,
) -> RunFolder:
    """The folder of a fit: one that stands already, or a new one with its plan."""
    began = time.monotonic()
    seconds = read_time(time_given)
    references = [variant_name(name) for name in references]  # what is not known is said before any data are read
    if references and same_plan_as is not None:
        raise ConfigError("references: stand in the plan that is repeated; leave them out")
    given = settings_of(data, task, config, overrides, own)
    run = resolve(given).run
    request = {
        "given": json.loads(json.dumps({key: value for key, value in given.items() if key != "run"}, default=str)),
        "seconds": seconds,
        "max_macs": max_macs,
        "races": races,
        **({"references": [*references]} if references else {}),
        "same_plan_as": None if same_plan_as is None else str(Path(same_plan_as).absolute()),
    }
    if run.name is not None and (run.root / run.name / "config.yaml").is_file():
        folder = RunFolder.open(run.root / run.name)
        folder.require_kind("fit", "; choose another --run.name")
        if read_json(folder.path / REQUEST_FILE) != request:
            folder.close()
            raise ConfigError(f"{folder.path}: is a fit of other data, time or settings; choose another --run.name")
        return folder
    RunFolder.require_free(run.root, run.name)
    if not quiet:
        say(tell(given))
    if same_plan_as is None:
        plan = make_plan(given, seconds, max_macs=max_macs, races=races, others=references)
    else:
        plan = plan_of(Path(same_plan_as), given)
    if not quiet:
        say(plan.text())
    folder = RunFolder.create(run.root, run.name, "fit")
    texts = {REQUEST_FILE: request, PLAN_FILE: plan.to_json(), CLOCK_FILE: {"seconds": time.monotonic() - began}}
    files = {name: json.dumps(content, indent=2) + "\n" for name, content in texts.items()}
    folder.settle({**files, "config.yaml": resolve(plan.config).to_yaml()}, "fit")
    return folder


def settings_of(
    data: str | Path,
    task: str | None,
    config: Mapping[str, Any] | None,
    overrides: Sequence[tuple[str, object]],
    own: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What was recognised in the data, under what was given.

    Args:
        own: the names of functions of one's own (`names_of`).
    """
    given = with_overrides(config or {}, overrides)  # plugins among them are known from here on
    section = given.get("data")
    settings = lay_over(config or {}, recognise(data, task, section if isinstance(section, Mapping) else {}))
    return with_overrides(merge(settings, settings_of_own(own or {}, settings["task"]["name"])), overrides)


def read_time(given: object) -> float:
    """Seconds.

    Raises:
        ConfigError: no time.
    """
    try:
        return read_seconds(float(given) if isinstance(given, int) else given)
    except ValueError as error:
        raise ConfigError(f"time: {error}") from None


def plan_of(run: Path, given: Mapping[str, Any]) -> Plan:
    """The plan of another fit for these data, its training as long as it was in the end.

    Raises:
        CheckpointError: there is none.
        ConfigError: something is given that the plan has otherwise.
    """
    plan = Plan.from_json(read_json(run / PLAN_FILE))
    before = resolve(plan.config)
    now = resolve(merge(plan.config, {name: value for name, value in given.items() if name != "run"}))
    exempt = {"seed", "threads", "device", "run", "code_folders"}
    for section in set(Config.model_fields) - exempt:
        old, new = (getattr(each, section) for each in (before, now))
        if section == "data":
            old, new = (each.model_copy(update={"root": None}) for each in (old, new))
        if old != new:
            raise ConfigError(
                f"same_plan_as: {run} has another {section}; it repeats the whole plan, so leave that out"
            )
    own = merge(now.model_dump(mode="json"), {"run": {**dict(given.get("run") or {}), "name": None}})
    epochs = plan.epochs or before.train.epochs
    begun = run / TRAIN
    revised = load_run_config(begun).train.revised if (begun / "config.yaml").is_file() else plan.revised
    return replace(plan, config=resolve(own).model_dump(mode="json"), epochs=epochs, limit=None, revised=revised)
