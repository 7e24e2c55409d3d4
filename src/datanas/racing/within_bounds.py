"""Which networks take part in a front: of each bound what the search would keep, random ones, and references."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal, get_args

from datanas.budgets.units import parse_bytes, parse_count, parse_milliseconds, show
from datanas.core.errors import ConfigError
from datanas.engine.budget import UNITS, Budget, around
from datanas.engine.collapse import is_collapsed
from datanas.engine.config import Config, resolve
from datanas.engine.derive import derive
from datanas.engine.rebuild import with_network_of
from datanas.engine.setup import build_sampler, build_space
from datanas.engine.width import with_width
from datanas.lookup import architecture
from datanas.racing.candidates import Candidate, network_key, random_candidates
from datanas.racing.front import RANDOM, SEARCHED
from datanas.references import compared_in
from datanas.tasks.base import Task
from datanas.tasks.image_task import ImageTask

Cost = Literal["macs", "parameters", "size", "memory", "latency"]
_DRAWN, _COUNTED = 300, 40  # random networks of which the controls are chosen; fewer where each has to be counted
_UNBOUNDED = 1e18


@dataclass(frozen=True)
class FrontRequest:
    """What a front is asked for, as `pareto` takes it."""

    run: str
    cost: str
    bounds: tuple[float, ...]
    points: int
    epochs: int | None
    random: int

    @classmethod
    def of(
        cls,
        run: str | Path | None,
        cost: str,
        bounds: Sequence[float],
        points: int,
        epochs: int | None,
        random: int,
    ) -> FrontRequest:
        if run is None:
            raise ConfigError("a front needs the run folder of a finished search: datanas pareto RUN")
        if cost not in get_args(Cost):
            raise ConfigError(f"cost: must be one of {', '.join(get_args(Cost))}, got {cost!r}")
        if any(not 0 < bound < _UNBOUNDED for bound in bounds):
            raise ConfigError(f"bounds: must be positive numbers, got {list(bounds)}")
        if not bounds and points < 2:
            raise ConfigError(f"points: a front needs at least 2 bounds, got {points}")
        if epochs is not None and epochs < 1:
            raise ConfigError(f"epochs: must be at least 1, got {epochs}")
        if random < 0:
            raise ConfigError(f"random: must be at least 0, got {random}")
        if not bounds and cost == "memory":
            raise ConfigError("bounds: are required for memory, which is no sum over operations: --bounds 1MB,4MB")
        unit = UNITS[cost]
        each = sorted(set(bounds))
        if twice := [one for one, other in pairwise(each) if show(one, unit) == show(other, unit)]:
            raise ConfigError(f"bounds: two of them are {show(twice[0], unit)}; leave one out")
        return cls(str(Path(run).absolute()), cost, tuple(each), points, epochs, random)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "bounds": list(self.bounds)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FrontRequest:
        return cls(**{**data, "bounds": tuple(data["bounds"])})


@dataclass(frozen=True)
class Entry:
    """A network of a front.

    Attributes:
        origin: as of a `Point`.
        bound: for which it takes part.
        cost: what it costs; None of a reference, which is counted when it is trained.
        file: its architecture in the run folder; empty of a reference.
        width: of a reference, as the bound allows; None of others, which are as wide as the recipe says.
    """

    candidate: Candidate
    origin: str
    bound: float
    cost: float | None = None
    file: str = ""
    width: int | None = None

    def to_json(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("origin", "bound", "cost", "file", "width")}
        return {**own, "candidate": self.candidate.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        return cls(**{**data, "candidate": Candidate.from_json(data["candidate"])})


class Chooser:
    """Chooses bounds and networks.

    Args:
        config: the search's recipe, its other bounds in it.
        request: of which run, and what.
        task: with its data.
    """

    def __init__(self, config: Config, request: FrontRequest, task: Task[Any]) -> None:
        self._config, self._request, self._task, self._cost = config, request, task, request.cost

    def _budget(self, bound: float) -> Budget:
        return Budget(
            resolve(self._config.model_dump(mode="json"), [(f"budget.{self._cost}", bound)]), around(self._task)
        )

    @cached_property
    def _unbounded(self) -> Budget:
        return self._budget(_UNBOUNDED)

    def bounds(self) -> tuple[float, ...]:
        """In equal ratios: the last is what the likeliest network costs, the first is above the least possible.

        Raises:
            ConfigError: the likeliest costs hardly more than the least possible.
        """
        budget = self._unbounded
        least = budget.require_met(build_sampler(self._config, build_space(self._config)))[self._cost]
        most = budget.costs(derive(self._request.run, settings=self._bounded(None)).architecture)[self._cost]
        if most <= least * 1.05:
            raise ConfigError(
                f"bounds: the likeliest network has {show(most, UNITS[self._cost])}, hardly more than the least "
                f"possible {show(least, UNITS[self._cost])}, so there is nothing to bound; give --bounds, or search "
                "longer"
            )
        ratios = [(index + 1) / self._request.points for index in range(self._request.points)]
        return tuple(sorted({_rounded_up(least * (most / least) ** ratio, most) for ratio in ratios}))

    def _bounded(self, bound: float | None) -> list[tuple[str, object]]:
        """Settings for `derive`: this run's network and bounds, with this one."""
        network = self._config.train.network_config.model_dump(mode="json")
        known = self._config.budget.model_dump(mode="json")
        return [
            *((f"train.{name}", value) for name, value in network.items()),
            *((f"budget.{name}", value) for name, value in known.items() if name != self._cost),
            (f"budget.{self._cost}", bound),
        ]

    def entries(self, bounds: Sequence[float]) -> list[Entry]:
        """What takes part. No two are the same network, so that a bound may go without one of its own.

        Raises:
            ConfigError: no network is within a bound, or there is but one network to train.
        """
        searched: dict[Any, Entry] = {}
        for bound in bounds:
            derived = derive(self._request.run, settings=self._bounded(bound)).architecture
            candidate = Candidate(derived, f"searched within {show(bound, UNITS[self._cost])}", is_searched=True)
            price = (derived.posterior or {})["costs"][self._cost]
            searched.setdefault(network_key(derived), Entry(candidate, SEARCHED, bound, price))
        others = [*self._random(bounds, set(searched)), *self._references(bounds)]
        entries = sorted([*searched.values(), *others], key=lambda each: each.bound)
        if len(entries) < 2:
            raise ConfigError("bounds: the same network is the likeliest within all of them, and nothing beside it")
        return [
            replace(
                each, file="" if each.cost is None else f"{number:02d}-{each.origin}-{self._words(each.bound)}.json"
            )
            for number, each in enumerate(entries)
        ]

    def _words(self, bound: float) -> str:
        return show(bound, UNITS[self._cost]).replace(" ", "-")

    def _random(self, bounds: Sequence[float], known: set[Any]) -> Iterator[Entry]:
        """Of each bound the random networks that come nearest to it."""
        unbounded = self._unbounded
        controls = self._controls(unbounded) if self._request.random else []
        for bound in bounds:
            taken = 0
            for expected, each in controls:
                if taken == self._request.random:
                    break
                if expected > bound or (key := network_key(each.architecture)) in known:
                    continue
                known.add(key)
                costs = unbounded.costs(each.architecture)
                if costs[self._cost] > bound or unbounded.exceeded(costs):
                    continue
                taken += 1
                candidate = replace(each, origin=f"random within {show(bound, UNITS[self._cost])}")
                yield Entry(candidate, RANDOM, bound, costs[self._cost])

    def _controls(self, budget: Budget) -> list[tuple[float, Candidate]]:
        """Random networks, each with its cost as far as that adds up, which is rather too much; dearest first."""
        space = build_space(self._config)
        drawn = islice(random_candidates(self._config, "pareto/random"), _DRAWN)
        sound = [each for each in drawn if not is_collapsed(each.architecture, space)]
        if self._cost in budget.tables:
            costs = [budget.tabled(self._cost, each.architecture) for each in sound]
        else:
            sound = sound[:_COUNTED]
            costs = [budget.costs(each.architecture)[self._cost] for each in sound]
        return sorted(zip(costs, sound, strict=True), key=lambda pair: -pair[0])

    def _references(self, bounds: Sequence[float]) -> Iterator[Entry]:
        """Of each bound on multiply-adds the task's references as wide as all bounds allow, where that is new."""
        if self._cost != "macs" or not isinstance(self._task, ImageTask) or "latency" in self._config.budget.bounds:
            return
        task = self._config.task.name
        for name in compared_in({task}):
            widths = set()
            for bound in bounds:
                settings = [("budget.macs", bound), ("budget.fill", True)]
                config = resolve(self._config.model_dump(mode="json"), settings)
                reference = architecture(name)
                try:
                    sized = with_width(reference, with_network_of(config, reference), self._task)
                except ConfigError:  # not even the narrowest is within the bound
                    continue
                width = sized.train.network_config.width
                if width not in widths:
                    widths.add(width)
                    candidate = Candidate(reference, f"reference: {name} within {show(bound, UNITS['macs'])}")
                    yield Entry(candidate, f"reference: {name}", bound, width=width)


def read_bounds(cost: str, text: str) -> tuple[float, ...]:
    """Bounds as people write them: "1M,2M" of counts, "500kB,1MB" of bytes, "2ms,5ms" of latency.

    Raises:
        ConfigError: one of them is none; which.
    """
    readers = {"size": parse_bytes, "memory": parse_bytes, "latency": parse_milliseconds}
    read = readers.get(cost, parse_count)
    try:
        return tuple(float(read(part.strip())) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"bounds: each {error}") from None


def _rounded_up(value: float, most: float) -> float:
    """To three figures, so that a bound can be read; not beyond the last, which stays what it is."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return min(most, float(f"{math.ceil(value / unit - 1e-9) * unit:.6g}"))
