"""search, train, evaluate on tiny images without labels: what is written and printed, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.cli.conftest import Outcome, flatten

from datanas import Architecture
from datanas.core.errors import Interrupted
from datanas.core.settings import merge
from datanas.engine.config import resolve
from datanas.engine.train import TrainJob
from datanas.runs import read_metrics

TASK = {
    "task": {
        "name": "clustering",
        "eta": 0.1,
        "search_augment": {"crop_padding": 1, "flip": True},
        "train_augment": {"crop_padding": 1, "cutout": 0, "flip": True},
    }
}
RECIPES = Path(__file__).parents[2] / "recipes"
AGREEMENT = ("nmi", "ari", "accuracy")


class Clustered(NamedTuple):
    """Run folders of a search and a training that cluster, and what each command printed."""

    search: Path
    train: Path
    settings: list[str]
    printed: dict[str, Outcome]


@pytest.fixture(scope="module")
def clustered(make_config: Callable[[Path], dict[str, Any]], cli: Callable[..., Outcome], tmp_path_factory: Any) -> Any:
    root = tmp_path_factory.mktemp("clustered")
    settings = [*flatten(merge(make_config(root), TASK))]
    search, train = root / "search", root / "train"
    printed = {
        "search": cli("search", *settings, "--run.name", "search"),
        "train": cli("train", search, *settings, "--run.name", "train"),
        "evaluate": cli("evaluate", train),
        "transfer": cli("train", "gdas", *settings, "--run.name", "transfer"),
    }
    assert {name: outcome.code for name, outcome in printed.items()} == dict.fromkeys(printed, 0), printed
    return Clustered(search, train, settings, printed)


def test_all_figures_are_written(clustered: Clustered) -> None:
    written = json.loads((clustered.train / "evaluation.json").read_text())
    assert (written["score_name"], written["part"]) == ("nmi", "test")
    expected = {"ari", "accuracy", "information", "clusters"}
    expected |= {f"{reference}/{figure}" for reference in ("pixels", "features") for figure in AGREEMENT}
    assert set(written["figures"]) == expected
    assert 0 <= written["score"] <= 1
    assert 1 <= written["figures"]["clusters"] <= 3
    assert written["figures"]["pixels/accuracy"] == 1.0  # classes of the tiny images differ in brightness


def test_evaluate_finds_what_training_found(clustered: Clustered) -> None:
    found = clustered.printed["evaluate"].out.splitlines()
    assert found[0].startswith("test nmi ")
    assert any(line.split()[0] == "pixels/nmi" for line in found[1:])
    assert clustered.printed["train"].out.splitlines()[: len(found)] == found


def test_shares_are_printed_in_per_cent_and_the_rest_as_it_is(clustered: Clustered) -> None:
    found = json.loads((clustered.train / "evaluation.json").read_text())["figures"]
    expected = [f"  ari {100 * found['ari']:.2f}%", f"  accuracy {100 * found['accuracy']:.2f}%"]
    expected += [f"  information {found['information']:.4f}", f"  clusters {found['clusters']:.0f}"]
    lines = clustered.printed["evaluate"].out.splitlines()
    assert lines[1:5] == expected
    assert all(re.fullmatch(r"  (pixels|features)/\w+ -?\d+\.\d\d%", line) for line in lines[5:])


def test_the_card_of_an_exported_network_has_the_same_figures(
    clustered: Clustered, cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert cli("export", clustered.train, tmp_path / "net").code == 0
    card = (tmp_path / "net" / "README.md").read_text()
    for line in clustered.printed["evaluate"].out.splitlines()[1:]:
        name, value = line.split()
        assert f"| {name} (test) | {value} |" in card


def test_a_search_names_its_score(clustered: Clustered) -> None:
    assert re.search(r"^nmi: supernet \d+\.\d\d%, sampled children ", clustered.printed["search"].out, re.MULTILINE)


def test_a_search_follows_its_gap_without_references(clustered: Clustered) -> None:
    lines = read_metrics(clustered.search)
    assert len(lines) == 2
    assert all("gap/selection_score" in line for line in lines)
    assert not any("pixels" in name for name in lines[-1])
    kept = Architecture.load(clustered.search / "architecture.json")
    assert kept.source is not None
    assert kept.source["data"]["clusters"] == 3
    assert Architecture.load(clustered.train / "architecture.json") == kept


def test_an_interrupted_training_goes_on_to_the_same_bytes(
    clustered: Clustered, cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lambda of its thresholds comes back too: it has risen once when the run stops."""
    make_step = TrainJob.step

    def step(job: TrainJob, number: int) -> dict[str, float]:
        if number == 4:
            raise Interrupted("stopped by the test", 2)
        return make_step(job, number)

    own = ["--run.root", tmp_path, "--run.name", "again", "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainJob, "step", step)
        assert cli("train", clustered.search, *clustered.settings, *own).code == 130
    assert cli("train", "--resume", tmp_path / "again", "--quiet").code == 0
    for name in ("evaluation.json", "network.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (clustered.train / name).read_bytes()


def test_train_and_test_images_together(clustered: Clustered, cli: Callable[..., Outcome], tmp_path: Path) -> None:
    own = ["--run.root", tmp_path, "--run.name", "joined", "--task.joined", "true", "--quiet"]
    assert cli("train", clustered.search, *clustered.settings, *own).code == 0
    source = json.loads((tmp_path / "joined" / "evaluation.json").read_text())
    assert source["figures"]["pixels/accuracy"] == 1.0
    assert source["loss"] != json.loads((clustered.train / "evaluation.json").read_text())["loss"]


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """Ten grey images of 8x8 pixels and as many to test."""
    pixels = np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8)
    path = tmp_path / "grey.npz"
    np.savez(path, train_x=pixels[:10], test_x=pixels[10:], train_y=np.arange(10) % 2, test_y=np.arange(10) % 2)
    return path


def test_grey_images(clustered: Clustered, grey: Path, cli: Callable[..., Outcome], tmp_path: Path) -> None:
    own = ["--data.root", grey, "--run.root", tmp_path, "--run.name", "grey", "--quiet"]
    outcome = cli("train", clustered.search, *clustered.settings, *own, "--task.clusters", 4)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("code", "message", "given"),
    [
        (2, "task.clusters: must be at least 2, got 1", ["--task.clusters", 1]),
        (2, "task.eta: must be greater than 0", ["--task.eta", 0]),
        (2, "task.relations: must be 'image' or 'view', got 'label'", ["--task.relations", "label"]),
        (2, "train.auxiliary: task clustering has no auxiliary classifier", ["--train.auxiliary", "true"]),
        (2, "batch_size: must be at least 2 for task clustering, got 1", ["--train.batch_size", 1]),
        (8, "12 images of the part 'test' cannot be put into 13 clusters", ["--task.clusters", 13]),
        (
            2,
            "task.stem: a network behind the stem imagenet divides height and width by 32",
            ["--task.stem", "imagenet"],
        ),
        (2, "data.name: task clustering takes image data sets", ["--data", "{name: manual}"]),
    ],
)
def test_what_cannot_be_clustered(
    code: int, message: str, given: list[Any], settings: list[str], refused: Callable[..., None]
) -> None:
    refused(code, message, "train", "gdas", *settings, *flatten(TASK), *given)


