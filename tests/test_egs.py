from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from datanas import egs
from datanas.egs import Estimator, ensemble_gumbel_softmax, gumbel_softmax
from datanas.posterior import inclusion_probs, log_prob


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fix_noise(monkeypatch: pytest.MonkeyPatch, noise: Tensor) -> None:
    """Make the next draw use `noise`, shape (M, ..., K)."""
    monkeypatch.setattr(egs, "_gumbel_noise", lambda shape, like, generator: noise.reshape(shape).to(like))


def soft_gradient(logits: Tensor, noise: Tensor, tau: float) -> Tensor:
    """d L_k / d logits_j of one draw, from the derivative of softmax by hand."""
    soft = ((logits + noise) / tau).softmax(-1)
    return (soft.diag() - soft.outer(soft)) / tau


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5,), (14, 8), (2, 3, 4), (3, 1)])
def test_one_draw_is_one_hot(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    code = gumbel_softmax(torch.randn(shape, generator=generator()).to(dtype), generator=generator())
    assert code.shape == shape
    assert code.dtype == dtype
    assert set(code.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(code.sum(-1), torch.ones(shape[:-1], dtype=dtype))


def test_one_draw_is_the_argmax_of_noisy_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, noise = torch.randn(2, 50, 6, generator=generator())
    fix_noise(monkeypatch, noise)
    assert torch.equal(gumbel_softmax(logits).argmax(-1), (logits + noise).argmax(-1))


def test_soft_draw_follows_equation_8(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, noise = torch.randn(2, 50, 6, dtype=torch.float64, generator=generator())
    fix_noise(monkeypatch, noise)
    exponentials = ((logits + noise) / 0.7).exp()
    torch.testing.assert_close(
        gumbel_softmax(logits, 0.7, hard=False), exponentials / exponentials.sum(-1, keepdim=True)
    )


def test_hard_draw_has_the_gradient_of_the_soft_draw() -> None:
    weights = torch.randn(50, 6, generator=generator(1))
    gradients = []
    for hard in (True, False):
        logits = torch.randn(50, 6, generator=generator()).requires_grad_()
        (gumbel_softmax(logits, 0.5, hard=hard, generator=generator(2)) * weights).sum().backward()
        assert logits.grad is not None
        gradients.append(logits.grad)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


def test_ensemble_is_the_maximum_of_a_loop_over_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(4, 5, generator=generator(), dtype=torch.float64)
    noise = torch.randn(7, 4, 5, generator=generator(1), dtype=torch.float64)
    weights = torch.randn(4, 5, generator=generator(2), dtype=torch.float64)

    ours = logits.clone().requires_grad_()
    fix_noise(monkeypatch, noise)
    code = ensemble_gumbel_softmax(ours, 7, 0.6)
    (code * weights).sum().backward()

    loop = logits.clone().requires_grad_()
    draws = []
    for draw in noise:
        fix_noise(monkeypatch, draw)
        draws.append(gumbel_softmax(loop, 0.6))
    expected = torch.stack(draws).amax(0)
    (expected * weights).sum().backward()
    assert torch.equal(code, expected)
    torch.testing.assert_close(ours.grad, loop.grad)


def gradients_by_rule(logits: Tensor, noise: Tensor, weights: Tensor, tau: float, *, one_draw: bool) -> Tensor:
    """The gradient of sum_k w_k b_k: per entry the mean over the draws that attain the maximum, or the first alone."""
    choices = (logits + noise).argmax(-1).tolist()
    per_draw = [soft_gradient(logits, draw, tau) for draw in noise]
    total = torch.zeros_like(logits)
    for k, weight in enumerate(weights):
        attained = [i for i, choice in enumerate(choices) if choice == k] or list(range(len(choices)))
        attained = attained[:1] if one_draw else attained
        total += weight * sum(per_draw[i][k] for i in attained) / len(attained)
    return total


@pytest.mark.parametrize("seed", range(5))
def test_gradient_is_the_mean_over_tied_draws(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    logits, weights = torch.randn(2, 4, generator=generator(seed), dtype=torch.float64)
    noise = torch.randn(6, 4, generator=generator(seed + 100), dtype=torch.float64)
    fix_noise(monkeypatch, noise)
    logits.requires_grad_()
    (ensemble_gumbel_softmax(logits, 6, 0.8) * weights).sum().backward()
    expected = gradients_by_rule(logits.detach(), noise, weights, 0.8, one_draw=False)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-12)
    arg_selected = gradients_by_rule(logits.detach(), noise, weights, 0.8, one_draw=True)
    assert (logits.grad - arg_selected).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("samples", [1, 2, 7, 20])
def test_codes_have_one_to_m_ones(samples: int, dtype: torch.dtype) -> None:
    code = ensemble_gumbel_softmax(torch.zeros(500, 8, dtype=dtype), samples, 0.3, generator=generator())
    assert code.dtype == dtype
    assert set(code.unique().tolist()) <= {0.0, 1.0}
    ones = code.sum(-1)
    assert ones.min() >= 1
    assert ones.max() <= min(samples, 8)


def test_same_seed_same_codes() -> None:
    logits = torch.zeros(100, 8)
    first, again, other = (ensemble_gumbel_softmax(logits, 3, generator=generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_generator_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    ensemble_gumbel_softmax(torch.zeros(4, 8), 3, generator=generator())
    assert torch.equal(before, torch.get_rng_state())


def test_shift_of_the_logits_changes_nothing() -> None:
    logits = torch.randn(100, 8, generator=generator(), dtype=torch.float64)
    codes = [ensemble_gumbel_softmax(logits + shift, 3, generator=generator(1)) for shift in (0.0, 50.0)]
    assert torch.equal(*codes)


@pytest.mark.parametrize("tau", [1e-6, 1e-30, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(tau: float, dtype: torch.dtype) -> None:
    infinite = -math.inf
    logits = torch.tensor(
        [[0.0, infinite, infinite], [0.0, -1e30, 0.0], [1e10, -1e4, infinite], [0.0, 0.0, 0.0]], dtype=dtype
    ).requires_grad_()
    code = ensemble_gumbel_softmax(logits, 5, tau, generator=generator())
    (code * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
    assert torch.equal(code[0], torch.tensor([1.0, 0.0, 0.0], dtype=dtype))
    assert set(code.unique().tolist()) == {0.0, 1.0}
    assert logits.grad.isfinite().all()


def test_nan_logits_are_not_hidden() -> None:
    code = ensemble_gumbel_softmax(torch.tensor([[0.0, math.nan], [0.0, 0.0]]), 3, generator=generator())
    assert code[0].isnan().any()
    assert code[1].isfinite().all()


def test_noise_is_finite_where_the_exponential_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator=None: self.zero_())
    logits = torch.zeros(3, 4, requires_grad=True)
    code = ensemble_gumbel_softmax(logits, 2)
    code[:, 0].sum().backward()
    assert code.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype: torch.dtype) -> None:
    logits = torch.zeros(3, 4, dtype=dtype, requires_grad=True)
    code = ensemble_gumbel_softmax(logits, 2, 1e-6, generator=generator())
    code[:, 0].sum().backward()
    assert code.dtype == torch.float32
    assert logits.grad.dtype == dtype
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    logits = torch.randn(20, 8, generator=generator()).to(dtype)
    expected = ensemble_gumbel_softmax(logits, 3, 0.4, generator=generator(1))
    soft = gumbel_softmax(logits, 0.4, hard=False, generator=generator(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code = ensemble_gumbel_softmax(logits, 3, 0.4, generator=generator(1))
        assert torch.equal(gumbel_softmax(logits, 0.4, hard=False, generator=generator(1)), soft)
    assert code.dtype == torch.float32
    assert torch.equal(code, expected)


def test_generator_may_live_on_another_device() -> None:
    code = ensemble_gumbel_softmax(torch.zeros(3, 4, device="meta"), 2, generator=generator())
    assert code.device.type == "meta"
    assert code.shape == (3, 4)


def test_one_draw_has_the_frequencies_of_equation_9() -> None:
    probs = torch.tensor([0.5, 0.3, 0.15, 0.04, 0.01, 0.0])
    drawn = gumbel_softmax(probs.log().expand(200_000, 6), generator=generator(3)).sum(0)
    assert drawn[5] == 0
    assert chisquare(drawn[:5].numpy(), (probs[:5] / probs[:5].sum() * drawn.sum()).numpy()).pvalue > 0.01


def draw_codes(probs: Tensor, samples: int) -> Tensor:
    return ensemble_gumbel_softmax(probs.log().expand(200_000, len(probs)), samples, 0.1, generator=generator(4))


def test_codes_have_the_distribution_of_equation_15() -> None:
    probs, samples = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05], dtype=torch.float64), 3
    bits = 2 ** torch.arange(5)
    observed = (draw_codes(probs.float(), samples).long() @ bits).bincount(minlength=32)
    all_codes = (torch.arange(32).unsqueeze(-1) & bits) > 0
    expected = log_prob(all_codes, probs, samples).exp() * 200_000
    possible = expected > 0
    assert observed[~possible].sum() == 0
    assert chisquare(observed[possible].numpy(), expected[possible].numpy()).pvalue > 0.01
    # The test can tell: one draw more is another distribution.
    other = log_prob(all_codes, probs, samples + 1).exp()[possible]
    assert chisquare(observed[possible].numpy(), (other / other.sum() * 200_000).numpy()).pvalue < 1e-6


def test_operations_are_included_as_often_as_equation_14_says() -> None:
    probs = torch.tensor([0.4, 0.25, 0.2, 0.1, 0.05])
    expected = inclusion_probs(probs, 4)
    deviation = (expected * (1 - expected) / 200_000).sqrt()
    assert ((draw_codes(probs, 4).mean(0) - expected).abs() < 4 * deviation).all()


ESTIMATORS = get_args(Estimator)


def mean_gradient(estimator: Estimator, logits: Tensor, samples: int, weights: Tensor, draws: int) -> Tensor:
    """The mean of many estimates of the gradient of E[code @ weights]."""
    rows = logits.expand(draws, -1).clone().requires_grad_()
    code = ensemble_gumbel_softmax(rows, samples, generator=generator(7), estimator=estimator)
    return torch.autograd.grad((code @ weights).sum() / draws, rows)[0].sum(0)


def exact_linear_gradient(logits: Tensor, samples: int, weights: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(inclusion_probs(logits.softmax(-1), samples) @ weights, logits)[0]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("samples", [1, 4])
def test_the_code_does_not_depend_on_the_estimator(estimator: Estimator, samples: int) -> None:
    logits = torch.randn(40, 6, generator=generator(), requires_grad=True)
    code = ensemble_gumbel_softmax(logits, samples, generator=generator(2), estimator=estimator)
    assert torch.equal(code, ensemble_gumbel_softmax(logits, samples, generator=generator(2)))
    gradient = torch.autograd.grad((code * torch.arange(6)).sum(), logits)[0]
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(40), atol=1e-5, rtol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_impossible_operations_stay_closed_with_every_estimator(estimator: Estimator) -> None:
    logits = torch.tensor([0.5, -math.inf, 0.0, 80.0], dtype=torch.float64).expand(30, 4).clone().requires_grad_()
    code = ensemble_gumbel_softmax(logits, 3, 0.5, generator=generator(), estimator=estimator)
    assert (code[:, 1] == 0).all()
    gradient = torch.autograd.grad((code * torch.arange(4)).sum(), logits)[0]
    assert gradient.isfinite().all()
    assert (gradient[:, 1] == 0).all()


@pytest.mark.parametrize("samples", [1, 3])
def test_inclusion_has_the_exact_gradient_of_a_linear_loss_in_every_draw(samples: int) -> None:
    logits, weights = torch.randn(2, 5, generator=generator(), dtype=torch.float64)
    exact = exact_linear_gradient(logits, samples, weights)
    torch.testing.assert_close(mean_gradient("inclusion", logits, samples, weights, 1), exact, rtol=1e-9, atol=1e-12)


def test_reinmax_is_unbiased_for_a_linear_loss_of_one_draw() -> None:
    logits, weights = torch.randn(2, 5, generator=generator(), dtype=torch.float64)
    exact = exact_linear_gradient(logits, 1, weights)
    torch.testing.assert_close(mean_gradient("reinmax", logits, 1, weights, 400_000), exact, rtol=0.02, atol=0.01)
    biased = mean_gradient("shared_ties", logits, 1, weights, 400_000)
    assert (biased - exact).abs().max() > 0.03


def test_rao_blackwellising_keeps_the_mean_and_lowers_the_variance() -> None:
    logits, weights = torch.randn(2, 5, generator=generator(), dtype=torch.float64)
    rows = logits.expand(20_000, -1)
    found = {}
    for estimator in ("shared_ties", "gumbel_rao"):
        each = rows.clone().requires_grad_()
        code = ensemble_gumbel_softmax(each, 1, generator=generator(3), estimator=estimator)
        found[estimator] = torch.autograd.grad((code @ weights).sum(), each)[0]
    deviation = found["shared_ties"].std(0) / 20_000**0.5
    assert ((found["gumbel_rao"].mean(0) - found["shared_ties"].mean(0)).abs() < 6 * deviation).all()
    assert found["gumbel_rao"].var(0).sum() < 0.6 * found["shared_ties"].var(0).sum()


def test_the_temperature_is_one_where_nothing_is_said() -> None:
    logits = torch.randn(4, 3, generator=generator())
    found, other = (gumbel_softmax(logits, *tau, hard=False, generator=generator(1)) for tau in ((), (1.0,)))
    assert torch.equal(found, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_is_as_fine_as_the_logits(dtype: torch.dtype) -> None:
    noise = egs._gumbel_noise((2, 3), torch.zeros(3, dtype=dtype), generator())
    assert noise.dtype == dtype


def test_without_a_generator_noise_is_drawn_where_the_logits_are() -> None:
    before = torch.get_rng_state()
    ensemble_gumbel_softmax(torch.zeros(3, 4, device="meta"), 2)
    assert torch.equal(torch.get_rng_state(), before)


def slope_of_softmax(soft: Tensor, weights: Tensor) -> Tensor:
    """The gradient of (softmax(x) * weights).sum() in x where softmax(x) is `soft`, vector by vector."""
    return soft * (weights - (soft * weights).sum(-1, keepdim=True))


def test_reinmax_is_the_gradient_of_its_paper_in_every_vector() -> None:
    """2 J(m) w - J(p) w / 2 with m = (D + softmax(logits / tau)) / 2 (Liu et al., NeurIPS 2023)."""
    logits, weights = torch.randn(2, 2, 3, 4, generator=generator(), dtype=torch.float64)
    logits.requires_grad_()
    code = ensemble_gumbel_softmax(logits, 1, 0.4, generator=generator(1), estimator="reinmax")
    (found,) = torch.autograd.grad((code * weights).sum(), logits)
    tilted = (code.detach() + (logits.detach() / 0.4).softmax(-1)) / 2
    expected = 2 * slope_of_softmax(tilted, weights) - slope_of_softmax(logits.detach().softmax(-1), weights) / 2
    torch.testing.assert_close(found, expected)


def test_rao_blackwellising_averages_over_noise_that_chooses_the_same() -> None:
    """Of the chosen d -log E, of the others -log(E_k / p_k + E), E exponential (Paulus et al., ICLR 2021)."""
    logits, weights = torch.randn(2, 2, 3, 4, generator=generator(), dtype=torch.float64)
    logits.requires_grad_()
    code = ensemble_gumbel_softmax(logits, 1, 0.4, generator=generator(1), estimator="gumbel_rao")
    (found,) = torch.autograd.grad((code * weights).sum(), logits)
    repeated = generator(1)
    torch.empty(1, 2, 3, 4, dtype=torch.float64).exponential_(generator=repeated)
    drawn = torch.empty(egs.RAO_DRAWS, 2, 3, 4, dtype=torch.float64).exponential_(generator=repeated)
    of_chosen = (drawn * code.detach()).sum(-1, keepdim=True)
    rest = -(drawn / logits.detach().softmax(-1) + of_chosen).log()
    noisy = torch.where(code.detach() > 0, -of_chosen.log(), rest)
    expected = slope_of_softmax((noisy / 0.4).softmax(-1), weights).mean(0) / 0.4
    torch.testing.assert_close(found, expected)


def test_inclusion_has_its_gradient_in_every_vector() -> None:
    logits, weights = torch.randn(2, 2, 3, 4, generator=generator(), dtype=torch.float64)
    logits.requires_grad_()
    code = ensemble_gumbel_softmax(logits, 3, generator=generator(1), estimator="inclusion")
    (found,) = torch.autograd.grad((code * weights).sum(), logits)
    (expected,) = torch.autograd.grad((inclusion_probs(logits.softmax(-1), 3) * weights).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_the_first_tied_draw_alone_has_the_gradient_of_first_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, weights = torch.randn(2, 4, generator=generator(1), dtype=torch.float64)
    noise = torch.randn(6, 4, generator=generator(101), dtype=torch.float64)
    fix_noise(monkeypatch, noise)
    logits.requires_grad_()
    (ensemble_gumbel_softmax(logits, 6, 0.8, estimator="first_tie") * weights).sum().backward()
    expected = gradients_by_rule(logits.detach(), noise, weights, 0.8, one_draw=True)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-12)


def test_a_disjunction_counts_a_draw_only_where_no_other_chose_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, weights = torch.randn(2, 4, generator=generator(2), dtype=torch.float64)
    noise = torch.randn(3, 4, generator=generator(102), dtype=torch.float64)
    fix_noise(monkeypatch, noise)
    logits.requires_grad_()
    (ensemble_gumbel_softmax(logits, 3, 0.8, estimator="disjunction") * weights).sum().backward()
    chosen = [int((logits + draw).argmax()) for draw in noise]
    expected = torch.zeros(4, dtype=torch.float64)
    for i, draw in enumerate(noise):
        others = {k for j, k in enumerate(chosen) if j != i}
        counted = torch.tensor([float(k not in others) for k in range(4)], dtype=torch.float64)
        expected += soft_gradient(logits.detach(), draw, 0.8) @ (weights * counted)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(ValueError, match="estimator must be one of shared_ties, first_tie, "):
        ensemble_gumbel_softmax(torch.zeros(3), 2, estimator="made_up")  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("samples", [0, -1, 1.5])
def test_samples_out_of_range(samples: Any) -> None:
    with pytest.raises(ValueError, match="samples must be"):
        ensemble_gumbel_softmax(torch.zeros(3), samples)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_tau_out_of_range(tau: float) -> None:
    with pytest.raises(ValueError, match="tau must be"):
        gumbel_softmax(torch.zeros(3), tau)
    with pytest.raises(ValueError, match="tau must be"):
        ensemble_gumbel_softmax(torch.zeros(3), 2, tau)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_smallest_normal_number_is_a_temperature(dtype: torch.dtype) -> None:
    code = gumbel_softmax(torch.zeros(3, dtype=dtype), torch.finfo(dtype).tiny, generator=generator())
    assert code.sum() == 1


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_logits_without_operations(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="logits"):
        ensemble_gumbel_softmax(torch.zeros(shape), 2)
