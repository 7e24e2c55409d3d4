"""What the run folder of an earlier version means by what its config.yaml does not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datanas.core.paths import json_object
from datanas.core.settings import SectionT, merge
from datanas.engine.config import Config

_UNSAID: dict[str, dict[str, Any]] = {"train": {"prune": False}, "task": {"auxiliary_norms": 2}}
"""Of trainings: settings that came later, with what networks were before."""
_OF_GROUPS = {"photos": "group_by_place", "csv": "use_groups", "npz": "use_groups"}
"""Of data sets whose images may now belong together the setting that says so."""
_CHANGED = (
    ("train", "prune"),
    ("task", "auxiliary_norms"),
    ("task", "search_augment", "flip"),
    ("task", "train_augment", "flip"),
    ("sampler", "merged_none"),
    ("data", "group_by_place"),
    ("data", "use_groups"),
)
"""Settings whose default is another than it was, or that there were none of."""


def with_unsaid(raw: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The plain data of a run's config.yaml, so that it goes on with the P, the network and the parts that it began
    with.

    A search builds no network, and what is trained of it later has today's defaults.
    """
    data, sampler = raw.get("data"), raw.get("sampler")
    if isinstance(data, Mapping) and (setting := _OF_GROUPS.get(str(data.get("name")))) is not None:
        raw = merge({"data": {setting: False}}, raw)
    if isinstance(sampler, Mapping) and sampler.get("name") == "egs":
        raw = merge({"sampler": {"merged_none": "mean"}}, raw)
    if json_object(run / "env.json").get("kind") != "train":
        return dict(raw)
    train, task = raw.get("train"), raw.get("task")
    if not isinstance(train, Mapping) or "prune" in train or not isinstance(task, Mapping):
        return dict(raw)
    under = dict(_UNSAID)
    if task.get("name") != "classification":
        del under["task"]
    return merge(under, raw)


def keep_unsaid(before: Config, now: Config) -> Config:
    """What is asked for now; where nothing is given of a setting whose default has changed, the run's own value."""
    for path in _CHANGED:
        now = _with_earlier_value(before, now, path)
    return now


def _with_earlier_value(before: SectionT, now: SectionT, path: tuple[str, ...]) -> SectionT:
    """`now` with the value that `before` has at a path, where nothing was given for it."""
    name, *deeper = path
    if type(before) is not type(now) or not hasattr(now, name):
        return now
    if not deeper:
        return now if name in now.model_fields_set else now.model_copy(update={name: getattr(before, name)})
    inner = _with_earlier_value(getattr(before, name), getattr(now, name), tuple(deeper))
    return now.model_copy(update={name: inner})
