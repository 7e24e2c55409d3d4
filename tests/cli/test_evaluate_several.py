"""Several trained networks beside each other, by what they say of each example."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from datanas.core.settings import merge

SMALL: dict[str, Any] = {"train": {"epochs": 1, "channels": 2}, "threads": 1, "device": "cpu"}
CELLS = {"cells": 3, "auxiliary": False, "drop_path": 0.0}
PAIRED: dict[str, Mapping[str, Any]] = {
    "accuracy": {
        "data": {"name": "photos", "per_class": 8, "test_per_class": 6},
        "task": {"stem": "plain_half"},
        "train": CELLS,
    },
    "miou": {
        "data": {"name": "photo_scenes", "size": 32, "train_scenes": 8, "test_scenes": 24},
        "task": {"name": "segmentation", "stem": "cifar_half", "crop": 32, "head_channels": 4, "atrous_rates": [1]},
        "train": CELLS,
    },
    "perplexity": {
        "data": {"name": "manual", "max_vocabulary": 50},
        "task": {"name": "language"},
        "train": {"examples": 2000, "batch_size": 10},
    },
}
WORDS = {"accuracy": "examples", "miou": "images", "perplexity": "stretches of text"}


@pytest.fixture(scope="module", params=PAIRED)
def trained(
    request: pytest.FixtureRequest, cli: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, str]:
    """The score's name, a folder of the runs `one` and `other`, and what the training of `one` has printed."""
    root, name = tmp_path_factory.mktemp("several"), request.param
    recipe = root / "recipe.yaml"
    recipe.write_text(json.dumps(merge(SMALL, PAIRED[name])))
    given = ["darts_v1_rnn" if name == "perplexity" else "gdas", "-c", recipe, "--run.root", root, "--quiet"]
    outcomes = [cli("train", *given, "--seed", seed, "--run.name", n) for seed, n in enumerate(("one", "other"))]
    assert [each.code for each in outcomes] == [0, 0], outcomes
    return name, root, outcomes[0].out


def test_each_score_has_an_interval_and_its_lead_over_the_first(
    trained: tuple[str, Path, str], cli: Callable[..., Any]
) -> None:
    name, runs, printed = trained
    ends = re.search(rf"  95 % interval of {name} ([\d.]+) to ([\d.]+) \([\d,]+ {WORDS[name]}\)", printed)
    assert ends, printed
    head, first, second, verdict = cli("evaluate", runs / "one", runs / "other").out.splitlines()
    assert re.findall(r"95 %|ahead of the first by", head) == ["95 %", "ahead of the first by"]
    assert f"{ends[1]} to {ends[2]}" in first
    lead = re.search(r"([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]", second)
    assert lead, second
    mean, low, high = map(float, lead.groups())
    assert low <= mean <= high
    scores = [json.loads((runs / each / "evaluation.json").read_text())["score"] for each in ("other", "one")]
    gap = scores[0] - scores[1] if name != "perplexity" else scores[1] - scores[0]
    assert mean == pytest.approx(gap * (1 if name == "perplexity" else 100), abs=0.06)
    words = "better than" if low > 0 or high < 0 else "no difference shown to other"
    assert words in verdict


def test_what_is_measured_twice_is_no_better(trained: tuple[str, Path, str], cli: Callable[..., Any]) -> None:
    _, runs, _ = trained
    *_, second, verdict = cli("evaluate", runs / "one", runs / "one").out.splitlines()
    assert "+0.0 [" in second
    assert verdict == "no difference shown to one"
