"""The stages of a fit in its folder: search, race, training, export, measurement."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.console import say
from datanas.core.durations import show_seconds
from datanas.core.errors import Interrupted
from datanas.core.settings import merge
from datanas.deploy.export import export
from datanas.deploy.load import CONFIG_FILE
from datanas.engine.config import Config, resolve
from datanas.engine.earlier_run import TRAIN, load_run_config
from datanas.engine.rebuild import with_network_of
from datanas.engine.search import search
from datanas.engine.setup import build_space, load_task, memory_errors, select_device
from datanas.engine.train import train
from datanas.fitting.deadline import Deadline
from datanas.fitting.outcome import Outcome, measure_outcome
from datanas.fitting.plan import Plan
from datanas.fitting.planning import FEW_EPOCHS, FOR_REST
from datanas.fitting.sizing import MOST_EPOCHS, at_width, measured, settled_size
from datanas.racing.candidates import most_promising
from datanas.racing.costs import epochs_text
from datanas.racing.race import race
from datanas.runs.folder import RunFolder, read_json

REQUEST_FILE, PLAN_FILE, CLOCK_FILE, RESULT_FILE = "request.json", "plan.json", "clock.json", "fit.json"
SEARCH, RACE, EXPORT = "search", "race", "export"
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


class Stages:
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
        architecture = search(self._settings(SEARCH), quiet=self._quiet).architecture
        self._note_time()
        return architecture

    def _race(self, searched: Architecture) -> Architecture:
        """What wins the race; where there is none, what was searched, or would be first in a race at equal costs."""
        planned = self._plan.race
        if planned is None:
            space = build_space(self._config)
            return (most_promising(self._path / SEARCH, space) if self._config.widens else None) or searched
        self._say("race", planned.seconds)
        race_settings = {name: value for name, value in asdict(planned).items() if name != "seconds"}
        settings = {
            "search": {"race": {**race_settings, "time": None}},
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
        revised, made = self._plan.revised, 0.0
        if (begun := self._path / TRAIN / "config.yaml").is_file():
            revised = load_run_config(begun.parent).train.revised
            clock = begun.with_name(CLOCK_FILE)
            made = float(read_json(clock)["seconds"]) if clock.is_file() else 0.0
        own: dict[str, Any] = {
            "train": {"epochs": self._plan.epochs, "validate_every": self._plan.epochs, "revised": revised}
        }
        if self._plan.examples is not None:
            own["train"]["examples"] = self._plan.examples
        if self._plan.cutout is not None and self._plan.epochs >= FEW_EPOCHS:
            own["task"] = {"train_augment": {"cutout": self._plan.cutout}}
        settings = resolve(merge(settings.model_dump(mode="json"), own))
        train(winner, settings, quiet=self._quiet, policy=self._policy(made))
        self._note_time()

    def _policy(self, made: float) -> Deadline | None:
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
            if self._plan.is_free and settings.train.Network.has_width:
                width, size = settled_size(winner, settings, task, device, seconds)
                self._plan = replace(self._plan, width=width, settled_for=winner.digest)
            else:
                size = measured(winner, settings, task, device)
            seconds = self._plan.seconds * (1 - FOR_REST) - self._spent - 3 * load
        epochs, examples = size.epochs_in(seconds), size.examples_in(seconds)
        limit = seconds + load - size.measure  # it reads the data itself
        self._plan = replace(self._plan, epochs=epochs, limit=limit, examples=examples)
        self._folder.write_json(PLAN_FILE, self._plan.to_json())
        wide = "" if self._plan.width is None else f" at {self._plan.width} channels"
        of = "" if examples is None else f" of {examples:,} {task.unit}s"
        passes = epochs if examples is None else examples / size.examples
        self._say(f"train, {epochs_text(epochs)}{of}{wide},", size.seconds_of(passes))

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

    def _result(self, document: Mapping[str, Any]) -> FitResult:
        """What a complete fit has written."""
        architecture = Architecture.load(self._path / "architecture.json")
        outcome = Outcome.from_json(document)
        return FitResult(self._path, architecture, self._path / EXPORT, outcome, float(document["seconds"]))

    def _settings(self, stage: str) -> Config:
        run = {"root": str(self._path), "name": stage, "keep": 1}
        return resolve(merge(self._config.model_dump(mode="json"), {"run": run}))

    def _say(self, stage: str, seconds: float) -> None:
        if not self._quiet:
            left = max(0.0, self._plan.seconds - self._spent)
            say(f"{stage} takes about {show_seconds(seconds)}; {show_seconds(left)} of the whole are left")

    def _note_time(self) -> None:
        self._folder.write_json(CLOCK_FILE, {"seconds": self._spent})
