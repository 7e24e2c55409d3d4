"""What a comparison will run: fixed, and written down, before the first search begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datanas.comparison.config import CompareConfig
from datanas.core import seeding
from datanas.core.durations import show_seconds
from datanas.core.errors import ConfigError
from datanas.core.settings import merge
from datanas.engine.config import Config, resolve
from datanas.engine.dry_run import measure_job
from datanas.engine.fit import require_search
from datanas.engine.process import process_kept
from datanas.engine.random_cells import random_cells
from datanas.engine.search import SearchJob
from datanas.engine.setup import load_table, load_task, select_device
from datanas.engine.train import TrainJob

TIMED_CELLS = 5


@dataclass(frozen=True)
class Length:
    """How long a run is.

    Attributes:
        epochs, steps: what it makes.
        seconds: its estimated time; None where nothing was measured.
    """

    epochs: int
    steps: int
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """Lengths of the searches by method, of the trainings of the control `best_of`, and costs of the space.

    Attributes:
        parameters: by choice group, those of each edge's operations in the supernet.
        threads: CPU threads of every run.
        retrained: length of each training of `retrain`, which its recipe fixes; None where it was not timed.
    """

    methods: Mapping[str, Length]
    best_of: Length | None
    parameters: Mapping[str, list[list[float]]]
    threads: int
    retrained: Length | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data without what is for a dry run alone; `from_json` reads it."""
        return {
            "methods": {name: vars(length) for name, length in self.methods.items()},
            "best_of": None if self.best_of is None else vars(self.best_of),
            "parameters": dict(self.parameters),
            "threads": self.threads,
        }

    def text(self, config: CompareConfig) -> str:
        """The plan for people: what will run, how long each is, and about how long all of it, without its starts."""
        lines, known = [], 0.0
        rounds = len(config.seeds) * (2 if config.controls.shuffled_labels else 1)
        for name, length in self.methods.items():
            time = "" if length.seconds is None else f", about {length.seconds:.0f} s"
            lines.append(f"{name:20s} {rounds} searches of {length.epochs} epochs, {length.steps} steps{time}")
            known += rounds * (length.seconds or 0.0)
        if self.best_of is not None:
            count = len(config.seeds) * config.controls.best_of
            lines.append(f"{'best of random':20s} {count} trainings of {self.best_of.epochs} epochs")
            known += count * (self.best_of.seconds or 0.0)
        if self.retrained is not None:
            count, length = config.most_trainings, self.retrained
            most = "up to " if config.same_size_count else ""
            lines.append(
                f"{'retrained':20s} {most}{count} trainings of {length.epochs} epochs, {length.steps} steps, "
                f"about {length.seconds or 0.0:.0f} s"
            )
            known += count * (length.seconds or 0.0)
        if known:
            lines.append(f"about {show_seconds(known / config.workers)} with {config.workers} runs at a time")
        return "\n".join(lines)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        return cls(
            {name: Length(**length) for name, length in data["methods"].items()},
            None if data["best_of"] is None else Length(**data["best_of"]),
            data["parameters"],
            data["threads"],
        )


@process_kept()
def make_plan(config: CompareConfig, *, timed: bool = False) -> Plan:
    """Measure what must be measured, and fix every length.

    Steps become whole epochs. Seconds become epochs by the median of a few steps of each method, its last measurements
    and its choice included, with nothing else running.

    Args:
        timed: measure also what no length depends on: searches under a budget of steps, and the trainings of `retrain`.

    Raises:
        ConfigError, DataError: a method, the space, the data or the table is unsuitable.
    """
    methods, parameters = {}, {}
    measures = timed or config.budget.seconds is not None or config.controls.best_of > 0
    for name in config.methods:
        try:
            require_search(config.method(name, config.seeds[0]))
        except ConfigError as error:
            raise ConfigError(f"methods.{name}: {error}") from None
    for name in config.methods:
        settings = config.method(name, config.seeds[0])
        load_table(settings)
        device = select_device(settings)
        job = SearchJob(settings, load_task(settings, device), device)
        parameters = {group: costs.parameters.tolist() for group, costs in job.sampler.costs.items()}
        step = rest = None
        if measures:
            step, rest = measure_job(job, device)
        methods[name] = _length(config, job, step, rest)
    best_of = _best_of(config, methods) if config.controls.best_of else None
    retrained = _retrained(config) if timed and config.retrain else None
    return Plan(methods, best_of, parameters, config.threads, retrained)


