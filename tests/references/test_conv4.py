"""The network of prototypical networks: its size, its embedding, and what it is not combined with."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import datanas
from datanas.core.errors import ConfigError
from datanas.engine.config import resolve
from datanas.kernels.hardware import count_parameters


def network(**options: Any) -> torch.nn.Module:
    return datanas.build_network(datanas.architecture("conv4"), **options)


@pytest.mark.parametrize(("side", "dimensions"), [(84, 1600), (28, 64), (3, 64)])
def test_it_embeds_as_published(side: int, dimensions: int) -> None:
    """84 / 2 / 2 / 2 / 2 leaves 5: 64 channels of 5x5."""
    assert network().eval()(torch.randn(2, 3, side, side)).shape == (2, dimensions)


def test_it_is_four_blocks_and_nothing_else() -> None:
    assert count_parameters(network()) == 3 * 9 * 64 + 3 * 64 * 9 * 64 + 4 * (64 + 2 * 64)
    reference = torch.nn.Sequential(
        *(
            torch.nn.Sequential(
                torch.nn.Conv2d(width, 5, 3, padding=1), torch.nn.BatchNorm2d(5), torch.nn.ReLU(), torch.nn.MaxPool2d(2)
            )
            for width in (3, 5, 5, 5)
        ),
        torch.nn.Flatten(),
    )
    made = network(channels=5)
    for own, other in zip(made.parameters(), reference.parameters(), strict=True):
        own.data.copy_(other.data)
    x = torch.randn(4, 3, 32, 48)
    torch.testing.assert_close(made(x), reference(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "cifar_half"}, r"task\.stem: conv4 reads the image itself; take task fewshot with --task\.stem none"),
        ({"task": "classification"}, r"task\.stem: conv4 reads the image itself"),
        ({"task": "language"}, r"task\.stem: conv4 reads the image itself"),
        ({"cells": 5}, r"^cells: no setting of conv4, .* leave it out or at 4, got 5$"),
        ({"auxiliary": True}, r"^auxiliary: no setting of conv4"),
    ],
)
def test_what_it_has_not_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network(**options)


def test_there_is_nothing_to_search() -> None:
    with pytest.raises(ConfigError, match=r"in conv4 there is nothing to choose; train it by `datanas train conv4`"):
        resolve({"space": {"name": "conv4"}})
