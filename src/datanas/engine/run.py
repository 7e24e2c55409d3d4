"""A run of one process or several: planned, opened, gone on with; the first process holds its folder and writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError, DataError, StorageError
from datanas.core.paths import is_file, is_folder, shown
from datanas.core.processes import Processes
from datanas.core.settings import parse_yaml, read_yaml
from datanas.engine.changes import changed_facts, changed_settings, facts
from datanas.engine.config import Config, lay_over, resolve, with_reference_settings
from datanas.engine.data_record import DATA_FILE, data_line, data_record
from datanas.engine.earlier import keep_unsaid, with_unsaid
from datanas.engine.fit import require_search, require_training
from datanas.engine.setup import start
from datanas.engine.width import keep_width
from datanas.lookup import run_folder
from datanas.runs.checkpoint import (
    decode_checkpoint,
    encode_checkpoint,
    latest_step,
    load_checkpoint,
    remove_half_checkpoints,
    save_checkpoint,
)
from datanas.runs.folder import RunFolder
from datanas.tasks.base import Task

CLOCK_FILE = "clock.json"


class Run:
    """A run that this process takes part in; made by `begin_run`.

    Attributes:
        config: the settings that hold.
        kind: what it does ("search").
        device: where this process computes.
        processes: all of its processes.
        step: from which step it goes on, once it is open.
        saved: the state that was saved there; None for a run from its beginning.
        has_begun: whether the first process finds a checkpoint to go on from.
        architecture: what the first process trains, where the kind of run has one.
        about: what it is made on, in a line for people, once it is open.
        seconds: how long it has run up to the last checkpoint, in all its parts, setting up left out.
    """

    def __init__(self, config: Config, kind: str, device: torch.device, processes: Processes) -> None:
        self.config = config
        self.kind = kind
        self.device = device
        self.processes = processes
        self.step = 0
        self.saved: dict[str, Any] | None = None
        self.has_begun = False
        self.architecture: Architecture | None = None
        self.about = ""
        self.seconds = 0.0
        self._folder: RunFolder | None = None
        self._path: Path | None = None
        self._changed: dict[str, Any] = {}
        self._allows_topology_change = False
        self._facts: dict[str, Any] = {}

    @property
    def path(self) -> Path:
        """The run's folder."""
        assert self._path is not None, "the run is not open"
        return self._path

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.processes.is_first

    def open(self, task: Task[Any], length: int, files: Mapping[str, str] | None = None) -> None:
        """Make the folder of a new run, or read where an earlier one stopped.

        Args:
            length: steps of the whole run.
            files: texts that a new run begins with, by name.

        Raises:
            CheckpointError, ConfigError, DataError, RunInUseError, StorageError: as they say; a new run leaves nothing.
        """
        self._facts = facts(task, self.device, self.processes)
        self.about = data_line(self.config, task)
        self._require_same_data()
        answer = decode_checkpoint(
            self.processes.first(lambda: encode_checkpoint(self._open_first(task, length, files or {})))
        )
        self._path = Path(answer["path"])
        self.step, self.saved, self.seconds = answer["step"], answer["saved"], answer["seconds"]

    def save(self, step: int, state: Mapping[str, Any], best: int | None) -> None:
        """Write a checkpoint; only the first process does.

        Raises:
            StorageError: it cannot be written; the earlier checkpoints stand.
        """
        if self.is_first:
            whole = {"kind": self.kind, "facts": self._facts, **state}
            self.write_json(CLOCK_FILE, {"seconds": self.seconds})
            save_checkpoint(self.path, step, whole, self.config.run.keep, best)

    def has(self, relative: str | Path) -> bool:
        """Whether the first process finds this file in the run."""
        return self.processes.first(lambda: b"1" if (self.path / relative).is_file() else b"0") == b"1"

    def write_text(self, relative: str | Path, text: str) -> None:
        """Write a file of the run, whole or not at all; only the first process does."""
        if self._folder is not None:
            self._folder.write_text(relative, text)

    def write_json(self, relative: str | Path, data: object) -> None:
        """The same with plain data as JSON."""
        if self._folder is not None:
            self._folder.write_json(relative, data)

    def write_bytes(self, relative: str | Path, data: bytes) -> None:
        """The same with bytes."""
        if self._folder is not None:
            self._folder.write_bytes(relative, data)

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._folder is not None:
            self._folder.close()

    def take_plan(self, plan: bytes, folder: RunFolder | None, *, allow_topology_change: bool) -> None:
        """What the first process has found of an earlier part of this run."""
        found = json.loads(plan)
        self.config = resolve(parse_yaml(found["config"]))
        self._folder = folder
        self._path = None if found["path"] is None else Path(found["path"])
        self._changed = found["changed"]
        self.has_begun = found["begun"]
        self.architecture = None if found["architecture"] is None else Architecture.from_json(found["architecture"])
        self._allows_topology_change = allow_topology_change

    def _open_first(self, task: Task[Any], length: int, files: Mapping[str, str]) -> dict[str, Any]:
        if self._folder is None:
            self._folder = RunFolder.create(self.config.run.root, self.config.run.name, self.kind)
            record = json.dumps(data_record(self.config, task), indent=2) + "\n"
            self._folder.settle({**files, DATA_FILE: record, "config.yaml": self.config.to_yaml()}, self.kind)
            return {"path": str(self._folder.path), "step": 0, "saved": None, "seconds": 0.0}
        remove_half_checkpoints(self._folder.path)
        step, saved, because = 0, None, []
        if latest_step(self._folder.path) is not None:
            step, saved = load_job_state(self._folder.path, self.kind)
            before, allowed = saved.get("facts", {}), self._allows_topology_change
            because = changed_facts(before, self._facts, self._folder.path, allow_topology=allowed)
            if step > length:
                raise ConfigError(f"{self.kind}.epochs: {self._folder.path} has made {step} steps, more than {length}")
        because += [
            f"{key}: {old!r} -> {new!r}" for key, (old, new) in self._changed.items() if key == f"{self.kind}.epochs"
        ]
        if self._changed:
            self._folder.write_text("config.yaml", self.config.to_yaml())
        note = {"from_step": step, "bit_exact": not because, "because": because, "changed": self._changed}
        self._folder.write_env(self.kind, note)
        return {"path": str(self._folder.path), "step": step, "saved": saved, "seconds": _clock(self._folder.path)}

    def _require_same_data(self) -> None:
        own = sha256(self._facts["data"].encode()).digest()
        found = self.processes.gather(torch.tensor(list(own)))
        others = [rank for rank, each in enumerate(found) if not torch.equal(each, found[0])]
        if others:
            raise DataError(f"data.name {self.config.data.name}: process {others[0]} has other examples than the first")


