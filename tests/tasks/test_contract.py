"""What every registered task keeps to. A new one is tested by existing: on tiny images, or on what DATA makes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from tests.two_processes import together
from torch import nn

from datanas.core import seeding
from datanas.core.errors import ConfigError
from datanas.core.processes import Processes
from datanas.core.settings import ComponentConfig, validate
from datanas.data.base import ImageData, ImageSet
from datanas.data.types.class_splits import ClassSet, ClassSplitData
from datanas.data.types.corpus import TextData
from datanas.data.types.masks import VOID, SegmentationData, SegmentationSet
from datanas.kernels.mixed import set_drop_path
from datanas.lookup import architecture
from datanas.network import Network, build_network, builder_of, network_config, rebuild_network
from datanas.runs.state import decode_state, encode_state
from datanas.spaces.base import StemShape
from datanas.spaces.sequence import SequenceShape
from datanas.tasks import tasks
from datanas.tasks.base import Part, Task

BATCH = 6
SEARCH: tuple[Part, ...] = ("weights", "alpha")


def tiny_images() -> ImageData:
    def part(count: int) -> ImageSet:
        generator = torch.Generator().manual_seed(count)
        pixels = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return ImageSet(pixels, torch.arange(count) % 3)

    return ImageData(part(60), part(30), ("ant", "bee", "cow"))


def tiny_text() -> TextData:
    def part(count: int) -> torch.Tensor:
        return torch.randint(0, 9, (count,), generator=torch.Generator().manual_seed(count))

    return TextData(part(1200), part(70), part(80), ("<eos>", *"abcdefgh"), {})


def tiny_classes() -> ClassSplitData:
    def part(count: int, name: str) -> ClassSet:
        generator = torch.Generator().manual_seed(count)
        pixels = torch.randint(0, 256, (16 * count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return ClassSet(ImageSet(pixels, torch.arange(16 * count) % count), tuple(f"{name}{n}" for n in range(count)))

    return ClassSplitData(part(40, "train"), None, part(5, "test"))


def tiny_masks() -> SegmentationData:
    """Images of two sizes, whose masks have some void."""

    def part(count: int) -> SegmentationSet:
        generator = torch.Generator().manual_seed(count)
        sizes = [(16, 16 + 4 * (index % 2)) for index in range(count)]
        images = tuple(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes)
        masks = tuple(torch.randint(0, 4, size, generator=generator, dtype=torch.uint8) for size in sizes)
        masks = tuple(torch.where(mask == 3, VOID, mask) for mask in masks)
        return SegmentationSet(images, masks, tuple(map(str, range(count))))

    return SegmentationData(part(32), part(9), ("ant", "bee", "cow"))


DATA: dict[str, Callable[[], object]] = {"fewshot": tiny_classes, "language": tiny_text, "segmentation": tiny_masks}
"""Data for the tasks that take something else than images."""
SETTINGS: dict[str, dict[str, Any]] = {
    "fewshot": {"test": {"episodes": 4}},
    "segmentation": {"crop": 16, "head_channels": 8},
}
"""Settings that make a task quick."""
CELLS = {"language": ("darts_v1_rnn", 1)}
"""A published cell for the tasks that take no convolutional ones, and how many of it."""


def make(name: str, seed: int = 0) -> Task[Any]:
    entry = tasks[name]
    try:
        config = validate(entry.Config, {"name": name, **SETTINGS.get(name, {})}, "task")
        return entry(config, DATA.get(name, tiny_images)(), torch.device("cpu"), seed)
    except ConfigError as error:
        pytest.skip(f"{name} needs settings or data that the test does not know: {error}")


@pytest.fixture(params=sorted(tasks))
def task(request: pytest.FixtureRequest) -> Task[Any]:
    return make(request.param)


@pytest.fixture
def searching(task: Task[Any]) -> Task[Any]:
    task.split_search("1:1", BATCH, None)
    return task


@pytest.fixture
def network(task: Task[Any], request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    name, cells = CELLS.get(name_of(request), ("gdas", 3))
    stem = task.make_stem(2)
    settings = network_config(builder_of(architecture(name)), {"channels": 2, "cells": cells, "auxiliary": False})
    return rebuild_network(architecture(name), stem, lambda widths: task.make_head(widths, stem), settings)


def name_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["task"])


def flat(batch: object) -> torch.Tensor:
    """All numbers of a batch in one row, whatever it is made of."""
    if isinstance(batch, torch.Tensor):
        return batch.flatten().double()
    parts = batch if isinstance(batch, list | tuple) else vars(batch).values()
    return torch.cat([torch.zeros(0).double(), *(flat(x) for x in parts if not isinstance(x, str | int | float))])


@pytest.mark.parametrize("name", sorted(tasks))
def test_its_settings_are_a_component_of_its_name(name: str) -> None:
    config = validate(tasks[name].Config, {"name": name}, "task")
    assert isinstance(config, ComponentConfig)
    assert tasks[name].Config() == config
    assert validate(tasks[name].Config, config.model_dump(mode="json"), "task") == config


@pytest.mark.parametrize("name", sorted(tasks))
def test_unknown_settings_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"task\.no_such_setting: unknown key"):
        validate(tasks[name].Config, {"name": name, "no_such_setting": 1}, "task")


@pytest.mark.parametrize("name", sorted(tasks))
def test_data_of_no_kind_is_refused(name: str) -> None:
    entry = tasks[name]
    with pytest.raises(ConfigError):
        entry(entry.Config(), object(), torch.device("cpu"), 0)


def test_the_stem_hands_on_what_its_shape_says(task: Task[Any]) -> None:
    stem = task.make_stem(4)
    if isinstance(stem.shape, SequenceShape):
        inputs, state, mask = stem(torch.zeros(3, 2, dtype=torch.int64))
        assert inputs.shape == (3, 2, stem.shape.width)
        assert state is None
        assert mask is None or mask.shape == (2, stem.shape.hidden)
        return
    assert isinstance(stem.shape, StemShape)
    first, second = stem(torch.randn(2, *task.example_shape))
    assert (first.shape[1], second.shape[1]) == stem.shape.channels
    assert (first.shape[2:] != second.shape[2:]) == stem.shape.halved


def test_its_description_is_plain(task: Task[Any]) -> None:
    assert json.loads(json.dumps(task.describe())) == task.describe()
    assert task.num_classes >= 1
    assert len(task.example_shape) >= 1


def test_who_has_an_image_network_alone_is_told_how_images_become_inputs(task: Task[Any]) -> None:
    if task.default_size is None:
        return
    found = json.loads(json.dumps(task.preprocessing()))
    assert [len(found[name]) for name in ("mean", "std")] == [task.example_shape[0]] * 2
    assert all(0 < value < 1 for name in ("mean", "std") for value in found[name])


@pytest.mark.parametrize("part", SEARCH)
def test_a_batch_is_a_function_of_its_step(searching: Task[Any], part: Part, request: pytest.FixtureRequest) -> None:
    other = make(name_of(request))
    other.split_search("1:1", BATCH, None)
    steps = (0, 1, searching.steps_per_epoch(part) + 1)
    forward = [flat(searching.batch(part, step)) for step in steps]
    torch.rand(3)
    backward = [flat(other.batch(part, step)) for step in reversed(steps)][::-1]
    assert all(torch.equal(one, two) for one, two in zip(forward, backward, strict=True))
    assert len(forward[0]) > 0
    assert not torch.equal(forward[0], forward[1])


def test_the_seed_decides_the_batches(task: Task[Any], request: pytest.FixtureRequest) -> None:
    """Of a training at least: a text is searched in its own order."""
    other = make(name_of(request), seed=1)
    for each in (task, other):
        each.split_train(0.0, BATCH)
    first, second = (torch.cat([flat(each.batch("train", step)) for step in range(3)]) for each in (task, other))
    assert not torch.equal(first, second)


def test_making_a_batch_leaves_the_global_generator_alone(searching: Task[Any]) -> None:
    state = torch.get_rng_state()
    searching.batch("weights", 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_part_has_steps(searching: Task[Any]) -> None:
    assert all(searching.steps_per_epoch(part) >= 1 for part in SEARCH)
    searching.split_train(0.0, BATCH)
    assert searching.steps_per_epoch("train") >= 1


def test_the_loss_is_a_finite_scalar_that_trains(searching: Task[Any], network: nn.Module) -> None:
    loss = searching.loss(network, searching.batch("weights", 0))
    assert loss.shape == ()
    assert loss.isfinite()
    loss.backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


def test_the_losses_of_two_shares_average_to_that_of_the_batch(
    searching: Task[Any], network: nn.Module, request: pytest.FixtureRequest
) -> None:
    network.eval()
    whole = searching.loss(network, searching.batch("weights", 1))

    def of_share(processes: Processes) -> torch.Tensor:
        one = make(name_of(request))
        one.processes = processes
        one.split_search("1:1", BATCH, None)
        return one.loss(network, one.batch("weights", 1))

    torch.testing.assert_close(torch.stack(together(of_share)).mean(), whole, rtol=1e-5, atol=1e-6)


def test_its_fingerprint_repeats(searching: Task[Any], request: pytest.FixtureRequest) -> None:
    other = make(name_of(request))
    other.split_search("1:1", BATCH, None)
    assert searching.fingerprint() == other.fingerprint()


def test_its_fingerprint_knows_the_split(searching: Task[Any], request: pytest.FixtureRequest) -> None:
    other = make(name_of(request))
    other.split_search("2:1", BATCH, None)
    assert searching.fingerprint() != other.fingerprint()


def test_its_fingerprint_knows_the_examples(searching: Task[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before, pieces = searching.fingerprint(), list(searching.contents())
    assert pieces
    monkeypatch.setattr(searching, "contents", lambda: iter([*pieces[:-1], pieces[-1] + b"."]))
    assert searching.fingerprint() != before


def test_the_sum_of_its_examples_knows_no_split(task: Task[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before = task.sum_of_examples()
    task.split_search("2:1", BATCH, None)
    assert task.sum_of_examples() == before
    pieces = list(task.contents())
    monkeypatch.setattr(task, "contents", lambda: iter([*pieces[:-1], pieces[-1] + b"."]))
    assert task.sum_of_examples() != before


def test_outputs_that_have_names_have_one_each(task: Task[Any]) -> None:
    names = task.output_names
    assert names is None or len(set(names)) == len(names) == task.num_classes


def test_its_state_comes_back(searching: Task[Any], network: nn.Module, request: pytest.FixtureRequest) -> None:
    searching.loss(network, searching.batch("weights", 0))
    structure, tensors = encode_state(searching.state_dict())
    other = make(name_of(request))
    other.split_search("1:1", BATCH, None)
    other.load_state_dict(decode_state(structure, tensors))
    assert repr(other.state_dict()) == repr(searching.state_dict())


def test_a_keyed_loss_repeats_and_leaves_the_global_generator_alone(searching: Task[Any], network: nn.Module) -> None:
    """Its network asks for the random numbers that it needs, or is known to need others."""
    set_drop_path(network.train(), 0.3)
    batch, state, before = searching.batch("weights", 0), deepcopy(searching.state_dict()), torch.get_rng_state()
    losses = []
    for key in (0, 0, 1):
        searching.load_state_dict(deepcopy(state))
        with seeding.keyed(key, "weights", reach=seeding.reach_of(network, searching)):
            losses.append(searching.loss(network, batch).item())
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("part", ["alpha", "test"])
def test_an_evaluation_has_the_score_and_repeats(searching: Task[Any], network: nn.Module, part: Part) -> None:
    figures = searching.evaluate(network.eval(), part)
    assert searching.metric.name in figures
    assert all(isinstance(value, float) for value in figures.values())
    assert 0 <= figures[searching.metric.name] <= (1 if searching.metric.is_share else math.inf)
    assert searching.evaluate(network, part) == figures
    if searching.metric.is_share:
        shares = figures.keys() - {"loss", *(each.name for each in searching.further)}
        assert all(-1 <= figures[name] <= 1 for name in shares)
        assert {each.name for each in searching.further} <= figures.keys()


def test_a_limited_evaluation_repeats(searching: Task[Any], network: nn.Module) -> None:
    figures = searching.evaluate(network.eval(), "alpha", 12)
    assert searching.evaluate(network, "alpha", 12) == figures


def test_evaluating_changes_no_weight_no_mode_and_no_random_number(searching: Task[Any], network: nn.Module) -> None:
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    searching.evaluate(network, "alpha")
    assert not network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_held_out_share_is_measured(task: Task[Any], network: nn.Module) -> None:
    task.split_train(0.25, BATCH)
    assert task.metric.name in task.evaluate(network.eval(), "validation")


def leave_to_judge(task: Task[Any], share: float | None) -> None:
    try:
        task.set_aside(share)
    except ConfigError:
        pytest.skip("it leaves nothing to a judge, and says so")


def test_what_is_left_to_a_judge_is_in_no_other_part_and_the_same_for_all_seeds(
    task: Task[Any], request: pytest.FixtureRequest
) -> None:
    if task.has_validation:
        task.set_aside(None)  # the judge's part is the one that the data bring
        task.split_search("1:1", BATCH, None)
        return
    left = []
    for seed in (0, 1):
        made = make(name_of(request), seed)
        leave_to_judge(made, 0.25)
        left.append(made.chosen()["validation"].tolist())
        made.split_search("1:1", BATCH, None)
        made.split_train(0.0, BATCH)
        parts = [set(made.chosen()[part].tolist()) for part in ("weights", "alpha", "train")]
        assert left[-1]
        assert not set(left[-1]) & (parts[0] | parts[1] | parts[2])
        assert parts[0] | parts[1] == parts[2]
    assert left[0] == left[1]


def test_a_judge_has_a_fifth_of_few_examples(task: Task[Any]) -> None:
    if task.has_validation:
        return
    task.split_train(0.0, BATCH)
    everything = len(task.chosen()["train"])
    leave_to_judge(task, None)
    assert len(task.chosen()["validation"]) == pytest.approx(everything / 5, abs=2)


@pytest.mark.parametrize("name", sorted(tasks))
def test_a_network_is_built_for_it_by_name(name: str) -> None:
    task = make(name)
    cell, cells = CELLS.get(name, ("gdas", 3))
    network = build_network(architecture(cell), task=name, num_classes=task.num_classes, channels=2, cells=cells)
    task.split_train(0.0, BATCH)
    assert task.loss(network, task.batch("train", 0)).isfinite()


def mirroring(name: str, bears: bool | None = None, flip: bool | None = None) -> dict[str, bool]:
    """What a task mirrors, of data that bear it or not, and with settings that say so or not."""
    task = make(name)
    settings = SETTINGS.get(name, {}) | {
        setting.removeprefix("task."): {"flip": flip} for setting in task.mirrored_parts()
    }
    data: Any = DATA.get(name, tiny_images)()
    if bears is not None:
        data = replace(data, bears_mirroring=bears)
    config = validate(tasks[name].Config, {"name": name, **settings}, "task")
    return dict(tasks[name](config, data, torch.device("cpu"), 0).mirrored_parts())


@pytest.mark.parametrize("name", sorted(tasks))
def test_images_are_mirrored_where_that_is_asked_for_or_known_to_do_no_harm(name: str) -> None:
    if not make(name).mirrored_parts():
        pytest.skip(f"{name} mirrors nothing")
    assert not any(mirroring(name).values())
    assert not any(mirroring(name, bears=False).values())
    assert all(mirroring(name, bears=True).values())
    assert all(mirroring(name, bears=False, flip=True).values())
    assert not any(mirroring(name, bears=True, flip=False).values())


@pytest.mark.parametrize("name", sorted(tasks))
def test_what_is_said_of_mirroring_is_what_is_done(name: str) -> None:
    """With nothing else that moves images, a batch is the same but for its mirroring."""
    settings = make(name).mirrored_parts()
    if not settings:
        pytest.skip(f"{name} mirrors nothing")
    found = []
    for bears in (False, True):
        plain = {"scale": [1.0, 1.0]} if name == "segmentation" else {"crop_padding": 0}
        given = {setting.removeprefix("task."): {**plain, "flip": None} for setting in settings}
        config = validate(tasks[name].Config, {"name": name, **SETTINGS.get(name, {}), **given}, "task")
        data: Any = replace(cast(Any, DATA.get(name, tiny_images)()), bears_mirroring=bears)
        task = tasks[name](config, data, torch.device("cpu"), 0)
        task.split_search("1:1", BATCH, None)
        found.append(flat(task.batch("weights", 0)))
    assert not torch.equal(*found)
    assert torch.equal(*(each.sort().values for each in found))
