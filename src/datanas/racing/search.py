"""A search that ends with a race where its recipe asks for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from datanas.blocks.given import given
from datanas.core.errors import ConfigError
from datanas.core.joining import is_first
from datanas.core.settings import read_yaml
from datanas.engine.config import Config
from datanas.engine.earlier_run import load_run_config
from datanas.engine.search import search as search_alone
from datanas.engine.search_result import SearchResult
from datanas.engine.setup import load_table
from datanas.racing.planning import planned
from datanas.racing.race import race, require_feasible
from datanas.spaces import MODULE

RACE_FOLDER, DERIVED_FILE = "race", "likeliest.json"


def search(
    config: Config | Mapping[str, Any] | str | Path | nn.Module | None = None,
    *,
    budget: str | float | Mapping[str, Any] | None = None,
    resume: str | Path | None = None,
    quiet: bool = False,
    allow_topology_change: bool = False,
    **sections: Any,
) -> SearchResult:
    """Search an architecture and write the run folder; where a run of that name stands, go on with it.

    With `search.choice: race` candidates are then trained from scratch in the folder `race` inside it, and the best of
    them is what is kept; what would have been derived stays as likeliest.json.

    Args:
        config: a recipe's path, a mapping of sections, or a Config; may be left out when resuming. Or a module with
            `datanas.Choice` and the like in it, which reads what a network of the task reads and gives what it gives.
            It is searched as a space of its own, and stays as it is.
        budget: what search and race may take, such as "20m" or seconds. With it, and of a mapping that does not say how
            long the search is, the settings that are left open are chosen (`datanas.racing.planning`). For a module a
            mapping is the section of that name: what is kept may cost no more.
        resume: a run folder to go on with.
        quiet: no progress on stderr.
        allow_topology_change: go on with another device or number of processes, though not bit for bit.
        sections: of the recipe for a module, such as data={"name": "cifar10"}; each a mapping or a component's name.

    Raises:
        ConfigError, DataError: before anything is written.
        NonFiniteError, OutOfMemoryError, StorageError, RunInUseError, CheckpointError, ProcessLostError, Interrupted:
            as they say.

    >>> found = search(recipe)  # a path, or sections: {"data": {...}, "search": {"epochs": 2}, ...}
    >>> found.architecture.space, len(found.history)
    ('conv_cell', 2)
    """
    if isinstance(budget, Mapping):
        sections, budget = {**sections, "budget": budget}, None
    if isinstance(config, nn.Module):
        if "space" in sections:
            raise ConfigError("space: the module is the space; leave this section out")
        with given(config) as space:
            return search(
                None if resume is not None and not sections else {**sections, "space": space},
                budget=budget,
                resume=resume,
                quiet=quiet,
                allow_topology_change=allow_topology_change,
            )
    if sections:
        raise ConfigError(f"{', '.join(sections)}: sections stand in the recipe itself, unless a module is searched")
    settings = _settings(config, budget, resume, quiet=quiet)
    if settings.search.choice == "race":
        if settings.space.name == MODULE:
            raise ConfigError(
                "search.choice: a race trains candidates in processes of their own, which do not have this module; "
                "write it as a space of a plugin (datanas.blocks.space.ModuleSpace), or leave choice at derive"
            )
        if settings.devices * settings.num_nodes > 1:
            raise ConfigError("search.choice: a race follows a search of one process; leave devices at 1")
        if settings.search.judge == 0:
            raise ConfigError("search.judge: a race needs examples to judge by; leave it out, or give a share above 0")
        if budget is None and resume is None and not _has_begun(settings) and is_first():
            require_feasible(settings)
    searched = search_alone(
        None if config is None else settings, resume=resume, quiet=quiet, allow_topology_change=allow_topology_change
    )
    if settings.search.choice != "race" or not is_first():
        return searched
    derived = searched.path / DERIVED_FILE
    if not derived.is_file():
        searched.architecture.save(derived)
    run_settings = {"root": str(searched.path), "name": RACE_FOLDER, "keep": 1}
    result = race(searched.path, settings={"run": run_settings}, quiet=quiet)
    result.architecture.save(searched.path / "architecture.json")
    table = load_table(settings)
    truth = None if table is None else table.truth(result.architecture, metric=settings.truth.metric)
    return replace(searched, architecture=result.architecture, truth=truth, race=result)


def _has_begun(config: Config) -> bool:
    """Whether a run of that name stands there, which is gone on with."""
    return config.run.name is not None and (config.run.root / config.run.name).exists()


def _settings(
    config: Config | Mapping[str, Any] | str | Path | None,
    budget: str | float | None,
    resume: str | Path | None,
    *,
    quiet: bool,
) -> Config:
    recipe = load_run_config(resume) if config is None and resume is not None else config or {}
    if isinstance(recipe, Config) and budget is None:
        return recipe
    is_complete = isinstance(recipe, Config | str | Path)
    raw = recipe.model_dump(mode="json") if isinstance(recipe, Config) else recipe
    raw = read_yaml(raw) if isinstance(raw, str | Path) else raw
    return planned(raw, budget=budget, has_recipe=is_complete, goes_on=resume is not None, quiet=quiet)
