"""What a fit will do with its time: planned from measured steps, before anything is written."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from datanas.core.durations import show_seconds
from datanas.core.errors import ConfigError
from datanas.core.settings import merge
from datanas.engine.budget import require_within
from datanas.engine.changes import flat
from datanas.engine.config import Config
from datanas.engine.rebuild import network_for, with_network_of
from datanas.engine.setup import load_task, memory_errors
from datanas.engine.width import with_width
from datanas.fitting.plan import Plan, Race
from datanas.fitting.sizing import Size, at_macs, fitting_size, measured
from datanas.kernels.hardware import count_macs
from datanas.lookup import architecture
from datanas.racing.candidates import random_candidates
from datanas.racing.costs import Costs, epochs_text
from datanas.racing.plan import FEWEST_EPOCHS as LEAST_OF_A_RUNG
from datanas.racing.plan import SIZES, Pace
from datanas.racing.plan import make_plan as plan_of_race
from datanas.racing.planning import Planner, cheaper
from datanas.references import compared_in
from datanas.spaces import spaces
from datanas.tasks import tasks
from datanas.tasks.base import Task
from datanas.tasks.image_task import ImageTask

FOR_SEARCH, FOR_RACE, FOR_REST = 0.2, 0.25, 0.04
"""Shares of the time: of the search, of the race, and of measuring and exporting at the end; training has the rest."""
FEW_EPOCHS = 30
"""Of a training: with fewer passes nothing is learned by heart, and blanking parts of images only costs accuracy."""
_SPACE = "nasbench201"
_COUNTED = ("macs", "parameters", "size", "memory")  # bounds that a width can be found for
_HEAT_EPOCHS, _HEAT_STEPS = 2, 80
_LEAST_CANDIDATES = 2


def make_plan(
    given: Mapping[str, Any],
    seconds: float,
    *,
    max_macs: int | None = None,
    races: bool = True,
    others: Sequence[str] = (),
) -> Plan:
    """Choose sizes, resolution and lengths for these data and this time; whatever is given stands.

    Args:
        given: sections of a recipe, among them `data` and `task`.
        seconds: for all of it, planning included.
        max_macs: a bound on the multiply-adds of the network.
        races: whether to choose among trained candidates where there is time.
        others: names of networks to compare with, besides those that suit the task.

    Raises:
        ConfigError: faults of the settings, a network to compare with that is unknown or beyond a bound, or too little
            time for any search; the message says how much would do.
        DataError: as from loading.
    """
    began = time.monotonic()
    given = _with_space(given)
    with memory_errors():
        planner, task, costs, notes = _search(given, seconds)
        config = planner.config
        epochs = config.search.epochs
        if not planner.is_given("search", "epochs"):
            epochs = max(costs.fewest_epochs, costs.epochs_in(FOR_SEARCH * seconds - (time.monotonic() - began)))
            planner.settle_epochs(costs, epochs)
            config = planner.config
        races = races and config.search.choice == "race"
        if others and not races:
            raise ConfigError("references: take part in the race; leave them out, or let the fit plan one")
        for_search = costs.seconds_of(epochs)
        left = seconds * (1 - FOR_REST) - (time.monotonic() - began) - for_search
        for_race = min(FOR_RACE * seconds, 0.4 * left) if races else 0.0
        if left < 0.3 * seconds:
            needed = 1.5 * (seconds - left)
            raise ConfigError(
                f"time: {show_seconds(seconds)} are too few: a search of {epochs_text(epochs)} takes about "
                f"{show_seconds(for_search)} here and its training as long at least; allow {show_seconds(needed)}, or "
                f"{cheaper(config)}"
            )
        if config.search.choice == "race":
            task.set_aside(config.search.judge or None)
        size, is_free = _size(planner, task, left - for_race, max_macs)
        planner.choose({"train": {"max_macs": size.macs}})
        config = planner.config if size.macs is None else at_macs(planner.config, size.macs)
        race = None
        if races and (_races_briefly(task) or _may_race(size, for_race)):
            usual = compared_in({config.task.name, task.compared_as})
            requested = [name for name in dict.fromkeys(others) if name not in usual]
            turns = sum(_slowness(name, planner, size, max_macs) for name in requested)
            pace = planner.training_pace(task, costs.load)
            race = _race(pace, planner.config, task, for_race, (*usual, *requested), len(usual) + turns)
            if race is None and requested:
                race = _race(pace, planner.config, task, for_race, usual, len(usual))
                notes.append(f"too short to train {', '.join(requested)}, which nothing is therefore compared with")
        elif others:
            notes.append(f"too short to train {', '.join(others)}, which nothing is therefore compared with")
        if races and race is None:
            notes.append("too short for a race, so what the search prefers is kept unverified")
        left -= 0.0 if race is None else race.seconds
        is_given = planner.is_given("train", "epochs")
        train = config.train.epochs if is_given else max(1, size.epochs_in(left))
        part = None if is_given else size.examples_in(left)
        if part is not None:
            notes.append(_less_than_a_pass(size, part, task.unit))
        chosen: dict[str, Any] = {
            "search": {"choice": "derive" if race is None else "race"},
            "train": {"epochs": train},
        }
        cutout = None
        if not _cutout_is_given(given) and hasattr(config.task, "train_augment"):
            cutout = config.task.train_augment.cutout
            chosen["task"] = {"train_augment": {"cutout": 0}}  # races are short; the training may be long
        plain = merge(config.model_dump(mode="json"), chosen)
    settled = train if is_given else None
    expected = size.seconds_of(train if part is None else part / size.examples)
    return Plan(seconds, plain, for_search, expected, race, tuple(notes), settled, is_free, cutout=cutout)


def _less_than_a_pass(size: Size, examples: int, unit: str) -> str:
    return (
        f"one pass over all {size.examples:,} {unit}s takes about {show_seconds(size.steps * size.step)}: the training "
        f"reads about {examples:,} of them, once (--train.examples); settled when it begins"
    )


def _races_briefly(task: Task[Any]) -> bool:
    briefly = task.metric.counts_examples if task.races_briefly is None else task.races_briefly
    return briefly and task.tells_chance()


def _may_race(size: Size, seconds: float) -> bool:
    """Whether a whole race is not out of the question; to time its trainings takes long where measuring does."""
    least = SIZES[-1] * LEAST_OF_A_RUNG * size.steps * size.step
    return least < 2 * seconds  # side by side they may be twice as fast


def _cutout_is_given(given: Mapping[str, Any]) -> bool:
    augment = (given.get("task") or {}).get("train_augment")
    return isinstance(augment, Mapping) and augment.get("cutout") is not None


def _with_space(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, in the space whose networks train fastest where none is named (docs/fit.md has the figures).

    Bounds are filled: networks become as wide as they allow, and as there is time to train.
    """
    settings = merge({"search": {"choice": "race"}}, given)
    race = settings["search"].get("race")
    if isinstance(race, Mapping) and race.keys() - {"processes"}:
        raise ConfigError(
            f"search.race.{min(race.keys() - {'processes'})}: a fit plans its race; leave it out, or take datanas "
            "search and datanas race"
        )
    budget = settings.get("budget")
    if isinstance(budget, Mapping) and budget.keys() & set(_COUNTED) and "latency" not in budget:
        settings["budget"] = {"fill": True, **budget}
    space = settings.get("space") or {}
    if issubclass(tasks[settings["task"]["name"]], ImageTask) and isinstance(space, Mapping) and "name" not in space:
        settings["space"] = {"name": _SPACE, **space}
    return settings


