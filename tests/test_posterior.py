from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from datanas.posterior import expected_cost, inclusion_probs, log_prob, most_probable, sample, top

SIZES = [(1, 1), (1, 3), (2, 3), (3, 1), (4, 2), (3, 5), (5, 4), (6, 5)]


def random_probs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return logits.softmax(-1).to(dtype)


def all_codes(operations: int) -> Tensor:
    """Shape (2^K, K); row i holds the bits of i."""
    return ((torch.arange(2**operations).unsqueeze(-1) >> torch.arange(operations)) & 1).double()


def enumerate_draws(probs: Tensor, samples: int, null: int | None = None) -> Tensor:
    """The probability of each row of `all_codes`, by going through all K^M sequences of draws."""
    operations = len(probs)
    draws = torch.tensor(list(itertools.product(range(operations), repeat=samples)))
    drawn = torch.zeros(len(draws), operations, dtype=torch.int64).scatter_(-1, draws, 1)
    if null is not None:
        drawn[:, null] = 0
    row = (drawn << torch.arange(operations)).sum(-1)
    return torch.zeros(2**operations, dtype=torch.float64).index_add_(0, row, probs.double()[draws].prod(-1))


def inclusion_exclusion(members: list[Fraction], samples: int) -> Fraction:
    """sum_{T subset S} (-1)^{|S|-|T|} (sum_{k in T} p_k)^M in rational numbers, where it does not cancel."""
    return sum(
        (
            (-1) ** (len(members) - size) * sum(chosen, Fraction(0)) ** samples
            for size in range(len(members) + 1)
            for chosen in itertools.combinations(members, size)
        ),
        Fraction(0),
    )


def nulls(operations: int) -> list[int | None]:
    return [None, 0, operations - 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("operations", "samples"), SIZES)
def test_log_prob_is_that_of_all_draws(operations: int, samples: int, dtype: torch.dtype) -> None:
    probs = random_probs(operations, dtype=dtype)
    codes = all_codes(operations)
    for null in nulls(operations):
        visible = codes if null is None else codes[codes[:, null] == 0]
        expected = enumerate_draws(probs, samples, null)
        found = torch.zeros_like(expected)
        found[(visible.long() << torch.arange(operations)).sum(-1)] = (
            log_prob(visible, probs, samples, null=null).exp().double()
        )
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * 1e-3)


def test_equation_15_needs_every_chosen_operation_drawn() -> None:
    # With t_k >= 0 instead of t_k >= 1 the multinomial sum is (sum of the chosen p)^M.
    probs, samples = random_probs(5), 4
    without_restriction = (all_codes(5) @ probs) ** samples
    expected = enumerate_draws(probs, samples)
    assert (without_restriction - expected).abs().max() > 0.1
    assert (log_prob(all_codes(5), probs, samples).exp() - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("operations", "samples", "size"), [(8, 7, 3), (8, 7, 7), (12, 200, 6), (40, 10, 10)])
def test_log_prob_is_inclusion_exclusion(operations: int, samples: int, size: int) -> None:
    probs = random_probs(operations, seed=1)
    code = torch.zeros(operations).index_fill_(0, torch.arange(size) * (operations // size), 1.0)
    exact = inclusion_exclusion([Fraction(p) for p in probs[code > 0].tolist()], samples)
    expected = math.log(exact.numerator) - math.log(exact.denominator)
    assert log_prob(code, probs, samples).item() == pytest.approx(expected, rel=1e-12)
    assert log_prob(code, probs.float(), samples).item() == pytest.approx(expected, rel=1e-4)


def test_probability_below_the_smallest_number_has_a_logarithm() -> None:
    probs = torch.tensor([1e-5, 1 - 1e-5], dtype=torch.float64)
    assert log_prob(torch.tensor([1, 0]), probs, 200).item() == pytest.approx(200 * math.log(1e-5))


@pytest.mark.parametrize("samples", [1, 3, 7, 50])
def test_all_codes_sum_to_one(samples: int) -> None:
    probs = random_probs(8)
    assert log_prob(all_codes(8), probs, samples).logsumexp(0).item() == pytest.approx(0.0, abs=1e-12)
    visible = all_codes(8)[all_codes(8)[:, 3] == 0]
    assert log_prob(visible, probs, samples, null=3).logsumexp(0).item() == pytest.approx(0.0, abs=1e-12)


def test_network_adds_the_two_codes_that_null_tells_apart() -> None:
    probs = random_probs(5)
    code = torch.tensor([1, 0, 0, 1, 0])
    with_null = torch.tensor([1, 0, 1, 1, 0])
    expected = log_prob(code, probs, 4).exp() + log_prob(with_null, probs, 4).exp()
    torch.testing.assert_close(log_prob(code, probs, 4, null=2).exp(), expected)
    torch.testing.assert_close(log_prob(with_null, probs, 4, null=2).exp(), expected)


def test_empty_network_draws_nothing_but_null() -> None:
    probs = random_probs(5)
    torch.testing.assert_close(log_prob(torch.zeros(5), probs, 4, null=2), 4 * probs[2].log())


def test_log_prob_broadcasts() -> None:
    probs, codes = random_probs(3, 1, 5), all_codes(5)[1:7]
    together = log_prob(codes, probs, 4)
    assert together.shape == (3, 6)
    for i, j in itertools.product(range(3), range(6)):
        torch.testing.assert_close(together[i, j], log_prob(codes[j], probs[i, 0], 4))


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float16])
def test_log_prob_reads_any_type_of_code(kind: torch.dtype) -> None:
    code = torch.tensor([1, 0, 1, 0])
    assert torch.equal(log_prob(code.to(kind), random_probs(4), 3), log_prob(code.double(), random_probs(4), 3))


