"""ENAS: its controller against a plain walk through the LSTM, and REINFORCE against the exact gradient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import validate
from datanas.samplers.base import Update
from datanas.samplers.enas import ENAS, Walk

Ops = tuple[int, ...]
TINY = {
    "normal": ChoiceGroup("normal", ((0, 2), (1, 2)), ("skip_connect", "sep_conv_3x3"), outputs=(2,), inputs=2),
}
MIXED = {
    "normal": ChoiceGroup("normal", ((0, 2), (1, 2)), ("none", "skip_connect"), outputs=(2,), inputs=2),
    "reduce": ChoiceGroup(
        "reduce", ((0, 2),), ("skip_connect", "max_pool_3x3", "sep_conv_3x3"), outputs=(2,), inputs=2
    ),
}


def make(groups: Mapping[str, ChoiceGroup] = TINY, seed: int = 0, **options: Any) -> ENAS:
    """A controller that prefers something, and other things after other decisions."""
    options = {"hidden": 6, "entropy_weight": 0.0, "temperature": 1.0} | options
    made = ENAS(validate(ENAS.Config, {"name": "enas", **options}, "sampler"), groups, "conv_cell")
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(1.5 * torch.randn(parameter.shape, generator=noise))
    return made


def conditionals(made: ENAS, ops: Ops) -> list[Tensor]:
    """Log-probabilities of each decision after those before it, from the controller's parts alone."""
    rows, token, settings = [], 0, made.config
    hidden = cell = torch.zeros(1, settings.hidden)
    names = [(name, len(group.primitives)) for name, group in made.groups.items() for _ in group.edges]
    offsets: dict[str, int] = {}
    for name, group in made.groups.items():
        offsets[name] = 1 + sum(len(made.groups[other].primitives) for other in offsets)
        assert len(group.primitives) == dict(names)[name]
    for (name, _), op in zip(names, ops, strict=True):
        hidden, cell = made.lstm(made.embedding.weight[token : token + 1], (hidden, cell))
        logits = (made.decoders[name].weight @ hidden[0]) / settings.temperature
        rows.append((settings.tanh_constant * logits.tanh()).log_softmax(dim=0))
        token = offsets[name] + op
    return rows


def log_prob(made: ENAS, ops: Ops) -> Tensor:
    return torch.stack([row[op] for row, op in zip(conditionals(made, ops), ops, strict=True)]).sum()


def everything(made: ENAS) -> list[Ops]:
    sizes = [len(group.primitives) for group in made.groups.values() for _ in group.edges]
    return list(product(*map(range, sizes)))


def ops_of(codes: Mapping[str, Any]) -> Ops:
    return tuple(int(row.argmax()) for code in codes.values() for row in code)


def walks(made: ENAS) -> dict[Ops, Walk]:
    """A draw of every sequence of decisions."""
    generator, found = torch.Generator().manual_seed(0), {}
    for _ in range(2000):
        walk = made.draw(0.5, generator, uniform=True)
        found[ops_of(walk.codes)] = walk
        if len(found) == len(everything(made)):
            return found
    raise AssertionError("not every walk was drawn")


@pytest.mark.parametrize("options", [{}, {"temperature": 3.0, "tanh_constant": 1.1}])
@pytest.mark.parametrize("groups", [TINY, MIXED])
def test_the_log_probability_is_the_sum_of_the_conditional_ones(groups: Any, options: dict[str, Any]) -> None:
    made = make(groups, **options)
    found = walks(made)
    for ops, walk in found.items():
        rows = conditionals(made, ops)
        torch.testing.assert_close(walk.log_prob, log_prob(made, ops))
        tables = [row for name in groups for row in walk.probs[name]]
        for row, table in zip(rows, tables, strict=True):
            torch.testing.assert_close(table, row.exp())
        torch.testing.assert_close(walk.entropy, -torch.stack([(row.exp() * row).sum() for row in rows]).sum())
    assert sum(walk.log_prob.exp().item() for walk in found.values()) == pytest.approx(1, abs=1e-5)


def test_a_decision_depends_on_those_before_it() -> None:
    """Negative control: a product of independent choices would not do."""
    found = walks(make())
    first, second = (found[ops].probs["normal"] for ops in ((0, 0), (1, 0)))
    torch.testing.assert_close(first[0], second[0])
    assert (first[1] - second[1]).abs().max() > 0.05


@pytest.mark.parametrize("groups", [TINY, MIXED])
def test_walks_are_drawn_by_their_probabilities(groups: Any) -> None:
    made, count, generator = make(groups), 1500, torch.Generator().manual_seed(1)
    hits: dict[Ops, int] = dict.fromkeys(everything(made), 0)
    with torch.no_grad():
        for _ in range(count):
            hits[ops_of(made.draw(0.5, generator).codes)] += 1
        expected = {ops: math.exp(float(log_prob(made, ops))) for ops in hits}
    assert max(expected.values()) > 1.5 * min(expected.values())
    for ops, p in expected.items():
        assert abs(hits[ops] / count - p) <= 4.5 * math.sqrt(p * (1 - p) / count)


