"""Trainings of earlier versions keep the network that they began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datanas.engine.config import resolve
from datanas.engine.earlier import keep_unsaid, with_unsaid


def written(path: Path, kind: str | None) -> Path:
    if kind is not None:
        (path / "env.json").write_text(json.dumps({"kind": kind}))
    return path


def test_a_training_that_says_nothing_was_not_pruned(tmp_path: Path) -> None:
    raw = {"train": {"cells": 5}, "task": {"name": "classification"}}
    found = with_unsaid(raw, written(tmp_path, "train"))
    assert found["train"] == {"cells": 5, "prune": False}
    assert found["task"] == {"name": "classification", "auxiliary_norms": 2}


@pytest.mark.parametrize("kind", ["search", None])
def test_what_is_no_training_has_todays_defaults(tmp_path: Path, kind: str | None) -> None:
    raw = {"train": {"cells": 5}, "task": {"name": "classification"}}
    assert with_unsaid(raw, written(tmp_path, kind)) == raw


def test_other_tasks_have_no_such_tower(tmp_path: Path) -> None:
    raw = {"train": {}, "task": {"name": "fewshot"}}
    assert with_unsaid(raw, written(tmp_path, "train"))["task"] == {"name": "fewshot"}


def test_a_training_that_says_so_is_pruned(tmp_path: Path) -> None:
    raw: dict[str, Any] = {"train": {"prune": True}, "task": {"name": "classification"}}
    assert with_unsaid(raw, written(tmp_path, "train")) == raw


@pytest.mark.parametrize("given", [{}, {"merged_none": "sum"}])
def test_a_node_s_none_is_merged_as_it_was(tmp_path: Path, given: dict[str, str]) -> None:
    raw = {"sampler": {"name": "egs", "preset": "official", **given}}
    found = with_unsaid(raw, written(tmp_path, "search"))["sampler"]
    assert found == {"name": "egs", "preset": "official", "merged_none": "mean", **given}


@pytest.mark.parametrize("given", [{}, {"group_by_place": True}])
@pytest.mark.parametrize("kind", ["search", "train"])
def test_patches_of_photographs_are_parted_as_they_were(tmp_path: Path, kind: str, given: dict[str, bool]) -> None:
    raw = {"data": {"name": "photos", "per_class": 9, **given}}
    found = with_unsaid(raw, written(tmp_path, kind))["data"]
    assert found == {"name": "photos", "per_class": 9, "group_by_place": False, **given}
    kept: Any = keep_unsaid(resolve({"data": found}), resolve({"data": {"name": "photos", "per_class": 9}})).data
    assert kept.group_by_place is bool(given)


@pytest.mark.parametrize("name", ["csv", "npz"])
def test_groups_in_the_data_of_earlier_runs_are_left_out_of_account(tmp_path: Path, name: str) -> None:
    raw = {"data": {"name": name, "root": "mine"}}
    assert with_unsaid(raw, written(tmp_path, "search"))["data"]["use_groups"] is False


def test_other_data_are_parted_as_today(tmp_path: Path) -> None:
    raw = {"data": {"name": "folder", "root": "pictures"}}
    assert with_unsaid(raw, written(tmp_path, "search")) == raw


def test_a_damaged_env_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "env.json").write_text("[1")
    raw = {"train": {}, "task": {"name": "classification"}}
    assert with_unsaid(raw, tmp_path) == raw


def test_a_run_that_is_gone_on_with_keeps_what_nothing_is_said_of() -> None:
    before = resolve({"train": {"prune": False}, "task": {"auxiliary_norms": 2}})
    kept = keep_unsaid(before, resolve({}))
    assert dict(kept.train)["prune"] is False
    assert kept.task.auxiliary_norms == 2  # type: ignore[attr-defined]
    assert dict(keep_unsaid(before, resolve({"train": {"prune": True}})).train)["prune"] is True


def test_images_are_mirrored_as_they_were() -> None:
    before = resolve({"task": {"search_augment": {"flip": True}, "train_augment": {"flip": True}}})
    kept: Any = keep_unsaid(before, resolve({"task": {"train_augment": {"cutout": 8}}})).task
    assert kept.search_augment.flip is True
    assert (kept.train_augment.flip, kept.train_augment.cutout) == (True, 8)
    told: Any = keep_unsaid(before, resolve({"task": {"train_augment": {"flip": False}}})).task
    assert told.train_augment.flip is False


def test_a_run_of_another_task_lends_nothing() -> None:
    before = resolve({"task": {"name": "classification", "search_augment": {"flip": True}}})
    now = resolve({"task": {"name": "clustering", "clusters": 3}})
    assert keep_unsaid(before, now).task == now.task
