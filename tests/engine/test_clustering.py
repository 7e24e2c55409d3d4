"""A search and a training that cluster: no label decides a bit of them, and both go on where they were stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datanas.core.errors import Interrupted
from datanas.core.settings import merge
from datanas.engine.loop import Job
from datanas.engine.search import SearchJob, search
from datanas.engine.train import TrainJob, train
from datanas.lookup import architecture

CELL = architecture("darts_v2")
CLUSTERING = {"task": {"name": "clustering", "train_augment": {"cutout": 0}, "eta": 0.1}, "train": {"validation": 0.25}}
Make = Callable[..., dict[str, Any]]
Read = Callable[[Path], dict[str, Tensor]]
Same = Callable[[dict[str, Tensor], dict[str, Tensor]], bool]


@pytest.fixture
def shuffled(tiny_images: Path, tmp_path: Path) -> Path:
    """The tiny images with each other's labels."""
    arrays = dict(np.load(tiny_images))
    for name in ("train_y", "test_y"):
        arrays[name] = np.random.default_rng(0).permutation(arrays[name])
    path = tmp_path / "shuffled.npz"
    np.savez(path, **arrays)
    return path


def learned(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a checkpoint holds of networks, alphas, optimisers and the task."""
    return {name: value for name, value in state.items() if name.startswith(".job")}


@pytest.mark.parametrize("sampler", [{"name": "egs"}, {"name": "evolution", "population": 3, "tournament": 2}])
def test_shuffled_labels_change_no_bit_of_a_search(
    config: Make, final_state: Read, same: Same, shuffled: Path, sampler: dict[str, Any]
) -> None:
    """Evolution and its rule `best_sample` compare children, by figures that must not know labels."""
    settings = merge(CLUSTERING, {"sampler": sampler})
    first = search(config(**settings), quiet=True)
    second = search(config(**merge(settings, {"data": {"root": str(shuffled)}})), quiet=True)
    states = [learned(final_state(found.path)) for found in (first, second)]
    assert any("supernet" in name for name in states[0])
    assert same(*states)
    assert first.architecture.code.keys() == second.architecture.code.keys()
    for name, code in first.architecture.code.items():
        assert np.array_equal(code, second.architecture.code[name])


def test_shuffled_labels_change_a_search_that_reads_them(
    config: Make, final_state: Read, same: Same, shuffled: Path
) -> None:
    """Negative control."""
    settings = {"search": {"epochs": 1}}
    first = search(config(**settings), quiet=True)
    second = search(config(**settings, data={"root": str(shuffled)}), quiet=True)
    assert not same(*(learned(final_state(found.path)) for found in (first, second)))


def test_shuffled_labels_change_no_bit_of_a_training(
    config: Make, final_state: Read, same: Same, figures: Any, shuffled: Path
) -> None:
    """The best checkpoint is that of the same step too; the agreement with classes, which is only told, differs."""
    first = train(CELL, config(**CLUSTERING), quiet=True)
    second = train(CELL, config(**merge(CLUSTERING, {"data": {"root": str(shuffled)}})), quiet=True)
    assert same(*(learned(final_state(found.path)) for found in (first, second)))
    bests = [final_state(found.path)[".best.1"] for found in (first, second)]
    assert torch.equal(*bests)
    lines = [figures(found.path)[-1] for found in (first, second)]
    assert lines[0]["validation/loss"] == lines[1]["validation/loss"]
    assert lines[0]["validation/nmi"] != lines[1]["validation/nmi"]
    assert first.evaluation.loss == second.evaluation.loss


@pytest.mark.parametrize("steps", [3, 4])
def test_a_resumed_search_is_the_uninterrupted_one(
    config: Make, final_state: Read, same: Same, figures: Any, interrupt: Callable[[type[Job], int], None], steps: int
) -> None:
    """Bit for bit, with the lambda of the thresholds: here stopped in, and just before, its first rise."""
    whole = search(config(**CLUSTERING), quiet=True)
    settings = config(**CLUSTERING)
    path = Path(settings["run"]["root"]) / settings["run"]["name"]
    interrupt(SearchJob, steps)
    with pytest.raises(Interrupted):
        search(settings, quiet=True)
    search(resume=path, quiet=True)
    found = final_state(path)
    assert same(found, final_state(whole.path))
    assert found[".job.task.lambda"].item() == pytest.approx(0.11)
    assert figures(path) == figures(whole.path)


@pytest.mark.parametrize("steps", [2, 3])
def test_a_resumed_training_is_the_uninterrupted_one(
    config: Make, final_state: Read, same: Same, figures: Any, interrupt: Callable[[type[Job], int], None], steps: int
) -> None:
    whole = train(CELL, config(**CLUSTERING), quiet=True)
    settings = config(**CLUSTERING)
    path = Path(settings["run"]["root"]) / settings["run"]["name"]
    interrupt(TrainJob, steps)
    with pytest.raises(Interrupted):
        train(CELL, settings, quiet=True)
    resumed = train(resume=path, quiet=True)
    found = final_state(path)
    assert same(found, final_state(whole.path))
    assert found[".job.task.lambda"].item() == pytest.approx(0.11)
    assert figures(path) == figures(whole.path)
    assert resumed.evaluation == whole.evaluation


def test_the_second_order_and_dense_execution_learn_from_pairs_too(search_job: Callable[..., SearchJob]) -> None:
    settings = {"hypergradient": {"kind": "unrolled"}, "execution": "dense", "alpha": {"lr": 0.05}}
    job = search_job(**merge(CLUSTERING, {"search": settings}))
    before = [alpha.detach().clone() for alpha in job.sampler.parameters()]
    figures = [job.step(step) for step in range(2)]
    assert all(value == value for each in figures for value in each.values())
    assert any(not torch.equal(old, new) for old, new in zip(before, job.sampler.parameters(), strict=True))


def test_a_search_reports_what_it_prefers_by(search_job: Callable[..., SearchJob]) -> None:
    job = search_job(**CLUSTERING)
    report = job.end_epoch(job.epochs, {"loss": 0.5})
    assert job.gap is not None
    assert report.score == job.gap.selection_score
    assert report.score != job.gap.child
