"""The head of DeepLab v3 on the features of a body, and the network around it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from datanas import build_network
from datanas.core.errors import ConfigError
from datanas.kernels.norm import foreign_norms
from datanas.lookup import architecture
from datanas.tasks.deeplab import SegmentationHead, deeplab_head, fcn_head


@pytest.mark.parametrize("is_auxiliary", [False, True])
def test_it_is_torchvision_s_head(is_auxiliary: bool) -> None:
    theirs: nn.Module = FCNHead(8, 3) if is_auxiliary else DeepLabHead(8, 3, (2, 4))
    own = fcn_head(8, 3) if is_auxiliary else deeplab_head(8, 3, 256, (2, 4))
    own.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(own.eval()(x), theirs.eval()(x))


def test_its_batch_norms_can_be_shared_by_processes() -> None:
    assert not foreign_norms(SegmentationHead((8, 8), 3, 4, (2,)))


def test_logits_have_the_size_of_the_image_and_are_drawn_out_bilinearly() -> None:
    head = SegmentationHead((4,), 3, 8, (2,)).eval()
    features, image = torch.randn(2, 4, 5, 6), torch.zeros(2, 3, 33, 41)
    small = head.classifier(features.relu())
    expected = nn.Upsample((33, 41), mode="bilinear", align_corners=False)(small)
    torch.testing.assert_close(head((features,), image), expected)


def test_the_auxiliary_head_is_for_training_only() -> None:
    head = SegmentationHead((4, 8), 3, 8, (2,))
    features, image = (torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)), torch.zeros(2, 3, 16, 16)
    logits, auxiliary = head(features, image)
    assert logits.shape == auxiliary.shape == (2, 3, 16, 16)
    assert isinstance(head.eval()(features, image), torch.Tensor)


def features_of(**options: Any) -> torch.Size:
    network = build_network(architecture("gdas"), task="segmentation", channels=2, cells=3, head_channels=4, **options)
    with torch.no_grad():
        return network.eval().body(network.stem(torch.zeros(1, 3, 64, 96)))[-1].shape[2:]


@pytest.mark.parametrize(
    ("stem", "output_stride"),
    [("imagenet", 32), ("imagenet", 16), ("imagenet", 8), ("cifar_half", 8), ("plain_half", 2), ("cifar", 4)],
)
def test_features_have_the_output_stride_that_is_asked_for(stem: str, output_stride: int) -> None:
    assert features_of(stem=stem, output_stride=output_stride) == (64 // output_stride, 96 // output_stride)


def test_an_output_stride_that_a_stem_cannot_give_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"output_stride: stem cifar_half allows 8, 4, 2, got 16"):
        features_of(stem="cifar_half", output_stride=16)


@pytest.mark.parametrize("size", [(64, 64), (65, 33), (9, 50)])
def test_a_network_takes_images_of_any_size(size: tuple[int, int]) -> None:
    network = build_network(architecture("data_m7"), "segmentation", 5, 2, 3, head_channels=4, output_stride=4)
    with torch.no_grad():
        assert network.eval()(torch.randn(2, 3, *size)).shape == (2, 5, *size)


def test_a_backbone_has_the_weights_of_a_classifier() -> None:
    """Whether dense or not: what a classification learned fits stem and body."""
    options: dict[str, Any] = {"channels": 4, "cells": 5, "stem": "cifar_half"}
    trained = build_network(architecture("gdas"), task="classification", **options)
    network = build_network(architecture("gdas"), task="segmentation", output_stride=2, auxiliary=True, **options)
    shapes = [
        {name: value.shape for name, value in each.state_dict().items() if not name.startswith("head.")}
        for each in (trained, network)
    ]
    assert shapes[0] == shapes[1]
