"""Every registered task keeps to the contract of tasks. A new one is tested by existing."""

from __future__ import annotations

from datanas.tasks import tasks
from datanas.testing import TaskContract


class TestFewshot(TaskContract):
    names = ("fewshot",)
    settings = {"test": {"episodes": 4}}


class TestSegmentation(TaskContract):
    names = ("segmentation",)
    settings = {"crop": 16, "head_channels": 8}


class TestTasks(TaskContract):
    names = TaskContract.names_left(tasks)
