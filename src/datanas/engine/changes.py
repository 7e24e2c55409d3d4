"""What may differ between a run and its going on, and whether it goes on bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from datanas.core.errors import ConfigError, DataError
from datanas.core.processes import Processes
from datanas.engine.config import Config
from datanas.runs.environment import cpu_model
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
    "code_folders",
    "data.root",
    "data.workers",
    "data.look_ahead",
    "truth.*",
    "search.epochs",
    "train.epochs",
    "train.revised",
)
"""Settings that a run may be gone on with differently: where, how long and by whom it is made, not what it is."""

_TOPOLOGY = {"device": "device", "processes": "processes"}
_SURROUNDINGS = {"threads": "threads", "torch": "torch", "machine": "processor"}
"""Facts whose change keeps a run from going on bit for bit, and their names for people."""


def changed_settings(before: Config, now: Config, path: Path) -> dict[str, tuple[Any, Any]]:
    """Which settings differ from those of the run in `path`, each with both values.

    Raises:
        ConfigError: one that must not.
    """
    changed = differing(before.model_dump(mode="json"), now.model_dump(mode="json"))
    wrong = [key for key in changed if not any(fnmatch(key, pattern) for pattern in MAY_CHANGE)]
    if wrong:
        lines = [f"{key}: {changed[key][0]!r} in the run, {changed[key][1]!r} now" for key in wrong]
        raise ConfigError(
            "\n".join([*lines, f"{path} goes on with its own settings; leave these out, or choose another --run.name"])
        )
    return changed


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The dotted names of the settings that differ between two plain configurations, each with both values."""
    old, new = dict(flat(before)), dict(flat(now))
    return {
        key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }


def flat(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested configuration."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def facts(task: Task[Any], device: torch.device, processes: Processes) -> dict[str, Any]:
    """What must be the same for a run to go on bit for bit; the settings aside."""
    return {
        "data": task.fingerprint(),
        "device": device.type,
        "processes": processes.size,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__.partition("+")[0],
        "machine": f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}",
    }


def changed_facts(before: Mapping[str, Any], now: Mapping[str, Any], path: Path, *, allow_topology: bool) -> list[str]:
    """What keeps the run in `path` from going on bit for bit, in words.

    Args:
        before: the facts that were saved with the run; what an older version did not save counts as unchanged.
        allow_topology: let the device and the number of processes differ.

    Raises:
        DataError: the examples or their split differ.
        ConfigError: the device or the number of processes does, and must not.
    """
    if before.get("data", now["data"]) != now["data"]:
        raise DataError(
            f"the examples or their split have changed since {path} began ({before['data'][:12]} then, "
            f"{now['data'][:12]} now); bring the old data back, or begin a new run"
        )
    moved = _differing(before, now, _TOPOLOGY)
    if moved and not allow_topology:
        raise ConfigError(
            f"{path} was made otherwise ({', '.join(moved)}) and would not go on bit for bit; "
            "--allow-topology-change goes on from the same numbers all the same"
        )
    return moved + _differing(before, now, _SURROUNDINGS)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {before[key]} -> {now[key]}" for key, name in names.items() if before.get(key, now[key]) != now[key]
    ]
