"""DSO-NAS: its factors follow the accelerated proximal gradient, and what reaches 0 stays there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import validate
from datanas.samplers.base import Draw, Update
from datanas.samplers.dso_nas import DSONAS

EDGES = ((0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 4))
NORMAL = ChoiceGroup("normal", EDGES, ("skip_connect", "none", "sep_conv_3x3"), outputs=(2, 3, 4), inputs=2)
REDUCE = ChoiceGroup("reduce", ((0, 2), (1, 2)), ("skip_connect", "max_pool_3x3"), outputs=(2,), inputs=2)
GROUPS = {"normal": NORMAL, "reduce": REDUCE}


def make(**options: Any) -> DSONAS:
    """In double precision, with random factors of both signs."""
    made = DSONAS(validate(DSONAS.Config, {"name": "dso_nas", **options}, "sampler"), GROUPS, "conv_cell").double()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for alpha in made.alpha.values():
            alpha.copy_(torch.randn(alpha.shape, generator=noise))
    return made


def draw(made: DSONAS) -> Draw:
    return made.draw(0.5, torch.Generator().manual_seed(0))


def after_alpha_step(made: DSONAS, slopes: Mapping[str, Tensor]) -> None:
    """A step after which the engine has left these gradients, and moved the factors by an optimiser of its own."""
    before = {name: value.detach().clone() for name, value in made.named_parameters()}
    proposed = made.draw_for_alpha(0.5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for name, alpha in made.alpha.items():
            alpha.grad = slopes[name].clone()
            alpha.sub_(0.3 * slopes[name].sign())
    made.after_alpha_step(Update(proposed, 1.0, before, lr=0.3))


def slopes_of(step: int) -> dict[str, Tensor]:
    noise = torch.Generator().manual_seed(100 + step)
    return {name: torch.randn(group.shape, generator=noise, dtype=torch.double) for name, group in GROUPS.items()}


def test_a_step_of_dso_nas_is_the_proximal_step_of_the_l1_norm() -> None:
    """Without momentum: the minimum of (x - factor + lr slope)^2 / 2 + lr gamma |x|, found on a grid."""
    made, slopes = make(sparsity=2.0, lr=0.2, momentum=0.0), slopes_of(0)
    before = made.alpha["normal"].detach().clone()
    after_alpha_step(made, slopes)
    moved = before - 0.2 * slopes["normal"]
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.double)
    values = (grid - moved.unsqueeze(2)) ** 2 / 2 + 0.4 * grid.abs()
    torch.testing.assert_close(made.alpha["normal"].detach(), grid[values.argmin(dim=2)], rtol=0, atol=1e-4)
    assert torch.equal(made.alpha["normal"] == 0, moved.abs() <= 0.4)
    assert 0 < (made.alpha["normal"] == 0).sum() < before.numel()


def test_dso_nas_follows_the_accelerated_proximal_gradient() -> None:
    """v = S(x - lr g) - x + mu v and x = S(x - lr g) + mu v (Eq. 8 to 10 there), one factor at a time."""
    made = make(sparsity=0.5, lr=0.2, momentum=0.6)
    size = NORMAL.shape[0] * NORMAL.shape[1]
    factors, velocity = made.alpha["normal"].detach().flatten().tolist(), [0.0] * size
    for step in range(6):
        slopes = slopes_of(step)
        after_alpha_step(made, slopes)
        for i, slope in enumerate(slopes["normal"].flatten().tolist()):
            moved = factors[i] - 0.2 * slope
            shrunk = math.copysign(max(abs(moved) - 0.1, 0.0), moved)
            velocity[i] = shrunk - factors[i] + 0.6 * velocity[i]
            stays = shrunk == 0 or factors[i] == 0
            velocity[i], factors[i] = (0.0, 0.0) if stays else (velocity[i], shrunk + 0.6 * velocity[i])
        assert made.alpha["normal"].detach().flatten().tolist() == pytest.approx(factors, abs=1e-12)
    assert 0 < factors.count(0.0) < size / 2


def test_dso_nas_keeps_what_is_not_zero_and_zero_stays() -> None:
    made = make(sparsity=2.0, lr=0.2)
    after_alpha_step(made, slopes_of(0))
    closed = {name: alpha.detach() == 0 for name, alpha in made.alpha.items()}
    assert closed["normal"].any()
    for step in range(3):
        found = draw(made)
        for name, group in GROUPS.items():
            closed[name] |= made.alpha[name].detach() == 0
            assert torch.equal(found.gates[name] == 0, closed[name])
            assert found.grad_mask is not None
            assert torch.equal(~found.grad_mask[name], closed[name])
            (gradient,) = torch.autograd.grad(found.gates[name].sum(), made.alpha[name])
            assert torch.equal(gradient == 0, closed[name])
            expected = ~closed[name]
            if group.null is not None:
                expected[:, group.null] = False
            assert np.array_equal(made.derive().architecture.code[name] > 0, expected.numpy())
            assert torch.equal(made.inclusion()[name] == 0, closed[name])
        after_alpha_step(made, {name: 5 * slope for name, slope in slopes_of(step + 1).items()})
        assert all((made.alpha[name][closed[name]] == 0).all() for name in GROUPS)


def test_a_state_of_dso_nas_holds_its_momentum() -> None:
    made, other = make(sparsity=0.5, lr=0.2), make(sparsity=0.5, lr=0.2)
    after_alpha_step(made, slopes_of(0))
    other.load_state_dict(made.state_dict())
    for sampler in (made, other):
        after_alpha_step(sampler, slopes_of(1))
    assert all(torch.equal(made.alpha[name], other.alpha[name]) for name in GROUPS)


def test_shares_of_dso_nas_are_those_of_the_absolute_factors() -> None:
    made = make()
    with torch.no_grad():
        made.alpha["reduce"].copy_(torch.tensor([[1.0, -3.0], [0.0, 0.0]]))
        made.alpha["normal"].zero_()
    probabilities = made.probabilities()
    assert probabilities["reduce"].tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert probabilities["normal"].tolist() == [[0, 1, 0]] * 7


def test_without_a_sign_factors_follow_the_authors_program_until_they_reach_zero() -> None:
    """z = w - lr g; v = soft(z) - w + mu v; w = max(0, soft(z) + mu v). In ours alone a 0 stays one."""
    made = make(signed=False, sparsity=0.3, lr=0.1, momentum=0.9)
    with torch.no_grad():
        made.alpha["normal"].abs_()
    factors = made.alpha["normal"].detach().clone()
    velocity, lives = torch.zeros_like(factors), torch.ones_like(factors, dtype=torch.bool)
    for step in range(6):
        after_alpha_step(made, slopes_of(step))
        z = factors - 0.1 * slopes_of(step)["normal"]
        z = z.sign() * (z.abs() - 0.1 * 0.3).clamp_min(0)
        velocity = z - factors + 0.9 * velocity
        factors = (z + 0.9 * velocity).clamp_min(0)
        lives &= factors > 0
    torch.testing.assert_close(made.alpha["normal"].detach(), factors * lives)
    assert 0 < int(lives.sum()) < lives.numel()
