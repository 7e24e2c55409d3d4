"""A trained network as a folder of its own: rebuilt without its run, with the same outputs, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import datanas
import datanas.deploy.timm_models  # registers the models
from datanas.core.errors import CheckpointError, ConfigError
from datanas.core.settings import merge
from datanas.deploy.export import export
from datanas.engine.evaluation import restore

Make = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="module")
def run(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training of a cell with an auxiliary tower."""
    config = make_config(tmp_path_factory.mktemp("trained"))
    config = merge(config, {"train": {"auxiliary": True, "epochs": 1}, "task": {"stem": "cifar_half"}})
    return datanas.train(datanas.architecture("gdas"), config, quiet=True).path


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, exported."""
    return export(run, tmp_path_factory.mktemp("exported") / "gdas")


def images() -> torch.Tensor:
    return torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def expected(run: Path, x: torch.Tensor) -> torch.Tensor:
    network, _, _ = restore(run)
    return network.eval()(x)


def test_the_network_gives_what_the_run_s_gives(run: Path, folder: Path) -> None:
    network = datanas.load_network(folder)
    assert not network.training
    assert torch.equal(network(images()), expected(run, images()))


def test_timm_loads_it_with_its_weights_and_configuration(run: Path, folder: Path) -> None:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    torch.testing.assert_close(
        model(images()), expected(run, images())
    )  # in another layout: the last digits may differ
    _, task, _ = restore(run)
    found = timm.data.resolve_model_data_config(model)
    assert found["input_size"] == (3, 8, 8)
    assert found["mean"] == pytest.approx(task.preprocessing()["mean"])
    assert found["std"] == pytest.approx(task.preprocessing()["std"])
    assert timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5)(images()).shape == (3, 5)


def test_the_tower_that_only_training_uses_is_left_out(run: Path, folder: Path) -> None:
    trained, exported = load_file(run / "network.safetensors"), load_file(folder / "model.safetensors")
    left_out = trained.keys() - exported.keys()
    assert left_out
    assert all(name.startswith("head.auxiliary.") for name in left_out)
    assert exported.keys() <= trained.keys()


def test_the_card_says_what_it_is_and_what_it_reaches(run: Path, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    written = json.loads((run / "evaluation.json").read_text())
    assert "\nlicense:" not in card
    assert "it is for whoever publishes this network to choose" in card
    assert f"| accuracy (test) | {written['score']:.2%} |" in card
    assert f"| parameters | {written['parameters']:,} |" in card
    assert 'datanas.load_network("gdas")' in card
    assert 'timm.create_model("local-dir:gdas", pretrained=True)' in card
    assert "Searching for a Robust Neural Architecture in Four GPU Hours" in card


def test_a_hub_finds_its_task_and_its_figures_in_the_card(run: Path, tmp_path: Path) -> None:
    folder = export(run, tmp_path / "for-hub", to="hub", licence="cc-by-4.0")
    written = json.loads((run / "evaluation.json").read_text())
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "datanas"
    assert card.data.pipeline_tag == "image-classification"
    assert "timm" in card.data.tags
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", written["score"])
    assert (result.dataset_name, result.dataset_split) == ("npz", "test")
    assert 'timm.create_model("hf-hub:USER/for-hub", pretrained=True)' in card.text
    assert 'snapshot_download("USER/for-hub")' in card.text
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}


def test_a_folder_of_a_hub_is_the_same_network_to_timm(run: Path, folder: Path, tmp_path: Path) -> None:
    copy = export(run, tmp_path / "for-hub", to="hub")
    assert (copy / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert (copy / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    backbone = timm.create_model(f"local-dir:{copy}", pretrained=True, features_only=True, out_indices=(1, 2)).eval()
    whole = timm.create_model(f"local-dir:{copy}", pretrained=True).eval()
    for own, other in zip(backbone(images()), whole.forward_intermediates(images())[1][1:3], strict=True):
        assert torch.equal(own, other)


def test_what_timm_cannot_hold_is_refused(tmp_path: Path) -> None:
    size = {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 2}
    data = {"name": "photos", "per_class": 10, "test_per_class": 4}
    config = {"run": {"root": str(tmp_path), "name": "run"}, "device": "cpu", "train": size, "data": data}
    trained = datanas.train(datanas.architecture("gdas"), {**config, "task": {"name": "clustering"}}, quiet=True)
    with pytest.raises(ConfigError, match="this is a network for clustering of conv_cell"):
        export(trained.path, tmp_path / "exported", to="timm")
    assert not (tmp_path / "exported").exists()


def test_a_language_model_is_rebuilt_with_its_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "text" / f"{split}.txt").write_text("a dog sees a cat\nthe cat sees the dog\n" * 10)
    config = {
        "run": {"root": str(tmp_path), "name": "words"},
        "device": "cpu",
        "data": {"name": "text", "root": str(tmp_path / "text")},
        "task": {"name": "language", "sequence": 4},
        "train": {"channels": 4, "cells": 1, "epochs": 1, "batch_size": 4},
    }
    trained = datanas.train(datanas.architecture("darts_v2_rnn"), config, quiet=True)
    folder = export(trained.path, tmp_path / "exported")
    network = datanas.load_network(folder)
    x = torch.tensor([[1, 2], [3, 4]])
    assert torch.equal(network(x).logits, trained.network(x).logits)
    card = (folder / "README.md").read_text()
    assert "timm" not in card
    assert "pipeline_tag: text-generation" in card
    assert "architecture" not in {*json.loads((folder / "config.json").read_text())}


EPISODE = {"way": 2, "query": 2}


@pytest.mark.parametrize(
    ("cell", "settings"),
    [
        ("gdas", {"task": {"name": "clustering"}}),
        ("conv4", {"task": {"name": "fewshot", "train": EPISODE, "test": {**EPISODE, "episodes": 2}, "episodes": 1}}),
        (
            "gdas",
            {
                "task": {"name": "segmentation", "crop": 16, "head_channels": 4},
                "data": {"name": "photo_scenes", "size": 16, "train_scenes": 4, "test_scenes": 2},
            },
        ),
    ],
    ids=["clustering", "fewshot", "segmentation"],
)
def test_networks_of_other_tasks_are_rebuilt_and_say_how_images_are_prepared(
    tmp_path: Path, cell: str, settings: dict[str, Any]
) -> None:
    size = {"channels": 2, "cells": 3, "epochs": 1, "batch_size": 2}
    config = merge({"run": {"root": str(tmp_path), "name": "run"}, "device": "cpu", "train": size}, settings)
    config.setdefault("data", {"name": "photos", "per_class": 10, "test_per_class": 4})
    trained = datanas.train(datanas.architecture(cell), config, quiet=True)
    folder = export(trained.path, tmp_path / "exported")
    _, task, _ = restore(trained.path)
    assert json.loads((folder / "config.json").read_text())["preprocessing"] == task.preprocessing() != {}
    x = torch.randn(2, *task.example_shape, generator=torch.Generator().manual_seed(0))
    outputs = [network(x) for network in (datanas.load_network(folder), trained.network)]
    found, expected = ([each] if isinstance(each, torch.Tensor) else [*each] for each in outputs)
    torch.testing.assert_close(found, expected)


def test_a_folder_in_use_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not empty; choose another folder"):
        export(run, tmp_path)
    with pytest.raises(ConfigError, match="exists and is not empty"):
        export(run, tmp_path / "mine.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_taken(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "model.safetensors", "README.md"}


def test_a_search_has_no_network_to_export(make_config: Make, tmp_path: Path) -> None:
    finished = datanas.search(make_config(tmp_path), quiet=True)
    with pytest.raises(CheckpointError, match=r"a search has no network to export; train its cell: datanas train "):
        export(finished.path, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("missing", ["evaluation.json", "network.safetensors"])
def test_an_unfinished_training_is_refused(run: Path, tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for file in run.iterdir():
        if file.is_file() and file.name != missing:
            (copy / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=rf"{missing} is missing.*train --resume"):
        export(copy, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_no_run_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no finished training in"):
        export(tmp_path / "none", tmp_path / "exported")


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Path:
    """A copy of an exported network, to be spoilt."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no exported network in .*config\.json: No such file"):
        datanas.load_network(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"datanas": 1}', '{"datanas": {"cells": 3}}'])
def test_a_spoilt_configuration_is_refused(damaged: Path, text: str) -> None:
    (damaged / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        datanas.load_network(damaged)


def test_spoilt_weights_are_refused(damaged: Path) -> None:
    (damaged / "model.safetensors").write_bytes(b"spoilt")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not this network"):
        datanas.load_network(damaged)


def test_weights_of_another_network_are_refused(damaged: Path) -> None:
    weights = load_file(damaged / "model.safetensors")
    weights.pop("head.classifier.bias")
    save_file(weights, damaged / "model.safetensors")
    with pytest.raises(CheckpointError, match="not this network"):
        datanas.load_network(damaged)


def test_an_unknown_task_is_refused(damaged: Path) -> None:
    raw = json.loads((damaged / "config.json").read_text())
    raw["datanas"]["task"]["name"] = "juggling"
    (damaged / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"config\.json: unknown task 'juggling'"):
        datanas.load_network(damaged)