def test_normalised_gates_are_the_same_code() -> None:
    code = torch.tensor([1.0, 0.0, 1.0, 1.0])
    assert torch.equal(log_prob(code / 3, random_probs(4), 3), log_prob(code, random_probs(4), 3))


def test_impossible_codes_have_minus_infinity() -> None:
    probs = torch.tensor([0.5, 0.3, 0.2, 0.0])
    codes = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 1]])
    assert log_prob(codes, probs, 2).tolist() == [-math.inf] * 4
    assert log_prob(codes[:1], probs, 2, null=3).item() == -math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("null", [None, 4])
def test_gradient_has_no_nan(null: int | None, dtype: torch.dtype) -> None:
    probs = torch.tensor([0.5, 0.3, 0.2, 0.0, 0.0], dtype=dtype, requires_grad=True)
    codes = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 1, 0]])
    log_probs = log_prob(codes, probs, 3, null=null)
    assert log_probs.isfinite().tolist() == [True, False, False, False]
    log_probs.sum().backward()
    assert probs.grad is not None
    assert probs.grad.isfinite().all()
    assert (probs.grad[:2] > 0).all()
    assert torch.equal(probs.grad[2:], torch.zeros(3, dtype=dtype))


@pytest.mark.parametrize("null", [None, 2])
def test_log_prob_gradient_matches_differences(null: int | None) -> None:
    codes = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 0]], dtype=torch.float64)
    probs = random_probs(3, 4).requires_grad_()
    torch.autograd.gradcheck(lambda p: log_prob(codes, p, 5, null=null), probs)


@pytest.mark.parametrize(("operations", "samples"), SIZES)
def test_inclusion_is_that_of_all_draws(operations: int, samples: int) -> None:
    probs = random_probs(operations)
    expected = enumerate_draws(probs, samples) @ all_codes(operations)
    torch.testing.assert_close(inclusion_probs(probs, samples), expected)


@given(st.integers(1, 50), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None, max_examples=200)
def test_inclusion_increases_in_p(samples: int, first: float, second: float) -> None:
    low, high = sorted((first, second))
    included = inclusion_probs(torch.tensor([low, high], dtype=torch.float64), samples)
    assert 0 <= included[0] <= included[1] * (1 + 1e-14)
    assert included[1] <= 1 + 1e-14
    if samples * (1 - high) ** (samples - 1) * (high - low) > 1e-13:
        assert included[0] < included[1]


def test_inclusion_keeps_the_digits_of_small_probabilities() -> None:
    p = torch.tensor([1e-10, 1e-20, 1e-37])
    naive = 1 - (1 - p) ** 7
    torch.testing.assert_close(inclusion_probs(p, 7), 7 * p, rtol=1e-6, atol=0.0)
    assert torch.equal(naive, torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("samples", "slopes"), [(1, [1.0, 1.0]), (2, [2.0, 0.0]), (7, [7.0, 0.0])])
def test_inclusion_has_its_slope_at_zero_and_one(samples: int, slopes: list[float], dtype: torch.dtype) -> None:
    probs = torch.tensor([0.0, 1.0], dtype=dtype, requires_grad=True)
    inclusion_probs(probs, samples).sum().backward()
    assert probs.grad.tolist() == slopes


