"""The recipe of a comparison: one search configuration, what each method changes in it, seeds, budget, controls."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator, model_validator

from datanas.core.cores import usable_cores
from datanas.core.errors import ConfigError, nearest
from datanas.core.settings import Section, apply_overrides, merge, read_yaml, validate
from datanas.engine.changes import flat
from datanas.engine.components import with_overrides
from datanas.engine.config import Config, resolve, typed_recipe
from datanas.engine.sections import RunConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_ROWS = ("same-size", "shuffled")
_MAY_DIFFER = ("sampler*", "search.alpha.*", "search.gradient.*", "search.hypergradient*", "search.alpha_start")
"""What a method may set for itself: how it draws, learns and derives, not what it is given."""
PLACE = ("run", "processes")
"""Settings that say where and how a comparison is made, not what it is."""


class Budget(Section):
    """What every search may use: so many weight steps, or so many seconds by a measurement before the first run."""

    steps: int | None = Field(None, ge=1)
    seconds: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def one_of_both(self) -> Budget:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("needs either steps or seconds")
        return self


class Controls(Section):
    """What chance and size alone reach.

    Attributes:
        random_cells: uniformly random cells a seed, of which the mean counts.
        same_size: random cells a seed and method with nearly the parameters of the cell that was kept.
        shuffled_labels: every search once more on labels without meaning.
        best_of: random cells a seed that are trained from scratch, together as long as a search takes on average, and
            compared on what the searches use for alpha; 0 for none.
    """

    random_cells: int | None = Field(None, ge=1, description="null: 1000 by a table, 1 where cells are trained")
    same_size: int | None = Field(None, ge=0, description="null: 100 by a table, 0 where cells are trained")
    shuffled_labels: bool = True
    best_of: int = Field(0, ge=0)


class CompareConfig(Section):
    """A comparison. How good a cell is says `base.truth.table`, or a training from scratch by `base.train`."""

    base: dict[str, Any]
    methods: dict[str, dict[str, Any]] = Field(min_length=1, description="by name, the settings that differ from base")
    ablations: tuple[str, ...] = Field((), description="methods that are shown, but do not compete to be the best")
    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    budget: Budget
    controls: Controls = Controls()
    retrain: bool = Field(False, description="train every kept cell from scratch and measure it on the test set, once")
    confidence: float = Field(0.95, gt=0, lt=1)
    processes: int | None = Field(None, ge=1, description="runs at a time; null for one a core")
    run: RunConfig = RunConfig()

    @field_validator("methods", mode="before")
    @classmethod
    def names_alone(cls, raw: Any) -> Any:
        """A list of names, or a mapping; without settings a name is that of a sampler."""
        if isinstance(raw, Sequence) and not isinstance(raw, str):
            for name in raw:
                if not isinstance(name, str) or list(raw).count(name) > 1:
                    raise ValueError(f"a list must hold names, each once; for settings use a mapping, got {name!r}")
            raw = dict.fromkeys(raw)
        if isinstance(raw, Mapping):
            return {name: {"sampler": {"name": name}} if given is None else given for name, given in raw.items()}
        return raw

    @field_validator("methods")
    @classmethod
    def folder_names(cls, methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in methods:
            if not _NAME.fullmatch(name):
                raise ValueError(f"a name must consist of letters, digits and _.+-, got {name!r}")
        taken = {"random-cells", "best-of-random", *(f"{name}-{row}" for name in methods for row in _ROWS)}
        for name in methods:
            if name in taken:
                raise ValueError(f"a name must not be that of a control's folder, got {name!r}")
        for name, given in methods.items():
            if "sampler" not in given:
                raise ValueError(f"{name}: needs a sampler, as in {{sampler: {{name: egs}}}}, got {given!r}")
            for key, _ in flat(given):
                if not any(fnmatch(key, pattern) for pattern in _MAY_DIFFER):
                    raise ValueError(
                        f"{name}: {key} must be the same for all methods; set it in base. "
                        f"A method may set {', '.join(_MAY_DIFFER)}"
                    )
        return methods

    @field_validator("seeds")
    @classmethod
    def different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError(f"must be different whole numbers of at least 0, got {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def known_ablations(self) -> CompareConfig:
        for name in self.ablations:
            if name not in self.methods:
                raise ValueError(f"ablations: {nearest(name, self.methods)}, got {name!r}")
        return self

    @property
    def has_table(self) -> bool:
        """Whether a table says how good a cell is."""
        truth = self.base.get("truth")
        return isinstance(truth, Mapping) and bool(truth.get("table"))

    @property
    def random_count(self) -> int:
        """Random cells a seed."""
        return self.controls.random_cells or (1000 if self.has_table else 1)

    @property
    def same_size_count(self) -> int:
        """Random cells of the size of each kept one, at most."""
        count = self.controls.same_size
        return (100 if self.has_table else 0) if count is None else count

    @property
    def most_trainings(self) -> int:
        """Trainings that `retrain` asks for, where there are as many cells of each size as are wanted."""
        if not self.retrain:
            return 0
        each = 1 + self.same_size_count + int(self.controls.shuffled_labels)
        return len(self.seeds) * (len(self.methods) * each + self.random_count + int(self.controls.best_of > 0))

    @property
    def workers(self) -> int:
        """Runs at a time: one a core, or one a GPU where the runs use these."""
        import torch

        device = str(self.base.get("device", "auto"))
        if torch.cuda.is_available() and device.startswith(("auto", "cuda")):
            return self.processes or torch.cuda.device_count()
        return self.processes or usable_cores()

    @property
    def threads(self) -> int:
        """CPU threads of each run."""
        return max(1, usable_cores() // self.workers)

    def method(self, name: str, seed: int, changes: Mapping[str, Any] | None = None) -> Config:
        """The configuration of one search.

        Raises:
            ConfigError: as `resolve`; each line begins with the method's name.
        """
        given = self.methods[name]
        base = {section: value for section, value in self.base.items() if section not in given or section != "sampler"}
        raw = merge(merge(base, given), {"seed": seed, "threads": self.threads, **(changes or {})})
        try:
            return resolve(raw)
        except ConfigError as error:
            raise ConfigError("\n".join(f"methods.{name}: {line}" for line in str(error).splitlines())) from None

    def to_yaml(self) -> str:
        """The resolved recipe; reading it back gives an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)

    def substance(self) -> dict[str, Any]:
        """What makes it this comparison and no other."""
        return self.model_dump(mode="json", exclude=set(PLACE))


