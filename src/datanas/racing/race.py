"""A race: candidates are gathered, trained from scratch in rungs, judged, and the best is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.comparison.pool import Command, run_all
from datanas.core.atomic import write_atomic
from datanas.core.console import say as say_to_people
from datanas.core.errors import CheckpointError, ConfigError, Interrupted
from datanas.core.paths import is_file, shown
from datanas.core.settings import merge
from datanas.core.text_table import markdown_table
from datanas.engine.config import Config, resolve
from datanas.engine.data_record import DATA_FILE
from datanas.engine.earlier_run import load_run_config
from datanas.engine.process import process_kept
from datanas.engine.search_result import RESULT_FILE
from datanas.engine.setup import load_task, memory_errors, select_device
from datanas.racing.candidates import Candidate, gather
from datanas.racing.outcome import Results, Trained, guarantee, order, searched_against_random, table
from datanas.racing.plan import SIZES, Pace, Plan, make_plan, measure_pace, rungs_of, trainings_at_a_time
from datanas.runs.folder import RunFolder
from datanas.tasks import tasks
from datanas.tasks.base import Task

CANDIDATES_FILE, PLAN_FILE, RACE_FILE = "candidates.json", "plan.json", "race.json"
_NOTHING_LEFT = (
    "{run}: the search has used all training examples, so none are left to judge by; search again with "
    "--search.choice race, or with --search.judge 0.1"
)
Settings = Mapping[str, Any] | Sequence[tuple[str, object]]


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
        config = _config([Path(run) for run in runs], settings)
        folder = _open(config)
    with folder, memory_errors():
        return _Race(folder, config, [Path(run) for run in runs], quiet=quiet).run()


def _config(runs: Sequence[Path], settings: Settings) -> Config:
    """The recipe of the first search, with what was asked for on top."""
    if not runs:
        return _without_search(settings)
    found = [_finished(run) for run in runs]
    for run, other in zip(runs[1:], found[1:], strict=True):
        for section in ("space", "task", "data"):
            if getattr(other, section) != getattr(found[0], section):
                raise ConfigError(
                    f"{run}: another {section} than {runs[0]} has; a race compares candidates that can be trained alike"
                )
    raw = found[0].model_dump(mode="json")
    raw["run"] |= {"name": None}
    raw["truth"] = {}
    if isinstance(settings, Mapping):
        raw, settings = merge(raw, settings), ()
    config = resolve(raw, list(settings))
    known = tasks[config.task.name]
    for run, each in zip(runs, found, strict=True):
        if not (each.search.leaves_aside or known.has_validation or known.validation_is_up_to_data):
            raise ConfigError(_NOTHING_LEFT.format(run=run))
        if each.search.judge != found[0].search.judge:
            raise ConfigError(f"{run}: search.judge is not that of {runs[0]}; what one left the other has used")
    if config.devices * config.num_nodes > 1:
        raise ConfigError("devices: a race runs its trainings side by side; say how many with search.race.processes")
    return config


def _without_search(settings: Settings) -> Config:
    """A recipe whose race is one of random and published cells."""
    raw, pairs = (settings, []) if isinstance(settings, Mapping) else ({}, list(settings))
    config = resolve(raw, [*pairs, ("search.choice", "race")])
    if config.search.race.searched:
        raise ConfigError(
            "a race needs the run folder of a search: datanas race RUN; one of random cells alone is "
            "datanas race -c RECIPE --no-searched --time 20m"
        )
    asked = config.search.race
    if asked.time is None and None in (asked.candidates, asked.epochs):
        raise ConfigError("search.race.time: is required, since no search says how long; such as --time 20m")
    if config.search.judge == 0:
        raise ConfigError("search.judge: a race needs examples to judge by; leave it out, or give a share above 0")
    return config


def _finished(run: Path) -> Config:
    if not is_file(run / "config.yaml", CheckpointError):
        raise ConfigError(f"not a run folder: no config.yaml in {shown(run)}")
    if not (run / RESULT_FILE).is_file():
        if (run / "genotypes").is_dir() or (run / "checkpoints").is_dir():
            raise ConfigError(f"{run}: no finished search; go on with it: datanas search --resume {run}")
        raise ConfigError(f"{run}: no search, and a race needs finished ones")
    return load_run_config(run)


def _open(config: Config) -> RunFolder:
    name = config.run.name
    if name is not None and (config.run.root / name / "config.yaml").is_file():
        folder = RunFolder.open(config.run.root / name)
        folder.require_kind("race", "; choose another --run.name")
        if _substance(load_run_config(folder.path)) != _substance(config):
            folder.close()
            raise ConfigError(f"{folder.path}: is a race with other settings; choose another --run.name")
        return folder
    folder = RunFolder.create(config.run.root, name, "race")
    here = config.run.model_copy(update={"name": folder.path.name})
    folder.settle({"config.yaml": config.model_copy(update={"run": here}).to_yaml()}, "race")
    return folder


def _substance(config: Config) -> Mapping[str, Any]:
    """What makes it this race and no other."""
    data = config.model_dump(mode="json", exclude={"run", "threads"})
    data["search"]["race"].pop("processes")
    return data


class _Race:
    """A race in its folder."""

    def __init__(self, folder: RunFolder, config: Config, runs: Sequence[Path], *, quiet: bool) -> None:
        self._folder, self._config, self._runs, self._quiet = folder, config, runs, quiet
        self._workers, self._threads = trainings_at_a_time(config)

    def run(self) -> RaceResult:
        """From where an earlier attempt stopped to the winner."""
        self._prepare()
        candidates = [Candidate.from_json(each) for each in self._read(CANDIDATES_FILE)["candidates"]]
        prepared = self._read(PLAN_FILE)
        plan = Plan.from_json(prepared)
        self._say(f"race: {plan.text()}")
        results: list[dict[int, Trained]] = []
        left = list(range(len(candidates)))
        for place, rung in enumerate(plan.rungs):
            left = [*left[: rung.candidates], *(each for each in left[rung.candidates :] if candidates[each].stays)]
            results.append(self._train(place, rung.epochs, {number: candidates[number] for number in left}))
            left = order(results[-1])
        return self._end(candidates, results, prepared["examples"])

    def _say(self, line: str) -> None:
        if not self._quiet:
            say_to_people(line)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._folder.path / name).read_bytes())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self._folder.path / name}: cannot be read: {error}") from None
        return found

    def _prepare(self) -> None:
        """Gather the candidates and fix the rungs, where an earlier attempt has not."""
        if (self._folder.path / PLAN_FILE).is_file():
            return
        if not self._runs and self._config.search.race.searched:
            raise CheckpointError(f"{self._folder.path}: was stopped before its candidates were known; begin it anew")
        try:
            began = time.monotonic()
            config = self._config.model_copy(update={"threads": self._threads})
            device = select_device(config)
            task = load_task(config, device)
            load = time.monotonic() - began
            task.set_aside(config.search.judge or None)
            examples = self._require_judge(task)
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
        seconds = given.time or self._search_seconds()
        spent = time.monotonic() - began
        others = len(given.references)
        plan = make_plan(pace, seconds - spent, given.candidates, given.epochs, spent=spent, references=others)
        return plan, pace

    def _search_seconds(self) -> float:
        return sum(float(json.loads((run / RESULT_FILE).read_bytes())["seconds"]) for run in self._runs)

    def _require_judge(self, task: Task[Any]) -> int:
        """How many examples the judge has.

        Raises:
            ConfigError: they are too few.
        """
        if task.has_validation:
            return len(task.chosen().get("validation", ()))
        settings = self._config.search
        if not settings.leaves_aside:
            raise ConfigError(_NOTHING_LEFT.format(run=self._runs[0]))
        there = len(task.chosen()["validation"])
        if settings.judge is not None:
            least = min(1000 * settings.judge / there, 0.2)
            if settings.judge < least - 1e-3:
                raise ConfigError(
                    f"search.judge: {there} examples are too few to judge by; at least 1,000 or a fifth are needed: "
                    f"search again with --search.judge {least:.2g}, or with --search.choice race"
                )
        return there

    def _train(self, place: int, epochs: int, candidates: Mapping[int, Candidate]) -> dict[int, Trained]:
        """Train the candidates of a rung, as far as that has not been done, and read what they reach."""
        path, training = self._folder.path, training_of(self._config, epochs)
        commands, folders = [], {}
        for number, candidate in candidates.items():
            run = path / f"rung-{place + 1}" / f"candidate-{number:02d}"
            file = path / "recipes" / f"rung-{place + 1}-candidate-{number:02d}.yaml"
            file.parent.mkdir(exist_ok=True)
            here = training.run.model_copy(update={"root": run.parent, "name": run.name, "keep": 1})
            config = training.model_copy(update={"run": here, "threads": self._threads})
            write_atomic(file, config.to_yaml().encode())
            cell = file.with_suffix(".json")
            write_atomic(cell, candidate.architecture.to_json().encode())
            arguments = ("train", str(cell), "--config", str(file), "--quiet")
            log = path / "logs" / f"{file.stem}.log"
            name = f"rung {place + 1}, candidate {number} ({candidate.origin})"
            commands.append(Command(name, arguments, run / "evaluation.json", log))
            folders[number] = run
        try:
            failed = run_all(commands, self._workers, self._threads, self._say)
        except Interrupted as error:
            signum = error.exit_code - 128
            raise Interrupted(f"{error}; go on with: datanas race --resume {path}", signum) from None
        found = {number: trained for number, run in folders.items() if (trained := _trained(run)) is not None}
        if len(found) < 2:
            words = next(iter(failed.values()), "nothing was measured")
            raise CheckpointError(f"{path}: fewer than two candidates could be trained: {words}")
        return found

    def _end(self, candidates: Sequence[Candidate], results: Results, examples: int) -> RaceResult:
        path = self._folder.path
        record = json.loads(min((path / "rung-1").glob(f"*/{DATA_FILE}")).read_bytes())
        task = tasks[self._config.task.name].measuring(record)
        number = order(results[-1])[0]
        bound, promise = guarantee(results[-1], task, examples)
        against, comparison = searched_against_random(results[0], candidates, task)
        rows = table(candidates, results, task)
        best = candidates[number]
        source = {**(best.architecture.source or {}), "chosen by": "race", "origin": best.origin}
        winner = replace(best.architecture, source=source)
        data = {
            "winner": number,
            "origin": best.origin,
            "within": bound,
            "searched against others": against,
            "examples": examples,
            "rungs": [{str(each): asdict(trained) for each, trained in rung.items()} for rung in results],
            "sentences": [promise, comparison],
        }
        self._folder.write_json(RACE_FILE, data)
        self._folder.write_text("table.md", markdown_table(rows))
        self._folder.write_text("architecture.json", winner.to_json())
        return RaceResult(path, winner, rows, (promise, comparison), data)


def training_of(config: Config, epochs: int) -> Config:
    """The training of a candidate: from scratch, with a schedule of its own, judged at its end."""
    train = config.train
    weights = train.weights.model_copy(update={"warm_up_epochs": min(train.weights.warm_up_epochs, epochs / 4)})
    changes = {
        "epochs": epochs,
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


def _trained(run: Path) -> Trained | None:
    """What a training has measured; None of one that failed."""
    try:
        found = json.loads((run / "evaluation.json").read_bytes())
    except FileNotFoundError:
        return None
    return Trained(found["score"], found["preference"], found["parameters"], found["macs"], found["channels"])
