"""A network of timm's as a reference: its numbers are timm's, its weights those of a file, its size its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

import datanas
from datanas.core.errors import CheckpointError, ConfigError
from datanas.deploy.export import export
from datanas.engine.config import resolve
from datanas.engine.profile import profile
from datanas.engine.rebuild import with_network_of
from datanas.engine.starting import starting_weights
from datanas.lookup import find_architecture, variant_name
from datanas.references import timm_model

MODEL = "test_resnet"  # of timm's own tests: 0.5 M parameters


def network(name: str = f"timm:{MODEL}", **settings: Any) -> torch.nn.Module:
    return datanas.build_network(name, stem="none", **settings)


def filled(file: Path, **settings: Any) -> torch.nn.Module:
    found = find_architecture(f"timm:{MODEL}@{file}")
    built = datanas.build_network(found, stem="none", **settings)
    fill = starting_weights(resolve({"data": "photos"}), found)
    assert fill is not None
    fill(built)
    return built.eval()


@pytest.fixture
def theirs() -> torch.nn.Module:
    torch.manual_seed(1)
    return timm.create_model(MODEL, num_classes=7).eval()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_features_are_those_of_timm_with_the_weights_of_a_file(
    theirs: torch.nn.Module, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    save_file(theirs.state_dict(), file) if file.suffix == ".safetensors" else torch.save(theirs.state_dict(), file)
    own: Any = filled(file, num_classes=4)
    x = torch.randn(2, 3, 32, 32)
    (features,) = own.body(own.stem(x))
    expected = theirs.forward_head(theirs.forward_features(x), pre_logits=True)  # type: ignore[operator]
    torch.testing.assert_close(features[:, :, 0, 0], expected)
    assert own(x).shape == (2, 4)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "efficientnet_b0", "convnext_atto", "test_vit"])
def test_models_of_every_kind_follow_their_own_pooling(name: str) -> None:
    with torch.device("meta"):
        own: Any = network(f"timm:{name}", num_classes=4).eval()
        side = own.body.model.default_cfg["input_size"][-1]
        assert own(torch.zeros(2, 3, side, side)).shape == (2, 4)


def test_a_model_for_images_of_one_size_says_so() -> None:
    own: Any = network("timm:test_vit", num_classes=4).eval()
    with pytest.raises(ConfigError, match=r"timm: .*size.*--data\.resize"):
        own(torch.zeros(1, 3, 8, 8))


def test_a_bound_on_what_has_no_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="--max-macs: this network has a size of its own"):
        profile(find_architecture(f"timm:{MODEL}"), max_macs=10**9)


def test_grey_images_take_the_sum_over_colours(theirs: torch.nn.Module, tmp_path: Path) -> None:
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    own: Any = filled(tmp_path / "w.safetensors", in_channels=1)
    x = torch.randn(2, 1, 32, 32)
    expected = theirs.forward_head(theirs.forward_features(x.expand(-1, 3, -1, -1)), pre_logits=True)  # type: ignore[operator]
    torch.testing.assert_close(own.body(own.stem(x))[0][:, :, 0, 0], expected)


def test_a_file_of_another_model_is_named(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), file)
    with pytest.raises(CheckpointError, match=r"other\.safetensors.*: holds no .*, so it is of another model"):
        filled(file)
    file.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a file of weights"):
        filled(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet_18", "no model .resnet_18. is known; did you mean .*resnet18"),
        (f"timm:{MODEL}@nowhere.safetensors", "no such file of weights: nowhere.safetensors"),
        ("resnet18:wide", "resnet18 is one network; leave out 'wide'"),
    ],
)
def test_what_there_is_not_is_said(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_architecture(name)


def test_the_path_of_weights_is_kept_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert variant_name(f"timm:{MODEL}@w.safetensors") == f"timm:{MODEL}@{tmp_path / 'w.safetensors'}"
    assert variant_name("resnet18") == "resnet18"


def test_a_published_name_imports_no_torch() -> None:
    code = "import sys, datanas.lookup; datanas.lookup.find_architecture('gdas'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_models_are_two_architectures_and_survive_their_file() -> None:
    first, second = (find_architecture(f"timm:{name}") for name in (MODEL, "test_vit"))
    assert first.digest != second.digest
    again = datanas.Architecture.from_json(first.to_json())
    assert again == first
    assert network_name(again) == MODEL


def network_name(architecture: datanas.Architecture) -> str:
    (name,) = architecture.cells["timm"].primitives
    return name


def test_no_bound_changes_its_size_and_weights_at_hand_are_trained_gently(tmp_path: Path) -> None:
    config = resolve({"data": "photos", "train": {"max_macs": "1k", "weights": {"lr": 0.1}}})
    found = find_architecture(f"timm:{MODEL}")
    own = with_network_of(config, found)
    assert own.train.max_macs is None
    assert own.train.weights.lr == 0.1
    assert own.task.stem == "none"  # type: ignore[attr-defined]
    file = tmp_path / "w.safetensors"
    save_file(timm.create_model(MODEL).state_dict(), file)
    assert with_network_of(config, find_architecture(f"timm:{MODEL}@{file}")).train.weights.lr == 0.02


def test_it_is_trained_exported_and_asked_like_any_other(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    theirs = timm.create_model(MODEL).state_dict()
    save_file(theirs, file)
    still = {"epochs": 1, "batch_size": 16, "weights": {"lr": 1e-12, "weight_decay": 0.0}}
    for name, begins_there in ((f"timm:{MODEL}", False), (f"timm:{MODEL}@{file}", True)):
        config = {**tiny_config, "train": still, "run": {**tiny_config["run"], "name": f"from-file-{begins_there}"}}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timm_model, "_RATE", 1e-12)  # so that a training leaves what it starts with
            trained = datanas.train(name, config, quiet=True)
        own = trained.network.state_dict()["body.model.conv1.0.weight"]
        assert torch.allclose(own, theirs["conv1.0.weight"], atol=1e-6) == begins_there
    export(trained.path, tmp_path / "out")
    x = torch.zeros(1, 8, 8, 3, dtype=torch.uint8).numpy()
    assert len(datanas.load(tmp_path / "out").predict(x)) == 1
