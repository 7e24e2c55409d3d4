"""A front: what a search would keep within one bound after another, trained alike, beside random networks."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datanas.core.console import say, silent
from datanas.core.durations import show_seconds
from datanas.core.errors import ConfigError
from datanas.core.text_table import markdown_table
from datanas.engine.budget import UNITS
from datanas.engine.config import Config, resolve
from datanas.engine.data_record import DATA_FILE
from datanas.engine.earlier_run import load_run_config
from datanas.engine.process import process_kept
from datanas.engine.setup import memory_errors
from datanas.engine.width import config_at_width
from datanas.racing.front import SEARCHED, Point, front, gain, interval_of, table
from datanas.racing.judged import REQUEST_FILE, Settings, load_judged, open_or_create, recipe_of
from datanas.racing.plan import measure_pace, trainings_at_a_time
from datanas.racing.trainings import train_all, training_of
from datanas.racing.within_bounds import Chooser, Cost, Entry, FrontRequest
from datanas.runs.folder import RunFolder, read_json
from datanas.tasks import task_measuring
from datanas.tasks.base import Task

PLAN_FILE, FRONT_FILE, CSV_FILE = "plan.json", "pareto.json", "front.csv"
STAGE, ARCHITECTURES = "trained", "architectures"


@dataclass(frozen=True)
class ParetoResult:
    """What a front has shown.

    Attributes:
        path: its folder; `architectures/` in it holds what was trained, for `train`.
        points: all trained networks.
        front: those that none of the others beats, cheapest first.
        rows: a table of all, header first.
        sentences: what searching has gained at equal bounds.
        data: the same as plain data, as in pareto.json.
    """

    path: Path
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    rows: list[list[str]]
    sentences: tuple[str, ...]
    data: Mapping[str, Any]


@process_kept()
def pareto(
    run: str | Path | None = None,
    *,
    cost: Cost = "macs",
    bounds: Sequence[float] = (),
    points: int = 5,
    epochs: int | None = None,
    random: int = 1,
    settings: Settings = (),
    resume: str | Path | None = None,
    quiet: bool = False,
) -> ParetoResult:
    """Train what a search would keep within several bounds, and random networks within the same, and judge them alike.

    Each bound restricts the architecture, at the size of `train`; other bounds of `budget` hold besides. The judge is
    that of a race: examples that the search has not seen.

    Args:
        run: a finished search.
        cost: what is bounded; "latency" needs `budget.latency_table`.
        bounds: in its unit (multiply-adds, parameters, bytes, milliseconds). By default `points` of them, in equal
            ratios from the least that a network costs to what the likeliest one does.
        points: how many bounds, where none are given; 2 at least.
        epochs: of each training; by default `train.epochs`.
        random: networks within each bound to compare with: those that come nearest to it.
        settings: what differs from the search's recipe, as for `race`.
        resume: the folder of a front to go on with; one of that name likewise.
        quiet: no progress on stderr.

    Raises:
        ConfigError: no network is within a bound, the search has left nothing to a judge, or the cost is unknown.
        CheckpointError, DataError, RunInUseError, StorageError, Interrupted: as they say.
    """
    if resume is not None:
        if run is not None or bounds or epochs is not None:
            raise ConfigError("a front that is resumed is settled; nothing but search.race.processes may follow")
        config = _resumed(load_run_config(resume), settings)
        folder = RunFolder.open(Path(resume))
        folder.require_kind("pareto")
        try:
            request = FrontRequest.from_json(read_json(folder.path / REQUEST_FILE))
        except BaseException:
            folder.close()
            raise
    else:
        request = FrontRequest.of(run, cost, bounds, points, epochs, random)
        config = _of_one_width(recipe_of([Path(request.run)], settings), cost)
        folder = open_or_create(config, "pareto", request.to_json())
    with folder, memory_errors():
        return _Front(folder, config, request, quiet=quiet).run()


def _resumed(config: Config, settings: Settings) -> Config:
    """The configuration of a front, with as many processes as are asked for now."""
    pairs = settings.items() if isinstance(settings, Mapping) else settings
    if other := [name for name, _ in pairs if name != "search.race.processes"]:
        raise ConfigError(f"{other[0]}: a front that is resumed is settled; only search.race.processes may change")
    return resolve(config.model_dump(mode="json"), list(pairs))


def _of_one_width(config: Config, cost: str) -> Config:
    """The recipe without what would make trained networks others than those that are counted.

    Raises:
        ConfigError: it asks for networks of several widths, or for a latency without a table.
    """
    if config.budget.fill:
        raise ConfigError("budget.fill: a front is of networks of one width; leave it out")
    if config.train.max_macs is not None:
        raise ConfigError("train.max_macs: a front is of networks of one width; leave it out (--train.max_macs null)")
    if cost == "latency" and config.budget.latency_table is None:
        raise ConfigError("budget.latency_table: is required for latency; datanas calibrate makes one of this machine")
    of_a_race = [(f"search.race.{name}", None) for name in ("max_macs", "examples")]
    return resolve(config.model_dump(mode="json"), [(f"budget.{cost}", None), ("budget.weight", None), *of_a_race])


class _Front:
    """A front in its folder."""

    def __init__(self, folder: RunFolder, config: Config, request: FrontRequest, *, quiet: bool) -> None:
        self._folder, self._config, self._request = folder, config, request
        self._say = silent if quiet else say
        self._workers, self._threads = trainings_at_a_time(config)

    def run(self) -> ParetoResult:
        """From where an earlier attempt stopped to the front."""
        self._prepare()
        plan = read_json(self._folder.path / PLAN_FILE)
        path = self._folder.path
        self._say(f"pareto: {plan['text']}")
        entries = [Entry.from_json(each) for each in plan["entries"]]
        training = training_of(self._config, plan["epochs"])
        unbounded = training.model_copy(update={"budget": type(training.budget)()})
        wanted = {
            number: (each.candidate, unbounded if each.width is None else config_at_width(unbounded, each.width))
            for number, each in enumerate(entries)
        }
        trained = train_all(
            path, STAGE, wanted, self._workers, self._threads, self._say, f"datanas pareto --resume {path}"
        )
        points = [
            Point(number, each.origin, each.bound, each.cost or trained[number].macs, trained[number])
            for number, each in enumerate(entries)
            if number in trained
        ]
        failed = [each.candidate.origin for number, each in enumerate(entries) if number not in trained]
        return self._end(plan, points, failed)

    def _prepare(self) -> None:
        """Choose the networks, where an earlier attempt has not."""
        if (self._folder.path / PLAN_FILE).is_file():
            return
        try:
            plan = self._chosen(self._request)
        except BaseException:
            self._folder.discard()
            raise
        shutil.rmtree(self._folder.path / ARCHITECTURES, ignore_errors=True)  # of an attempt that was killed
        for entry in plan["entries"]:
            if entry["file"]:
                text = json.dumps(entry["candidate"]["architecture"], indent=2) + "\n"
                self._folder.write_text(Path(ARCHITECTURES) / entry["file"], text)
        self._folder.write_json(PLAN_FILE, plan)

    def _chosen(self, request: FrontRequest) -> dict[str, Any]:
        config = self._config.model_copy(update={"threads": self._threads})
        task, device, load, examples = load_judged(config, Path(request.run))
        chooser = Chooser(self._config, request, task)
        bounds = request.bounds or chooser.bounds()
        entries = chooser.entries(bounds)
        epochs = request.epochs or config.train.epochs
        timed = [each.candidate for each in entries if each.cost is not None]
        pace = measure_pace(timed, training_of(config, 1), task, device, self._workers, load)
        seconds = -(-len(entries) // self._workers) * pace.training_seconds(epochs * pace.steps)
        length = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        text = f"{len(bounds)} bounds, {len(entries)} trainings of {length}; about {show_seconds(seconds)}"
        return {
            "bounds": list(bounds),
            "epochs": epochs,
            "examples": examples,
            "text": text,
            "entries": [each.to_json() for each in entries],
        }

    def _end(self, plan: Mapping[str, Any], points: Sequence[Point], failed: Sequence[str]) -> ParetoResult:
        path, cost = self._folder.path, self._request.cost
        record = read_json(min((path / STAGE).glob(f"*/{DATA_FILE}")))
        task = task_measuring(self._config.task, record)
        rows = table(points, UNITS[cost], plan["examples"], task)
        origins = [each for each in dict.fromkeys(point.origin for point in points) if each != SEARCHED]
        gains = {origin: gain(points, origin, task) for origin in origins}
        sentences = tuple(sentence for _, sentence in gains.values())
        sentences += tuple(f"{name} could not be trained: logs in {path / 'logs'}" for name in failed)
        best = front(points)
        data = {
            "cost": cost,
            "unit": UNITS[cost],
            "score_name": task.metric.name,
            "metric": asdict(task.metric),
            "examples": plan["examples"],
            "epochs": plan["epochs"],
            "points": [
                {**asdict(point), "interval": interval_of(point.trained, plan["examples"], task)} for point in points
            ],
            "front": [point.number for point in best],
            "gains": {origin: figures for origin, (figures, _) in gains.items()},
            "sentences": list(sentences),
        }
        self._folder.write_text("table.md", markdown_table(rows))
        self._folder.write_text(CSV_FILE, _csv(points, best, plan["examples"], task))
        self._folder.write_json(FRONT_FILE, data)
        return ParetoResult(path, tuple(points), tuple(best), rows, sentences, data)


def _csv(points: Sequence[Point], best: Sequence[Point], examples: int, task: type[Task[Any]]) -> str:
    lines = io.StringIO()
    write = csv.writer(lines, lineterminator="\n")
    write.writerow(["bound", "origin", "cost", "parameters", "multiply_adds", "score", "low", "high", "on_front"])
    numbers = {point.number for point in best}
    for point in points:
        ends = interval_of(point.trained, examples, task)
        reached = point.trained
        write.writerow(
            [
                *(point.bound, point.origin, point.cost, reached.parameters, reached.macs, reached.score),
                *(("", "") if ends is None else (f"{end:.6g}" for end in ends)),
                int(point.number in numbers),
            ]
        )
    return lines.getvalue()
