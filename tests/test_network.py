from __future__ import annotations

import numpy as np
import pytest
import torch

import datanas
from datanas.architecture import Architecture, Cell
from datanas.errors import ArchitectureError, ConfigError
from datanas.hardware import count_macs, count_parameters


@pytest.mark.parametrize(
    ("name", "options", "size", "parameters", "macs"),
    [
        ("darts_v2", {}, 32, 3_349_342, 528.4),
        ("darts_v2", {"channels": 48, "cells": 14, "num_classes": 1000, "stem": "imagenet"}, 224, 4_718_752, 529.9),
        ("data_m4", {}, 32, 3_894_094, 608.3),
        ("data_m7", {}, 32, 3_410_038, 516.7),
    ],
)
def test_published_cells_have_their_published_costs(
    name: str, options: dict[str, object], size: int, parameters: int, macs: float
) -> None:
    with torch.device("meta"):
        network = datanas.build_network(datanas.architecture(name), **options)
        assert count_parameters(network) == parameters
        assert count_macs(network, torch.empty(1, 3, size, size)) / 1e6 == pytest.approx(macs, abs=0.05)


@pytest.mark.parametrize("name", datanas.architectures())
def test_every_published_conv_cell_rebuilds_and_runs(name: str) -> None:
    architecture = datanas.architecture(name)
    if architecture.space != "conv_cell":
        pytest.skip("recurrent cells have no network yet")
    network = datanas.build_network(architecture, channels=4, cells=3, auxiliary=True)
    logits, auxiliary = network(torch.randn(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_an_empty_cell_still_is_a_network() -> None:
    template = datanas.architecture("darts_v2").cells["normal"]
    empty = Cell(template.primitives, template.edges, template.outputs, np.zeros_like(template.code), inputs=2)
    network = datanas.build_network(Architecture({"normal": empty, "reduce": empty}), channels=4, cells=3)
    loss = network(torch.randn(4, 3, 8, 8)).square().sum()
    loss.backward()
    assert loss.isfinite()


def test_same_seed_same_weights() -> None:
    def weights() -> torch.Tensor:
        torch.manual_seed(0)
        network = datanas.build_network(datanas.architecture("gdas"), channels=4, cells=3)
        return torch.cat([p.flatten() for p in network.parameters()])

    assert torch.equal(weights(), weights())


def test_unknown_task_space_and_option_are_named() -> None:
    cell = datanas.architecture("darts_v2")
    with pytest.raises(ConfigError, match="unknown task 'clasification'; did you mean 'classification'"):
        datanas.build_network(cell, task="clasification")
    with pytest.raises(ConfigError, match=r"task\.stems: unknown key; did you mean 'stem'"):
        datanas.build_network(cell, stems="cifar")
    with pytest.raises(ArchitectureError, match="space"):
        datanas.build_network(Architecture(cell.cells, space="unheard_of"))
    with pytest.raises(ConfigError, match="channels must be at least 1, got 0"):
        datanas.build_network(cell, channels=0)
