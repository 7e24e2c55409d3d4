"""A dry run tells what a whole run would cost, and leaves nothing behind."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datanas.core.errors import DataError, NonFiniteError, OutOfMemoryError
from datanas.engine import dry_run
from datanas.engine.config import resolve
from datanas.engine.dry_run import estimate_search, estimate_train
from datanas.engine.search import SearchJob
from datanas.engine.train import TrainJob
from datanas.kernels.hardware import count_macs, count_parameters
from datanas.lookup import architecture
from datanas.tasks.classification import Classification

CPU = torch.device("cpu")
Make = Callable[..., dict[str, Any]]
CELL = architecture("darts_v2")


@pytest.fixture(params=["search", "train"])
def estimate(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], str]:
    if request.param == "search":
        return lambda config: estimate_search(resolve(config))
    return lambda config: estimate_train(resolve(config), CELL)


def test_it_names_every_cost(config: Make, estimate: Callable[[dict[str, Any]], str]) -> None:
    text = estimate(config())
    for wanted in ("parameters", "multiply-adds", "memory", "one step", "whole run", "GiB", "M "):
        assert wanted in text
    assert re.search(r"one step +\d+\.\d+ s", text)
    assert re.search(r"about \d+:\d\d:\d\d h", text)


def test_it_writes_nothing(
    config: Make, estimate: Callable[[dict[str, Any]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    settings = config()
    before = sorted(tmp_path.rglob("*"))
    estimate(settings)
    assert sorted(tmp_path.rglob("*")) == before


def test_it_counts_the_steps_of_the_whole_run(config: Make, estimate: Callable[[dict[str, Any]], str]) -> None:
    over = {"search": {"epochs": 20, "pretrain_epochs": 5}, "train": {"epochs": 25}}
    assert "75 steps in 25 epochs" in estimate(config(**over))


def test_a_search_s_numbers_are_those_of_its_supernet(config: Make, search_job: Callable[..., SearchJob]) -> None:
    text, job = estimate_search(resolve(config())), search_job()
    assert f"{count_parameters(job.supernet):,} parameters" in text


def test_a_training_s_numbers_are_those_of_its_network(config: Make, train_job: Callable[..., TrainJob]) -> None:
    text, job = estimate_train(resolve(config()), CELL), train_job()
    assert f"{count_parameters(job.network):,} parameters" in text
    assert f"{count_macs(job.network, torch.zeros(1, 3, 8, 8)) / 1e6:,.1f} M an image" in text


def test_the_auxiliary_tower_is_named_where_there_is_one(config: Make) -> None:
    for auxiliary in (True, False):
        text = estimate_train(resolve(config(train={"auxiliary": auxiliary})), CELL)
        assert ("auxiliary tower" in text) is auxiliary
    settings = resolve(config(task={"name": "classification"}, train={"auxiliary": True}))
    assert "auxiliary tower" not in estimate_train(settings, architecture("resnet18"))


@pytest.mark.parametrize(("every", "times"), [(1, 5), (2, 3), (5, 1), (9, 1)])
def test_measurements_are_counted_as_often_as_they_come(config: Make, every: int, times: int) -> None:
    settings = resolve(config(search={"epochs": 5, "gap": {"every": every}}))
    assert f", {times} times" in estimate_search(settings)


def test_the_whole_time_is_steps_and_measurements(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "measure_job", lambda job, device: (2.0, 100.0))
    settings = resolve(config(search={"epochs": 1200}))
    assert "3,600 steps in 1200 epochs, about 35:20:00 h" in estimate_search(settings)


def test_alpha_steps_count_by_their_share(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alpha step of 10 s before every fifth weight step of 1 s: 3 s a step."""
    now = [0.0]

    def lasts(seconds: float) -> Callable[..., float]:
        def step(*_: object, **__: object) -> float:
            now[0] += seconds
            return 0.0

        return step

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(SearchJob, "_alpha_step", lasts(10.0))
    monkeypatch.setattr(SearchJob, "_weight_step", lasts(1.0))
    assert "one step            3.000 s" in estimate_search(resolve(config(search={"steps": "5:1", "epochs": 20})))