@pytest.mark.parametrize(
    ("code", "message", "given"),
    [
        (8, "5 images of the part 'weights' cannot be put into 6 clusters", ["--search.examples", 10]),
        (2, "search.shuffled_labels: task clustering has no labels to shuffle", ["--search.shuffled_labels", "true"]),
    ],
)
def test_what_cannot_be_searched(
    code: int, message: str, given: list[Any], settings: list[str], refused: Callable[..., None]
) -> None:
    refused(code, message, "search", *settings, *flatten(TASK), "--task.clusters", 6, *given)


def test_a_checkpoint_of_another_number_of_clusters(
    clustered: Clustered, cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(clustered.train, tmp_path / "run"))
    outcome = cli("evaluate", run, "--task.clusters", 5)
    assert outcome.code == 3
    assert "does not fit the run's architecture" in outcome.err


@pytest.mark.parametrize("scale", ["paper", "small"])
def test_the_recipes_hold(scale: str) -> None:
    """Three normal and two reduction cells, in the supernet as in the network (Section 5.6)."""
    config = resolve(RECIPES / scale / "clustering.yaml", [("data.root", "anywhere")])
    assert (config.task.name, config.data.name) == ("clustering", "cifar10")
    assert config.model_dump()["space"]["cells"] == dict(config.train)["cells"] == 5
    assert config.search.weights.schedule == "step"
    assert not dict(config.train)["auxiliary"]