@contextmanager
def begin_run(
    config: Config | Mapping[str, Any] | str | Path | None,
    kind: str,
    resume: str | Path | None,
    *,
    architecture: Architecture | None = None,
    allow_topology_change: bool = False,
) -> Iterator[Run]:
    """Plan a run, start its processes, and hold its folder if it was there before.

    Args:
        config: the settings; None for those of the run that is resumed.
        kind: what it does ("search").
        resume: the folder of a run to go on with; without it, one that stands where the new one would.
        architecture: what is trained, where the kind has one; a run goes on with no other.
        allow_topology_change: go on with another device or number of processes, though not bit for bit.

    Raises:
        ConfigError: the settings differ from those of the run in more than they may.
        CheckpointError, RunInUseError: as `RunFolder.open`.
    """
    if config is None and resume is None:
        config = {}
    settings = load_run_config(resume) if config is None and resume is not None else resolve(config or {})
    if architecture is not None:
        settings = with_reference_settings(settings, architecture)
        require_training(settings, architecture)
    elif kind == "search":
        require_search(settings)
    processes, device = start(settings)
    run = Run(settings, kind, device, processes)
    folder: RunFolder | None = None

    def plan() -> bytes:
        nonlocal folder
        path = None if resume is None else Path(resume)
        if path is None:
            is_folder(settings.run.root, StorageError)
            path = _standing(settings)
        elif not is_file(path / "config.yaml", CheckpointError):
            raise CheckpointError(f"not a run folder: no config.yaml in {shown(path)}")
        changed: dict[str, Any] = {}
        config = settings
        if path is None:
            RunFolder.require_free(settings.run.root, settings.run.name)
        else:
            folder = RunFolder.open(path)
            folder.require_kind(kind, "" if resume is not None else "; choose another --run.name")
            before = load_run_config(path)
            here = settings.run.model_copy(update={"root": before.run.root, "name": before.run.name})
            config = keep_width(before, keep_unsaid(before, settings.model_copy(update={"run": here})))
            changed = changed_settings(before, config, path)
            _require_same_architecture(path, architecture)
        found: dict[str, Any] = {"config": config.to_yaml(), "changed": changed}
        found["path"] = None if path is None else str(path)
        found["begun"] = path is not None and latest_step(path) is not None
        found["architecture"] = None if architecture is None else architecture.to_json()
        return json.dumps(found).encode()

    try:
        run.take_plan(processes.first(plan), folder, allow_topology_change=allow_topology_change)
        yield run
    finally:
        if folder is not None:
            folder.close()
        run.close()


