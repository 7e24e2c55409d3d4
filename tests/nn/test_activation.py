"""Ensemble Gumbel-Softmax as an activation."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datanas.core import seeding
from datanas.egs import Estimator, ensemble_gumbel_softmax
from datanas.nn import EnsembleGumbelSoftmax
from datanas.posterior import inclusion_probs, most_probable


@settings(max_examples=30, deadline=None)
@given(
    samples=st.integers(1, 5),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 7)),
    estimator=st.sampled_from(get_args(Estimator)),
    training=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_code_has_one_to_m_ones(
    samples: int, shape: tuple[int, int], estimator: Estimator, training: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    code = EnsembleGumbelSoftmax(samples, estimator=estimator).train(training)(torch.randn(shape))
    assert ((code == 0) | (code == 1)).all()
    assert ((code.sum(-1) >= 1) & (code.sum(-1) <= samples)).all()


@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_training_draws_as_the_function_does(estimator: Estimator) -> None:
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    found, expected = (logits.clone().requires_grad_() for _ in range(2))
    layer = EnsembleGumbelSoftmax(2, (4.0, 2.0), estimator)
    layer.progress = 0.5
    torch.manual_seed(1)
    code = layer(found)
    torch.manual_seed(1)
    drawn = ensemble_gumbel_softmax(expected, 2, 3.0, estimator=estimator)
    weights = torch.arange(15.0).view(3, 5)
    (code * weights).sum().backward()
    (drawn * weights).sum().backward()
    assert torch.equal(code, drawn)
    assert found.grad is not None
    assert expected.grad is not None
    assert torch.equal(found.grad, expected.grad)
    assert found.grad.any()


def test_the_gradient_of_inclusion_is_that_by_finite_differences() -> None:
    """In expectation a linear loss of the code is one of the inclusion probabilities."""
    logits = torch.randn(6, dtype=torch.double, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.randn(6, dtype=torch.double, generator=torch.Generator().manual_seed(1))

    def expected(z: Tensor) -> Tensor:
        return (inclusion_probs(z.softmax(-1), 3) * weights).sum()

    (EnsembleGumbelSoftmax(3, estimator="inclusion")(logits) * weights).sum().backward()
    step = 1e-6
    slopes = [
        (expected(logits.detach() + step * unit) - expected(logits.detach() - step * unit)) / (2 * step)
        for unit in torch.eye(6, dtype=torch.double)
    ]
    torch.testing.assert_close(logits.grad, torch.stack(slopes), rtol=1e-6, atol=1e-8)


def test_evaluation_takes_the_likeliest_code_without_chance() -> None:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))
    layer = EnsembleGumbelSoftmax(3).eval()
    assert torch.equal(layer(logits), layer(logits))
    assert torch.equal(layer(logits), most_probable(logits.softmax(-1), 3))


def test_codes_stand_along_the_dimension_that_is_asked_for() -> None:
    logits = torch.randn(2, 5, 3, 3)
    layer = EnsembleGumbelSoftmax(2, dim=1).eval()
    code = layer(logits)
    assert code.shape == logits.shape
    assert torch.equal(code.movedim(1, -1), EnsembleGumbelSoftmax(2).eval()(logits.movedim(1, -1)))


def test_in_a_keyed_block_the_draw_is_the_key_s() -> None:
    layer, logits = EnsembleGumbelSoftmax(2), torch.zeros(20, 6)
    codes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        with seeding.keyed(0, "test", reach="asking"):
            codes.append(layer(logits))
    assert torch.equal(*codes)
    assert not torch.equal(layer(logits), layer(logits))


@pytest.mark.parametrize(("progress", "tau"), [(-1.0, 5.0), (0.0, 5.0), (0.25, 4.0), (1.0, 1.0), (2.0, 1.0)])
def test_the_temperature_goes_with_the_progress(progress: float, tau: float) -> None:
    layer = EnsembleGumbelSoftmax(2, tau=(5.0, 1.0))
    layer.progress = progress
    assert layer.tau == pytest.approx(tau)


def test_the_progress_is_kept_in_the_state() -> None:
    layer, other = EnsembleGumbelSoftmax(2, tau=(5.0, 1.0)), EnsembleGumbelSoftmax(2, tau=(5.0, 1.0))
    layer.progress = 0.5
    other.load_state_dict(layer.state_dict())
    assert other.tau == 3.0


def test_it_shows_its_settings() -> None:
    shown = "EnsembleGumbelSoftmax(samples=2, tau=5 to 1, estimator='reinmax', dim=1)"
    assert repr(EnsembleGumbelSoftmax(2, (5.0, 1.0), "reinmax", 1)) == shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "samples must be at least 1"),
        ((1, 0.0), "tau must be a positive number"),
        ((1, (1.0, -1.0)), "tau must be a positive number"),
        ((1, (1.0, 1.0, 1.0)), "a pair of its start and end"),
        ((1, 1.0, "best"), "estimator must be one of shared_ties"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EnsembleGumbelSoftmax(*arguments)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize(("logits", "expected"), [(torch.half, torch.float), (torch.double, torch.double)])
def test_the_code_is_of_single_precision_at_least(logits: torch.dtype, expected: torch.dtype, mode: bool) -> None:
    assert EnsembleGumbelSoftmax(2).train(mode)(torch.zeros(2, 4, dtype=logits)).dtype is expected
