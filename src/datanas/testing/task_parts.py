"""What every task keeps to of its examples: parts, batches as functions of a step, fingerprints, mirroring."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from datanas.core.errors import ConfigError
from datanas.tasks import tasks
from datanas.tasks.base import Part, Task
from datanas.testing.chance import leaving_torch_alone
from datanas.testing.contract import ComponentContract
from datanas.testing.tiny_data import TINY_DATA

BATCH = 6
SEARCH: tuple[Part, ...] = ("weights", "alpha")
CPU = torch.device("cpu")
UNMOVED = {"crop_padding": 0, "scale": [1.0, 1.0]}
"""Settings of augmentation by which images stay where they are."""


class TaskPartsContract(ComponentContract):
    """The part of `TaskContract` that needs no network."""

    registry = tasks
    section = "task"

    def make_data(self, name: str) -> object:
        """The data; a task that takes none of `datanas.testing.tiny_data` overrides this."""
        config = self.configure(name)
        for make in TINY_DATA:
            data = make()
            try:
                tasks[name](config, data, CPU, 0)
            except ConfigError:
                continue
            return data
        pytest.fail(f"{name} takes no data that is known here; {type(self).__name__} must override make_data")

    def make(self, name: str, seed: int = 0) -> Task[Any]:
        return tasks[name](self.configure(name), self.make_data(name), CPU, seed)

    @pytest.fixture
    def task(self, name: str) -> Task[Any]:
        return self.make(name)

    @pytest.fixture
    def searching(self, task: Task[Any]) -> Task[Any]:
        task.split_search("1:1", BATCH, None)
        return task

    def test_data_of_no_kind_is_refused(self, name: str) -> None:
        entry = tasks[name]
        with pytest.raises(ConfigError):
            entry(self.configure(name), object(), CPU, 0)

    def test_its_description_is_plain(self, task: Task[Any]) -> None:
        assert json.loads(json.dumps(task.describe())) == task.describe()
        assert task.num_classes >= 1
        assert len(task.example_shape) >= 1

    def test_who_has_an_image_network_alone_is_told_how_images_become_inputs(self, task: Task[Any]) -> None:
        if task.default_size is None:
            return
        preprocessing = json.loads(json.dumps(task.preprocessing()))
        assert [len(preprocessing[name]) for name in ("mean", "std")] == [task.example_shape[0]] * 2
        assert all(0 < value < 1 for name in ("mean", "std") for value in preprocessing[name])

    @pytest.mark.parametrize("part", SEARCH)
    def test_a_batch_is_a_function_of_its_step(self, searching: Task[Any], part: Part) -> None:
        other = self.make(searching.config.name)
        other.split_search("1:1", BATCH, None)
        steps = (0, 1, searching.steps_per_epoch(part) + 1)
        forward = [flat(searching.batch(part, step)) for step in steps]
        torch.rand(3)
        backward = [flat(other.batch(part, step)) for step in reversed(steps)][::-1]
        for step, one, two in zip(steps, forward, backward, strict=True):
            assert torch.equal(one, two), f"the batch of step {step} depends on which were made before"
        assert len(forward[0]) > 0
        assert not torch.equal(forward[0], forward[1])

    def test_the_seed_decides_the_batches(self, task: Task[Any]) -> None:
        """Of a training at least: a text is searched in its own order."""
        other = self.make(task.config.name, seed=1)
        for each in (task, other):
            each.split_train(0.0, BATCH)
        first, second = (torch.cat([flat(each.batch("train", step)) for step in range(3)]) for each in (task, other))
        assert not torch.equal(first, second)

    def test_making_a_batch_leaves_the_global_generator_alone(self, searching: Task[Any]) -> None:
        with leaving_torch_alone():
            searching.batch("weights", 0)

    def test_every_part_has_steps(self, searching: Task[Any]) -> None:
        assert all(searching.steps_per_epoch(part) >= 1 for part in SEARCH)
        searching.split_train(0.0, BATCH)
        assert searching.steps_per_epoch("train") >= 1

    def test_its_fingerprint_repeats(self, searching: Task[Any]) -> None:
        other = self.make(searching.config.name)
        other.split_search("1:1", BATCH, None)
        assert searching.fingerprint() == other.fingerprint()

    def test_its_fingerprint_knows_the_split(self, searching: Task[Any]) -> None:
        other = self.make(searching.config.name)
        other.split_search("2:1", BATCH, None)
        assert searching.fingerprint() != other.fingerprint()

    def test_its_fingerprint_knows_the_examples(self, searching: Task[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        before, pieces = searching.fingerprint(), list(searching.contents())
        assert pieces
        monkeypatch.setattr(searching, "contents", lambda: iter([*pieces[:-1], pieces[-1] + b"."]))
        assert searching.fingerprint() != before

    def test_the_sum_of_its_examples_knows_no_split(self, task: Task[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        before = task.sum_of_examples()
        task.split_search("2:1", BATCH, None)
        assert task.sum_of_examples() == before
        pieces = list(task.contents())
        monkeypatch.setattr(task, "contents", lambda: iter([*pieces[:-1], pieces[-1] + b"."]))
        assert task.sum_of_examples() != before

    def test_outputs_that_have_names_have_one_each(self, task: Task[Any]) -> None:
        names = task.output_names
        assert names is None or len(set(names)) == len(names) == task.num_classes

    def test_what_is_left_to_a_judge_is_in_no_other_part_and_the_same_for_all_seeds(self, task: Task[Any]) -> None:
        if task.has_validation:
            task.set_aside(None)  # the judge's part is the one that the data bring
            task.split_search("1:1", BATCH, None)
            return
        left = []
        for seed in (0, 1):
            made = self.make(task.config.name, seed)
            leave_to_judge(made, 0.25)
            left.append(made.chosen()["validation"].tolist())
            made.split_search("1:1", BATCH, None)
            made.split_train(0.0, BATCH)
            parts = [set(made.chosen()[part].tolist()) for part in ("weights", "alpha", "train")]
            assert left[-1]
            assert not set(left[-1]) & (parts[0] | parts[1] | parts[2])
            assert parts[0] | parts[1] == parts[2]
        assert left[0] == left[1]

    def test_a_judge_has_a_fifth_of_few_examples(self, task: Task[Any]) -> None:
        if task.has_validation:
            return
        task.split_train(0.0, BATCH)
        everything = len(task.chosen()["train"])
        leave_to_judge(task, None)
        assert len(task.chosen()["validation"]) == pytest.approx(everything / 5, abs=2)

    def mirrored(self, name: str, bears: bool | None = None, flip: bool | None = None) -> dict[str, bool]:
        """What the task mirrors, of data that bear it or not, and with settings that say so or not."""
        given = {setting.removeprefix("task."): {"flip": flip} for setting in self.make(name).mirrored_parts()}
        data: Any = self.make_data(name)
        if bears is not None:
            data = replace(data, bears_mirroring=bears)
        return dict(tasks[name](self.configure(name, **given), data, CPU, 0).mirrored_parts())

    def test_images_are_mirrored_where_that_is_asked_for_or_known_to_do_no_harm(self, name: str) -> None:
        if not self.make(name).mirrored_parts():
            pytest.skip(f"{name} mirrors nothing")
        assert not any(self.mirrored(name).values())
        assert not any(self.mirrored(name, bears=False).values())
        assert all(self.mirrored(name, bears=True).values())
        assert all(self.mirrored(name, bears=False, flip=True).values())
        assert not any(self.mirrored(name, bears=True, flip=False).values())

    def test_what_is_said_of_mirroring_is_what_is_done(self, name: str) -> None:
        """With nothing else that moves images, a batch is the same but for its mirroring."""
        config = self.configure(name)
        sections = [setting.removeprefix("task.") for setting in self.make(name).mirrored_parts()]
        if not sections:
            pytest.skip(f"{name} mirrors nothing")
        given = {}
        for section in sections:
            known = type(getattr(config, section)).model_fields
            given[section] = {"flip": None, **{key: value for key, value in UNMOVED.items() if key in known}}
        batches = []
        for bears in (False, True):
            data = replace(self.make_data(name), bears_mirroring=bears)  # type: ignore[type-var]
            task = tasks[name](self.configure(name, **given), data, CPU, 0)
            task.split_search("1:1", BATCH, None)
            batches.append(flat(task.batch("weights", 0)))
        assert not torch.equal(*batches)
        assert torch.equal(*(each.sort().values for each in batches))


def leave_to_judge(task: Task[Any], share: float | None) -> None:
    """Set examples aside; the test is skipped where the task says that it cannot."""
    try:
        task.set_aside(share)
    except ConfigError:
        pytest.skip("it leaves nothing to a judge, and says so")


def flat(batch: object) -> torch.Tensor:
    """All numbers of a batch in one row, whatever it is made of."""
    if isinstance(batch, torch.Tensor):
        return batch.flatten().double()
    parts = batch if isinstance(batch, list | tuple) else vars(batch).values()
    return torch.cat([torch.zeros(0).double(), *(flat(x) for x in parts if not isinstance(x, str | int | float))])
