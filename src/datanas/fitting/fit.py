"""From data to an exported network in a given time: plan, search, race, train, measure, export; goes on when killed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.console import say
from datanas.core.durations import read_seconds, show_seconds
from datanas.core.errors import ConfigError, Interrupted
from datanas.core.settings import merge, validate
from datanas.deploy.export import export
from datanas.deploy.load import CONFIG_FILE
from datanas.engine.config import Config, lay_over, resolve, with_overrides
from datanas.engine.earlier_run import load_run_config
from datanas.engine.process import process_kept
from datanas.engine.rebuild import with_network_of
from datanas.engine.search import search
from datanas.engine.sections import RunConfig
from datanas.engine.setup import load_task, memory_errors, select_device
from datanas.engine.train import train
from datanas.fitting.deadline import Deadline
from datanas.fitting.in_memory import is_in_memory, write_in_memory
from datanas.fitting.outcome import Outcome, measure_outcome
from datanas.fitting.plan import FEW_EPOCHS, FOR_REST, Plan, make_plan
from datanas.fitting.recognise import recognise, tell
from datanas.fitting.sizing import MOST_EPOCHS, at_width, measured, settled_size
from datanas.racing.race import race
from datanas.runs.folder import RunFolder, read_json
from datanas.tasks import tasks

REQUEST_FILE, PLAN_FILE, CLOCK_FILE, RESULT_FILE = "request.json", "plan.json", "clock.json", "fit.json"
SEARCH, RACE, TRAIN, EXPORT = "search", "race", "train", "export"
"""Folders of the stages, in that of the fit."""


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves.

    Attributes:
        path: its folder.
        architecture: of the network that was kept, wherever it came from.
        export: the folder of the network alone, for `datanas.load`.
        outcome: its figures, and those of what it was compared with.
        seconds: that all of it took.
    """

    path: Path
    architecture: Architecture
    export: Path
    outcome: Outcome
    seconds: float

    def predict(self, x: Any) -> Any:
        """As `datanas.load(result.export).predict(x)`."""
        from datanas.deploy.predict import load

        return load(self.export).predict(x)


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
        same_plan_as: the folder of another fit whose plan is repeated, epochs and all, however long it takes.
        resume: the folder of a fit to go on with.
        quiet: no progress on stderr.

    Raises:
        ConfigError, DataError: before anything is written.
        Interrupted: a signal came; the same call goes on.

    >>> result = fit("pictures", "10m")  # doctest: +SKIP
    """
    if resume is not None:
        if data is not None or task is not None or config or overrides or same_plan_as is not None:
            raise ConfigError("a fit that is resumed is settled; give nothing but its folder")
        folder = RunFolder.open(Path(resume))
        folder.require_kind("fit")
    else:
        if data is None:
            raise ConfigError("fit needs data: a folder, a file, or the name of a data set")
        new_file = None
        if is_in_memory(data):
            read_time(time)
            data, is_new = _file_of(data, task, config, overrides)
            new_file = data if is_new else None
        try:
            folder = _begin(data, time, task, config, overrides, max_macs, races, same_plan_as, quiet=quiet)
        except BaseException:
            if new_file is not None:
                new_file.unlink(missing_ok=True)
            raise
    with folder:
        return _Fit(folder, quiet=quiet).run()


def _file_of(
    data: Any, task: str | None, config: Mapping[str, Any] | None, overrides: Sequence[tuple[str, object]]
) -> tuple[Path, bool]:
    """The .npz of data in memory, beside the run, and whether it was written only now."""
    own = with_overrides(lay_over(config or {}, {"data": {"name": "npz"}}), overrides)
    targets: Any = own["data"].get("targets", "auto") if task is None else tasks[task].target_kind or "classes"
    root = validate(RunConfig, own.get("run") or {}, "run").root
    before = {*root.glob("*.npz")}
    file, _ = write_in_memory(data, root, targets=targets)
    return file, file not in before


def _begin(
    data: str | Path,
    time_given: str | float,
    task: str | None,
    config: Mapping[str, Any] | None,
    overrides: Sequence[tuple[str, object]],
    max_macs: int | None,
    races: bool,
    same_plan_as: str | Path | None,
    *,
    quiet: bool,
) -> RunFolder:
    """The folder of a fit: one that stands already, or a new one with its plan."""
    began = time.monotonic()
    seconds = read_time(time_given)
    given = settings_of(data, task, config, overrides)
    run = resolve(given).run
    request = {
        "given": json.loads(json.dumps({key: value for key, value in given.items() if key != "run"}, default=str)),
        "seconds": seconds,
        "max_macs": max_macs,
        "races": races,
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
        plan = make_plan(given, seconds, max_macs=max_macs, races=races)
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
    data: str | Path, task: str | None, config: Mapping[str, Any] | None, overrides: Sequence[tuple[str, object]]
) -> dict[str, Any]:
    """What was recognised in the data, under what was given."""
    own = with_overrides(config or {}, overrides)  # plugins among them are known from here on
    section = own.get("data")
    found = lay_over(config or {}, recognise(data, task, section if isinstance(section, Mapping) else {}))
    return with_overrides(found, overrides)


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
    place = {"seed", "threads", "device", "run"}
    for section in set(Config.model_fields) - place:
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
    revised = tuple(load_run_config(begun).train.revised) if (begun / "config.yaml").is_file() else plan.revised
    return replace(plan, config=resolve(own).model_dump(mode="json"), epochs=epochs, limit=None, revised=revised)


class _Fit:
    """A fit in its folder, from where an earlier attempt stopped."""

    def __init__(self, folder: RunFolder, *, quiet: bool) -> None:
        self._folder, self._path, self._quiet = folder, folder.path, quiet
        self._plan = Plan.from_json(read_json(self._path / PLAN_FILE))
        self._config = resolve(self._plan.config)
        self._before = float(read_json(self._path / CLOCK_FILE)["seconds"])
        self._began = time.monotonic()
        self._threads = self._config.threads or torch.get_num_threads()

    @property
    def _spent(self) -> float:
        return self._before + time.monotonic() - self._began

    def run(self) -> FitResult:
        """All stages that are not complete; of a fit that is, what it has said."""
        if (self._path / RESULT_FILE).is_file():
            return self._result(read_json(self._path / RESULT_FILE))
        try:
            searched = self._search()
            winner = self._race(searched)
            self._train(winner)
        except Interrupted as error:
            self._note_time()
            words = str(error).partition("; go on with")[0]
            raise Interrupted(
                f"{words}; go on with: datanas fit --resume {self._path}", error.exit_code - 128
            ) from None
        return self._end()

    def _search(self) -> Architecture:
        self._say("search", self._plan.search_seconds)
        found = search(self._settings(SEARCH), quiet=self._quiet).architecture
        self._note_time()
        return found

    def _race(self, searched: Architecture) -> Architecture:
        """What wins the race, or what was searched where there is none."""
        planned = self._plan.race
        if planned is None:
            return searched
        self._say("race", planned.seconds)
        asked = {name: value for name, value in asdict(planned).items() if name != "seconds"}
        settings = {
            "search": {"race": {**asked, "time": None}},
            "run": {"root": str(self._path), "name": RACE, "keep": 1},
        }
        winner = race(self._path / SEARCH, settings=settings, quiet=self._quiet).architecture
        self._note_time()
        return winner

    def _train(self, winner: Architecture) -> None:
        """Train for as long as the time allows, settled once, when it begins."""
        torch.set_num_threads(self._threads)  # a race has its own
        settings = with_network_of(self._settings(TRAIN), winner)
        if self._plan.epochs is None:
            self._settle(winner, settings)
        if self._plan.width is not None and self._plan.settled_for == winner.digest:
            settings = at_width(settings, self._plan.width)
        assert self._plan.epochs is not None
        revised, made = list(self._plan.revised), 0.0
        if (begun := self._path / TRAIN / "config.yaml").is_file():
            revised = load_run_config(begun.parent).train.revised
            clock = begun.with_name(CLOCK_FILE)
            made = float(read_json(clock)["seconds"]) if clock.is_file() else 0.0
        own: dict[str, Any] = {
            "train": {"epochs": self._plan.epochs, "validate_every": self._plan.epochs, "revised": revised}
        }
        if self._plan.cutout is not None and self._plan.epochs >= FEW_EPOCHS:
            own["task"] = {"train_augment": {"cutout": self._plan.cutout}}
        settings = resolve(merge(settings.model_dump(mode="json"), own))
        train(winner, settings, quiet=self._quiet, pace=self._pace(made))
        self._note_time()

    def _pace(self, made: float) -> Deadline | None:
        """What keeps the training in its time, of which so many seconds are gone; None where its length is given."""
        if self._plan.limit is None:
            return None
        until = time.monotonic() + self._plan.limit - made
        most = max(MOST_EPOCHS, self._plan.epochs or 0)
        return Deadline(self._plan.seconds, lambda: until - time.monotonic(), most)

    def _settle(self, winner: Architecture, settings: Config) -> None:
        """Choose how long the training is, and how wide its network where that is free, by the time that is left."""
        with memory_errors():
            device, began = select_device(settings), time.monotonic()
            task = load_task(settings, device)
            load = time.monotonic() - began
            # The data are read again by training, export and the last measurement.
            seconds = self._plan.seconds * (1 - FOR_REST) - self._spent - 3 * load
            if self._plan.is_free:
                width, size = settled_size(winner, settings, task, device, seconds)
                self._plan = replace(self._plan, width=width, settled_for=winner.digest)
            else:
                size = measured(winner, settings, task, device)
            seconds = self._plan.seconds * (1 - FOR_REST) - self._spent - 3 * load
        epochs = size.epochs_in(seconds)
        limit = seconds + load - size.measure  # it reads the data itself
        self._plan = replace(self._plan, epochs=epochs, limit=limit)
        self._folder.write_json(PLAN_FILE, self._plan.to_json())
        wide = "" if self._plan.width is None else f" at {self._plan.width} channels"
        self._say(f"train, {epochs} epochs{wide},", size.seconds_of(epochs))

    def _end(self) -> FitResult:
        """Export, measure and write what came of it."""
        folder = self._path / EXPORT
        if not (folder / CONFIG_FILE).is_file():
            shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was killed
            export(self._path / TRAIN, folder)
        race_path = self._path / RACE if self._plan.race is not None else None
        outcome = measure_outcome(self._path / TRAIN, race_path)
        self._note_time()
        Architecture.load(self._path / TRAIN / "architecture.json").save(self._path / "architecture.json")
        self._folder.write_json(RESULT_FILE, {**outcome.to_json(), "seconds": self._spent})
        return self._result(read_json(self._path / RESULT_FILE))

    def _result(self, found: Mapping[str, Any]) -> FitResult:
        """What a complete fit has written."""
        architecture = Architecture.load(self._path / "architecture.json")
        outcome = Outcome.from_json(found)
        return FitResult(self._path, architecture, self._path / EXPORT, outcome, float(found["seconds"]))

    def _settings(self, stage: str) -> Config:
        run = {"root": str(self._path), "name": stage, "keep": 1}
        return resolve(merge(self._config.model_dump(mode="json"), {"run": run}))

    def _say(self, stage: str, seconds: float) -> None:
        if not self._quiet:
            left = max(0.0, self._plan.seconds - self._spent)
            say(f"{stage} takes about {show_seconds(seconds)}; {show_seconds(left)} of the whole are left")

    def _note_time(self) -> None:
        self._folder.write_json(CLOCK_FILE, {"seconds": self._spent})