def _search(given: Mapping[str, Any], seconds: float) -> tuple[Planner, Task[Any], Costs, list[str]]:
    """Choose the images' size and what follows from the data, so that a search fits into its share."""
    planner = Planner(given, seconds)
    # What a space asks of a task, such as its stem, stands in its defaults for classification alone.
    wanted = spaces[planner.config.space.name].defaults.get("task", {})
    known = type(planner.config.task).model_fields.keys() - {"name"}
    planner.choose({"task": {name: value for name, value in wanted.items() if name in known}})
    for side in planner.sides():
        task, costs = planner.measure(side, by_data=True)
        if _has_time(costs, seconds):
            break
    notes = [] if side is None else [f"images are scaled to {side}x{side} (--data.resize says otherwise)"]
    lighter: Mapping[str, Any] = {}
    for lighter in () if _has_time(costs, seconds) else task.lighter_settings():
        task, costs = planner.lighten(lighter, task, costs.load)
        if _has_time(costs, seconds):
            break
    chosen = planner.config.model_dump(mode="json")
    made = [f"--{name} {value}" for name, value in flat(lighter) if dict(flat(chosen)).get(name) == value]
    if made:
        notes.append(f"made lighter for want of time: {' '.join(made)}")
    task, costs = planner.shorten(task, costs, FOR_SEARCH * seconds)
    return planner, task, costs, [*notes, *planner.notes, *task.notes()]


