"""What the run folder of an earlier version means by what its config.yaml does not say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datanas.config import merge
from datanas.engine.config import Config

_UNSAID: dict[str, dict[str, Any]] = {"train": {"prune": False}, "task": {"auxiliary_norms": 2}}
"""Of trainings: settings that came later, with what networks were before."""


def with_unsaid(raw: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The plain data of a run's config.yaml, so that it goes on with the P and the network that it began with.

    A search builds no network, and what is trained of it later has today's defaults.
    """
    sampler = raw.get("sampler")
    if isinstance(sampler, Mapping) and sampler.get("name") == "egs":
        raw = merge({"sampler": {"merged_none": "mean"}}, raw)
    if _kind(run) != "train":
        return dict(raw)
    train, task = raw.get("train"), raw.get("task")
    if not isinstance(train, Mapping) or "prune" in train or not isinstance(task, Mapping):
        return dict(raw)
    under = dict(_UNSAID)
    if task.get("name") != "classification":
        del under["task"]
    return merge(under, raw)


def keep_unsaid(before: Config, now: Config) -> Config:
    """What is asked for now, with the run's own values of such settings where nothing is said of them."""
    for section, names in _UNSAID.items():
        old, new = getattr(before, section), getattr(now, section)
        kept = {name: getattr(old, name) for name in names if hasattr(old, name) and name not in new.model_fields_set}
        if kept and old.__class__ is new.__class__:
            now = now.model_copy(update={section: new.model_copy(update=kept)})
    return now


def _kind(run: Path) -> object:
    try:
        found = json.loads((run / "env.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found.get("kind") if isinstance(found, dict) else None