def _length(config: CompareConfig, job: SearchJob, step: float | None, rest: float | None) -> Length:
    """Pre-training, which the recipe may ask of all methods, is part of the budget."""
    per_epoch, before = job.steps_per_epoch, job.config.search.pretrain_epochs
    if config.budget.steps is not None:
        total = max(1, round(config.budget.steps / per_epoch))
        given, taken = f"steps: {config.budget.steps}", f"{per_epoch} steps"
    else:
        assert config.budget.seconds is not None
        assert step is not None
        assert rest is not None
        total = math.floor((config.budget.seconds - rest) / (step * per_epoch))
        given, taken = (
            f"seconds: {config.budget.seconds:g}",
            f"{step * per_epoch:.1f} s and the last measurement {rest:.1f} s",
        )
    if total <= before:
        raise ConfigError(
            f"budget.{given} are too few for {before} epochs of pre-training and one more; an epoch takes {taken}"
        )
    steps = total * per_epoch
    return Length(total - before, steps, None if step is None or rest is None else steps * step + rest)


def _best_of(config: CompareConfig, methods: Mapping[str, Length]) -> Length:
    """So long that all cells together take as long as a search does on average."""
    times = [length.seconds for length in methods.values() if length.seconds is not None]
    share = sum(times) / len(times) / config.controls.best_of
    per_epoch, step, rest = _timed_training(training(config, config.seeds[0], 1, held_out=True))
    epochs = math.floor((share - rest) / (step * per_epoch))
    if epochs < 1:
        raise ConfigError(
            f"controls.best_of: of the {share:.1f} s that each of {config.controls.best_of} cells has, one epoch alone "
            f"takes {step * per_epoch + rest:.1f} s; train fewer cells"
        )
    steps = epochs * per_epoch
    return Length(epochs, steps, steps * step + rest)


def _retrained(config: CompareConfig) -> Length:
    """A training of `retrain` with its measurements of a held-out share; random cells stand for those to be kept."""
    settings = training(config, config.seeds[0])
    per_epoch, step, rest = _timed_training(settings)
    epochs = settings.train.epochs
    measured = -(-epochs // settings.train.validate_every)
    return Length(epochs, epochs * per_epoch, epochs * per_epoch * step + measured * rest)


def _timed_training(settings: Config) -> tuple[int, float, float]:
    """Steps of an epoch, and seconds of a step and of a measurement: the mean over a few random cells."""
    device = select_device(settings)
    task = load_task(settings, device)
    measured = []
    for cell in random_cells(settings, TIMED_CELLS, seeding.generator(settings.seed, "compare/timed")):
        job = TrainJob(settings, cell, task, device)
        measured.append(measure_job(job, device))
    step, rest = (sum(part) / len(measured) for part in zip(*measured, strict=True))
    return job.steps_per_epoch, step, rest


def searching(config: CompareConfig, name: str, seed: int, length: Length, *, shuffled: bool = False) -> Config:
    """The configuration of one search of the plan: measured once, at its end."""
    settings = config.method(name, seed)
    search = settings.search.model_copy(
        update={
            "epochs": length.epochs,
            "shuffled_labels": shuffled,
            "gap": settings.search.gap.model_copy(update={"every": length.epochs}),
        }
    )
    return settings.model_copy(update={"search": search})


def training(config: CompareConfig, seed: int, epochs: int | None = None, *, held_out: bool = False) -> Config:
    """The configuration of a training from scratch.

    Args:
        epochs: where they should differ from the recipe's.
        held_out: train on what a search gives the weights, and measure on what it gives alpha instead of the test set.
    """
    raw = merge(dict(config.base), {"seed": seed, "threads": config.threads})
    changes: list[tuple[str, object]] = [("train.test", not held_out)]
    if epochs is not None:
        changes += [("train.epochs", epochs), ("train.validate_every", epochs)]
    if held_out:
        changes += [("train.parts", "search"), ("train.validation", 0.0)]
    return resolve(raw, changes)