@pytest.mark.parametrize(("operations", "samples"), SIZES)
def test_expected_cost_is_that_of_all_draws(operations: int, samples: int) -> None:
    probs, costs = random_probs(operations), torch.randn(operations, dtype=torch.float64)
    expected = enumerate_draws(probs, samples) @ (all_codes(operations) @ costs)
    torch.testing.assert_close(expected_cost(probs, samples, costs), expected)


def test_expected_cost_is_not_the_cost_of_the_mean_draw() -> None:
    probs, costs = random_probs(4), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert (expected_cost(probs, 3, costs) - 3 * (probs @ costs)).abs() > 0.1


def test_expected_cost_broadcasts() -> None:
    probs, costs = random_probs(2, 3, 4), torch.arange(12).reshape(3, 4)
    together = expected_cost(probs, 3, costs)
    assert together.shape == (2, 3)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together[1, 2], expected_cost(probs[1, 2], 3, costs[2]))


def test_expected_cost_gradient_matches_differences() -> None:
    costs = torch.tensor([1.0, 5.0, 0.0, 2.0], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda p, c: expected_cost(p, 4, c), (random_probs(3, 4).requires_grad_(), costs))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("operations", "samples"), SIZES)
def test_most_probable_is_the_best_of_all_draws(operations: int, samples: int, seed: int) -> None:
    probs = random_probs(operations, seed=seed)
    for null in nulls(operations):
        best = all_codes(operations)[enumerate_draws(probs, samples, null).argmax()]
        assert torch.equal(most_probable(probs, samples, null=null), best)
        assert torch.equal(top(probs, samples, 1, null=null)[0][0], best)


def test_most_probable_is_not_the_mode_of_each_bit() -> None:
    probs = torch.full((8,), 1 / 8)
    each_bit = (inclusion_probs(probs, 7) > 0.5).float()
    assert each_bit.sum() == 8
    assert log_prob(each_bit, probs, 7) == -math.inf


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_most_probable_goes_through_leading_dimensions(dtype: torch.dtype) -> None:
    probs = random_probs(2, 3, 6, dtype=dtype)
    codes = most_probable(probs, 4, null=1)
    assert codes.dtype == dtype
    assert codes.shape == probs.shape
    for i, j in itertools.product(range(2), range(3)):
        assert torch.equal(codes[i, j], most_probable(probs[i, j], 4, null=1))


