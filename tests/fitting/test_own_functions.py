"""A fit with functions of one's own, given as such: kept by name, gone on with from the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.fitting.test_fit import network, quick_stages, settings
from torch import Tensor
from torch.nn import functional as F

from datanas import ImageClassifier
from datanas.core.errors import ConfigError, Interrupted
from datanas.core.settings import merge
from datanas.engine.evaluation import evaluate
from datanas.engine.train import train
from datanas.fitting import stages
from datanas.fitting.fit import fit
from datanas.fitting.own_functions import settings_of_own
from datanas.fitting.stages import FitResult

HERE = __name__


def focal(scores: Tensor, targets: Tensor) -> Tensor:
    log_probs = F.log_softmax(scores, dim=1).gather(1, targets[:, None])[:, 0]
    return -((1 - log_probs.exp()).square() * log_probs).mean()


def unlike(scores: Tensor, targets: Tensor) -> float:
    """Lowest where predictions are all alike."""
    return float(scores.argmax(dim=1).unique().numel() + 0.1 * F.cross_entropy(scores, targets))


def noisy(image: Tensor) -> Tensor:
    return (image + 0.1 * torch.rand_like(image)).clamp(0, 1)


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quick_stages():
        yield


@pytest.fixture(scope="module")
def done(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    config = settings(tmp_path_factory.mktemp("runs"))
    return fit(tiny_images, 30.0, config=config, loss=focal, transform=noisy, quiet=True)


def test_search_race_and_training_have_them_by_name(done: FitResult) -> None:
    files = ["search/config.yaml", "race/rung-1/candidate-00/config.yaml", "train/config.yaml"]
    for file in files:
        config = yaml.safe_load((done.path / file).read_text())
        assert config["task"]["loss"] == f"{HERE}:focal"
        for part in ("search_augment", "train_augment"):
            assert config["task"][part]["transform"] == f"{HERE}:noisy"
        assert config["code_folders"] == [str(Path(__file__).parents[2])]


def test_a_fit_that_was_stopped_goes_on_to_the_same_network(
    done: FitResult, tiny_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stops(*_: Any, **__: Any) -> None:
        raise Interrupted("interrupted; go on with: datanas something", 15)

    loss, transform = f"{HERE}:focal", f"{HERE}:noisy"
    with monkeypatch.context() as patch:
        patch.setattr(stages, "train", stops)
        with pytest.raises(Interrupted):
            fit(tiny_images, 30.0, config=settings(tmp_path), loss=loss, transform=transform, quiet=True)
    assert network(fit(resume=tmp_path / "fit", quiet=True)) == network(done)


def test_they_change_what_is_learned(done: FitResult, tiny_images: Path, tmp_path: Path) -> None:
    one = fit(tiny_images, 30.0, config=settings(tmp_path, "one"), loss=focal, quiet=True)
    other = fit(tiny_images, 30.0, config=settings(tmp_path, "other"), transform=noisy, quiet=True)
    assert len({network(done), network(one), network(other)}) == 3


@pytest.fixture(scope="module")
def by_metric(tiny_images: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    config = merge(settings(tmp_path_factory.mktemp("runs")), {"task": {"lower_is_better": True}})
    return fit(tiny_images, 30.0, config=config, metric=unlike, quiet=True)


def test_networks_are_compared_by_a_metric_of_ones_own(by_metric: FitResult) -> None:
    race = json.loads((by_metric.path / "race/race.json").read_text())
    scores = {number: each["score"] for number, each in race["rungs"][-1].items()}
    assert race["metric"]["name"] == "unlike"
    assert not race["metric"]["higher_is_better"]
    assert str(race["winner"]) == min(scores, key=lambda number: scores[number])
    assert race["within"] is None
    reached = json.loads((by_metric.path / "train/evaluation.json").read_text())
    assert (reached["score_name"], reached["error"]) == ("unlike", None)
    assert {"accuracy"} <= reached["figures"].keys()
    assert "unlike" in by_metric.outcome.text()


def test_a_network_is_measured_by_the_tasks_metric_where_ones_own_is_gone(
    by_metric: FitResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Path(shutil.copytree(by_metric.path / "train", tmp_path / "train"))
    file = run / "config.yaml"
    file.write_text(file.read_text().replace(f"{HERE}:", "own_gone:"))
    known = evaluate(by_metric.path / "train")
    measured = evaluate(run)
    assert (known.score_name, measured.score_name) == ("unlike", "accuracy")
    assert measured.score == known.figures["accuracy"]
    assert "was measured by task.metric, which is not there" in caplog.text


def test_what_has_no_name_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^loss: .*has no name"):
        fit(tmp_path / "nothing.npz", config=settings(tmp_path), loss=lambda scores, targets: scores.mean())
    with pytest.raises(ConfigError, match=r"^transform: .*no 'nosiy'; did you mean 'noisy'"):
        fit(tmp_path / "nothing.npz", config=settings(tmp_path), transform=f"{HERE}:nosiy")
    assert not [*tmp_path.iterdir()]


def test_a_fit_that_is_resumed_takes_none(done: FitResult) -> None:
    with pytest.raises(ConfigError, match="a fit that is resumed is settled"):
        fit(resume=done.path, loss=focal)


@pytest.mark.parametrize(
    ("what", "task"),
    [("loss", "fewshot"), ("loss", "language"), ("metric", "segmentation"), ("transform", "segmentation")],
)
def test_a_task_that_takes_none_says_so(what: str, task: str) -> None:
    with pytest.raises(ConfigError, match=f"^{what}: task {task} "):
        settings_of_own({what: f"{HERE}:focal"}, task)


def test_an_estimator_hands_them_on(monkeypatch: pytest.MonkeyPatch, tiny_images: Path) -> None:
    given: dict[str, Any] = {}

    def takes(*_: Any, **more: Any) -> None:
        given.update(more)
        raise Interrupted("seen", 2)

    monkeypatch.setattr("datanas.fitting.estimator.fit", takes)
    with pytest.raises(Interrupted):
        ImageClassifier(time="30s", loss=focal, metric=unlike, transform=f"{HERE}:noisy").fit(tiny_images)
    assert (given["loss"], given["metric"], given["transform"]) == (focal, unlike, f"{HERE}:noisy")


def test_a_network_is_measured_though_its_loss_is_gone(done: FitResult, tmp_path: Path) -> None:
    run = Path(shutil.copytree(done.path / "train", tmp_path / "train"))
    file = run / "config.yaml"
    file.write_text(file.read_text().replace(f"{HERE}:", "own_gone:"))
    assert evaluate(run).score == evaluate(done.path / "train").score
    with pytest.raises(ConfigError, match="no module 'own_gone' is in"):
        train(resume=run, quiet=True)