def test_what_would_stop_the_run_stops_the_dry_run(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        estimate_search(resolve(config(data={"root": "gone.npz"})))
    monkeypatch.setattr(SearchJob, "step", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(OutOfMemoryError, match="Try a smaller batch_size"):
        estimate_search(resolve(config()))
    monkeypatch.setattr(SearchJob, "step", lambda *_: (_ for _ in ()).throw(NonFiniteError("loss")))
    with pytest.raises(NonFiniteError):
        estimate_search(resolve(config()))


def test_costs_are_told_by_what_an_example_is(
    config: Make, estimate: Callable[[dict[str, Any]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert " an image" in estimate(config())
    monkeypatch.setattr(Classification, "unit", "word")
    assert " M a word" in estimate(config()).replace("M multiply-adds", "M")


def warnings(estimate: str) -> list[str]:
    """Those of an estimate, each on one line, and the estimate's other lines still have their labels."""
    found: list[str] = []
    for line in estimate.splitlines():
        assert len(line) <= 110
        label, text = line[:20].strip(), line[20:]
        if label == "warning":
            found.append(text)
        elif not label:
            found[-1] += " " + text
    return found


ROOMY = {"search": {"epochs": 20, "batch_size": 2, "gap": {"examples": 1, "every": 20}}}
"""20 epochs of 12 steps, as many of alpha, nothing left out, and next to nothing measured."""


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Let a step and a measurement take so many seconds."""
    return lambda step, rest: monkeypatch.setattr(dry_run, "measure_job", lambda job, device: (step, rest))


def test_a_roomy_search_and_training_have_no_warnings(config: Make, timed: Callable[..., None]) -> None:
    timed(1.0, 1.0)
    assert warnings(estimate_search(resolve(config(**ROOMY)))) == []
    assert warnings(estimate_train(resolve(config()), CELL)) == []


@pytest.mark.parametrize(
    ("over", "steps"),
    [
        ({"epochs": 16}, 16 * 12),
        ({"epochs": 16, "steps": "5:1"}, -(-16 * 12 // 5)),
        ({"epochs": 16, "alpha_start": 0.5}, 8 * 12),
        ({"epochs": 6, "pretrain_epochs": 10}, 6 * 12),
        ({"epochs": 6, "pretrain_epochs": 10, "steps": "5:2", "alpha_start": 0.4}, 18),
    ],
)
def test_alpha_steps_that_leave_p_flat_are_counted_and_told(
    over: dict[str, Any], steps: int, config: Make, search_job: Callable[..., SearchJob], timed: Callable[..., None]
) -> None:
    timed(1.0, 1.0)
    settings = {"search": ROOMY["search"] | over | {"alpha": {"lr": 1e-4}}}
    (warning,) = warnings(estimate_search(resolve(config(**settings))))
    assert warning.startswith(f"{steps} alpha steps in the whole search, at a rate of 0.0001: Adam moves an alpha")
    for wanted in (
        f"rate x steps = {1e-4 * steps:.2g}, so P can hardly move",
        "--search.batch_size",
        "--search.epochs",
        "--search.alpha.lr",
    ):
        assert wanted in warning
    # And as many are made.
    job = search_job(**settings)
    job._weight_step = lambda *_, **__: 0.0
    for step in range(job.length):
        job.step(step)
    assert job._alpha_steps == steps


@pytest.mark.parametrize("method", ["random", "evolution", "dso_nas"])
def test_a_method_whose_alpha_adam_does_not_move_is_not_warned(
    method: str, config: Make, timed: Callable[..., None]
) -> None:
    timed(1.0, 1.0)
    settings = resolve(config(sampler={"name": method}, search=ROOMY["search"] | {"epochs": 1}))
    assert warnings(estimate_search(settings)) == []


def test_measuring_that_takes_more_than_half_of_the_steps_is_told(config: Make, timed: Callable[..., None]) -> None:
    """240 steps of a second, and 4 measurements of 30 s or a little more."""
    settings = resolve(config(search=ROOMY["search"] | {"gap": {"every": 5}}))
    timed(1.0, 30.0)
    assert warnings(estimate_search(settings)) == []
    timed(1.0, 30.5)
    (warning,) = warnings(estimate_search(settings))
    assert warning.startswith("measuring the gap takes about 0:02:02 h, the steps 0:04:00 h.")
    assert "--search.gap.every" in warning
    assert "--search.gap.examples" in warning


def test_images_that_full_batches_leave_out_are_told(config: Make, timed: Callable[..., None]) -> None:
    """Of 48 images: all for a training, 24 for each part of a search."""
    timed(1.0, 1.0)
    for batch, left in ((22, 2), (21, 3), (13, 11), (24, 0), (100, 0)):
        found = warnings(estimate_search(resolve(config(search=ROOMY["search"] | {"batch_size": batch}))))
        told = [warning for warning in found if "left out" in warning]
        assert bool(told) == (left > 2.4)
        if told:
            text = f"24 images of the part 'weights' make 1 step an epoch at batch {batch}, and {left} are left out of"
            assert told[0].startswith(text)
            assert "--search.batch_size" in told[0]
    for batch, steps, left in ((44, 1, 4), (43, 1, 5), (20, 2, 8), (16, 3, 0)):
        found = warnings(estimate_train(resolve(config(train={"batch_size": batch})), CELL))
        assert bool(found) == (left > 4.8)
        if found:
            many = "s" if steps > 1 else ""
            assert f"make {steps} step{many} an epoch at batch {batch}, and {left} are left out of each" in found[0]
            assert "--train.batch_size" in found[0]


@pytest.mark.parametrize(("split", "part"), [("3:1", "alpha"), ("1:3", "weights")])
def test_the_part_that_loses_most_is_told(split: str, part: str, config: Make, timed: Callable[..., None]) -> None:
    """Of 36 images batches of 8 leave out four, and of 12 as many, which is a third."""
    timed(1.0, 1.0)
    settings = resolve(config(search=ROOMY["search"] | {"split": split, "batch_size": 8}))
    (told,) = [warning for warning in warnings(estimate_search(settings)) if "left out" in warning]
    assert told.startswith(
        f"12 images of the part {part!r} make 1 step an epoch at batch 8, and 4 are left out of each"
    )


def test_a_share_of_a_training_is_counted_without_what_is_held_out(config: Make, timed: Callable[..., None]) -> None:
    timed(1.0, 1.0)
    for over, text in (
        ({"validation": 0.25}, "36 images of the part 'train' make 1 step"),
        ({"parts": "search"}, "24 images of the part 'weights' make 1 step"),
    ):
        (told,) = warnings(estimate_train(resolve(config(train={"batch_size": 20, **over})), CELL))
        assert told.startswith(text)


def test_batches_of_episodes_leave_no_images_out(config: Make, timed: Callable[..., None], tmp_path: Path) -> None:
    """A batch of 3 episodes, and 4 classes to draw them from."""
    timed(1.0, 1.0)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "classes.npz", x=images, y=np.arange(60) % 10)
    settings = config(data={"root": str(tmp_path / "classes.npz")}, search=ROOMY["search"] | {"batch_size": 3})
    episode = {"way": 2, "shot": 1, "query": 1}
    settings["task"] = {"name": "fewshot", "episodes": 1, "search": episode, "train": episode, "test": episode}
    found = warnings(estimate_search(resolve(settings)))
    assert [warning for warning in found if "left out" in warning] == []


@pytest.mark.parametrize(("images", "rate", "is_warned"), [(400, 0.05, False), (128, 0.05, False), (128, 3e-4, True)])
def test_the_recipe_for_own_images_suits_some_hundred(
    images: int, rate: float, is_warned: bool, timed: Callable[..., None], tmp_path: Path
) -> None:
    timed(1.0, 1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        file = tmp_path / f"class {number % 4}" / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(file)
    recipe = Path(__file__).parents[2] / "recipes" / "small" / "folder.yaml"
    settings = resolve(recipe, [("data.root", str(tmp_path)), ("search.alpha.lr", rate)])
    assert bool(warnings(estimate_search(settings))) is is_warned
    assert warnings(estimate_train(settings, CELL)) == []


def test_a_step_that_takes_long_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 100 s, of 5, and of 1."""
    now, made = [0.0], [0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def calls(seconds: float) -> tuple[float, int]:
        made[0] = 0

        def call() -> None:
            now[0] += seconds
            made[0] += 1

        return dry_run._patient_seconds(call, torch.device("cpu")), made[0]

    assert calls(100.0) == (100.0, 1)
    assert calls(5.0) == (5.0, 2)
    assert calls(1.0) == (1.0, 5)


@pytest.mark.parametrize(("rule", "expected"), [(None, 5 * 64 + 3 * 30), ("best_sample", 5 * 64 + 3 * 30 + 16 + 20)])
def test_a_gap_on_many_examples_is_added_up_of_its_parts(
    rule: str | None, expected: float, search_job: Callable[..., SearchJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 s for an eighth of the examples, and 10 s for one of three batches; 4 candidates on a sixteenth, 1 on all."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    gap = {"children": 2, "statistics_batches": 3, "examples": None}
    job = search_job(search={"gap": gap}, sampler={"derivation": {"rule": rule, "candidates": 4}})

    def lasts(seconds: float) -> Callable[..., Any]:
        def call(*_: object, **__: object) -> torch.Tensor:
            now[0] += seconds
            return torch.zeros(())

        return call

    monkeypatch.setattr(job.task, "loss", lasts(10.0))
    monkeypatch.setattr(job.task, "evaluate", lasts(8.0))
    monkeypatch.setattr(dry_run, "FEW_EXAMPLES", 1)
    if rule is not None:
        monkeypatch.setattr(dry_run, "FINALISTS", 0)
        monkeypatch.setattr(dry_run, "FIRST_EXAMPLES", 1.5)
        expected -= 20
    assert dry_run._gap_seconds(job, 24, CPU) == pytest.approx(expected)


def test_many_examples_are_not_all_measured(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the gap meter nor the choice is run: an epoch's end is not reached."""
    monkeypatch.setattr(dry_run, "FEW_EXAMPLES", 3)
    monkeypatch.setattr(SearchJob, "end_epoch", lambda *_: pytest.fail("measured"))
    assert "measuring " in estimate_search(resolve(config()))