def task_loss(ops: Ops) -> Tensor:
    return torch.tensor(0.3 + 0.9 * ops[0] + 0.4 * ops[1] - 0.8 * ops[0] * ops[1])


def flat_gradient(value: Tensor, made: ENAS) -> Tensor:
    gradients = torch.autograd.grad(value, list(made.parameters()), allow_unused=True, retain_graph=True)
    pairs = zip(gradients, made.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_the_gradient_is_unbiased(baseline: float) -> None:
    """Its mean over all walks is minus the gradient of the expected reward exp(-loss), whatever the baseline."""
    made = make()
    with torch.no_grad():
        made.baseline.fill_(baseline)
        made.rewarded.fill_(1)
    reward = torch.stack([log_prob(made, ops).exp() * (-task_loss(ops)).exp() for ops in everything(made)]).sum()
    exact = flat_gradient(-reward, made)
    estimates = {ops: flat_gradient(made.loss(task_loss(ops), walk, 0.5), made) for ops, walk in walks(made).items()}
    mean = sum(float(log_prob(made, ops).detach().exp()) * estimate for ops, estimate in estimates.items())
    assert exact.abs().max() > 1e-3
    torch.testing.assert_close(mean, exact, rtol=1e-4, atol=1e-6)
    assert all(not torch.allclose(estimate, exact, atol=1e-3) for estimate in estimates.values())


def test_the_entropy_enters_with_its_weight() -> None:
    made = make(entropy_weight=0.25)
    with torch.no_grad():
        made.rewarded.fill_(1)
    for ops, walk in walks(made).items():
        expected = -math.exp(-float(task_loss(ops))) * walk.log_prob - 0.25 * walk.entropy
        torch.testing.assert_close(made.loss(task_loss(ops), walk, 0.5), expected)


def test_the_first_reward_is_its_own_baseline_and_then_it_averages() -> None:
    made = make(baseline_decay=0.75)
    (ops, walk), *_ = walks(made).items()
    assert not flat_gradient(made.loss(task_loss(ops), walk, 0.5), made).any()
    expected: float | None = None
    for loss in (0.7, 0.2, 1.9, 0.0):
        made.after_alpha_step(Update(walk, loss, {}, 0.1))
        reward = math.exp(-loss)
        expected = reward if expected is None else 0.75 * expected + 0.25 * reward
        assert float(made.baseline) == pytest.approx(expected)
    found = made.loss(task_loss(ops), walk, 0.5)
    assert expected is not None
    torch.testing.assert_close(found, -(math.exp(-float(task_loss(ops))) - expected) * walk.log_prob)


def test_a_controller_learns_what_is_rewarded() -> None:
    made, generator = make(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.02)
    best = (0, 1)
    before = float(log_prob(made, best).detach())
    for _ in range(120):
        walk = made.draw_for_alpha(0.5, generator)
        loss = torch.tensor(0.1 if ops_of(walk.codes) == best else 2.0)
        optimiser.zero_grad()
        made.loss(loss, walk, 0.5).backward()
        optimiser.step()
        made.after_alpha_step(Update(walk, float(loss), {}, 0.02))
    assert float(log_prob(made, best).detach()) > max(before + 0.1, math.log(0.6))


THREE = {
    "normal": ChoiceGroup("normal", ((0, 2), (1, 2), (0, 3)), ("skip_connect", "sep_conv_3x3"), (2, 3), inputs=2),
}


def rank_of(made: ENAS) -> list[tuple[Ops, float]]:
    with torch.no_grad():
        values = {ops: float(log_prob(made, ops)) for ops in everything(made)}
    return sorted(values.items(), key=lambda item: -item[1])


def decisions(architecture: Architecture) -> Ops:
    """Of groups without `none`, where every edge holds one operation."""
    return ops_of(architecture.code)


def test_the_beam_finds_the_mode_and_the_whole_ranking() -> None:
    """Where deciding greedily finds another one, at least for some controllers."""
    greedy_fails = 0
    for seed in range(40):
        made = make(THREE, seed, tanh_constant=1.0)
        expected = rank_of(made)
        derivation = made.derive(8)
        assert [decisions(found) for found, _ in derivation.ranking] == [ops for ops, _ in expected]
        assert [value for _, value in derivation.ranking] == pytest.approx([value for _, value in expected], abs=1e-5)
        assert decisions(made.derive().architecture) == expected[0][0]
        greedy: Ops = ()
        for _ in range(3):
            rows = conditionals(made, (*greedy, *[0] * (3 - len(greedy))))
            greedy = (*greedy, int(rows[len(greedy)].argmax()))
        greedy_fails += greedy != expected[0][0]
    assert greedy_fails > 0


def test_its_probabilities_follow_the_likeliest_decisions() -> None:
    made = make(MIXED)
    chosen: Ops = ()
    for place in range(3):
        rows = conditionals(made, (*chosen, *[0] * (3 - place)))
        chosen = (*chosen, int(rows[place].argmax()))
    expected = [row.exp().double() for row in conditionals(made, chosen)]
    found = [row for name in MIXED for row in made.probabilities()[name]]
    for row, other in zip(found, expected, strict=True):
        torch.testing.assert_close(row, other.detach())
