"""What the methods that weigh or sample operations compute, against their papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import validate
from datanas.samplers import samplers
from datanas.samplers.base import Draw, Sampler, SamplerConfig
from datanas.samplers.darts import DARTS
from datanas.samplers.drnas import DrNAS
from datanas.samplers.gdas import GDAS
from datanas.samplers.pc_darts import PCDARTS
from datanas.samplers.snas import SNAS
from datanas.spaces.base import Costs

# The edges into a node do not stand together, and no swap of two puts them so.
EDGES = ((0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (2, 4))
NODES = {2: [0, 3], 3: [1, 4], 4: [2, 5, 6]}
NORMAL = ChoiceGroup("normal", EDGES, ("skip_connect", "none", "sep_conv_3x3"), outputs=(2, 3, 4), inputs=2)
REDUCE = ChoiceGroup("reduce", ((0, 2), (1, 2)), ("skip_connect", "max_pool_3x3"), outputs=(2,), inputs=2)
GROUPS = {"normal": NORMAL, "reduce": REDUCE}


def make(kind: type[Sampler], groups: Mapping[str, ChoiceGroup] = GROUPS, **options: Any) -> Any:
    """A sampler in double precision whose parameters prefer something."""
    name = next(name for name in samplers if samplers[name] is kind)
    made = kind(validate(kind.Config, {"name": name, **options}, "sampler"), groups, "conv_cell").double()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=noise))
    return made


def draw(made: Sampler, seed: int = 0, progress: float = 0.5) -> Draw:
    return made.draw(progress, torch.Generator().manual_seed(seed))


def softmax(values: Tensor) -> Tensor:
    powers = values.detach().exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def weights_like(table: Tensor) -> Tensor:
    return torch.linspace(-1, 2, table.numel(), dtype=table.dtype).reshape(table.shape).sin()


def cut(table: Tensor) -> Tensor:
    """A table of `normal` without `none`."""
    return table * torch.tensor([1.0, 0.0, 1.0], dtype=table.dtype)


def test_darts_weighs_by_the_softmax_of_an_edge_and_cuts_none() -> None:
    made = make(DARTS)
    found = draw(made)
    torch.testing.assert_close(found.gates["normal"].detach(), cut(softmax(made.alpha["normal"])))
    torch.testing.assert_close(found.gates["reduce"].detach(), softmax(made.alpha["reduce"]))
    assert all(torch.equal(found.gates[name], draw(made, 7, 1.0).gates[name]) for name in GROUPS)


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_a_concrete_sample_lies_on_the_simplex(progress: float) -> None:
    made = make(SNAS)
    for seed in range(5):
        found = draw(made, seed, progress)
        assert (found.codes["normal"] >= 0).all()
        torch.testing.assert_close(found.codes["normal"].sum(dim=1), torch.ones(7, dtype=torch.double))
        assert torch.equal(found.gates["normal"], cut(found.codes["normal"]))
        assert torch.equal(found.gates["reduce"], found.codes["reduce"])


@pytest.mark.parametrize("kind", [SNAS, GDAS])
def test_the_largest_of_a_sample_is_drawn_by_p(kind: type[Sampler]) -> None:
    made, count, generator = make(kind), 4000, torch.Generator().manual_seed(0)
    hits = torch.zeros(NORMAL.shape, dtype=torch.double)
    with torch.no_grad():
        for _ in range(count):
            code = made.draw(0.3, generator).codes["normal"]
            hits[torch.arange(7), code.argmax(dim=1)] += 1
    p = softmax(made.alpha["normal"])
    assert ((hits / count - p).abs() <= 4.5 * (p * (1 - p) / count).sqrt()).all()
    assert ((hits / count - p.flip(1)).abs() > 4.5 * (p * (1 - p) / count).sqrt()).any()


def test_a_concrete_sample_hardens_as_its_temperature_falls() -> None:
    made = make(SNAS)
    sharpness = [draw(made, 3, progress).codes["normal"].max(dim=1).values.mean() for progress in (0, 0.5, 0.9, 1)]
    assert all(sharpness[i] < sharpness[i + 1] for i in range(3))
    assert sharpness[-1] > 0.95


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("kind", "start", "end"), [(SNAS, 1.0, 0.03), (GDAS, 10.0, 0.1)])
def test_the_gradient_is_that_of_the_softmax_at_the_temperature(
    kind: type[Sampler], start: float, end: float, progress: float
) -> None:
    """dL_i / dalpha_j = L_i (delta_ij - L_j) / tau at the relaxed sample L; GDAS has it under a one-hot forward."""
    made, tau = make(kind), start + (end - start) * progress
    relaxed = make(SNAS, tau={"start": tau, "end": tau})
    soft = draw(relaxed, 2, progress).codes["normal"].detach()
    found = draw(made, 2, progress)
    gates, weights = found.gates["normal"], weights_like(soft)
    if kind is GDAS:
        one_hot = torch.nn.functional.one_hot(soft.argmax(dim=1), 3).double()
        torch.testing.assert_close(found.codes["normal"].detach(), one_hot, rtol=0, atol=1e-12)
        assert set(gates.detach().unique().tolist()) == {0.0, 1.0}
    else:
        torch.testing.assert_close(gates.detach(), cut(soft))
    (gradient,) = torch.autograd.grad((gates * weights).sum(), made.alpha["normal"])
    pull = cut(weights)
    expected = soft * (pull - (soft * pull).sum(dim=1, keepdim=True)) / tau
    torch.testing.assert_close(gradient, expected)


def costs(scale: float = 1.0) -> dict[str, Costs]:
    rng = np.random.default_rng(0)
    found = {}
    for name, group in GROUPS.items():
        macs = rng.integers(1, 9, group.shape) * scale
        if group.null is not None:
            macs[:, group.null] = 0
        found[name] = Costs(parameters=macs[:, ::-1].copy(), macs=macs)
    return found


@pytest.mark.parametrize("kind", ["macs", "parameters"])
def test_the_resource_constraint_is_the_expected_cost_over_that_of_everything(kind: str) -> None:
    """The expectation by going through every child of the reduction cell, and as a sum for the other."""
    made = make(SNAS, resource={"kind": kind, "weight": 3.0})
    made.costs = costs()
    tables = {name: torch.from_numpy(getattr(cost, kind)) for name, cost in made.costs.items()}
    p, c = softmax(made.alpha["reduce"]), tables["reduce"]
    children = product(range(2), repeat=2)
    reduce = sum(p[0, i] * p[1, j] * (c[0, i] + c[1, j]) for i, j in children)
    normal = (softmax(made.alpha["normal"]) * tables["normal"]).sum()
    whole = sum(table.sum() for table in tables.values())
    task_loss = torch.tensor(0.7, dtype=torch.double)
    loss = made.loss(task_loss, draw(made), 0.5)
    assert (loss - task_loss).item() == pytest.approx(float(3 * (normal + reduce) / whole))
    made.costs = costs(1000.0)
    assert made.loss(task_loss, draw(made), 0.5).item() == pytest.approx(loss.item())


def test_the_resource_constraint_has_the_exact_gradient_and_pushes_dear_operations_down() -> None:
    made = make(SNAS, resource={"kind": "macs", "weight": 3.0})
    made.costs = costs()
    whole = sum(cost.macs.sum() for cost in made.costs.values())
    made.loss(torch.zeros((), dtype=torch.double), draw(made), 0.5).backward()
    for name, alpha in made.alpha.items():
        p, c = softmax(alpha), torch.from_numpy(made.costs[name].macs)
        mean = (p * c).sum(dim=1, keepdim=True)
        torch.testing.assert_close(alpha.grad, 3 * p * (c - mean) / whole)
        dear = c > mean + 1e-9
        assert dear.any()
        assert torch.equal(alpha.grad > 0, dear)


def test_without_a_resource_the_loss_is_the_task_s() -> None:
    made, task_loss = make(SNAS), torch.tensor(0.7)
    made.costs = costs()
    assert made.loss(task_loss, draw(made), 0.5) is task_loss


@pytest.mark.parametrize("uniform", [False, True])
def test_pc_darts_weighs_by_both_softmaxes(uniform: bool) -> None:
    """`none` keeps its share: by the sum of an edge's gates, beta's softmax, the bypassing channels are weighed."""
    made = make(PCDARTS)
    found = made.draw(0.5, torch.Generator().manual_seed(0), uniform=uniform)
    for edges in NODES.values():
        alpha, beta = made.alpha["normal"][edges], made.beta["normal"][edges]
        if uniform:
            alpha, beta = torch.zeros_like(alpha), torch.zeros_like(beta)
        expected = softmax(alpha) * softmax(beta).unsqueeze(1)
        torch.testing.assert_close(found.gates["normal"].detach()[edges], expected)
        torch.testing.assert_close(found.gates["normal"].detach()[edges].sum(dim=1), softmax(beta))
        if not uniform:
            torch.testing.assert_close(made.op_scores()["normal"][edges], expected)
    assert found.gates["reduce"].sum().item() == pytest.approx(1)


class _Half(Sampler):
    """A method by the interface alone, whose operations see half of the channels."""

    Config = SamplerConfig

    def sample(self, log_probs: Tensor, progress: float, generator: torch.Generator) -> Tensor:
        return log_probs.exp()


@pytest.mark.parametrize("scope", ["edge", "node"])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_bypass_of_any_method_sees_what_none_was_given(parts: int, scope: Literal["edge", "node"]) -> None:
    """A `none` that is merged at node scope lets pass what its edges share."""
    made = _Half(SamplerConfig(name="half"), GROUPS, "conv_cell", scope=scope).double()
    made.partial_channels = parts
    found = draw(made)
    for part in made.vectors["normal"].members:
        total, given = found.gates["normal"][list(part)], made.probabilities()["normal"][list(part)]
        torch.testing.assert_close(total.detach(), given if parts > 1 else cut(given))


def test_pc_darts_keeps_the_edges_that_beta_prefers() -> None:
    made = make(PCDARTS)
    with torch.no_grad():
        made.alpha["normal"].zero_()
        made.beta["normal"].copy_(torch.tensor([0.0, 0.0, 5.0, 0.0, 0.0, 4.0, 6.0]))
    assert made.derive().architecture.code["normal"].any(axis=1)[NODES[4]].tolist() == [True, False, True]
    with torch.no_grad():
        made.beta["normal"].zero_()
    assert made.derive().architecture.code["normal"].any(axis=1)[NODES[4]].tolist() == [True, True, False]


def test_a_dirichlet_sample_lies_on_the_simplex_and_has_its_mean() -> None:
    made, count, generator = make(DrNAS), 3000, torch.Generator().manual_seed(0)
    with torch.no_grad():
        samples = torch.stack([made.draw(0.5, generator).gates["normal"] for _ in range(count)])
    assert (samples >= 0).all()
    torch.testing.assert_close(samples.sum(dim=2), torch.ones(count, 7, dtype=torch.double))
    alpha = made.alpha["normal"].detach()
    concentration = torch.where(alpha > 0, alpha + 1, alpha.exp())
    total = concentration.sum(dim=1, keepdim=True)
    mean = concentration / total
    torch.testing.assert_close(draw(made).probs["normal"].detach(), mean)
    torch.testing.assert_close(made.probabilities()["normal"], mean)
    deviation = (mean * (1 - mean) / (total + 1)).sqrt()
    assert ((samples.mean(dim=0) - mean).abs() <= 4.5 * deviation / math.sqrt(count)).all()
    # Not merely the mean of a softmax: the spread is the Dirichlet's.
    torch.testing.assert_close(samples.std(dim=0), deviation, rtol=0.1, atol=0)


def test_the_pathwise_gradient_is_that_of_the_mean() -> None:
    """Of a linear function: d/dc_k sum_j w_j c_j / c_0 = (w_k - mean) / c_0, times the slope of elu."""
    made, count, generator = make(DrNAS, {"normal": NORMAL}), 3000, torch.Generator().manual_seed(0)
    alpha, weights = made.alpha["normal"], weights_like(made.alpha["normal"].detach())
    gradients = []
    for _ in range(count):
        value = (made.draw(0.5, generator).gates["normal"] * weights).sum()
        gradients.append(torch.autograd.grad(value, alpha)[0])
    found = torch.stack(gradients)
    values = alpha.detach()
    concentration = torch.where(values > 0, values + 1, values.exp())
    total = concentration.sum(dim=1, keepdim=True)
    mean = (weights * concentration / total).sum(dim=1, keepdim=True)
    expected = (weights - mean) / total * torch.where(values > 0, 1.0, values.exp())
    error = 4.5 * found.std(dim=0) / math.sqrt(count)
    assert ((found.mean(dim=0) - expected).abs() <= error).all()
    assert (expected.abs() > error).sum() > expected.numel() / 2


@pytest.mark.parametrize("kind", ["kl", "l2"])
def test_the_anchor_is_zero_where_the_distribution_is_flat_and_grows_from_there(kind: str) -> None:
    made = make(DrNAS, anchor={"kind": kind, "weight": 0.5})

    def anchor(alpha: float) -> float:
        with torch.no_grad():
            for table in made.alpha.values():
                table.zero_()[:, 0] = alpha
        return made.loss(torch.tensor(2.0, dtype=torch.double), draw(made), 0.5).item() - 2.0

    assert anchor(0.0) == pytest.approx(0, abs=1e-12)
    for sign in (1, -1):
        values = [anchor(sign * distance) for distance in (0.0, 0.5, 1.0, 2.0)]
        assert all(values[i] < values[i + 1] for i in range(3))


def test_the_anchors_are_what_their_names_say() -> None:
    kl, l2 = (make(DrNAS, anchor={"kind": kind, "weight": 0.5}) for kind in ("kl", "l2"))
    zero, divergence, distance = torch.zeros((), dtype=torch.double), 0.0, 0.0
    for name in GROUPS:
        c = kl.concentration(name).detach()
        total, size = c.sum(dim=1), c.shape[1]
        constant = total.lgamma() - c.lgamma().sum(dim=1) - math.lgamma(size)
        divergence += float((constant + ((c - 1) * (c.digamma() - total.digamma().unsqueeze(1))).sum(dim=1)).sum())
        distance += float((l2.alpha[name].detach() ** 2).sum()) / 2
    assert kl.loss(zero, draw(kl), 0.5).item() == pytest.approx(0.5 * divergence)
    assert l2.loss(zero, draw(l2), 0.5).item() == pytest.approx(0.5 * distance)
    without = make(DrNAS, anchor={"kind": "none"})
    assert without.loss(zero, draw(without), 0.5) is zero
