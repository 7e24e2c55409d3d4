"""A fit that is killed again and again, wherever it is, ends with the network of an undisturbed one."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from tests.faults.trial import Outcome, Tally

from datanas.engine.config import resolve
from datanas.fitting.plan import Plan, Race

Command = Callable[..., Outcome]
COMPLETE = pytest.mark.complete
KILLS = 5
FILES = (
    "export/model.safetensors",
    "export/config.json",
    "architecture.json",
    "search/architecture.json",
    "race/architecture.json",
    "train/network.safetensors",
    "train/evaluation.json",
)


@pytest.fixture
def plan(digits: Path, tmp_path: Path) -> Path:
    """A folder with the plan of a tiny fit: a search, a race of two cells with ResNet-18, a training."""
    config = resolve(
        {
            "data": {"name": "npz", "root": str(digits)},
            "task": {"stem": "plain", "train_augment": {"cutout": 2}},
            "space": {"name": "nasbench201", "channels": 2},
            "search": {
                "epochs": 3,
                "batch_size": 20,
                "choice": "race",
                "judge": 0.25,
                "gap": {"children": 2, "examples": 20},
            },
            "train": {"channels": 2, "cells": 3, "epochs": 3, "batch_size": 20, "max_macs": 60_000, "auxiliary": False},
        }
    )
    race = Race(2, 1, 40, ("resnet18",), 1.0)
    found = Plan(60.0, config.model_dump(mode="json"), 1.0, 1.0, race, epochs=3)
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text(json.dumps(found.to_json()))
    return tmp_path / "plan"


@pytest.fixture
def arguments(digits: Path, plan: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Those of a fit by that plan, under a name."""

    def make(name: str, seed: int = 0) -> list[str]:
        own = {"run.root": tmp_path, "run.name": name, "seed": seed, "device": "cpu", "threads": 1}
        given = [text for key, value in own.items() for text in (f"--{key}", str(value))]
        return ["fit", str(digits), "--time", "60s", "--same-plan-as", str(plan), "--quiet", *given]

    return make


def contents(run: Path) -> dict[str, bytes]:
    """What a fit leaves, but for times."""
    found = {name: (run / name).read_bytes() for name in FILES}
    race = json.loads((run / "race" / "race.json").read_text())
    return {**found, "race": json.dumps({key: race[key] for key in ("winner", "rungs")}).encode()}


@pytest.mark.parametrize(
    ("seed", "wanted"), [(0, 1), *(pytest.param(seed, KILLS, marks=COMPLETE) for seed in (0, 1, 2, 3))]
)
def test_killed_at_random_moments_it_ends_with_the_same_network(
    seed: int, wanted: int, command: Command, arguments: Callable[..., list[str]], tmp_path: Path, tally: Tally
) -> None:
    """Each attempt dies after a step, or at a point of storage work, that chance chooses; the next goes on."""
    whole = command(*arguments("whole"), race_inside=True)
    assert whole.code == 0, whole.err
    chance, kills = Random(seed), 0
    faults: list[dict[str, object]] = []
    while kills < wanted:
        after_step: dict[str, object] = {"kill_after_step": chance.randint(1, 9)}
        at_point: dict[str, object] = {"kill_at_point": ["all", chance.randint(1, 150)]}
        fault = chance.choice([after_step, at_point])
        faults.append(fault)
        outcome = command(*arguments("killed"), race_inside=True, **fault)
        if outcome.code == 0:
            break  # it came to its end before that moment
        assert outcome.code == -signal.SIGKILL, (faults, outcome.err)
        kills += 1
    last = command(*arguments("killed"), race_inside=True)
    same = last.code == 0 and contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert kills >= min(3, wanted)
    for _ in range(kills):
        tally("17. SIGKILL of a fit at a random moment", same, (faults, last.err))
    assert not [*(tmp_path / "killed").rglob("*.tmp")]


@COMPLETE
def test_another_seed_gives_another_network(
    command: Command, arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Negative control."""
    for name, seed in (("first", 0), ("second", 1)):
        outcome = command(*arguments(name, seed), race_inside=True)
        assert outcome.code == 0, outcome.err
    first, second = (contents(tmp_path / name) for name in ("first", "second"))
    assert first["export/model.safetensors"] != second["export/model.safetensors"]
