"""Where alpha starts: the regression of scores on codes, and what a sampler makes of it."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import validate
from datanas.samplers.darts import DARTS
from datanas.samplers.egs import EGS
from datanas.samplers.prior import prior_logits
from datanas.samplers.uniform import random_codes
from datanas.samplers.vectors import Vectors

OPS = ("none", "skip_connect", "sep_conv_3x3")
CELL = ChoiceGroup("normal", ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), OPS, outputs=(2, 3), inputs=2)
SINGLE = ChoiceGroup("cell", ((0, 1), (0, 2), (1, 2)), OPS, outputs=(2,), inputs=1, single=True)


def random(group: ChoiceGroup, n: int = 40) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [random_codes({group.name: group}, generator) for _ in range(n)]


def effects(group: ChoiceGroup, scores: list[float], codes: list[dict[str, Tensor]], scope: str = "edge") -> Tensor:
    vectors = {group.name: Vectors(group, "node" if scope == "node" else "edge")}
    return prior_logits(codes, scores, vectors)[group.name].double()


def test_it_is_a_ridge_regression_on_operations_and_on_operations_by_edge() -> None:
    codes = random(SINGLE)
    scores = torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    own = torch.stack([each["cell"].double().flatten() for each in codes])
    features = torch.cat([own, own.unflatten(1, SINGLE.shape).sum(dim=1)], dim=1)
    # The model has no free constant: what is explained is the score less its mean.
    explained = (scores - scores.mean()) / scores.std(correction=0)
    model = Ridge(alpha=1.0, fit_intercept=False).fit(features.numpy(), explained.numpy())
    found = torch.from_numpy(model.coef_)
    expected = found[:9].reshape(3, 3) + found[9:]
    expected = expected - expected.mean(dim=1, keepdim=True)
    assert torch.allclose(effects(SINGLE, scores.tolist(), codes), expected, atol=1e-6)


def test_what_makes_cells_score_high_is_preferred_on_each_edge() -> None:
    codes = random(CELL)
    scores = [float(each["normal"][:, 2].sum()) for each in codes]
    found = effects(CELL, scores, codes)
    assert bool((found[:, 2] > found[:, 1]).all())
    turned = effects(CELL, [-score for score in scores], codes)
    assert torch.allclose(turned, -found, atol=1e-6)


@pytest.mark.parametrize("scope", ["edge", "node"])
def test_of_each_vector_the_operations_have_mean_0_and_none_stays_at_0(scope: str) -> None:
    codes = random(CELL)
    found = effects(CELL, torch.arange(40.0).tolist(), codes, scope)
    assert bool((found[:, 0] == 0).all())
    parts = CELL.partition if scope == "node" else [[edge] for edge in range(5)]
    for part in parts:
        assert float(found[list(part), 1:].mean()) == pytest.approx(0.0, abs=1e-6)


def test_where_an_edge_holds_one_operation_none_is_judged_like_any_other() -> None:
    codes = random(SINGLE)
    scores = [-float(each["cell"][:, 0].sum()) for each in codes]
    found = effects(SINGLE, scores, codes)
    assert bool((found[:, 0] < found[:, 1:].min(dim=1).values).all())


def test_equal_scores_prefer_nothing() -> None:
    assert bool((effects(CELL, [3.0] * 40, random(CELL)) == 0).all())


@pytest.mark.parametrize("probs", ["softmax", "relu"])
def test_alpha_starts_where_it_is_told_whatever_p_is_made_of(probs: str) -> None:
    made = EGS(validate(EGS.Config, {"name": "egs", "scope": "edge", "probs": probs}), {"normal": CELL}, "conv_cell")
    logits = torch.randn(CELL.shape, generator=torch.Generator().manual_seed(2))
    made.start_from({"normal": logits})
    assert torch.allclose(made.vector_probs("normal"), logits.double().softmax(dim=1), atol=1e-6)


def test_other_methods_start_in_their_own_way() -> None:
    made = DARTS(validate(DARTS.Config, {"name": "darts"}), {"normal": CELL}, "conv_cell")
    with pytest.raises(NotImplementedError, match="DARTS starts in its own way"):
        made.start_from({"normal": torch.zeros(CELL.shape)})
