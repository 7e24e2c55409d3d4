"""A comparison of search methods: every search, its controls, and one table of what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datanas.comparison.config import CompareConfig, resolve_comparison
from datanas.comparison.outcomes import Outcomes
from datanas.comparison.plan import Plan, make_plan
from datanas.comparison.pool import Command, run_all
from datanas.comparison.stages import Stages
from datanas.core.console import say as say_to_people
from datanas.core.errors import CheckpointError, ConfigError, Interrupted
from datanas.engine.changes import differing
from datanas.runs.folder import RunFolder, read_json

PLAN_FILE, DATA_FILE = "plan.json", "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        path: the folder of the comparison.
        data: rows, differences and verdict, as in comparison.json.
    """

    path: Path
    data: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """Which method is best, or that no difference was shown."""
        return str(self.data["winner"]["text"])


def compare(
    config: CompareConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    resume: str | Path | None = None,
    quiet: bool = False,
) -> Comparison:
    """Run every method with every seed on the same budget, and its controls; with the same `run.name` again, go on.

    Args:
        config: a recipe's path, its plain data, or a CompareConfig; may be left out when resuming.
        resume: the folder of a comparison to go on with.
        quiet: no progress on stderr.

    Raises:
        ConfigError, DataError: before anything runs; also where the recipe is not that of the comparison.
        RunInUseError, StorageError, CheckpointError, Interrupted: as they say.
    """
    if config is None:
        if resume is None:
            raise TypeError("compare() needs a recipe, or a comparison to resume")
        config = Path(resume) / "config.yaml"
        if not config.is_file():
            raise CheckpointError(f"not a comparison: no config.yaml in {resume}")
    recipe = resolve_comparison(config)

    def say(line: str) -> None:
        if not quiet:
            say_to_people(line)

    with _open(recipe, resume) as folder:
        plan = _plan(recipe, folder, say)
        stages = Stages(recipe, plan, folder.path)
        failed: dict[str, str] = {}
        try:
            for commands in _stages(stages):
                failed |= run_all(commands, recipe.workers, plan.threads, say)
        except Interrupted as error:
            signum = error.exit_code - 128
            raise Interrupted(f"{error}; go on with: datanas compare --resume {folder.path}", signum) from None
        data = Outcomes(recipe, plan, stages, failed).data()
        folder.write_json(DATA_FILE, data)
        return Comparison(folder.path, data)


def _stages(stages: Stages) -> Iterator[Sequence[Command]]:
    """What can only be said once what comes before it is done is asked for then."""
    yield stages.searches()
    yield stages.candidates()
    yield stages.trainings()


def _open(recipe: CompareConfig, resume: str | Path | None) -> RunFolder:
    path = Path(resume) if resume is not None else None
    if path is None and recipe.run.name is not None and (recipe.run.root / recipe.run.name / "config.yaml").is_file():
        path = recipe.run.root / recipe.run.name
    if path is None:
        folder = RunFolder.create(recipe.run.root, recipe.run.name, "compare")
        folder.settle({"config.yaml": recipe.to_yaml()}, "compare")
        return folder
    folder = RunFolder.open(path)
    try:
        folder.require_kind("compare")
        _require_same(recipe, path)
    except BaseException:
        folder.close()
        raise
    return folder


def _require_same(recipe: CompareConfig, path: Path) -> None:
    before = resolve_comparison(path / "config.yaml").substance()
    changed = differing(before, recipe.substance())
    if changed:
        lines = [f"{key}: {old!r} in the comparison, {new!r} now" for key, (old, new) in changed.items()]
        raise ConfigError(
            "\n".join([*lines, f"{path} goes on with its own recipe; leave these out, or choose another --run.name"])
        )


def _plan(recipe: CompareConfig, folder: RunFolder, say: Any) -> Plan:
    file = folder.path / PLAN_FILE
    if file.is_file():
        return Plan.from_json(read_json(file))
    say("measuring what each method's budget comes to" if recipe.budget.seconds is not None else "planning")
    try:
        plan = make_plan(recipe)
    except BaseException:
        folder.discard()
        raise
    folder.write_json(PLAN_FILE, {"budget": recipe.budget.model_dump(), "seeds": recipe.seeds, **plan.to_json()})
    return plan
