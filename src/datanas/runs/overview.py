"""What run folders say of themselves: kind, how far, how good, how large; nothing of it imports torch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datanas.core.errors import CheckpointError, ConfigError, RunInUseError
from datanas.core.paths import shown
from datanas.runs.lock import LOCK_FILE, is_held
from datanas.runs.metrics import decode, read_metrics

_RESULTS = {
    "search": "result.json",
    "train": "evaluation.json",
    "race": "race.json",
    "pareto": "pareto.json",
    "fit": "fit.json",
}
"""By kind of run, the file that it writes last."""
_KINDS = (*_RESULTS, "compare")
_INNER = {"fit": "*", "search": "race"}
"""By kind of run, the folders in it that are runs of their own; of a search the race that has chosen its cell."""


@dataclass(frozen=True)
class Overview:
    """A run folder at a glance.

    Attributes:
        path: the folder.
        kind: search, train, race, pareto, compare or fit; "unknown" where nothing says it.
        state: "complete", "stopped", "running", or "damaged: ..." with what is wrong.
        started: when, in ISO 8601; empty where unknown.
        about: task and data, or what stands for them.
        progress: epochs that were made of all, such as "3/10"; empty where there are none.
        score: as it is shown to people; empty where there is none yet.
        parameters, macs: of the network; None of a run without one.
        size: bytes of the folder.
        inner: runs inside it, as those of a fit and the race of a search, in the order in which they were begun.
    """

    path: Path
    kind: str
    state: str
    started: str
    about: str
    progress: str
    score: str
    parameters: int | None
    macs: int | None
    size: int
    inner: tuple[Overview, ...] = ()


def overviews(root: Path) -> list[Overview]:
    """Those of all runs in a folder, oldest first.

    Raises:
        ConfigError: there is no such folder.
    """
    if not root.is_dir():
        raise ConfigError(f"{shown(root)}: no such folder; runs are written to ./runs, or where --run.root says")
    runs = [overview(path) for path in sorted(root.iterdir()) if is_run(path)]
    return sorted(runs, key=lambda each: (each.started, each.path.name))


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run, complete or not."""
    return path.is_dir() and any((path / name).is_file() for name in ("config.yaml", "env.json"))


def _inner(path: Path, kind: str) -> tuple[Overview, ...]:
    """Those inside, in the order in which they were begun."""
    if kind not in _INNER:
        return ()
    runs = (overview(inner) for inner in path.glob(_INNER[kind]) if is_run(inner))
    return tuple(sorted(runs, key=lambda each: (each.started, each.path.name)))


def overview(path: Path) -> Overview:
    """What one folder says.

    Raises:
        CheckpointError: it is none of a run.
    """
    if not is_run(path):
        raise CheckpointError(f"not a run folder: no config.yaml in {shown(path)}")
    faults: list[str] = []
    env = _json(path / "env.json", faults)
    config = _yaml(path / "config.yaml", faults)
    data = _json(path / "data.json", [])
    kind = str(env.get("kind") or _kind_by_files(path))
    result = _json(path / _RESULTS[kind], []) if kind in _RESULTS else {}
    state = "complete" if result or (kind == "compare" and (path / "table.md").is_file()) else "stopped"
    if faults:
        state = f"damaged: {faults[0]}"
    elif is_held(path / LOCK_FILE):
        state = "running"
    task = str(data.get("task") or _named(config.get("task")))
    source = str(data.get("data") or _named(config.get("data")))
    return Overview(
        path,
        kind,
        state,
        str(env.get("started", "")),
        f"{task} on {source}" if task or source else "",
        _progress(path, kind, config),
        _score(kind, result),
        _whole(result.get("parameters")),
        _whole(result.get("macs")),
        _bytes(path),
        _inner(path, kind),
    )


def removable(root: Path) -> Iterator[tuple[Path, int, str]]:
    """What can go from the runs in a folder: checkpoints of complete trainings, and runs that never came to one.

    Checkpoints of searches stay, since `derive` and `race` read them; so does all in which some run is under way, and
    every folder that no process of this package has begun.

    Yields:
        Path, bytes, and why.
    """
    for each in overviews(root):
        if each.kind not in _KINDS or any(is_held(lock) for lock in each.path.rglob(LOCK_FILE)):
            continue
        if each.state == "complete":
            for folder in sorted(each.path.rglob("checkpoints")):
                if _json(folder.parent / "env.json", []).get("kind") == "train":
                    why = "checkpoints of a complete training: it can no longer be gone on with to more epochs"
                    yield folder, _bytes(folder), why
        elif each.state == "stopped" and not any(each.path.rglob("checkpoints/step-*")):
            yield each.path, each.size, "was stopped before its first checkpoint"


def remove(path: Path) -> None:
    """Remove what `removable` has named.

    Raises:
        RunInUseError: the run has begun to go on meanwhile.
    """
    if is_held(path / LOCK_FILE) or is_held(path.parent / LOCK_FILE):
        raise RunInUseError(f"{path}: its run goes on")
    shutil.rmtree(path)


def _bytes(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # of a run under way files come and go
            total += file.stat().st_size if file.is_file() else 0
    return total


def _kind_by_files(path: Path) -> str:
    return next((kind for kind, file in _RESULTS.items() if (path / file).is_file()), "unknown")


def _progress(path: Path, kind: str, config: Mapping[str, Any]) -> str:
    section = config.get(kind)
    if not isinstance(section, Mapping) or not isinstance(epochs := section.get("epochs"), int):
        return ""
    revised = section.get("revised")
    if revised and revised[0][1] == epochs:  # as `datanas.engine.passes` has it
        epochs = revised[-1][2]
    made = 0
    with suppress(CheckpointError, OSError, ValueError):
        made = max((line.get("epoch", 0) for line in read_metrics(path)), default=0)
    return f"{made}/{epochs}"


def _score(kind: str, result: Mapping[str, Any]) -> str:
    if kind in ("fit", "train") and isinstance(result.get("score"), int | float):
        value, name = float(result["score"]), str(result.get("score_name", "score"))
        plain = f"{value:.1%}" if result.get("error") is not None else f"{value:.1f}"  # of an earlier version
        return f"{name} {result.get('shown', plain)}"
    gap = result.get("gap")
    if kind == "search" and isinstance(gap, Mapping) and isinstance(gap.get("child"), int | float):
        return f"child {gap['child']:.3g}"
    if kind == "race" and "origin" in result:
        return f"won by: {result['origin']}"
    if kind == "pareto" and isinstance(result.get("front"), list):
        return f"{len(result['front'])} of {len(result.get('points', ()))} on the front"
    return ""


def _named(section: object) -> str:
    name = section.get("name") if isinstance(section, Mapping) else section
    return name if isinstance(name, str) else ""


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _json(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        faults.append(f"{path.name} cannot be read")
        return {}
    return decode(document) if isinstance(document, dict) else {}


def _yaml(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        faults.append(f"{path.name} is missing")
        return {}
    except (OSError, yaml.YAMLError):
        faults.append(f"{path.name} cannot be read")
        return {}
    return document if isinstance(document, dict) else {}
