"""A fit of images with several labels, or with numbers, each, and what is predicted of others."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fitting.test_estimator import config, plain_plan
from tests.fitting.test_fit import plan_for
from tests.inside import Inside

import datanas
from datanas.cli import main
from datanas.comparison import pool
from datanas.core.errors import DataError
from datanas.core.settings import merge
from datanas.deploy.rows import LabelPredictor, NumberPredictor
from datanas.fitting import fit as fitting
from datanas.fitting.stages import FitResult

RNG = np.random.default_rng(0)
LABELS = np.stack([np.arange(80) % 2, np.arange(80) // 2 % 2, np.arange(80) // 4 % 2], axis=1)
X = (RNG.integers(0, 40, (80, 8, 8, 3)) + 200 * LABELS[:, None, None, :]).astype(np.uint8)
"""Each label lights up one channel."""
BRIGHTNESS = X.mean(axis=(1, 2, 3)) / 10 + 100


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "make_plan", plain_plan)
        yield


def fitted(y: Any, root: Path, epochs: int) -> FitResult:
    longer = {"train": {"epochs": epochs, "weights": {"lr": 0.1}}, "run": {"root": str(root), "name": "mine"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            fitting, "make_plan", lambda *a, **k: type(p := plain_plan(*a, **k))(**{**vars(p), "epochs": epochs})
        )
        return datanas.fit((X, y), "30s", config=merge(config(), longer), quiet=True)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fitted(LABELS, tmp_path_factory.mktemp("labels"), 12)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return fitted(BRIGHTNESS, tmp_path_factory.mktemp("numbers"), 12)


def test_labels_are_learned_and_all_that_hold_are_told(labelled: FitResult) -> None:
    assert (labelled.outcome.task, labelled.outcome.score_name) == ("multilabel", "map")
    assert labelled.outcome.score > 0.8
    assert "macro_f1" in labelled.outcome.text()
    predictor = datanas.load(labelled.path)
    assert isinstance(predictor, LabelPredictor)
    found = predictor.predict(X[:8])
    assert found.probabilities.shape == (8, 3)
    for held, row in zip(found.labels, found.probabilities, strict=True):
        assert set(held) == {name for name, share in zip("012", row, strict=True) if share >= 0.5}


def test_numbers_are_learned_in_their_units(numbered: FitResult) -> None:
    assert numbered.outcome.task == "regression"
    assert numbered.outcome.score < BRIGHTNESS.std()
    predictor = datanas.load(numbered.path)
    assert isinstance(predictor, NumberPredictor)
    found = predictor.predict(X)
    assert np.corrcoef(found.values[:, 0], BRIGHTNESS)[0, 1] > 0.7
    assert repr(found).startswith("<80 predictions: image 0: 1")


def test_the_command_prints_labels_and_writes_all_probabilities(
    labelled: FitResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", X[:4])
    arguments = ["predict", str(labelled.path), str(tmp_path / "x.npy"), "--csv", str(tmp_path / "found.csv")]
    assert main(arguments) == 0
    said = capsys.readouterr().out.splitlines()
    expected = datanas.load(labelled.path).predict(X[:4])
    with open(tmp_path / "found.csv") as file:
        rows = [*csv.DictReader(file)]
    for line, row, held, shares in zip(said, rows, expected.labels, expected.probabilities, strict=True):
        assert row["labels"] == ";".join(held)
        assert float(row["1"]) == pytest.approx(shares[1], abs=1e-5)
        assert ("none (likeliest: " in line) == (not held)
        assert all(f"  {name} 0." in line or f"  {name} 1." in line for name in held)


def test_the_command_prints_numbers(numbered: FitResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", X[:1])
    assert main(["predict", str(numbered.path), str(tmp_path / "x.npy")]) == 0
    value = datanas.load(numbered.path).predict(X[:1]).values[0, 0]
    assert f"x.npy[0]  y {value:.4g}" in capsys.readouterr().out


@pytest.mark.parametrize("given", [{"task": "regression"}, {"config": {"data": {"targets": "numbers"}}}])
def test_whole_numbers_are_numbers_where_somebody_says_so(given: dict[str, Any], tmp_path: Path) -> None:
    own = merge(merge(config(), {"run": {"root": str(tmp_path)}}), given.pop("config", {}))
    ages = np.arange(80) % 7 * 9 + 20
    found = datanas.fit((X, ages), "30s", config=own, quiet=True, **given)
    assert found.outcome.task == "regression"
    assert np.load(next(tmp_path.glob("data-*.npz")))["y"].tolist() == ages.tolist()


def test_words_are_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="y: must be numbers where targets are numbers"):
        datanas.fit((X, ["a", "b"] * 40), "30s", task="regression", config={"run": {"root": str(tmp_path)}})


def test_they_race_against_the_references_of_classification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "make_plan", plan_for)
    monkeypatch.setattr(pool, "_start", Inside().start)
    monkeypatch.setattr(pool, "_POLL", 0.0)
    own = merge(config(), {"run": {"root": str(tmp_path), "name": "raced"}, "search": {"judge": 0.4}})
    outcome = datanas.fit((X, BRIGHTNESS), "30s", config=own, quiet=True).outcome
    kinds = {each.origin.partition(" within ")[0] for each in outcome.compared}
    assert kinds == {"searched: likeliest", "random", "reference: resnet18"}
    assert outcome.compared[0].score == min(each.score for each in outcome.compared)
    assert outcome.compared[0].ahead is None
    for each in outcome.compared[1:]:
        assert each.ahead is not None
        difference, low, high = each.ahead
        assert difference == pytest.approx(each.score - outcome.compared[0].score)
        assert low <= difference <= high
        assert f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]" in outcome.text()
    assert "no interval" not in outcome.sentence


def test_predictions_are_those_of_the_evaluation(labelled: FitResult, numbered: FitResult) -> None:
    from datanas.engine.evaluation import evaluate, restore

    for result in (labelled, numbered):
        _, task, _ = restore(result.path / "train")
        images = vars(task)["data"].test.images.permute(0, 2, 3, 1).numpy()
        truth = vars(task)["data"].test_targets.numpy()
        found = datanas.load(result.path).predict(images)
        if hasattr(found, "values"):
            expected = float(np.sqrt(((found.values - truth) ** 2).mean(axis=0)).mean())
            assert evaluate(result.path / "train").score == pytest.approx(expected, rel=1e-5)
        else:
            right = ((found.probabilities >= 0.5) == truth.astype(bool)).all(axis=1).mean()
            assert evaluate(result.path / "train").figures["subset_accuracy"] == pytest.approx(right)
