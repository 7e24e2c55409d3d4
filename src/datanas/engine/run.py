"""A run of one process or several: planned before there are data, then opened; the first process writes its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from datanas.codes.architecture import Architecture
from datanas.core.errors import CheckpointError, ConfigError, DataError, StorageError
from datanas.core.paths import is_file, is_folder, json_object, shown
from datanas.core.processes import Processes
from datanas.core.settings import parse_yaml
from datanas.engine.changes import changed_facts, changed_settings, facts
from datanas.engine.config import Config, resolve
from datanas.engine.data_record import DATA_FILE, VOCABULARY_FILE, data_line, data_record, vocabulary_text
from datanas.engine.earlier import keep_unsaid
from datanas.engine.earlier_run import load_job_state, load_run_config
from datanas.engine.fit import require_search, require_training
from datanas.engine.rebuild import with_network_of
from datanas.engine.setup import start
from datanas.engine.width import keep_width
from datanas.runs.checkpoint import (
    decode_checkpoint,
    encode_checkpoint,
    latest_step,
    remove_half_checkpoints,
    save_checkpoint,
)
from datanas.runs.folder import RunFolder
from datanas.tasks.base import Task

CLOCK_FILE = "clock.json"


class Run:
    """A run that is under way, as one of its processes sees it; made by `RunPlan.open`.

    Attributes:
        config: the settings that hold.
        kind: what it does ("search").
        device: where this process computes.
        processes: all of its processes.
        path: its folder.
        step: from which step it goes on.
        saved: the state that was saved there; None for a run from its beginning.
        architecture: what is trained, where the kind of run has one.
        about: what it is made on, in a line for people.
        seconds: how long it has run up to the last checkpoint, in all its parts, setting up left out.
    """

    def __init__(self, plan: RunPlan, answer: Mapping[str, Any], own_facts: Mapping[str, Any], about: str) -> None:
        self.config, self.kind, self.device, self.processes = plan.config, plan.kind, plan.device, plan.processes
        self.architecture = plan.architecture
        self.path = Path(answer["path"])
        self.step: int = answer["step"]
        self.saved: dict[str, Any] | None = answer["saved"]
        self.seconds: float = answer["seconds"]
        self.about = about
        self._folder, self._facts = plan.folder, own_facts

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.processes.is_first

    def save(self, step: int, state: Mapping[str, Any], best: int | None) -> None:
        """Write a checkpoint; only the first process does.

        Raises:
            StorageError: it cannot be written; the earlier checkpoints stand.
        """
        if self.is_first:
            whole = {"kind": self.kind, "facts": self._facts, **state}
            self.write_json(CLOCK_FILE, {"seconds": self.seconds})
            save_checkpoint(self.path, step, whole, self.config.run.keep, best)

    def change_config(self, config: Config) -> None:
        """Go on with other settings, and keep them: what is read when the run goes on, or is repeated."""
        self.config = config
        self.write_text("config.yaml", config.to_yaml())

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


@dataclass
class RunPlan:
    """What is known of a run before there are data.

    Attributes:
        config: the settings that hold; until it is opened, a training may settle its width.
        kind, device, processes, architecture: as of the `Run`.
        path: the folder of the run that is gone on with; None of a new one.
        has_begun: whether there is a checkpoint to go on from.
        changed: settings that differ from those of the earlier part, with both values.
        allow_topology_change: whether it may go on with another device or number of processes.
        folder: held by the first process; of a new run there is none yet.
    """

    config: Config
    kind: str
    device: torch.device
    processes: Processes
    architecture: Architecture | None
    path: Path | None
    has_begun: bool
    changed: dict[str, Any]
    allow_topology_change: bool
    folder: RunFolder | None

    def open(self, task: Task[Any], length: int, files: Mapping[str, str] | None = None) -> Run:
        """Make the folder of a new run, or read where an earlier one stopped.

        Args:
            length: steps of the whole run.
            files: texts that a new run begins with, by name.

        Raises:
            CheckpointError, ConfigError, DataError, RunInUseError, StorageError: as they say; a new run leaves nothing.
        """
        own_facts = facts(task, self.device, self.processes)
        self._require_same_data(own_facts)
        answer = decode_checkpoint(
            self.processes.first(lambda: encode_checkpoint(self._open_first(task, own_facts, length, files or {})))
        )
        return Run(self, answer, own_facts, data_line(self.config, task))

    def _open_first(
        self, task: Task[Any], own_facts: Mapping[str, Any], length: int, files: Mapping[str, str]
    ) -> dict[str, Any]:
        if self.folder is None:
            self.folder = RunFolder.create(self.config.run.root, self.config.run.name, self.kind)
            record = json.dumps(data_record(self.config, task), indent=2) + "\n"
            first = {**files, DATA_FILE: record}
            if self.kind == "train" and (words := vocabulary_text(task)) is not None:
                first[VOCABULARY_FILE] = words
            self.folder.settle({**first, "config.yaml": self.config.to_yaml()}, self.kind)
            return {"path": str(self.folder.path), "step": 0, "saved": None, "seconds": 0.0}
        remove_half_checkpoints(self.folder.path)
        step, saved, because = 0, None, []
        if latest_step(self.folder.path) is not None:
            step, saved = load_job_state(self.folder.path, self.kind)
            before, allowed = saved.get("facts", {}), self.allow_topology_change
            because = changed_facts(before, own_facts, self.folder.path, allow_topology=allowed)
            if step > length:
                raise ConfigError(f"{self.kind}.epochs: {self.folder.path} has made {step} steps, more than {length}")
        because += [
            f"{key}: {old!r} -> {new!r}"
            for key, (old, new) in self.changed.items()
            if key in (f"{self.kind}.epochs", f"{self.kind}.revised")
        ]
        if self.changed:
            self.folder.write_text("config.yaml", self.config.to_yaml())
        note = {"from_step": step, "bit_exact": not because, "because": because, "changed": self.changed}
        self.folder.write_env(self.kind, note)
        return {"path": str(self.folder.path), "step": step, "saved": saved, "seconds": _clock(self.folder.path)}

    def _require_same_data(self, own_facts: Mapping[str, Any]) -> None:
        own = sha256(own_facts["data"].encode()).digest()
        of_all = self.processes.gather(torch.tensor(list(own)))
        others = [rank for rank, each in enumerate(of_all) if not torch.equal(each, of_all[0])]
        if others:
            raise DataError(f"data.name {self.config.data.name}: process {others[0]} has other examples than the first")


@contextmanager
def plan_run(
    config: Config | Mapping[str, Any] | str | Path | None,
    kind: str,
    resume: str | Path | None,
    *,
    architecture: Architecture | None = None,
    allow_topology_change: bool = False,
) -> Iterator[RunPlan]:
    """Plan a run, start its processes, and hold its folder until the block ends.

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
        settings = with_network_of(settings, architecture)
        require_training(settings, architecture)
    elif kind == "search":
        require_search(settings)
    processes, device = start(settings)
    folder: RunFolder | None = None

    def look() -> bytes:
        """What the first process finds of an earlier part of this run."""
        nonlocal folder
        path = _standing(settings) if resume is None else Path(resume)
        changed: dict[str, Any] = {}
        config = settings
        if path is None:
            RunFolder.require_free(settings.run.root, settings.run.name)
        else:
            if not is_file(path / "config.yaml", CheckpointError):
                raise CheckpointError(f"not a run folder: no config.yaml in {shown(path)}")
            folder = RunFolder.open(path)
            folder.require_kind(kind, "" if resume is not None else "; choose another --run.name")
            before = load_run_config(path)
            before = before if architecture is None else with_network_of(before, architecture)
            here = settings.run.model_copy(update={"root": before.run.root, "name": before.run.name})
            config = keep_width(before, keep_unsaid(before, settings.model_copy(update={"run": here})))
            changed = changed_settings(before, config, path)
            _require_same_architecture(path, architecture)
        return json.dumps(
            {
                "config": config.to_yaml(),
                "path": None if path is None else str(path),
                "begun": path is not None and latest_step(path) is not None,
                "changed": changed,
                "architecture": None if architecture is None else architecture.to_json(),
            }
        ).encode()

    plan: RunPlan | None = None
    try:
        seen = json.loads(processes.first(look))
        plan = RunPlan(
            config=resolve(parse_yaml(seen["config"])),
            kind=kind,
            device=device,
            processes=processes,
            architecture=None if seen["architecture"] is None else Architecture.from_json(seen["architecture"]),
            path=None if seen["path"] is None else Path(seen["path"]),
            has_begun=seen["begun"],
            changed=seen["changed"],
            allow_topology_change=allow_topology_change,
            folder=folder,
        )
        yield plan
    finally:
        held = folder if plan is None else plan.folder
        if held is not None:
            held.close()


def _clock(run: Path) -> float:
    """Seconds that the earlier parts of a run took; 0 where that is not known."""
    try:
        return float(json_object(run / CLOCK_FILE)["seconds"])
    except (ValueError, TypeError, KeyError):
        return 0.0


def _standing(config: Config) -> Path | None:
    """The run that an earlier process has begun under the same name."""
    is_folder(config.run.root, StorageError)
    if config.run.name is None:
        return None
    path = config.run.root / config.run.name
    return path if is_file(path / "config.yaml", StorageError) else None


def _require_same_architecture(path: Path, architecture: Architecture | None) -> None:
    file = path / "architecture.json"
    if architecture is not None and file.is_file() and Architecture.load(file) != architecture:
        raise ConfigError(f"{path} trains another architecture; go on with --resume, or choose another --run.name")