def _has_time(costs: Costs, seconds: float) -> bool:
    """Whether the fewest epochs fit into the search's share of this time."""
    return costs.epochs_in(FOR_SEARCH * seconds) >= costs.fewest_epochs


def _size(planner: Planner, task: Task[Any], seconds: float, most: int | None) -> tuple[Size, bool]:
    """The size of the network, and whether it is free: neither given nor bounded.

    It is as large as the time allows, within all bounds; as it is given, where that is said.
    """
    config = planner.config
    bounds = [bound for bound in (most, config.train.max_macs, config.budget.macs) if bound is not None]
    width = config.train.Network.width_setting
    cells = [each.architecture for each in islice(random_candidates(config), 2)]
    is_fixed = (planner.is_given("train", width) and not bounds) or config.budget.latency is not None
    if isinstance(task, ImageTask) and not is_fixed:
        size = fitting_size(cells, config, task, planner.device, seconds, min(bounds, default=None))
        return size, not bounds and not config.budget.is_given
    return measured(cells[0], at_macs(config, most) if most else config, task, planner.device), False


def _slowness(name: str, planner: Planner, usual: Size, most: int | None) -> int:
    """How many usual trainings one of this network takes as long as.

    Raises:
        ConfigError: it is not known, cannot be built for these examples, or is beyond a bound.
    """
    reference, config = architecture(name), planner.config
    own = with_network_of(config, reference)
    task = load_task(own, planner.device)  # its stem is another
    own = with_width(reference, own, task)
    require_within(reference, own, task)
    bound = most if most is not None else config.train.max_macs if planner.is_given("train", "max_macs") else None
    if bound is not None and (macs := count_macs(network_for(reference, own, task), task.example())) > bound:
        raise ConfigError(
            f"reference: {name} has {macs / 1e6:.1f} M multiply-adds, more than {bound / 1e6:.1f} M; leave it out, or "
            "take smaller images (--data.resize)"
        )
    return max(1, math.ceil(measured(reference, own, task, planner.device).step / usual.step))


def _race(
    pace: Pace, config: Config, task: Task[Any], seconds: float, others: tuple[str, ...], count: int
) -> Race | None:
    """The largest race that fits; a heat of the likeliest, a random cell and references where none does.

    Args:
        others: the references that take part.
        count: usual trainings that those of the references take as long as.
    """
    try:
        plan = plan_of_race(pace, seconds, references=count)
    except ConfigError:
        return _heat(pace, config, others, count, seconds) if _races_briefly(task) else None
    first = plan.rungs[0]
    return Race(first.candidates, first.epochs, None, others, plan.seconds or seconds)


def _heat(pace: Pace, config: Config, others: tuple[str, ...], count: int, seconds: float) -> Race | None:
    """As few candidates on as many examples as there is time for; None where these make too few steps.

    Args:
        count: usual trainings that those of the others take as long as.
    """
    turns = -(-(_LEAST_CANDIDATES + count) // pace.workers)
    candidates = min(SIZES[-1] - 1, turns * pace.workers - count)  # no worker is idle
    steps = pace.steps_in(seconds / turns)
    if steps < _HEAT_STEPS:
        return None
    epochs = max(_HEAT_EPOCHS, math.ceil(_HEAT_STEPS / pace.steps))
    in_epoch = min(pace.steps, steps // epochs)
    examples = None if in_epoch == pace.steps else in_epoch * config.train.batch_size
    return Race(candidates, epochs, examples, others, turns * pace.training_seconds(epochs * in_epoch))
