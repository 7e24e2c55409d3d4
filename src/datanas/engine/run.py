"""A run of one process or several: planned, opened, gone on with; the first process holds its folder and writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

from datanas.architecture import Architecture
from datanas.config import parse_yaml, read_yaml
from datanas.distributed import Processes
from datanas.engine.config import Config, resolve
from datanas.engine.setup import start
from datanas.errors import CheckpointError, ConfigError, DataError
from datanas.runs.checkpoint import (
    decode_checkpoint,
    encode_checkpoint,
    latest_step,
    load_checkpoint,
    remove_half_checkpoints,
    save_checkpoint,
)
from datanas.runs.environment import cpu_model
from datanas.runs.folder import RunFolder
from datanas.tasks.base import Task

MAY_CHANGE = (
    "run.*",
    "device",
    "devices",
    "num_nodes",
    "strategy",
    "process_timeout",
    "threads",
    "plugins",
    "data.root",
    "search.epochs",
    "train.epochs",
)
"""Settings that a run may be gone on with differently: where, how long and by whom it is made, not what it is."""

_TOPOLOGY = {"device": "device", "processes": "processes"}
_SURROUNDINGS = {"threads": "threads", "torch": "torch", "machine": "processor"}


class Run:
    """A run that this process takes part in; made by `begin_run`.

    Attributes:
        config: the settings that hold.
        kind: what it does ("search").
        device: where this process computes.
        processes: all of its processes.
        step: from which step it goes on, once it is open.
        saved: the state that was saved there; None for a run from its beginning.
        architecture: what the first process trains, where the kind of run has one.
    """

    def __init__(self, config: Config, kind: str, device: torch.device, processes: Processes) -> None:
        self.config = config
        self.kind = kind
        self.device = device
        self.processes = processes
        self.step = 0
        self.saved: dict[str, Any] | None = None
        self.architecture: Architecture | None = None
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
        self._facts = self._describe(task)
        self._require_same_data()
        answer = decode_checkpoint(
            self.processes.first(lambda: encode_checkpoint(self._open_first(length, files or {})))
        )
        self._path = Path(answer["path"])
        self.step, self.saved = answer["step"], answer["saved"]

    def save(self, step: int, state: Mapping[str, Any], best: int | None) -> None:
        """Write a checkpoint; only the first process does.

        Raises:
            StorageError: it cannot be written; the earlier checkpoints stand.
        """
        if self.is_first:
            whole = {"kind": self.kind, "facts": self._facts, **state}
            save_checkpoint(self.path, step, whole, self.config.run.keep, best)

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
        self.architecture = None if found["architecture"] is None else Architecture.from_json(found["architecture"])
        self._allows_topology_change = allow_topology_change

    def _open_first(self, length: int, files: Mapping[str, str]) -> dict[str, Any]:
        if self._folder is None:
            self._folder = RunFolder.create(self.config.run.root, self.config.run.name, self.kind)
            self._folder.settle({**files, "config.yaml": self.config.to_yaml()}, self.kind)
            return {"path": str(self._folder.path), "step": 0, "saved": None}
        remove_half_checkpoints(self._folder.path)
        step, saved, because = 0, None, []
        if latest_step(self._folder.path) is not None:
            step, saved = load_job_state(self._folder.path, self.kind)
            because = self._compare(saved.get("facts", {}))
            if step > length:
                raise ConfigError(f"{self.kind}.epochs: {self._folder.path} has made {step} steps, more than {length}")
        because += [
            f"{key}: {old!r} -> {new!r}" for key, (old, new) in self._changed.items() if key == f"{self.kind}.epochs"
        ]
        if self._changed:
            self._folder.write_text("config.yaml", self.config.to_yaml())
        note = {"from_step": step, "bit_exact": not because, "because": because, "changed": self._changed}
        self._folder.write_env(self.kind, note)
        return {"path": str(self._folder.path), "step": step, "saved": saved}

    def _require_same_data(self) -> None:
        own = sha256(self._facts["data"].encode()).digest()
        found = self.processes.gather(torch.tensor(list(own)))
        others = [rank for rank, each in enumerate(found) if not torch.equal(each, found[0])]
        if others:
            raise DataError(f"data.name {self.config.data.name}: process {others[0]} has other examples than the first")

    def _describe(self, task: Task[Any]) -> dict[str, Any]:
        """What must be the same for the run to go on bit for bit."""
        return {
            "data": task.fingerprint(),
            "device": self.device.type,
            "processes": self.processes.size,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__.partition("+")[0],
            "machine": f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}",
        }

    def _compare(self, before: Mapping[str, Any]) -> list[str]:
        """What keeps the run from going on bit for bit."""
        now = self._facts
        if before.get("data", now["data"]) != now["data"]:
            raise DataError(
                f"data.name {self.config.data.name}: its examples or their split have changed since {self.path} began "
                f"({before['data'][:12]} then, {now['data'][:12]} now); bring the old data back, or begin a new run"
            )
        moved = _differing(before, now, _TOPOLOGY)
        if moved and not self._allows_topology_change:
            raise ConfigError(
                f"{self.path} was made otherwise ({', '.join(moved)}) and would not go on bit for bit; "
                "--allow-topology-change goes on from the same numbers all the same"
            )
        return moved + _differing(before, now, _SURROUNDINGS)


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
    processes, device = start(settings)
    run = Run(settings, kind, device, processes)
    folder: RunFolder | None = None

    def plan() -> bytes:
        nonlocal folder
        path = None if resume is None else Path(resume)
        if path is None:
            path = _standing(settings)
        changed: dict[str, Any] = {}
        config = settings
        if path is None:
            RunFolder.require_free(settings.run.root, settings.run.name)
        else:
            folder = RunFolder.open(path)
            folder.require_kind(kind)
            place = load_run_config(path).run
            here = settings.run.model_copy(update={"root": place.root, "name": place.name})
            config = settings.model_copy(update={"run": here})
            changed = _changes(path, config, architecture)
        found = {"config": config.to_yaml(), "path": None if path is None else str(path), "changed": changed}
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
    if not path.is_file():
        raise CheckpointError(f"not a run folder: no config.yaml in {run}")
    return resolve(read_yaml(path))


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


def _standing(config: Config) -> Path | None:
    """The run that an earlier process has begun under the same name."""
    if config.run.name is None:
        return None
    path = config.run.root / config.run.name
    return path if (path / "config.yaml").is_file() else None


def _changes(path: Path, config: Config, architecture: Architecture | None) -> dict[str, Any]:
    """Which settings differ from those of the run, each with both values.

    Raises:
        ConfigError: one that must not.
    """
    before, now = (dict(_flat(each.model_dump(mode="json"))) for each in (load_run_config(path), config))
    changed = {
        key: (before.get(key), now.get(key))
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    }
    wrong = [key for key in changed if not any(fnmatch(key, pattern) for pattern in MAY_CHANGE)]
    if wrong:
        lines = [f"{key}: {changed[key][0]!r} in the run, {changed[key][1]!r} now" for key in wrong]
        raise ConfigError(
            "\n".join([*lines, f"{path} goes on with its own settings; leave these out, or choose another --run.name"])
        )
    kept = path / "architecture.json"
    if architecture is not None and kept.is_file() and Architecture.load(kept) != architecture:
        raise ConfigError(f"{path} trains another architecture; go on with --resume, or choose another --run.name")
    return changed


def _flat(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {before[key]} -> {now[key]}" for key, name in names.items() if before.get(key, now[key]) != now[key]
    ]