@pytest.mark.parametrize(("samples", "size"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 5)])
@pytest.mark.parametrize("operations", [8, 9, 14, 36, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_probabilities_keep_a_size_that_samples_alone_decide(
    samples: int, size: int, operations: int, dtype: torch.dtype
) -> None:
    # With 3 draws, 2 and 3 operations are equally likely: 6 / K^3.
    probs = torch.full((operations,), 1 / operations, dtype=dtype)
    expected = (torch.arange(operations) < size).to(dtype)
    assert torch.equal(most_probable(probs, samples), expected)
    assert torch.equal(top(probs, samples, 1)[0][0], expected)


def test_ties_go_to_the_lower_index() -> None:
    probs = torch.tensor([0.1, 0.3, 0.2, 0.3, 0.1], dtype=torch.float64)
    assert most_probable(probs, 1).tolist() == [0, 1, 0, 0, 0]
    codes, _ = top(probs, 1, 5)
    assert codes.argmax(-1).tolist() == [1, 3, 2, 0, 4]


def test_top_orders_ties_by_size_then_indices() -> None:
    codes, log_probs = top(torch.full((4,), 0.25, dtype=torch.float64), 3, 20)
    members = [tuple(code.nonzero().flatten().tolist()) for code in codes]
    expected = [*itertools.combinations(range(4), 2), *itertools.combinations(range(4), 3), (0,), (1,), (2,), (3,)]
    assert members == expected
    assert log_probs[:10].exp().tolist() == pytest.approx([6 / 64] * 10)


def test_top_orders_ties_by_indices_not_by_probability() -> None:
    codes, _ = top(torch.tensor([0.2, 0.2, 0.3, 0.3], dtype=torch.float64), 2, 5)
    members = [tuple(code.nonzero().flatten().tolist()) for code in codes]
    assert members == [(2, 3), (0, 2), (0, 3), (1, 2), (1, 3)]


def test_inclusion_does_not_pass_one_by_rounding_and_keeps_its_slope() -> None:
    probs = torch.tensor([0.9988048672676086, 0.9527381062507629], requires_grad=True)
    for samples in (3, 7):
        included = inclusion_probs(probs, samples)
        assert included.max() == 1  # one that rounding would take beyond
        (slopes,) = torch.autograd.grad(included.sum(), probs)
        torch.testing.assert_close(slopes, samples * (1 - probs.detach()) ** (samples - 1), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("operations", range(3, 12))
def test_rounding_errors_of_ties_do_not_show(operations: int) -> None:
    _, log_probs = top(torch.full((operations,), 1 / operations, dtype=torch.float64), 3, 1000)
    assert (log_probs.diff() <= 0).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("operations", "samples"), SIZES)
def test_top_is_the_sorted_enumeration(operations: int, samples: int, seed: int) -> None:
    probs = random_probs(operations, seed=seed)
    for null in nulls(operations):
        expected, row = enumerate_draws(probs, samples, null).sort(descending=True, stable=True)
        possible = int((expected > 0).sum())
        for n in (1, 5, possible, possible + 10):
            codes, log_probs = top(probs, samples, n, null=null)
            count = min(n, possible)
            assert torch.equal(codes, all_codes(operations)[row[:count]])
            torch.testing.assert_close(log_probs.exp(), expected[:count])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("operations", "samples"), SIZES)
def test_top_of_codes_that_hold_one_of_some_operations(operations: int, samples: int, seed: int) -> None:
    probs, bits = random_probs(operations, seed=seed), all_codes(operations).bool()
    wanted = torch.rand(operations, generator=torch.Generator().manual_seed(seed)) < 0.5
    for null in nulls(operations):
        expected = enumerate_draws(probs, samples, null).where((bits & wanted).any(-1), 0.0)
        expected, row = expected.sort(descending=True, stable=True)
        possible = int((expected > 0).sum())
        for n in (1, 5, possible + 10):
            codes, log_probs = top(probs, samples, n, null=null, any_of=wanted)
            count = min(n, possible)
            assert torch.equal(codes, all_codes(operations)[row[:count]])
            torch.testing.assert_close(log_probs.exp(), expected[:count])


def test_top_is_not_the_order_of_independent_bits() -> None:
    probs = random_probs(5, seed=2)
    included = inclusion_probs(probs, 4)
    bits = all_codes(5)
    independent = (bits * included + (1 - bits) * (1 - included)).prod(-1)
    codes, _ = top(probs, 4, 10)
    assert not torch.equal(codes, bits[independent.argsort(descending=True)[:10]])


@pytest.mark.parametrize(("operations", "samples", "count"), [(8, 7, 254), (8, 8, 255), (8, 2, 36), (5, 9, 31)])
def test_number_of_distinct_codes(operations: int, samples: int, count: int) -> None:
    codes, log_probs = top(random_probs(operations), samples, 2000)
    assert len(codes) == len(codes.unique(dim=0)) == count
    assert log_probs.logsumexp(0).item() == pytest.approx(0.0, abs=1e-12)
    assert len(top(random_probs(operations + 1), samples, 2000, null=0)[0]) == count + 1


def test_top_leaves_out_impossible_codes() -> None:
    codes, log_probs = top(torch.tensor([0.6, 0.0, 0.4, 0.0]), 3, 10)
    assert codes.tolist() == [[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]]
    assert log_probs.exp().tolist() == pytest.approx([0.72, 0.216, 0.064])
    certain, log_probs = top(torch.tensor([0.0, 1.0]), 3, 10, null=1)
    assert certain.tolist() == [[0, 0]]
    assert log_probs.tolist() == [0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_of_many_operations(dtype: torch.dtype) -> None:
    probs = random_probs(40, seed=3, dtype=dtype)
    codes, log_probs = top(probs, 10, 300)
    assert codes.shape == (300, 40)
    assert codes.dtype == log_probs.dtype == dtype
    assert (log_probs.diff() <= 0).all()
    assert len(codes.unique(dim=0)) == 300
    assert torch.equal(codes[0], most_probable(probs, 10))
    torch.testing.assert_close(log_probs, log_prob(codes, probs, 10))


def test_top_of_many_operations_misses_no_neighbour() -> None:
    # Whatever differs from a listed code by one exchange, and is not listed, is not likelier than the last.
    probs = random_probs(40, seed=3)
    codes, log_probs = top(probs, 10, 30)
    listed = {tuple(code) for code in codes.tolist()}
    neighbours = []
    for code in codes:
        for taken, given_up in itertools.product((code == 0).nonzero().flatten(), code.nonzero().flatten()):
            neighbour = code.clone()
            neighbour[taken], neighbour[given_up] = 1, 0
            if tuple(neighbour.tolist()) not in listed:
                neighbours.append(neighbour)
    assert log_prob(torch.stack(neighbours), probs, 10).max() <= log_probs[-1]


def test_many_draws_of_few_operations_choose_all() -> None:
    probs = random_probs(6)
    codes, log_probs = top(probs, 200, 3)
    assert torch.equal(codes[0], torch.ones(6, dtype=torch.float64))
    assert torch.equal(most_probable(probs, 200), codes[0])
    torch.testing.assert_close(log_probs, log_prob(codes, probs, 200))


def test_answer_does_not_depend_on_the_default_device() -> None:
    probs = random_probs(5)
    with torch.device("meta"):
        code, (codes, log_probs) = most_probable(probs, 3), top(probs, 3, 4)
        again = log_prob(codes, probs, 3)
    assert torch.equal(codes[0], code)
    torch.testing.assert_close(again, log_probs)


def test_sample_has_the_distribution_of_equation_15() -> None:
    probs, samples = random_probs(5), 3
    codes = sample(probs, samples, 100_000, generator=torch.Generator().manual_seed(0))
    observed = (codes.long() << torch.arange(5)).sum(-1).bincount(minlength=32)
    expected = enumerate_draws(probs, samples) * 100_000
    possible = expected > 0
    assert observed[~possible].sum() == 0
    assert chisquare(observed[possible].numpy(), expected[possible].numpy()).pvalue > 0.01


def test_sample_draws_each_vector_by_its_own_probabilities() -> None:
    probs = torch.eye(3).reshape(3, 1, 3)
    codes = sample(probs, 2, 4)
    assert torch.equal(codes, probs.expand(4, 3, 1, 3))
    assert torch.equal(sample(probs, 2), probs)


def test_one_code_is_the_first_of_one() -> None:
    probs = random_probs(20, 5)
    one, first = (sample(probs, 3, n, generator=torch.Generator().manual_seed(0)) for n in (None, 1))
    assert torch.equal(one, first[0])


def test_sample_repeats_with_its_generator() -> None:
    probs = random_probs(20, 5)
    first, again, other = (sample(probs, 3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.dtype == probs.dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("samples", [0, -3, 2.0])
def test_samples_out_of_range(samples: Any) -> None:
    probs = random_probs(3)
    for call in (
        lambda: inclusion_probs(probs, samples),
        lambda: log_prob(probs, probs, samples),
        lambda: most_probable(probs, samples),
        lambda: top(probs, samples, 1),
        lambda: sample(probs, samples),
        lambda: expected_cost(probs, samples, probs),
    ):
        with pytest.raises(ValueError, match="samples must be"):
            call()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_count_out_of_range(n: Any) -> None:
    with pytest.raises(ValueError, match="n must be"):
        top(random_probs(3), 2, n)
    with pytest.raises(ValueError, match="n must be"):
        sample(random_probs(3), 2, n)


@pytest.mark.parametrize("null", [-1, 3])
def test_null_out_of_range(null: int) -> None:
    for call in (
        lambda: log_prob(torch.ones(3), random_probs(3), 2, null=null),
        lambda: most_probable(random_probs(3), 2, null=null),
        lambda: top(random_probs(3), 2, 1, null=null),
    ):
        with pytest.raises(ValueError, match="null must be an index from 0 to 2"):
            call()


@pytest.mark.usefixtures("unchecked")
def test_last_dimensions_must_agree() -> None:
    with pytest.raises(ValueError, match="code must have the last dimension 3"):
        log_prob(torch.ones(1), random_probs(3), 2)
    with pytest.raises(ValueError, match="costs must have the last dimension 3"):
        expected_cost(random_probs(3), 2, torch.ones(4))
    with pytest.raises(ValueError, match="probs must have shape"):
        inclusion_probs(torch.tensor(0.5), 2)
    with pytest.raises(ValueError, match=r"probs must have shape \(K,\)"):
        top(random_probs(2, 3), 2, 1)


@pytest.mark.parametrize("probs", [[0.5, math.nan], [1.5, -0.5], [0.0, 0.0], [math.inf, 0.0]])
def test_vectors_that_are_no_distribution_have_no_mode(probs: list[float]) -> None:
    with pytest.raises(ValueError, match="probs must be finite"):
        most_probable(torch.tensor([[0.5, 0.5], probs]), 2)
    with pytest.raises(ValueError, match="probs must be finite"):
        top(torch.tensor(probs), 2, 1)
