"""Classes by examples are those of an episode of these images; clusters are those of the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import datanas
from datanas.core.errors import ConfigError, DataError
from datanas.data.augment import normalise
from datanas.deploy.examples import ExamplePredictor
from datanas.deploy.export import export
from datanas.engine.evaluation import restore
from datanas.tasks.adaptive_pairs import cluster_shares
from datanas.tasks.base import Task
from datanas.tasks.prototypes import log_probs

SIZE: dict[str, Any] = {"channels": 2, "cells": 3, "epochs": 3, "batch_size": 2}
DATA = {"name": "photos", "per_class": 10, "test_per_class": 4}


def data_of(task: Task[Any]) -> Any:
    """What a task of images was given."""
    return vars(task)["data"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examples")
    episode = {"way": 2, "query": 2}
    task = {"name": "fewshot", "train": episode, "test": {**episode, "episodes": 2}, "episodes": 4, "temperature": None}
    config = {"run": {"root": str(root), "name": "run"}, "device": "cpu", "train": SIZE, "data": DATA, "task": task}
    return datanas.train("gdas", config, quiet=True).path


@pytest.fixture(params=["run", "export"])
def predictor(request: pytest.FixtureRequest, run: Path, tmp_path: Path) -> ExamplePredictor:
    found = datanas.load(run if request.param == "run" else export(run, tmp_path / "exported"))
    assert isinstance(found, ExamplePredictor)
    return found


def images(run: Path) -> torch.Tensor:
    """3 classes of 4 images each."""
    _, task, _ = restore(run)
    test = data_of(task).test.images
    return torch.stack([test.images[test.labels == label][:4] for label in range(3)])


def test_probabilities_are_those_of_an_episode(run: Path, predictor: ExamplePredictor, tmp_path: Path) -> None:
    network, task, _ = restore(run)
    seen = images(run)
    with torch.inference_mode():
        points = network.eval()(normalise(seen.flatten(0, 1), data_of(task).mean, data_of(task).std)).view(3, 4, -1)
        expected = log_probs(points, 2, points.shape[2]).exp().flatten(0, 1)
    for label in range(3):
        (tmp_path / "shots" / f"class {label}").mkdir(parents=True)
        for number in range(2):
            pixels = seen[label, number].permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(tmp_path / "shots" / f"class {label}" / f"{number}.png")
    found = predictor.with_examples(tmp_path / "shots").predict(seen[:, 2:].flatten(0, 1))
    assert found.classes == ("class 0", "class 1", "class 2")
    np.testing.assert_allclose(found.probabilities, expected.numpy(), atol=1e-5)
    by_name = {f"class {label}": seen[label, :2] for label in range(3)}
    again = predictor.with_examples(by_name).predict_proba(seen[:, 2:].flatten(0, 1))
    np.testing.assert_allclose(again, found.probabilities, atol=1e-6)


def test_classes_may_have_different_numbers_of_examples(run: Path, predictor: ExamplePredictor) -> None:
    seen = images(run)
    found = predictor.with_examples({"a": seen[0, :1], "b": seen[1]}).predict(seen[0, :1])
    assert found.labels == ("a",)


def test_examples_are_asked_for(run: Path, predictor: ExamplePredictor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tells classes by examples of them; .*--support FOLDER"):
        predictor.predict(images(run)[0])
    with pytest.raises(DataError, match="holds no class folders of examples"):
        predictor.with_examples(tmp_path / "exported" if (tmp_path / "exported").exists() else tmp_path)
    with pytest.raises(DataError, match="only one class of examples"):
        predictor.with_examples({"a": images(run)[0]})
    assert predictor.embed(images(run)[0]).shape[0] == 4


def test_clusters_are_those_of_the_task(tmp_path: Path) -> None:
    config = {
        "run": {"root": str(tmp_path), "name": "run"},
        "device": "cpu",
        "train": {**SIZE, "batch_size": 10},
        "data": DATA,
        "task": {"name": "clustering", "clusters": 4},
    }
    run = datanas.train("gdas", config, quiet=True).path
    network, task, _ = restore(run)
    seen = data_of(task).test.images
    with torch.inference_mode():
        labels = network.eval()(normalise(seen, data_of(task).mean, data_of(task).std)).labels
    for path in (run, export(run, tmp_path / "exported")):
        found = datanas.load(path).predict(seen)
        assert found.classes == ("cluster 0", "cluster 1", "cluster 2", "cluster 3")
        np.testing.assert_array_equal(found.indices, labels.argmax(dim=1).numpy())
        np.testing.assert_allclose(found.probabilities, cluster_shares(labels).numpy(), atol=1e-6)
