"""Networks of cells as models of timm: found by name, interchangeable with those of `build_network`."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

import datanas
from datanas.core.errors import ConfigError
from datanas.deploy import timm_models
from datanas.kernels.mixed import MixedNode

SMALL: dict[str, Any] = {"channels": 4, "cells": 5}
CONVOLUTIONAL = [name for name in datanas.architectures() if datanas.architecture(name).space == "conv_cell"]


def create(name: str = "datanas_darts_v2", **settings: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **{**SMALL, **settings})


def image(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_every_published_convolutional_cell_is_registered() -> None:
    assert len(CONVOLUTIONAL) >= 8
    assert set(timm.list_models("datanas_*")) >= {f"datanas_{name}" for name in CONVOLUTIONAL}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_weights_and_outputs_are_those_of_a_built_network(name: str) -> None:
    model = create(f"datanas_{name}", num_classes=7).eval()
    built = datanas.build_network(datanas.architecture(name), num_classes=7, stem="imagenet", **SMALL).eval()
    built.load_state_dict(model.state_dict())
    x = image()
    assert torch.equal(model(x), built(x))
    model.load_state_dict(built.state_dict())


def test_any_cell_is_given_to_the_model_of_any_cell() -> None:
    built, named = create("datanas_cell", architecture=datanas.architecture("gdas")), create("datanas_gdas")
    assert built.state_dict().keys() == named.state_dict().keys()


def test_the_default_is_the_size_of_section_5_3() -> None:
    with torch.device("meta"):
        model = timm.create_model("datanas_darts_v2")
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_718_752


@pytest.mark.parametrize(("stem", "reductions"), [("imagenet", [4, 8, 16, 32]), ("cifar", [1, 1, 2, 4])])
@pytest.mark.parametrize("cells", [3, 5, 14])
def test_features_are_what_their_description_says(stem: str, reductions: list[int], cells: int) -> None:
    model = create(features_only=True, stem=stem, cells=cells).eval()
    found = model(image())
    assert model.feature_info.reduction() == reductions
    assert [x.shape[1] for x in found] == model.feature_info.channels()
    assert [64 // x.shape[2] for x in found] == reductions


def test_chosen_features_are_those_of_all() -> None:
    some, whole = create(features_only=True, out_indices=(1, 3)).eval(), create(features_only=True).eval()
    x = image()
    expected = whole(x)
    assert some.feature_info.reduction() == [8, 32]
    for own, other in zip(some(x), (expected[1], expected[3]), strict=True):
        assert torch.equal(own, other)


def test_the_last_features_are_those_that_are_classified() -> None:
    model = create(num_classes=7).eval()
    x = image()
    last, found = model.forward_intermediates(x)
    assert torch.equal(last, found[-1])
    assert torch.equal(last, model.forward_features(x))
    assert torch.equal(model.forward_head(last), model(x))
    assert model.forward_head(last, pre_logits=True).shape == (2, model.num_features)
    assert len(model.forward_intermediates(x, indices=[0], stop_early=True, intermediates_only=True)) == 1


def test_the_classifier_can_be_replaced() -> None:
    model = create(num_classes=7)
    before = model.get_classifier()
    model.reset_classifier(7)
    assert model.get_classifier() is before
    model.reset_classifier(3)
    assert model(image()).shape == (2, 3)
    model.reset_classifier(0)
    assert model(image()).shape == (2, model.num_features)
    assert create(num_classes=0)(image()).shape == (2, model.num_features)


def test_timm_finds_what_it_adapts() -> None:
    model = create()
    names = dict(model.named_modules())
    assert isinstance(names[model.pretrained_cfg["classifier"]], nn.Linear)
    assert isinstance(names[model.pretrained_cfg["first_conv"]], nn.Conv2d)
    found = resolve_model_data_config(model)
    assert (found["input_size"], found["crop_pct"]) == ((3, 224, 224), 0.875)
    assert found["mean"] == pytest.approx((0.485, 0.456, 0.406))


def test_other_channels_of_the_image() -> None:
    assert create(num_classes=7, in_chans=1)(image()[:, :1]).shape == (2, 7)


def test_dropped_paths_and_features_are_for_training_only() -> None:
    model = create(num_classes=7, drop_path_rate=0.5, drop_rate=0.5)
    assert all(node.drops for node in model.modules() if isinstance(node, MixedNode))
    x = image()
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_a_found_cell_is_registered_with_settings_of_its_own() -> None:
    timm_models.register(datanas.architecture("gdas"), "found_cell", **SMALL, stem="cifar", mean=(0.5, 0.5, 0.5))
    model = timm.create_model("found_cell", num_classes=7)
    assert model(image(16)).shape == (2, 7)
    assert model.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert model.pretrained_cfg["first_conv"] == "stem.conv"
    with pytest.raises(ConfigError, match="timm has a model 'found_cell' already"):
        timm_models.register(datanas.architecture("gdas"), "found_cell")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: timm_models.register(datanas.architecture("darts_v2_rnn"), "words"), "not of space recurrent_cell"),
        (lambda: timm_models.register(datanas.architecture("gdas"), "a-b"), "letters, digits and underscores"),
        (
            lambda: create("datanas_cell"),
            r"^architecture: datanas_cell is the model of any cell .* architecture=datanas",
        ),
        (lambda: create(global_pool="max"), "these networks are pooled by 'avg', got 'max'"),
        (lambda: create().set_grad_checkpointing(), "leave it off"),
        (lambda: create().forward_intermediates(image(), output_fmt="NLC"), "these networks give 'NCHW'"),
    ],
)
def test_what_they_cannot_be_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
