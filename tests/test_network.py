from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import datanas
from datanas.codes.architecture import Architecture, Cell
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.kernels.hardware import count_macs, count_parameters
from datanas.tasks.classification import Classification


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
    name: str, options: dict[str, Any], size: int, parameters: int, macs: float
) -> None:
    with torch.device("meta"):
        network = datanas.build_network(datanas.architecture(name), **options)
        assert count_parameters(network) == parameters
        assert count_macs(network, torch.empty(1, 3, size, size)) / 1e6 == pytest.approx(macs, abs=0.05)


@pytest.mark.parametrize("name", datanas.architectures())
def test_every_published_conv_cell_rebuilds_and_runs(name: str) -> None:
    architecture = datanas.architecture(name)
    if architecture.space != "conv_cell":
        pytest.skip("not a cell of convolutions")
    network = datanas.build_network(architecture, channels=4, cells=3, auxiliary=True)
    logits, auxiliary = network(torch.randn(2, 3, 32, 32))
    assert logits.shape == auxiliary.shape == (2, 10)
    assert network.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("name", ["darts_v1_rnn", "darts_v2_rnn", "enas_rnn", "lstm"])
def test_every_published_recurrent_cell_rebuilds_and_runs(name: str) -> None:
    network = datanas.build_network(datanas.architecture(name), num_classes=11, channels=4)
    found = network(torch.randint(11, (5, 3)))
    assert found.logits.shape == (5, 3, 11)
    again = network((torch.randint(11, (2, 3)), found.state))
    assert again.outputs.shape == (2, 3, 4)


def test_the_second_order_cell_of_darts_has_its_parameters_on_penn_treebank() -> None:
    words, units, nodes = 10_000, 850, 8
    first = (units + units) * 2 * units  # input and hidden state, into gate and candidate
    decoder = words  # its bias; its weights are the embedding's
    with torch.device("meta"):
        network = datanas.build_network(datanas.architecture("darts_v2_rnn"), task="language", num_classes=words)
    assert count_parameters(network) == words * units + decoder + first + nodes * units * 2 * units == 22_960_000


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


def test_what_is_not_said_is_what_suits_the_space_and_its_task() -> None:
    with torch.device("meta"):
        network = datanas.build_network(datanas.architecture("darts_v2"))
        same = datanas.build_network(datanas.architecture("darts_v2"), "classification", 10, 36, 20, in_channels=3)
        cell = Architecture.from_genotype("|skip_connect~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|")
        benchmark = datanas.build_network(cell)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert {name: value.shape for name, value in same.state_dict().items()} == shapes
    assert benchmark.head.classifier.weight.shape == (10, 4 * 16)
    stages = benchmark.body.get_submodule("stages").children()
    assert sum(len(list(stage.children())) for stage in stages) == 15


def test_a_task_makes_the_head_for_the_stem(monkeypatch: pytest.MonkeyPatch) -> None:
    stems: list[torch.nn.Module] = []
    original = Classification.head
    monkeypatch.setattr(
        Classification, "tied_head", classmethod(lambda cls, *given: stems.append(given[-1]) or original(*given[:-1]))
    )
    network = datanas.build_network(datanas.architecture("darts_v2"), channels=4, cells=3)
    assert stems == [network.stem]