def _with_inner(data: dict[str, Any], overrides: Sequence[tuple[str, object]]) -> dict[str, Any]:
    """The recipe of a comparison with overrides of its base and its methods, which are recipes themselves."""
    base, methods = data.get("base"), data.get("methods")
    rest = []
    for name, value in overrides:
        section, inside = name.split(".", 1)
        method, _, setting = inside.partition(".")
        if section == "base" and isinstance(base, Mapping):
            continue
        if setting and isinstance(methods, Mapping) and isinstance(methods.get(method), Mapping):
            methods = {**methods, method: with_overrides(methods[method], [(setting, value)])}
        else:
            rest.append((name, value))
    if isinstance(base, Mapping):
        prefix = "base."
        own = [(name.removeprefix(prefix), value) for name, value in overrides if name.startswith(prefix)]
        data["base"] = typed_recipe(with_overrides(base, own))
    if isinstance(methods, Mapping):
        data["methods"] = {
            name: typed_recipe(given) if isinstance(given, Mapping) else given for name, given in methods.items()
        }
    return apply_overrides(data, rest)


def resolve_comparison(
    raw: Mapping[str, Any] | CompareConfig | str | Path, overrides: Sequence[tuple[str, object]] = ()
) -> CompareConfig:
    """A checked recipe from a file's path, plain data, or a recipe.

    `base` may be the path of a search recipe, beside the file that names it.

    Raises:
        ConfigError: every fault that was found, a line each.
    """
    if isinstance(raw, CompareConfig):
        raw = raw.model_dump(mode="json")
    folder = Path()
    if isinstance(raw, str | Path):
        folder, raw = Path(raw).parent, read_yaml(raw)
    if isinstance(raw.get("base"), str):
        raw = {**raw, "base": read_yaml(folder / raw["base"])}
    inner = [(name, value) for name, value in overrides if "." in name and name.split(".")[0] in ("base", "methods")]
    data = apply_overrides(raw, [pair for pair in overrides if pair not in inner])
    if isinstance(data.get("base"), str):
        data["base"] = read_yaml(data["base"])
    data = _with_inner(data, inner)
    config = validate(CompareConfig, data)
    faults = []
    for name in config.methods:
        try:
            config.method(name, config.seeds[0])
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    if config.has_table == config.retrain:
        raise ConfigError(
            "a comparison needs one outside truth: base.truth.table, or retrain: true; "
            f"{'both are' if config.retrain else 'neither is'} given"
        )
    return config
