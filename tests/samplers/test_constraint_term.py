"""The constraint over the sum of choices, and with a weight that grows with depth, against sums written out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.constraint import constraint
from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.samplers.constraint_term import depth_weights
from datanas.samplers.egs import EGS
from datanas.samplers.interface import Draw

OPS = ("none", "skip_connect", "sep_conv_3x3")
FIRST = ChoiceGroup("normal_0", ((0, 2), (1, 2), (0, 3)), OPS, outputs=(2, 3), inputs=2, depth=0.0)
GROUPS = {
    "normal_0": FIRST,
    "normal_1": replace(FIRST, name="normal_1", depth=0.5),
    "reduce_2": replace(FIRST, name="reduce_2", depth=1.0),
    "other": replace(FIRST, name="other", edges=((0, 2), (1, 2)), outputs=(2,), depth=0.25),
}
ALIKE = ("normal_0", "normal_1", "reduce_2")
KINDS = ["l1", "l2", "kl", "entropy", "power"]


def added(groups: dict[str, ChoiceGroup] = GROUPS, **settings: Any) -> tuple[EGS, Draw, Tensor]:
    """A sampler with random alphas, a draw, and what the loss adds to a task loss of nothing."""
    given = {"gamma": 1.0, **settings, **({"power": 1.5} if settings.get("kind") == "power" else {})}
    made = EGS(validate(EGS.Config, {"name": "egs", "constraint": given}), groups, "conv_stack")
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for alpha in made.alpha.values():
            alpha.add_(2 * torch.randn(alpha.shape, generator=noise))
    draw = made.draw(1.0, torch.Generator().manual_seed(1))
    return made, draw, made.loss(torch.zeros((), dtype=torch.double), draw, 1.0)


def by_hand(made: EGS, draw: Draw, parts: list[list[tuple[str, float]]]) -> float:
    """The sum over parts of W G(sum w P / W, sum w f / W), entry by entry in Python's numbers."""
    settings, total = made.config.constraint, 0.0
    for part in parts:
        whole = sum(weight for _, weight in part)
        shape, mask = made.vectors[part[0][0]].shape, made.vectors[part[0][0]].mask
        for row in range(shape[0]):
            for entry in range(shape[1]):
                if not mask[row, entry]:
                    continue
                p = f = 0.0
                for name, weight in part:
                    code = draw.codes[name].detach()
                    divisor = 1.0 if settings.target == "code" else float(code[row].sum())
                    p += weight * float(draw.probs[name][row, entry].detach()) / whole
                    f += weight * float(code[row, entry]) / divisor / whole
                one = constraint(torch.tensor([p]).double(), torch.tensor([f]).double(), settings.kind, settings.power)
                total += whole * float(one)
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", ["code", "normalised"])
def test_over_the_architecture_it_is_of_the_sums_of_groups_of_one_layout(kind: str, target: str) -> None:
    made, draw, loss = added(kind=kind, over="architecture", target=target)
    expected = by_hand(made, draw, [[(name, 1.0) for name in ALIKE], [("other", 1.0)]])
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(added(kind=kind, target=target)[2].detach()) != pytest.approx(expected, rel=1e-3)


def test_of_l1_it_is_the_distance_of_the_sums() -> None:
    _, draw, loss = added({name: GROUPS[name] for name in ALIKE}, kind="l1", over="architecture")
    probs, codes = (sum(table[name].detach() for name in ALIKE) for table in (draw.probs, draw.codes))
    assert float(loss.detach()) == pytest.approx(float((probs - codes).abs().sum()), rel=1e-5)


@pytest.mark.parametrize("over", ["vectors", "architecture"])
@pytest.mark.parametrize("power", [1.0, 2.5, -1.0])
def test_weights_grow_with_depth_to_a_mean_of_one(over: str, power: float) -> None:
    raw = {"normal_0": 1.0, "normal_1": 1.5**power, "reduce_2": 2.0**power, "other": 1.25**power}
    weights = {name: 4 * weight / sum(raw.values()) for name, weight in raw.items()}
    assert depth_weights(GROUPS, power, "conv_stack") == pytest.approx(weights)
    made, draw, loss = added(kind="l1", over=over, depth_power=power)
    alike = [(name, weights[name]) for name in ALIKE]
    parts = [[each] for each in alike] if over == "vectors" else [alike]
    assert float(loss.detach()) == pytest.approx(by_hand(made, draw, [*parts, [("other", weights["other"])]]), rel=1e-5)


def test_the_weight_reaches_the_gradient_of_each_group() -> None:
    gradients = []
    for power in (0.0, 1.0):
        made, _, loss = added(kind="entropy", depth_power=power)
        loss.backward()
        gradients.append({name: alpha.grad for name, alpha in made.alpha.items()})
    for name, weight in depth_weights(GROUPS, 1.0, "conv_stack").items():
        torch.testing.assert_close(gradients[1][name], weight * gradients[0][name])


def test_the_mean_over_entries_is_that_of_the_sums() -> None:
    made, draw, loss = added(kind="l1", over="architecture", reduction="mean")
    entries = {name: int(made.vectors[name].mask.sum()) for name in GROUPS}
    expected = by_hand(made, draw, [[(name, 1.0) for name in ALIKE]]) / entries["normal_0"]
    expected += by_hand(made, draw, [[("other", 1.0)]]) / entries["other"]
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_the_default_is_the_plain_sum_to_the_last_bit() -> None:
    made, draw, loss = added(kind="entropy")
    expected = torch.zeros((), dtype=torch.double)
    for name, layout in made.vectors.items():
        expected = expected + constraint(draw.probs[name], draw.codes[name], "entropy", mask=layout.mask)
    assert torch.equal(loss, torch.zeros((), dtype=torch.double) + 1.0 * expected)


def test_groups_that_stand_at_no_depth_cannot_be_weighed() -> None:
    shallow = {**GROUPS, "other": replace(GROUPS["other"], depth=None)}
    assert depth_weights(shallow, 0.0, "conv_cell") == {}
    with pytest.raises(ConfigError, match=r"sampler\.constraint\.depth_power: the choice groups of space conv_stack"):
        added(shallow, depth_power=1.0)
