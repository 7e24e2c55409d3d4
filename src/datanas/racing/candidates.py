"""Who takes part in a race: what searches would have kept on the way and at the end, random cells, published ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from datanas.codes.architecture import Architecture
from datanas.codes.liveness import lets_through
from datanas.core import seeding
from datanas.core.errors import ArchitectureError, CheckpointError, ConfigError
from datanas.engine.budget import Budget, around, budget_of, recorded
from datanas.engine.collapse import is_collapsed
from datanas.engine.config import Config, resolve
from datanas.engine.derive import derive
from datanas.engine.earlier_run import load_run_config
from datanas.engine.findings import MODES_FILE
from datanas.engine.random_cells import random_cells
from datanas.engine.rebuild import network_for
from datanas.engine.setup import build_space
from datanas.engine.untrained import scores_apply, untrained_scores
from datanas.lookup import architecture, architectures
from datanas.network import builder_of
from datanas.references import references
from datanas.samplers.derivation import LOG_P
from datanas.spaces.base import Space
from datanas.tasks.base import Task

SCORED = 10
"""Random cells that are scored before training for each one that takes part."""
SHARES = (0.6, 0.2)
"""Of the multiply-adds of the likeliest cell: within these, others are the likeliest (docs/race.md has the figures)."""
_NO_BOUND = 1e18  # multiply-adds
_NEXT = 24  # of the likeliest architectures at the end, as many are looked at


@dataclass(frozen=True)
class Candidate:
    """An architecture in a race, and where it comes from, for people.

    Attributes:
        is_searched: whether a search would have kept it.
        stays: whether it takes part in every rung, to be compared with: a reference, or a random cell beside one.
    """

    architecture: Architecture
    origin: str
    is_searched: bool = False
    stays: bool = False

    @property
    def is_reference(self) -> bool:
        """Whether nothing in it was chosen."""
        return self.architecture.space in references

    def to_json(self) -> dict[str, Any]:
        document = json.loads(self.architecture.to_json())
        kind = {"is_searched": self.is_searched, "stays": self.stays}
        return {"architecture": document, "origin": self.origin, **kind}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Candidate:
        cell = Architecture.from_json(data["architecture"])
        return cls(cell, data["origin"], data["is_searched"], data.get("stays", False))


def gather(
    runs: Sequence[Path], config: Config, task: Task[Any], count: int, *, scored: bool = True
) -> list[Candidate]:
    """So many candidates: about half from the searches, half random, of which half were scored before training.

    None has collapsed or is dead, and no two are the same network.

    Args:
        scored: whether to score, which takes a while; all random candidates are otherwise as they come.

    Raises:
        ConfigError: a search has noted nothing on the way.
    """
    settings, space = config.search.race, build_space(config)
    chosen = _Chosen(space, budget_of(config, around(task)))
    if settings.searched:
        sources = [searched(run, is_named=len(runs) > 1, smaller=config.widens) for run in runs]
        chosen.add(chain.from_iterable(zip_longest(*sources)), count - count // 2)
    if settings.published:
        chosen.add(_published(config, task), count // 4)
    chosen.add(random_candidates(config), max(1, (count - len(chosen.candidates)) // 2))
    if scored and (left := count - len(chosen.candidates)):
        chosen.add(_best_scored(config, task, SCORED * left, space), left)
    chosen.add(random_candidates(config, "race/more random"), count - len(chosen.candidates))
    return [*_with_one_that_stays(chosen.candidates, settings.references), *map(_reference, settings.references)]


def _with_one_that_stays(candidates: list[Candidate], names: Sequence[str]) -> list[Candidate]:
    """The same; beside references the first random cell stays to the end."""
    if not names:
        return candidates
    random = next(index for index, each in enumerate(candidates) if each.origin == "random")
    return [replace(each, stays=index == random) for index, each in enumerate(candidates)]


def _reference(name: str) -> Candidate:
    return Candidate(architecture(name), f"reference: {name}", stays=True)


def most_promising(run: Path, space: Space) -> Architecture | None:
    """What of a search would be the first candidate where networks become wider, named by its source.

    None where all that it would have kept has collapsed.
    """
    chosen = _Chosen(space)
    chosen.add(searched(run, is_named=False, smaller=True), 1)
    if not chosen.candidates:
        return None
    first = chosen.candidates[0]
    return replace(first.architecture, source={**(first.architecture.source or {}), "origin": first.origin})


def searched(run: Path, *, is_named: bool, smaller: bool = False) -> Iterator[Candidate]:
    """What a search would have kept: at the end, on the way from late to early, and the next likeliest at the end.

    Args:
        is_named: whether to say of which run each is.
        smaller: whether to begin with the likeliest of fewer multiply-adds, as is best where these become wider.

    Raises:
        ConfigError: it has noted nothing on the way.
    """
    of = f" of {run.name}" if is_named else ""
    modes = _modes(run)
    derivation = derive(run, n=_NEXT)
    likeliest = [cell for cell, _ in derivation.ranking]
    for share, cell in _smaller(run, likeliest[0]) if smaller and derivation.measure == LOG_P else ():
        yield Candidate(cell, f"searched{of}: likeliest within {share:.0%} of its multiply-adds", is_searched=True)
    yield Candidate(likeliest[0], f"searched{of}: likeliest", is_searched=True)
    for share, mode in reversed(modes):
        yield Candidate(mode, f"searched{of}: likeliest at {share:.0%}", is_searched=True)
    for rank, cell in enumerate(likeliest[1:], start=2):
        yield Candidate(cell, f"searched{of}: number {rank}", is_searched=True)


def _smaller(run: Path, likeliest: Architecture) -> Iterator[tuple[float, Architecture]]:
    """The likeliest within shares of the multiply-adds that the likeliest of all has, at the width of the recipe.

    What all networks have alike, such as stem and head, is left out of account. None of a method that cannot choose
    within bounds, of a share that no network is within, and where the likeliest, without what is dead in it, costs less
    than what all have alike: a cell of DARTS' space that reads few of the features in front of it.
    """
    at_one_width: list[tuple[str, object]] = [("train.max_macs", None), ("budget.fill", False)]
    with suppress(ConfigError):
        config = resolve(load_run_config(run, learns=False), [*at_one_width, ("budget.macs", _NO_BOUND)])
        budget = Budget(config, recorded(config, run))
        alike = budget.tables["macs"].constant
        own = budget.costs(likeliest)["macs"] - alike
        for share in SHARES if own > 0 else ():
            within = derive(run, settings=[*at_one_width, ("budget.macs", alike + share * own)])
            yield share, within.ranking[0][0]


def _modes(run: Path) -> list[tuple[float, Architecture]]:
    """The share of the search and what it would have kept then, in order."""
    try:
        entries = json.loads((run / MODES_FILE).read_bytes())["entries"]
        return [(float(each["share"]), Architecture.from_json(each["architecture"])) for each in entries]
    except FileNotFoundError:
        pass
    except (ValueError, KeyError, TypeError, ArchitectureError) as error:
        raise CheckpointError(f"{run / MODES_FILE}: not what a search writes: {error}") from None
    files = sorted((run / "genotypes").glob("epoch-*.json"))
    if not files:
        raise ConfigError(
            f"{run}: has neither {MODES_FILE} nor genotypes, so there is nothing from the way of the search to choose "
            "from; search again, or leave its cells out with --no-searched"
        )
    return [((index + 1) / len(files), Architecture.load(file)) for index, file in enumerate(files)]


class _Chosen:
    """Candidates, none of which has collapsed, is dead, beyond the budget or makes the same network as another."""

    def __init__(self, space: Space, budget: Budget | None = None) -> None:
        self.candidates: list[Candidate] = []
        self._space, self._budget = space, budget
        self._known: set[Any] = set()

    def add(self, offered: Iterable[Candidate | None], count: int) -> None:
        """Take the next so many that will do; of many hundred in vain, no more."""
        wanted = len(self.candidates) + count
        for candidate in islice(offered, 500):
            if len(self.candidates) >= wanted:
                return
            if candidate is None or is_collapsed(candidate.architecture, self._space):
                continue
            key = network_key(candidate.architecture)
            if key not in self._known:
                self._known.add(key)
                if self._allows(candidate.architecture):
                    self.candidates.append(candidate)

    def _allows(self, architecture: Architecture) -> bool:
        """Whether its network is within the budget, or will be made so wide as to be."""
        budget = self._budget
        if budget is None or budget.config.fill:
            return True
        return not budget.exceeded(budget.costs(architecture))


def network_key(architecture: Architecture) -> tuple[Any, ...]:
    """What two architectures share that make the same network."""
    return architecture.space, *builder_of(architecture).network_key(architecture)


def random_candidates(config: Config, stream: str = "race/random", origin: str = "random") -> Iterator[Candidate]:
    """Random cells without end, each of which lets something through."""
    generator = seeding.generator(config.seed, stream)
    while True:
        (cell,) = random_cells(config, 1, generator)
        if all(lets_through(part) for part in cell.cells.values()):
            yield Candidate(cell, origin)


def _published(config: Config, task: Task[Any]) -> Iterator[Candidate]:
    for name in architectures():
        published = architecture(name)
        if published.space != config.space.name:
            continue
        try:
            network_for(published, config, task)
        except (ArchitectureError, ConfigError):
            continue
        yield Candidate(published, f"published: {name}")


def _best_scored(config: Config, task: Task[Any], count: int, space: Space) -> list[Candidate]:
    """Random cells in falling order of their scores before training; none where these do not apply."""
    if not scores_apply(task):
        return []
    offered = random_candidates(config, "race/scored", "random, prefiltered")
    cells = list(islice((each for each in offered if not is_collapsed(each.architecture, space)), count))
    scores = untrained_scores([each.architecture for each in cells], config, task)
    return [cells[index] for index in sorted(range(len(cells)), key=lambda index: -scores[index])]
