"""ProxylessNAS: its pairs, their gradient and what a step leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datanas.codes.choice_group import ChoiceGroup
from datanas.samplers.base import Update
from datanas.samplers.proxylessnas import Pairs, ProxylessNAS

OPS = ("none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
GROUPS = {
    "normal": ChoiceGroup("normal", ((0, 2), (1, 2), (0, 3)), OPS, outputs=(2, 3), inputs=2),
    "reduce": ChoiceGroup("reduce", ((0, 2), (1, 2)), OPS[1:], outputs=(2,), inputs=2),
}


def make() -> ProxylessNAS:
    made = ProxylessNAS(ProxylessNAS.Config(), GROUPS, "conv_cell").double()
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for alpha in made.alpha.values():
            alpha.copy_(torch.randn(alpha.shape, generator=noise))
    return made


def draw_for_alpha(made: ProxylessNAS, seed: int = 0) -> Pairs:
    return made.draw_for_alpha(0.5, torch.Generator().manual_seed(seed))


def loss_of(found: Pairs) -> tuple[Tensor, dict[str, Tensor]]:
    """A loss that is not linear in the gates, and its gradient with respect to them."""
    gates = {name: table.detach().requires_grad_() for name, table in found.gates.items()}

    def loss(tables: dict[str, Tensor]) -> Tensor:
        flat = torch.cat([table.flatten() for table in tables.values()])
        return ((flat + torch.linspace(0.1, 2, len(flat), dtype=flat.dtype)) ** 2).cos().sum()

    gradients = torch.autograd.grad(loss(gates), list(gates.values()))
    return loss(dict(found.gates)), dict(zip(gates, gradients, strict=True))


def before(made: ProxylessNAS) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in made.named_parameters()}


def test_weights_train_on_one_path_by_its_probability() -> None:
    made, count, generator = make(), 2000, torch.Generator().manual_seed(0)
    gates = torch.stack([made.draw(0.5, generator).gates["normal"] for _ in range(count)])
    assert (gates.sum(dim=2) + (gates.sum(dim=2) == 0) == 1).all()
    assert set(gates.unique().tolist()) == {0.0, 1.0}
    p = made.alpha["normal"].detach().softmax(dim=1)[:, 1:]
    assert ((gates.mean(dim=0)[:, 1:] - p).abs() <= 4.5 * (p * (1 - p) / count).sqrt()).all()


def test_an_alpha_step_is_between_two_operations_of_which_one_runs() -> None:
    made = make()
    for seed in range(30):
        found = draw_for_alpha(made, seed)
        for name, pair in found.pairs.items():
            assert pair.shape == (len(GROUPS[name].edges), 2)
            assert (pair[:, 0] != pair[:, 1]).all()
            gates = found.gates[name].detach()
            assert (gates.sum(dim=1) == 1).all()
            assert (gates.gather(1, pair).sum(dim=1) == 1).all()
            assert found.grad_mask is not None
            assert torch.equal(found.grad_mask[name].nonzero()[:, 1].reshape(-1, 2), pair.sort(dim=1).values)


def test_pairs_and_what_runs_come_by_their_probabilities() -> None:
    """P(i then j) = p_i p_j / (1 - p_i); of the two i runs with p_i / (p_i + p_j): together both orders."""
    made, count, generator = make(), 4000, torch.Generator().manual_seed(0)
    hits = torch.zeros(4, 4, dtype=torch.double)
    for _ in range(count):
        found = made.draw_for_alpha(0.5, generator)
        runs = int(found.gates["normal"][0].argmax())
        (other,) = set(found.pairs["normal"][0].tolist()) - {runs}
        hits[runs, other] += 1
    p = made.alpha["normal"][0].detach().softmax(dim=0)
    pair = torch.outer(p / (1 - p), p)
    expected = (pair + pair.T) * p.unsqueeze(1) / (p.unsqueeze(1) + p)
    expected.fill_diagonal_(0)
    assert float(expected.sum()) == pytest.approx(1)
    assert ((hits / count - expected).abs() <= 4.5 * (expected * (1 - expected) / count).sqrt()).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_is_the_paper_s_formula_over_the_pair(seed: int) -> None:
    """dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i) over the two (Eq. 4 there), p their softmax; 0 elsewhere."""
    made = make()
    found = draw_for_alpha(made, seed)
    loss, of_gates = loss_of(found)
    loss.backward()
    for name, alpha in made.alpha.items():
        expected = torch.zeros_like(alpha)
        for edge, pair in enumerate(found.pairs[name].tolist()):
            powers = {op: float(alpha[edge, op].detach().exp()) for op in pair}
            p = {op: power / sum(powers.values()) for op, power in powers.items()}
            for i in pair:
                expected[edge, i] = sum(float(of_gates[name][edge, j]) * p[j] * ((i == j) - p[i]) for j in pair)
        torch.testing.assert_close(alpha.grad, expected.detach())
        outside = torch.ones_like(alpha, dtype=torch.bool).scatter_(1, found.pairs[name], False)
        assert (alpha.grad[outside] == 0).all()
        assert (alpha.grad[~outside] != 0).all()
        # Negative control: the formula over all operations is another one.
        everything = alpha.detach().softmax(dim=1)
        whole = everything * (of_gates[name] - (of_gates[name] * everything).sum(dim=1, keepdim=True))
        assert not torch.allclose(alpha.grad, whole)


def test_a_step_moves_the_pair_alone_and_keeps_what_it_has_together() -> None:
    """Under Adam, whose momentum would move alphas that had a gradient steps ago."""
    made = make()
    optimiser = torch.optim.Adam(made.parameters(), lr=0.1, betas=(0.5, 0.999), weight_decay=1e-3)
    carried = 0
    for step in range(12):
        found, old = draw_for_alpha(made, step), before(made)
        optimiser.zero_grad()
        loss_of(found)[0].backward()
        optimiser.step()
        moved = before(made)
        made.after_alpha_step(Update(found, 1.0, old, 0.1))
        for name, pair in found.pairs.items():
            outside = torch.ones(GROUPS[name].shape, dtype=torch.bool).scatter_(1, pair, False)
            first, unsettled, last = old[f"alpha.{name}"], moved[f"alpha.{name}"], made.alpha[name].detach()
            carried += int((unsettled[outside] != first[outside]).sum())
            assert torch.equal(last[outside], first[outside])
            torch.testing.assert_close(last.softmax(1)[outside], first.softmax(1)[outside])
            together = [table.softmax(dim=1).gather(1, pair).sum(dim=1) for table in (first, last)]
            torch.testing.assert_close(together[0], together[1])
            # Between the two the step counts in full.
            within = [table.gather(1, pair).softmax(dim=1) for table in (unsettled, last)]
            torch.testing.assert_close(within[0], within[1])
            assert not torch.allclose(last.gather(1, pair), first.gather(1, pair))
    assert carried > 0


def test_what_helps_is_chosen_more() -> None:
    """A loss that the second operation lowers on every edge."""
    made = make()
    optimiser = torch.optim.Adam(made.parameters(), lr=0.1)
    start = made.probabilities()
    for step in range(150):
        found, old = draw_for_alpha(made, step), before(made)
        optimiser.zero_grad()
        (-sum(table[:, 1].sum() for table in found.gates.values())).backward()
        optimiser.step()
        made.after_alpha_step(Update(found, 0.0, old, 0.1))
    assert all((table[:, 1] > start[name][:, 1]).all() for name, table in made.probabilities().items())
