"""What has collapsed is passed over for the next likeliest, and told."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from datanas.core.settings import validate
from datanas.engine.collapse import is_collapsed
from datanas.engine.uncollapsed import LOOKED_AT, derive_uncollapsed
from datanas.samplers.egs import EGS
from datanas.spaces.nasbench201 import NASBench201Space

SPACE = NASBench201Space(NASBench201Space.Config())
SKIP, CONV = 1, 3


def sampler(shares: list[list[float]], **derivation: Any) -> EGS:
    """With these shares (edges, ops) of P."""
    config = validate(EGS.Config, {"name": "egs", "derivation": derivation}, "sampler")
    found = EGS(config, SPACE.groups(), "nasbench201")
    with torch.no_grad():
        found.alpha["cell"].copy_(torch.tensor(shares).log())
    return found


def leaning(edge: int, share: float) -> list[list[float]]:
    """Skips and pooling, with a convolution nearly as likely on one edge."""
    rows = [[0.02, 0.9, 0.02, 0.04, 0.02] if row % 2 else [0.02, 0.02, 0.02, 0.04, 0.9] for row in range(6)]
    rows[edge] = [0.02, 0.94 - share, 0.01, share, 0.03]
    return rows


@pytest.mark.parametrize("edge", range(6))
def test_the_first_of_the_ranking_that_has_not_collapsed_is_kept(edge: int) -> None:
    made = sampler(leaning(edge, 0.4))
    plain, found = made.derive(LOOKED_AT), derive_uncollapsed(made, SPACE, 3)
    assert is_collapsed(plain.architecture, SPACE)
    sound = [pair for pair in plain.ranking if not is_collapsed(pair[0], SPACE)]
    assert found.ranking == tuple(sound[:3])
    assert found.architecture == sound[0][0]
    noted = found.architecture.posterior or {}
    assert noted["passed_over"] == plain.ranking.index(sound[0]) > 0
    assert noted["log_prob"] == sound[0][1]
    assert "margin" not in noted


def test_what_has_not_collapsed_is_kept_as_it_was_derived() -> None:
    rows = [[0.02, 0.1, 0.02, 0.84, 0.02] for _ in range(6)]
    made = sampler(rows)
    assert derive_uncollapsed(made, SPACE) == made.derive()
    assert derive_uncollapsed(made, SPACE).architecture.posterior == made.derive().architecture.posterior


def test_the_unconditional_mode_is_not_touched() -> None:
    made = sampler(leaning(0, 0.4), raw=True)
    assert derive_uncollapsed(made, SPACE) == made.derive()
    assert is_collapsed(derive_uncollapsed(made, SPACE).architecture, SPACE)


def test_a_posterior_that_knows_nothing_else_keeps_its_mode() -> None:
    certain = [[1e-30, 1.0, 1e-30, 1e-30, 1e-30] for _ in range(6)]
    for row in certain[3:]:
        row[:] = [0.0, 1.0, 0.0, 0.0, 0.0]
    assert is_collapsed(derive_uncollapsed(sampler(certain), SPACE).architecture, SPACE)


def test_a_rule_that_ranks_nothing_by_probability_is_left_alone() -> None:
    made = sampler(leaning(0, 0.4), rule="top_operations")
    assert derive_uncollapsed(made, SPACE) == made.derive()
