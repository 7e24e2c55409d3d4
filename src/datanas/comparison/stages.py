"""The runs of a comparison in three stages: searches, candidates of the control `best_of`, trainings of what counts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datanas.codes.architecture import Architecture
from datanas.codes.liveness import live_cell
from datanas.comparison.config import CompareConfig
from datanas.comparison.plan import Plan, searching, training
from datanas.comparison.pool import Command
from datanas.core import seeding
from datanas.core.atomic import write_atomic
from datanas.engine.config import Config
from datanas.engine.data_record import DATA_FILE
from datanas.engine.random_cells import all_cells, random_cells
from datanas.engine.search_result import RESULT_FILE
from datanas.engine.sections import RunConfig
from datanas.runs.folder import read_json
from datanas.tasks import task_measuring
from datanas.tasks.base import Task

POOL = 20_000
"""So many cells, or random ones among more, of which those of a size are taken."""
SIZE_TOLERANCE = 0.05


class Stages:
    """Where every run of a comparison stands, and what starts it.

    A run is named by its row ("egs", "random cells") and its seed, and by a number where there are several.
    """

    def __init__(self, recipe: CompareConfig, plan: Plan, folder: Path) -> None:
        self.recipe = recipe
        self.plan = plan
        self.folder = folder
        self._costs = {name: np.array(costs) for name, costs in plan.parameters.items()}
        self._cells_and_sizes: tuple[list[Architecture], NDArray[np.float64]] | None = None

    def searches(self) -> list[Command]:
        """Seed by seed, so that whatever is cut short has the same seeds for all."""
        commands = []
        for seed in self.recipe.seeds:
            for name, length in self.plan.methods.items():
                config = searching(self.recipe, name, seed, length)
                commands.append(self._search(config, self.search_folder(name, seed)))
            if self.recipe.controls.shuffled_labels:
                for name, length in self.plan.methods.items():
                    config = searching(self.recipe, name, seed, length, shuffled=True)
                    commands.append(self._search(config, self.search_folder(name, seed, shuffled=True)))
        return commands

    def candidates(self) -> list[Command]:
        """Random cells that are trained on the searches' data, to be compared on the share held out."""
        length, count = self.plan.best_of, self.recipe.controls.best_of
        if length is None:
            return []
        commands = []
        for seed in self.recipe.seeds:
            for number, cell in enumerate(self.random_cells("best_of", seed, count)):
                config = training(self.recipe, seed, length.epochs, held_out=True)
                commands.append(self._train(cell, config, self.candidate_folder(seed, number)))
        return commands

    def trainings(self) -> list[Command]:
        """Every cell that counts, from scratch; none where a table tells."""
        if not self.recipe.retrain:
            return []
        return [
            self._train(cell, training(self.recipe, seed), self.training_folder(row, seed, number))
            for row, seed, number, cell in self.cells()
        ]

    def cells(self) -> Iterator[tuple[str, int, int, Architecture]]:
        """Row, seed, number and cell of all that is to be measured, as far as the searches have ended."""
        for seed in self.recipe.seeds:
            for name in self.plan.methods:
                architecture = self.searched(name, seed)
                if architecture is not None:
                    yield name, seed, 0, architecture
                    for number, cell in enumerate(self.same_size_cells(name, seed, architecture)):
                        yield f"{name} same size", seed, number, cell
                shuffled = self.searched(name, seed, shuffled=True)
                if shuffled is not None:
                    yield f"{name} shuffled", seed, 0, shuffled
            for number, cell in enumerate(self.random_cells("random", seed, self.recipe.random_count)):
                yield "random cells", seed, number, cell
            best = self.best_candidate(seed)
            if best is not None:
                yield "best of random", seed, 0, best

    def search_folder(self, name: str, seed: int, *, shuffled: bool = False) -> Path:
        return self.folder / ("shuffled" if shuffled else "searches") / name / f"seed-{seed}"

    def candidate_folder(self, seed: int, number: int) -> Path:
        return self.folder / "candidates" / f"seed-{seed}" / f"cell-{number}"

    def training_folder(self, row: str, seed: int, number: int) -> Path:
        return self.folder / "trainings" / row.replace(" ", "-") / f"seed-{seed}-{number}"

    def searched(self, name: str, seed: int, *, shuffled: bool = False) -> Architecture | None:
        """What a search has kept; None where it has not ended."""
        path = self.search_folder(name, seed, shuffled=shuffled)
        return Architecture.load(path / "architecture.json") if (path / RESULT_FILE).is_file() else None

    def random_cells(self, what: str, seed: int, count: int) -> list[Architecture]:
        """Uniformly random cells, keyed by the seed."""
        generator = seeding.generator(seed, f"compare/{what}")
        return random_cells(training(self.recipe, seed), count, generator)

    def same_size_cells(self, name: str, seed: int, architecture: Architecture) -> list[Architecture]:
        """Other cells whose operations have as many parameters, or the nearest within 5 %; none where there are none.

        They are chosen among all cells of the space where these are few, else among many random ones.
        """
        count = self.recipe.same_size_count
        if count == 0:
            return []
        cells, sizes = self._pool()
        size = self.parameters(architecture)
        # Among equals the generator chooses, not their place.
        order = torch.randperm(len(cells), generator=seeding.generator(seed, f"compare/same size/{name}")).numpy()
        order = order[np.abs(sizes[order] - size).argsort(kind="stable")]
        near = (index for index in order if abs(sizes[index] - size) <= SIZE_TOLERANCE * size)
        others = (cells[index] for index in near if cells[index] != architecture)
        return list(islice(others, count))

    def _pool(self) -> tuple[list[Architecture], NDArray[np.float64]]:
        """Cells to choose from by their size, and their parameters."""
        if self._cells_and_sizes is None:
            settings = training(self.recipe, self.recipe.seeds[0])
            cells = all_cells(settings, POOL) or self.random_cells("same size", self.recipe.seeds[0], POOL)
            self._cells_and_sizes = cells, np.array([self.parameters(cell) for cell in cells])
        return self._cells_and_sizes

    def task(self) -> type[Task[Any]]:
        """The task, as it measures the data that the runs have been made on."""
        settings = training(self.recipe, self.recipe.seeds[0]).task
        records = sorted(self.folder.rglob(DATA_FILE))
        return task_measuring(settings, read_json(records[0]) if records else None)

    def parameters(self, cell: Architecture) -> float:
        """Parameters of a cell's live operations in the supernet."""
        return float(sum((live_cell(part).code * self._costs[name]).sum() for name, part in cell.cells.items()))

    def best_candidate(self, seed: int) -> Architecture | None:
        """The candidate that scored best on the share held out; None where one has not ended."""
        if self.plan.best_of is None:
            return None
        folders = [self.candidate_folder(seed, number) for number in range(self.recipe.controls.best_of)]
        if not all((path / "evaluation.json").is_file() for path in folders):
            return None
        task = self.task()
        best = max(folders, key=lambda path: task.metric.oriented(read_json(path / "evaluation.json")["score"]))
        return Architecture.load(best / "architecture.json")

    def _search(self, config: Config, path: Path) -> Command:
        recipe = self._recipe(config, path)
        arguments = ("search", "--config", str(recipe), "--quiet")
        return Command(self._label(path), arguments, path / RESULT_FILE, self._log(path))

    def _train(self, cell: Architecture, config: Config, path: Path) -> Command:
        recipe = self._recipe(config, path)
        file = recipe.with_suffix(".json")
        write_atomic(file, cell.to_json().encode())
        arguments = ("train", str(file), "--config", str(recipe), "--quiet")
        return Command(self._label(path), arguments, path / "evaluation.json", self._log(path))

    def _recipe(self, config: Config, path: Path) -> Path:
        run = RunConfig.model_validate({**config.run.model_dump(), "root": path.parent, "name": path.name, "keep": 1})
        file = self.folder / "recipes" / path.relative_to(self.folder).with_suffix(".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, config.model_copy(update={"run": run, "threads": self.plan.threads}).to_yaml().encode())
        return file

    def _label(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def _log(self, path: Path) -> Path:
        return self.folder / "logs" / path.relative_to(self.folder).with_suffix(".log")