def load_run_config(run: str | Path) -> Config:
    """The resolved configuration of a run folder."""
    path = Path(run) / "config.yaml"
    if not is_file(path, CheckpointError):
        raise CheckpointError(f"not a run folder: no config.yaml in {shown(run)}")
    return resolve(with_unsaid(read_yaml(path), Path(run)))


_OF_THE_PLACE = ("run", "truth", "devices", "num_nodes", "strategy", "process_timeout")
"""What a training does not take over from the run whose architecture it trains: where it is, who makes it."""


def with_recipe_of(
    source: Architecture | str | Path,
    recipe: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """What is asked for of a training, laid over the recipe of the run whose architecture is trained.

    Args:
        source: what is trained; only of a run folder there is anything to take over.
        recipe: what is asked for; it lies on top.
        settings: what is asked for besides, by dotted names. Where it or the recipe names another task, the run's way
            of training is not taken over: that of the other task holds.

    Raises:
        CheckpointError, ConfigError: the run's recipe cannot be read.
    """
    folder = run_folder(source)
    if folder is None:
        return dict(recipe)
    before = load_run_config(folder).model_dump(mode="json")
    task = settings.get("task.name") or settings.get("task") or _named(recipe.get("task"))
    found = {name: value for name, value in before.items() if name not in _OF_THE_PLACE}
    found["run"] = {name: value for name, value in before["run"].items() if name not in ("root", "name")}
    if task not in (None, before["task"]["name"]):
        found = {name: value for name, value in found.items() if name not in ("train", "search", "space", "sampler")}
    return lay_over(found, recipe)


def _named(section: object) -> object:
    return section.get("name") if isinstance(section, Mapping) else section


def load_job_state(run: Path, kind: str, step: int | None = None) -> tuple[int, dict[str, Any]]:
    """A step and the state that a run saved there; its last checkpoint for None.

    Raises:
        CheckpointError: there is no usable one, or it is of a run of another kind.
    """
    step, saved = load_checkpoint(run, step)
    if saved.get("kind") != kind:
        raise CheckpointError(f"{run}: a {kind} run is needed, this is a {saved.get('kind')} run")
    return step, saved


def load_chosen_state(run: Path, kind: str, checkpoint: Literal["last", "best"]) -> tuple[int, dict[str, Any]]:
    """The step and state of the last checkpoint, or of the best.

    Raises:
        CheckpointError: as `load_job_state`, or no epoch has been compared yet.
    """
    step, saved = load_job_state(run, kind)
    if checkpoint == "last":
        return step, saved
    if saved["best"] is None:
        raise CheckpointError(f"{run}: has no best checkpoint: nothing was measured after an epoch")
    return load_job_state(run, kind, int(saved["best"][1]))


def _clock(run: Path) -> float:
    """Seconds that the earlier parts of a run took; 0 where that is not known."""
    try:
        return float(json.loads((run / CLOCK_FILE).read_bytes())["seconds"])
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


def _standing(config: Config) -> Path | None:
    """The run that an earlier process has begun under the same name."""
    if config.run.name is None:
        return None
    path = config.run.root / config.run.name
    return path if is_file(path / "config.yaml", StorageError) else None


def _require_same_architecture(path: Path, architecture: Architecture | None) -> None:
    kept = path / "architecture.json"
    if architecture is not None and kept.is_file() and Architecture.load(kept) != architecture:
        raise ConfigError(f"{path} trains another architecture; go on with --resume, or choose another --run.name")
