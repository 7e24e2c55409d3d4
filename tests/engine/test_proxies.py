"""Training-free scores: by hand on small networks, by their invariances, and against published scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import datanas
from datanas import build_network
from datanas.codes.accuracy_table import AccuracyTable
from datanas.codes.architecture import Architecture
from datanas.engine.proxies import naswot, rank_sums, synflow

TABLE = Path(datanas.__file__).resolve().parents[3] / "shared" / "data" / "nasbench201.npz"
X = torch.tensor([[1.0, -1.0], [2.0, 1.0], [-1.0, 1.0]])


def linear(*rows: tuple[float, ...]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows))
    return layer


def test_naswot_is_the_log_determinant_of_the_kernel_of_codes() -> None:
    # The codes of X are 10, 11 and 01: alike in 2, 1 and 0 of two bits.
    kernel = np.array([[2, 1, 0], [1, 2, 1], [0, 1, 2]])
    network = nn.Sequential(linear((1.0, 0.0), (0.0, 1.0)), nn.ReLU(), nn.Linear(2, 1))
    assert naswot(network, X) == pytest.approx(math.log(np.linalg.det(kernel)))


def test_naswot_counts_rectifiers_of_all_layers_and_functions() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -torch.relu(-x.relu())

    # The second rectifier is closed for all inputs: alike in all its bits.
    kernel = np.array([[2, 1, 0], [1, 2, 1], [0, 1, 2]]) + 2
    assert naswot(Twice(), X) == pytest.approx(math.log(np.linalg.det(kernel)))


def test_naswot_of_inputs_that_open_the_same_is_minus_infinity_and_of_no_rectifier_nan() -> None:
    assert naswot(nn.Sequential(nn.ReLU()), torch.tensor([[1.0, -1.0], [2.0, -3.0]])) == -math.inf
    assert math.isnan(naswot(nn.Linear(2, 2), X))


def test_synflow_is_the_number_of_layers_times_the_sum_over_paths() -> None:
    # R = sum over paths of products of absolute weights; each layer's theta dR/dtheta sums to R.
    network = nn.Sequential(linear((1.0, -2.0), (0.5, 0.0)), nn.ReLU(), linear((-3.0, 1.0)))
    paths = 3 * (1 + 2) + 1 * 0.5
    assert synflow(network, torch.zeros(1, 2)) == pytest.approx(math.log(2 * paths))


def test_synflow_leaves_out_batch_norm_and_signs() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 1, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1, bias=False)]
    bare = nn.Sequential(layers[0], layers[2], layers[3])
    x = torch.zeros(1, 2, 4, 4)
    found = synflow(nn.Sequential(*layers), x)
    assert found == pytest.approx(synflow(bare, x))
    with torch.no_grad():
        layers[0].get_parameter("weight").neg_()
    assert synflow(bare, x) == pytest.approx(found)


def test_scores_change_nothing_in_the_network() -> None:
    network = build_network("darts_v2", channels=4, cells=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    x = torch.randn(4, 3, 16, 16)
    expected = network(x)
    naswot(network, x)
    synflow(network, x[:1])
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(network(x), expected)


def test_a_network_without_a_path_flows_nothing() -> None:
    assert synflow(linear((0.0, 0.0)), torch.zeros(1, 2)) == -math.inf


def test_ranks_are_summed_and_what_is_not_known_ranks_lowest() -> None:
    assert rank_sums([[3.0, 1.0, 2.0], [math.nan, 5.0, 5.0]]) == [3 + 1, 1 + 2.5, 2 + 2.5]


@pytest.mark.skipif(not TABLE.is_file(), reason="needs the NAS-Bench-201 table")
def test_scores_agree_with_published_ones_and_with_accuracy() -> None:
    table = AccuracyTable.load(TABLE)
    rows = np.random.default_rng(0).choice(len(table.codes), 40, replace=False)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 3, 16, 16, generator=generator)
    found: dict[str, list[float]] = {"naswot": [], "synflow": []}
    for row in rows:
        torch.manual_seed(0)
        network = build_network(Architecture.from_genotype(table.string(int(row))), channels=8, cells=3)
        found["naswot"].append(naswot(network, x))
        found["synflow"].append(synflow(network, x[:1]))
    for name, column in (("naswot", "zc_naswot_c10"), ("synflow", "zc_logsynflow_c10")):
        known = np.isfinite(table.metrics[column][rows]) & np.isfinite(found[name])
        published = spearmanr(np.array(found[name])[known], table.metrics[column][rows][known]).statistic
        accuracy = spearmanr(np.array(found[name])[known], table.metrics[table.default_metric][rows][known]).statistic
        assert published > 0.7, name
        assert accuracy > 0.5, name
