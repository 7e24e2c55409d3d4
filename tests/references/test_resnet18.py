"""ResNet-18 behind a task's stem: torchvision's blocks, cut to any width."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import resnet18

import datanas
from datanas.core.errors import ConfigError
from datanas.kernels.hardware import count_parameters


def network(**settings: object) -> torch.nn.Module:
    return datanas.build_network(datanas.architecture("resnet18"), **settings)  # type: ignore[arg-type]


def test_its_blocks_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    own = network(stem="plain").body.eval()
    theirs = resnet18().eval()
    stages = torch.nn.Sequential(theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)
    ours, state = own.state_dict(), [value for block in blocks(stages) for value in block]
    assert len(ours) == len(state)
    own.load_state_dict(dict(zip(ours, state, strict=True)))
    x = torch.randn(2, 64, 16, 16)
    torch.testing.assert_close(own((x, x))[0], stages(x))


def blocks(stages: torch.nn.Module) -> list[list[torch.Tensor]]:
    """The state of each block; in theirs the shortcut comes last too."""
    return [list(block.state_dict().values()) for stage in stages.children() for block in stage.children()]


@pytest.mark.parametrize(("stem", "size", "last"), [("plain", 32, 4), ("cifar_half", 32, 2), ("imagenet", 224, 7)])
def test_its_features_are_as_small_as_those_of_a_network_of_cells_or_half(stem: str, size: int, last: int) -> None:
    with torch.device("meta"):
        built: Any = network(stem=stem, channels=4)
        assert built.body(built.stem(torch.empty(1, 3, size, size)))[0].shape == (1, 32, last, last)


def test_its_width_is_that_of_the_first_stage() -> None:
    assert count_parameters(network(channels=8)) < count_parameters(network(channels=16)) / 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": 20}, "^cells: no setting of resnet18, which has channels; leave it out or at 8, got 20$"),
        (
            {"auxiliary": True},
            "^auxiliary: no setting of resnet18, which has channels; leave it out or at False, got True$",
        ),
    ],
)
def test_what_it_does_not_have_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network(**settings)
