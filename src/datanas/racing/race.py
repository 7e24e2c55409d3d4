"""A race: candidates are gathered, trained from scratch in rungs, judged, and the best is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.console import say, silent
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.text_table import markdown_table
from datanas.engine.certainty import certainty_of, kept_answers
from datanas.engine.config import Config, resolve
from datanas.engine.data_record import DATA_FILE
from datanas.engine.earlier_run import load_run_config
from datanas.engine.process import process_kept
from datanas.engine.search_result import RESULT_FILE
from datanas.engine.sections import RaceConfig
from datanas.engine.setup import memory_errors
from datanas.racing.candidates import Candidate, gather, random_candidates
from datanas.racing.judged import Settings, load_judged, open_or_create, recipe_of
from datanas.racing.outcome import Results, Trained, guarantee, leads, order, searched_against_random, table
from datanas.racing.plan import MEASURED, SIZES, Pace, Plan, make_plan, measure_pace, rungs_of, trainings_at_a_time
from datanas.racing.trainings import candidate_folder, train_all, training_of
from datanas.runs.folder import RunFolder, read_json
from datanas.tasks import task_measuring
from datanas.tasks.base import Task

CANDIDATES_FILE, PLAN_FILE, RACE_FILE = "candidates.json", "plan.json", "race.json"


@dataclass(frozen=True)
class RaceResult:
    """What a race has decided.

    Attributes:
        path: its folder, from which `train` takes the winner.
        architecture: the winner, wherever it came from; its `source` says so.
        rows: a table of all candidates, header first.
        sentences: what is guaranteed, and how searched candidates did against random ones.
        data: the same and more as plain data, as in race.json.
    """

    path: Path
    architecture: Architecture
    rows: list[list[str]]
    sentences: tuple[str, ...]
    data: Mapping[str, Any]


@process_kept()
def race(
    *runs: str | Path, settings: Settings = (), resume: str | Path | None = None, quiet: bool = False
) -> RaceResult:
    """Choose among what searches would have kept, random cells and published ones by training them from scratch.

    Successive halving on examples that no search has seen; docs/race.md says what comes of it.

    Args:
        runs: run folders of finished searches, of one space, task and data. None, with `search.race.searched` false and
            a recipe as `settings`: random cells alone.
        settings: what differs from the recipe of the first search, nested, or as pairs of dotted name and value:
            `search.race.*` for the race, `train.*` for the trainings, `run.root` and `run.name` for its folder.
        resume: the folder of a race to go on with; one of that name likewise.
        quiet: no progress on stderr.

    Raises:
        ConfigError: the runs do not fit each other, nothing was left to a judge, or the time is too short.
        CheckpointError, DataError, RunInUseError, StorageError, Interrupted: as they say.
    """
    if resume is not None:
        folder = RunFolder.open(Path(resume))
        folder.require_kind("race")
        config = load_run_config(resume)
    else:
        config = recipe_of([Path(run) for run in runs], settings) if runs else _without_search(settings)
        folder = open_or_create(config, "race")
    with folder, memory_errors():
        return _Race(folder, config, [Path(run) for run in runs], quiet=quiet).run()


@process_kept()
def require_feasible(config: Config) -> None:
    """Say before a search what would be wrong with the race that follows it: too few to judge by, or too short a time.

    Random cells are timed in the place of those that will be found. Where neither is given both follow from the data.

    Raises:
        ConfigError: as from `race`.
    """
    given, began = config.search.race, time.monotonic()
    if given.time is None and config.search.judge is None:
        return
    workers, threads = trainings_at_a_time(config)
    with memory_errors():
        config = config.model_copy(update={"threads": threads})
        task, device, load, _ = load_judged(config, None)
        if given.time is None or None not in (given.candidates, given.epochs):
            return
        some = list(islice(random_candidates(config), MEASURED))
        pace = measure_pace(some, training_of(config, 1), task, device, workers, load)
        _plan_of(pace, given, given.time, began)


def _plan_of(pace: Pace, given: RaceConfig, seconds: float, began: float) -> Plan:
    """The largest race of so many seconds, those since `began` among them.

    Raises:
        ConfigError: the time was asked for, and is too short.
    """
    spent = time.monotonic() - began
    return make_plan(
        pace,
        seconds - spent,
        given.candidates,
        given.epochs,
        spent=spent,
        references=len(given.references),
        is_bound=given.time is not None,
    )


def _without_search(settings: Settings) -> Config:
    """A recipe whose race is one of random and published cells."""
    raw, pairs = (settings, []) if isinstance(settings, Mapping) else ({}, list(settings))
    config = resolve(raw, [*pairs, ("search.choice", "race")])
    if config.search.race.searched:
        raise ConfigError(
            "a race needs the run folder of a search: datanas race RUN; one of random cells alone is "
            "datanas race -c RECIPE --no-searched --time 20m"
        )
    given = config.search.race
    if given.time is None and None in (given.candidates, given.epochs):
        raise ConfigError("search.race.time: is required, since no search says how long; such as --time 20m")
    if config.search.judge == 0:
        raise ConfigError("search.judge: a race needs examples to judge by; leave it out, or give a share above 0")
    return config


class _Race:
    """A race in its folder."""

    def __init__(self, folder: RunFolder, config: Config, runs: Sequence[Path], *, quiet: bool) -> None:
        self._folder, self._config, self._runs = folder, config, runs
        self._say = silent if quiet else say
        self._workers, self._threads = trainings_at_a_time(config)

    def run(self) -> RaceResult:
        """From where an earlier attempt stopped to the winner."""
        self._prepare()
        path = self._folder.path
        candidates = [Candidate.from_json(each) for each in read_json(path / CANDIDATES_FILE)["candidates"]]
        prepared = read_json(path / PLAN_FILE)
        plan = Plan.from_json(prepared)
        self._say(f"race: {plan.text()}")
        resumed_by = f"datanas race --resume {path}"
        results: list[dict[int, Trained]] = []
        left = list(range(len(candidates)))
        for index, rung in enumerate(plan.rungs):
            left = [*left[: rung.candidates], *(each for each in left[rung.candidates :] if candidates[each].stays)]
            training = training_of(self._config, rung.epochs)
            wanted = {number: (candidates[number], training) for number in left}
            results.append(
                train_all(path, f"rung-{index + 1}", wanted, self._workers, self._threads, self._say, resumed_by)
            )
            left = order(results[-1])
        return self._end(candidates, results, prepared["examples"])

    def _prepare(self) -> None:
        """Gather the candidates and fix the rungs, where an earlier attempt has not."""
        if (self._folder.path / PLAN_FILE).is_file():
            return
        if not self._runs and self._config.search.race.searched:
            raise CheckpointError(f"{self._folder.path}: was stopped before its candidates were known; begin it anew")
        try:
            began = time.monotonic()
            config = self._config.model_copy(update={"threads": self._threads})
            task, device, load, examples = load_judged(config, self._runs[0] if self._runs else None)
            plan, pace = self._plan(config, task, device, began, load)
            candidates = gather(self._runs, config, task, plan.rungs[0].candidates)
        except BaseException:
            self._folder.discard()
            raise
        self._folder.write_json(CANDIDATES_FILE, {"candidates": [each.to_json() for each in candidates]})
        self._folder.write_json(PLAN_FILE, {**plan.to_json(), "pace": pace and asdict(pace), "examples": examples})

    def _plan(
        self, config: Config, task: Task[Any], device: torch.device, began: float, load: float
    ) -> tuple[Plan, Pace | None]:
        """The rungs, and the pace that was measured for them where the settings leave them open."""
        given = config.search.race
        if given.candidates is not None and given.epochs is not None:
            return Plan(rungs_of(given.candidates, given.epochs), None), None
        timed = gather(self._runs, config, task, SIZES[-1], scored=False)
        pace = measure_pace(timed, training_of(config, 1), task, device, self._workers, load)
        return _plan_of(pace, config.search.race, given.time or self._search_seconds(), began), pace

    def _search_seconds(self) -> float:
        return sum(float(read_json(run / RESULT_FILE)["seconds"]) for run in self._runs)

    def _end(self, candidates: Sequence[Candidate], results: Results, examples: int) -> RaceResult:
        path = self._folder.path
        record = read_json(min((path / "rung-1").glob(f"*/{DATA_FILE}")))
        task = task_measuring(self._config.task, record)
        number = order(results[-1])[0]
        last = results[-1]
        folders = {each: candidate_folder(path, f"rung-{len(results)}", each) for each in last}
        scores = {each: trained.score for each, trained in last.items()}
        certainty = certainty_of(scores, task, examples, kept_answers(task, folders))
        bound, promise = guarantee(last, task, certainty)
        against, comparison = searched_against_random(results[0], candidates, task)
        rows = table(candidates, results, task)
        best = candidates[number]
        source = {**(best.architecture.source or {}), "chosen by": "race", "origin": best.origin}
        winner = replace(best.architecture, source=source)
        data = {
            "winner": number,
            "origin": best.origin,
            "metric": asdict(task.metric),
            "within": bound,
            "ahead": {str(each): lead for each, lead in leads(last, certainty).items()},
            "searched against others": against,
            "examples": examples,
            "rungs": [{str(each): asdict(trained) for each, trained in rung.items()} for rung in results],
            "sentences": [promise, comparison],
        }
        self._folder.write_json(RACE_FILE, data)
        self._folder.write_text("table.md", markdown_table(rows))
        self._folder.write_text("architecture.json", winner.to_json())
        return RaceResult(path, winner, rows, (promise, comparison), data)
