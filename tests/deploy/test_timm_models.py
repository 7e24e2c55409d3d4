"""Networks of cells as models of timm: found by name, interchangeable with those of `build_network`."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import timm.optim
import torch
from timm.data import resolve_model_data_config
from timm.models import group_parameters
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


def test_a_cell_for_each_place_is_a_cell_too() -> None:
    cells = [datanas.architecture(name).cells for name in ("gdas", "darts_v2")]
    names = ("normal_0", "reduce_1", "normal_2", "reduce_3", "normal_4")
    chosen = {name: cells[place % 2][name.split("_")[0]] for place, name in enumerate(names)}
    stack = datanas.Architecture(chosen, space="conv_stack")
    settings: dict[str, Any] = {"num_classes": 7, "channels": 4, "cells": 8}
    model = create("datanas_cell", architecture=stack, **settings).eval()
    built = datanas.build_network(stack, stem="imagenet", **settings).eval()
    built.load_state_dict(model.state_dict())
    assert torch.equal(model(image()), built(image()))


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


@pytest.mark.parametrize("indices", [None, 2, [1, -1], (0,)], ids=str)
@pytest.mark.parametrize("stop_early", [False, True])
def test_intermediates_are_those_of_a_model_of_features(indices: Any, stop_early: bool) -> None:
    model, whole = create(num_classes=7).eval(), create(features_only=True).eval()
    whole.model.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("head.")})
    x = image()
    found = model.forward_intermediates(x, indices, stop_early=stop_early, intermediates_only=True)
    every = whole(x)
    wanted = range(4) if indices is None else range(4)[-indices:] if isinstance(indices, int) else indices
    assert len(found) == len(wanted)
    for own, place in zip(found, wanted, strict=True):
        assert torch.equal(own, every[place])


def test_what_lies_behind_the_last_intermediate_is_not_run() -> None:
    model, ran = create(num_classes=7).eval(), []
    for name, cell in model.body.cells.named_children():
        cell.register_forward_hook(lambda *_, name=name: ran.append(name))
    last, _ = model.forward_intermediates(image(), [1], stop_early=True)
    assert ran == ["0"]
    assert last.shape[1] == model.feature_info[1]["num_chs"]
    model.forward_intermediates(image(), [0], stop_early=True)
    assert ran == ["0"]


def test_features_do_not_hold_what_they_do_not_need() -> None:
    some, every = create(features_only=True, out_indices=(0, 2)), create(features_only=True)
    names = [name for name, _ in some.named_parameters()]
    assert not any(name.startswith(("model.head.", "model.body.cells.4.")) for name in names)
    assert set(names) < {name for name, _ in every.named_parameters()}
    stem_only = create(features_only=True, out_indices=(0,)).eval()
    assert all(name.startswith("model.stem.first.") for name, _ in stem_only.named_parameters())
    (found,) = stem_only(image())
    assert torch.equal(found, every.eval()(image())[0])


def test_a_pruned_model_ends_with_its_last_features() -> None:
    model = create(num_classes=7).eval()
    x = image()
    expected = model.forward_intermediates(x, [1], intermediates_only=True)[0]
    assert model.prune_intermediate_layers([-3]) == [1]
    assert torch.equal(model.forward_features(x), expected)
    assert torch.equal(model(x), expected)  # the head went too, pooling and all
    model.reset_classifier(5, "avg")
    assert model(x).shape == (2, 5)
    whole = create(num_classes=7)
    assert whole.prune_intermediate_layers(1, prune_head=False) == [3]
    assert whole(x).shape == (2, 7)


def test_without_pooling_the_maps_are_given() -> None:
    model = create(num_classes=0, global_pool="").eval()
    x = image()
    assert torch.equal(model(x), model.forward_features(x))
    assert torch.equal(model.forward_head(model.forward_features(x), pre_logits=True), model(x))
    model.reset_classifier(0, "avg")
    assert torch.equal(model(x), model.forward_features(x).mean((2, 3)))
    model.reset_classifier(0, "")
    with pytest.raises(ConfigError, match="classifier of 3 classes"):
        model.reset_classifier(3)


@pytest.mark.parametrize(("stride", "reductions"), [(32, [4, 8, 16, 32]), (16, [4, 8, 16, 16]), (8, [4, 8, 8, 8])])
def test_features_keep_the_resolution_that_is_asked_for(stride: int, reductions: list[int]) -> None:
    model = create(features_only=True, output_stride=stride).eval()
    found = model(image(64))
    assert model.feature_info.reduction() == reductions
    assert [64 // x.shape[2] for x in found] == reductions


@pytest.mark.parametrize("stride", [16, 8])
def test_denser_features_hold_the_others_with_the_same_weights(stride: int) -> None:
    plain, dense = create(num_classes=7).eval(), create(num_classes=7, output_stride=stride).eval()
    dense.load_state_dict(plain.state_dict())
    x = image(128)
    step = 32 // stride
    whole, found = plain.forward_features(x), dense.forward_features(x)[:, :, ::step, ::step]
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(dense.forward_intermediates(x)[1][-1], dense.forward_features(x))
    assert dense(x).shape == (2, 7)


def test_the_learning_rate_decays_from_the_head_to_the_stem() -> None:
    model = create(num_classes=7)
    groups = timm.optim.create_optimizer_v2(model, "sgd", lr=1.0, layer_decay=0.7).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales: dict[str, set[float]] = {}
    for group in groups:
        for parameter in group["params"]:
            part = names[id(parameter)].split(".")
            scales.setdefault(".".join(part[: 3 if part[0] == "body" else 1]), set()).add(group["lr_scale"])
    order = ["stem", *(f"body.cells.{place}" for place in range(5)), "head"]
    assert scales == {name: {0.7 ** (6 - place)} for place, name in enumerate(order)}


def test_coarse_groups_are_the_resolutions() -> None:
    model = create(num_classes=7, cells=6)
    groups = group_parameters(model, model.group_matcher(coarse=True))
    parts = [sorted({name.split(".")[2] for name in names if name.startswith("body.")}) for names in groups.values()]
    assert parts == [[], ["0", "1"], ["2", "3"], ["4", "5"], []]


def test_the_classifier_can_be_replaced() -> None:
    model = create(num_classes=7)
    before = model.get_classifier()
    assert model.get_submodule(model.get_classifier(name_only=True)) is before
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
        (lambda: create(global_pool="max"), "are pooled by 'avg', or by '' not at all, got 'max'"),
        (lambda: create(global_pool=""), "'' leaves nothing that a classifier of 1000 classes could read"),
        (lambda: create(output_stride=4), "behind the stem imagenet it can be 32, 16, 8, got 4"),
        (lambda: create(output_stride=8, stem="cifar"), "behind the stem cifar it can be 4, 2, 1, got 8"),
        (lambda: create().set_grad_checkpointing(), "leave it off"),
        (lambda: create().forward_intermediates(image(), output_fmt="NLC"), "these networks give 'NCHW'"),
    ],
)
def test_what_they_cannot_be_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
