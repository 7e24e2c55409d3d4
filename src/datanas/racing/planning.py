"""The settings of a search that nobody gave, from its data and from the time that it may take."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from datanas.core.console import say
from datanas.core.durations import read_seconds, show_seconds
from datanas.core.errors import ConfigError, DataError, StorageError
from datanas.core.joining import is_first
from datanas.core.paths import is_folder
from datanas.core.settings import merge
from datanas.data import datasets
from datanas.engine.components import with_overrides
from datanas.engine.config import Config, resolve, typed_recipe
from datanas.engine.dry_run import measure_job
from datanas.engine.earlier_run import load_run_config
from datanas.engine.fit import require_search
from datanas.engine.process import process_kept
from datanas.engine.search import SearchJob
from datanas.engine.setup import load_table, load_task, memory_errors, select_device
from datanas.racing.candidates import random_candidates
from datanas.racing.costs import FEWEST_STEPS, MEASURED, Costs, epochs_text
from datanas.racing.plan import SIZES, Pace, make_plan, measure_pace, trainings_at_a_time
from datanas.racing.trainings import training_of
from datanas.spaces import spaces
from datanas.tasks import tasks
from datanas.tasks.base import Task
from datanas.tasks.image_task import ImageTask

DEFAULT_BUDGET = "20m"
"""What a search may take of which nothing but the data is given."""
_LARGE = 10_000  # images, from which on networks are twice as wide
_TRAVEL = 8.0  # alpha.lr times alpha steps, as in recipes/small/nasbench201.yaml
_TRIED = 3  # cells whose training is timed
_LEAST_TRAINING, _MOST_TRAINING = 10, 100  # epochs of the training of what was found; half of the time between them
_SIDES = (64, 32)


def is_plain(given: Mapping[str, Any]) -> bool:
    """Whether a recipe leaves to the data how long and how large a search is."""
    search, config = given.get("search") or {}, resolve(given)
    is_told = isinstance(search, Mapping) and "epochs" in search
    return not is_told and tasks[config.task.name].metric.counts_examples and config.devices * config.num_nodes == 1


@process_kept()
def planned(
    raw: Mapping[str, Any],
    overrides: Sequence[tuple[str, object]] = (),
    *,
    budget: object = None,
    has_recipe: bool = False,
    goes_on: bool = False,
    quiet: bool = False,
) -> Config:
    """A configuration in which what nobody gave fits the data, their task and the time.

    Of images that are classified it chooses: to what side they are scaled, where that was left open and their sizes
    differ or are large; stem, width and batch; alpha's rate. Of every task: the epochs, from the time of measured
    steps; and of a classification whether a race follows, which then has half of the time. A run of that name that
    stands already keeps what was chosen for it.

    Args:
        raw, overrides: as `resolve` takes them.
        budget: what search and race may take together, such as "20m"; None: of a recipe that says itself how long it
            is nothing is changed, and anything else has `DEFAULT_BUDGET`.
        has_recipe: whether `raw` was written to be complete.
        goes_on: whether it is of a run that is resumed, which takes no budget.
        quiet: do not say what was chosen.

    Raises:
        ConfigError: faults of the settings, or too little time; the message says how much would do.
        DataError: as from loading.
    """
    if goes_on and budget is not None:
        raise ConfigError("budget: what a run that goes on may take is settled; leave it out when resuming")
    config = resolve(raw, overrides)
    given = typed_recipe(with_overrides(raw, overrides))
    if budget is None and (has_recipe or goes_on or not is_plain(given)):
        return config
    seconds = _seconds(DEFAULT_BUDGET if budget is None else budget)
    if config.devices * config.num_nodes > 1:
        raise ConfigError("budget: steps are measured in one process; leave devices at 1, or set search.epochs")
    if any(name == "search.epochs" for name, _ in overrides):
        raise ConfigError("budget: and search.epochs both say how long the search is; give one of them")
    if budget is not None and isinstance(search := given.get("search"), dict):
        search.pop("epochs", None)  # of the recipe
        if isinstance(search.get("race"), dict) and not any(name == "search.race.time" for name, _ in overrides):
            search["race"].pop("time", None)
    chosen = _of_earlier_run(config)
    if chosen is None:
        _require_startable(config)
        with memory_errors():
            chosen, line = Planner(given, seconds).plan()
        if not quiet and is_first():
            say(line)
    return resolve(merge(chosen, given))


def cheaper(config: Config) -> str:
    """What makes a search of these data cheaper, for people: the settings of size that space and data have."""
    known = {"space": type(config.space).model_fields, "data": type(config.data).model_fields}
    sizes = [("space", "channels"), ("space", "hidden"), ("space", "cells"), ("data", "resize"), ("data", "longest")]
    settings = ", ".join(f"--{section}.{name}" for section, name in sizes if name in known[section])
    return f"make it smaller ({settings})" if settings else "search a smaller network"


def _searched(task: Task[Any]) -> int:
    """Examples of both parts of a search."""
    return len(task.chosen()["weights"]) + len(task.chosen()["alpha"])


def _seconds(budget: object) -> float:
    try:
        return read_seconds(budget)
    except ValueError as error:
        raise ConfigError(f"budget: {error}") from None


def _require_startable(config: Config) -> None:
    """Refuse before anything is measured what the run would refuse.

    Raises:
        ConfigError, DataError: as `require_search` and `load_table`.
        StorageError: the folder of the run cannot be one.
    """
    require_search(config)
    load_table(config)
    is_folder(config.run.root, StorageError)


def _of_earlier_run(config: Config) -> dict[str, Any] | None:
    """What stands in the recipe of a run of that name."""
    if config.run.name is None or not (config.run.root / config.run.name / "config.yaml").is_file():
        return None
    recipe = load_run_config(config.run.root / config.run.name).model_dump(mode="json")
    return {section: recipe[section] for section in ("data", "task", "space", "search", "train")}


class Planner:
    """Lays choices under what was given, until the search fits into its time."""

    def __init__(self, given: Mapping[str, Any], seconds: float) -> None:
        self._given, self._seconds = given, seconds
        self.chosen: dict[str, Any] = {}
        self._began = time.monotonic()
        self.device = select_device(resolve(given))
        self.notes: list[str] = []

    @property
    def config(self) -> Config:
        """What was given over what has been chosen so far."""
        return resolve(merge(self.chosen, self._given))

    def choose(self, choices: Mapping[str, Any]) -> None:
        """Lay these under what was given, over what was chosen before."""
        self.chosen = merge(self.chosen, choices)

    def is_given(self, section: str, name: str) -> bool:
        """Whether somebody has said this setting."""
        settings = self._given.get(section)
        return isinstance(settings, Mapping) and settings.get(name) is not None

    def plan(self) -> tuple[dict[str, Any], str]:
        """The choices, and what they are in a line for people."""
        classifies = tasks[self.config.task.name].metric.counts_examples
        races = self.config.search.choice == "race" or (classifies and not self.is_given("search", "choice"))
        if races:
            self.choose({"search": {"choice": "race"}})
        for side in self.sides() if classifies else [None]:
            task, costs = self.measure(side, by_data=classifies)
            pace = self.training_pace(task, costs.load) if classifies or races else None
            if pace is not None:
                self._settle_training(pace)
            fault = self._race_fault(pace, costs.load) if pace is not None and races else None
            if fault is None and costs.epochs_in(self._left(races=races)) >= costs.fewest_epochs:
                break
        if fault is not None:
            if self.is_given("search", "choice"):
                raise ConfigError(fault)
            self.notes.append("no race, for which this is too short")
            self.choose({"search": {"choice": "derive"}})
            races = False
            task, costs = self.measure(side, by_data=classifies)
        left = self._left(races=races)
        task, costs = self.shorten(task, costs, left)
        line = self._fix(task, costs, left, races=races)
        return self.chosen, line

    def _left(self, *, races: bool) -> float:
        """Seconds for the search."""
        return (0.5 if races else 1.0) * self._seconds - (time.monotonic() - self._began)

    def sides(self) -> list[int | None]:
        """To what images may be scaled, in order of preference; None is as they are."""
        data = self.config.data
        if getattr(data, "resize", 0) is not None:
            return [None]
        sizes = datasets[data.name](data).image_sizes()
        if not sizes:
            return [None]
        shorter = int(statistics.median(min(size) for size in sizes))
        smaller = [side for side in _SIDES if side <= shorter] or [max(8, shorter // 8 * 8)]
        as_they_are = len(set(sizes)) == 1 and shorter <= _SIDES[0]
        return [None, *(side for side in smaller if side < shorter)] if as_they_are else list(smaller)

    def measure(self, side: int | None, *, by_data: bool) -> tuple[Task[Any], Costs]:
        """Choose what follows from the data, and time a step of the search.

        Args:
            side: to what images are scaled; None leaves them as they are.
            by_data: whether to choose by number and size of the examples, too.
        """
        began = time.monotonic()
        if side is not None:
            self.choose({"data": {"resize": side}})
        task = load_task(self.config, self.device)
        load = time.monotonic() - began
        if by_data:
            has_many = isinstance(task, ImageTask) and len(task.data.train) >= _LARGE
            sizes = spaces[self.config.space.name].first_sizes(has_many=has_many)
            self.choose(merge(sizes, task.suited_settings()))
            task = self._again(task)
        return task, self._timed(task, load)

    def lighten(self, settings: Mapping[str, Any], task: Task[Any], load: float) -> tuple[Task[Any], Costs]:
        """Choose these settings, and time a step of the search of the same data.

        Args:
            load: seconds that reading them took.
        """
        self.choose(settings)
        task = self._again(task)
        return task, self._timed(task, load)

    def shorten(self, task: Task[Any], costs: Costs, seconds: float) -> tuple[Task[Any], Costs]:
        """Choose so few examples that one pass over them takes this long, where one over all takes longer.

        Where that changes nothing, or the number of examples is given, they stay as they are.
        """
        if costs.epochs_in(seconds) or self.is_given("search", "examples") or costs.steps <= FEWEST_STEPS:
            return task, costs
        available = _searched(task)
        examples = math.ceil(available * costs.steps_in(seconds) / costs.steps)
        before = self.chosen
        self.choose({"search": {"examples": examples}})
        fewer, steps = self._again(task), costs.steps
        with suppress(ConfigError, DataError):  # so few do not make two parts
            steps = SearchJob(self.config, fewer, self.device).steps_per_epoch
        if steps >= costs.steps:
            self.chosen = before
            return task, costs
        whole = show_seconds(costs.steps * costs.step)
        self.notes.append(
            f"one pass over all {available:,} {task.unit}s takes about {whole}: the search reads {examples:,} of them, "
            "once (--search.examples)"
        )
        return fewer, replace(costs, steps=steps)

    def _again(self, task: Task[Any]) -> Task[Any]:
        """The task of the same data as it is chosen now."""
        return type(task)(self.config.task, task.data, self.device, self.config.seed)  # type: ignore[attr-defined]

    def _timed(self, task: Task[Any], load: float) -> Costs:
        job = SearchJob(self.config, task, self.device)
        step, measure = measure_job(job, self.device)
        return Costs(step, measure, load, job.steps_per_epoch)

    def training_pace(self, task: Task[Any], load: float) -> Pace:
        """Time the training of some cells, with as many threads as each has in a race.

        Args:
            load: seconds that reading the data took.
        """
        config = self.config
        task.set_aside(config.search.judge or None)
        candidates = list(islice(random_candidates(config), _TRIED))
        workers, threads = trainings_at_a_time(config)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        pace = measure_pace(candidates, training_of(config, 1), task, self.device, workers, load)
        torch.set_num_threads(before)
        return pace

    def _settle_training(self, pace: Pace) -> None:
        """Choose how long the training of what is found will be."""
        epochs = int(0.5 * self._seconds / (pace.step * pace.steps))
        self.choose({"train": {"epochs": min(_MOST_TRAINING, max(_LEAST_TRAINING, epochs))}})

    def _race_fault(self, pace: Pace, load: float) -> str | None:
        """Why half of the time is too short for a race; None where it is not."""
        try:
            make_plan(pace, 0.5 * self._seconds - 2 * load, SIZES[-1])
        except ConfigError as error:
            return str(error)
        return None

    def _fix(self, task: Task[Any], costs: Costs, left: float, *, races: bool) -> str:
        """Choose the epochs and what hangs on them; returns the line that tells of it all.

        Args:
            left: seconds for the search.

        Raises:
            ConfigError: the time is too short for the fewest that tell anything.
        """
        epochs, fewest = costs.epochs_in(left), costs.fewest_epochs
        if epochs < fewest:
            needed = costs.seconds_of(fewest) * (2 if races else 1) * 1.1 + time.monotonic() - self._began
            raise ConfigError(
                f"budget: {show_seconds(self._seconds)} are too few: {epochs_text(fewest)} of {costs.steps} steps, the "
                f"fewest that tell operations apart, and what goes with them take about {show_seconds(needed)}; allow "
                f"as much, or {cheaper(self.config)}"
            )
        search, expected = self.settle_epochs(costs, epochs), costs.seconds_of(epochs)
        if races:
            search["race"] = {"time": self._seconds - min(expected, 0.5 * self._seconds)}
            self.choose({"search": search})
        config = self.config
        count, size = _searched(task), ""
        if isinstance(task, ImageTask):
            size = f" of {task.data.image_shape[2]}x{task.data.image_shape[1]}"
        race = f", then a race of {show_seconds(search['race']['time'])}" if races else ""
        length = f"{epochs_text(epochs)} of {costs.steps} steps"
        notes = "".join(f"; {note}" for note in self.notes)
        return (
            f"planned for {show_seconds(self._seconds)}: {count} {task.unit}s{size} to search with, batch "
            f"{config.search.batch_size}, {length} in about {show_seconds(expected)}"
            f"{race}{notes}; every number is in the config.yaml of the run"
        )

    def settle_epochs(self, costs: Costs, epochs: int) -> dict[str, Any]:
        """Choose so many epochs of a search, and what hangs on them: alpha's rate, and when the gap is measured."""
        rate = min(0.05, max(0.003, _TRAVEL / (0.9 * epochs * costs.steps)))
        gap = {"every": max(1, -(-epochs // MEASURED))}
        search: dict[str, Any] = {"epochs": epochs, "alpha": {"lr": float(f"{rate:.2g}")}, "gap": gap}
        self.choose({"search": search})
        return search
