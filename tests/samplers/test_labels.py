"""The best selections under bounds, against all of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from datanas.samplers.labels import Selection, Step, best_selections, dual


def random_steps(rng: np.random.Generator, costs: int, *, ties: bool, count: int = 6, choices: int = 5) -> list[Step]:
    """Dear choices tend to be good, so that bounds bind; with ties scores and costs are whole numbers."""
    steps = []
    for _ in range(count):
        price = rng.integers(0, 4, (choices, costs)) if ties else rng.random((choices, costs))
        scores = price.sum(axis=1) + (rng.integers(0, 3, choices) if ties else rng.normal(0, 0.5, choices))
        steps.append(
            Step(scores.astype(float), price.astype(float), np.ones(choices, bool), np.zeros(choices, np.int64))
        )
    return steps


def all_scores(steps: list[Step], bounds: np.ndarray) -> list[float]:
    """Of every selection within the bounds, best first."""
    found = []
    for chosen in product(*(range(len(step.scores)) for step in steps)):
        cost = sum(step.costs[index] for step, index in zip(steps, chosen, strict=True))
        if (cost <= bounds + 1e-12).all():
            found.append(float(sum(step.scores[index] for step, index in zip(steps, chosen, strict=True))))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("costs", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_are_those_of_all_selections(seed: int, costs: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    steps = random_steps(rng, costs, ties=ties)
    for share in (0.3, 0.45, 0.6):
        bounds = share * sum(step.costs.max(axis=0) for step in steps)
        expected = all_scores(steps, bounds)
        for n in (1, 9):
            found = best_selections([[steps]], bounds, n)
            np.testing.assert_allclose([each.score for each in found], expected[:n])
            assert len({each.choices for each in found}) == len(found)
            for each in found:
                assert_consistent(each, steps, bounds)


def assert_consistent(found: Selection, steps: list[Step], bounds: np.ndarray) -> None:
    chosen = list(zip(steps, found.choices, strict=True))
    assert found.score == pytest.approx(sum(step.scores[index] for step, index in chosen))
    np.testing.assert_allclose(found.costs, sum(step.costs[index] for step, index in chosen))
    assert (found.costs <= bounds + 1e-9).all()


def test_of_alternatives_the_best_is_taken() -> None:
    rng = np.random.default_rng(0)
    ways = [random_steps(rng, 1, ties=False, count=3, choices=4) for _ in range(3)]
    after = random_steps(rng, 1, ties=False, count=2, choices=4)
    bounds = np.array([1.6])
    expected = sorted((score for way in ways for score in all_scores([*way, *after], bounds)), reverse=True)
    found = best_selections([ways, [after]], bounds, 5)
    np.testing.assert_allclose([each.score for each in found], expected[:5])


def test_what_nothing_reads_costs_nothing() -> None:
    """The last step reads node 1 by one choice alone; only then the choice of node 1 is paid for."""
    hidden = 1 << 1
    output = Step(np.array([2.0, 1.0]), np.array([[1.0], [1.0]]), np.ones(2, bool), np.array([hidden, 0]))
    node = Step(np.array([0.0, 5.0]), np.array([[0.0], [9.0]]), np.ones(2, bool), np.zeros(2, np.int64), node=hidden)
    (found,) = best_selections([[[output, node]]], np.array([1.0]), 1)
    assert (found.score, found.choices) == (6.0, (1, 1))


@pytest.mark.parametrize("seed", range(5))
def test_the_dual_is_never_below_the_best(seed: int) -> None:
    steps = random_steps(np.random.default_rng(seed), 2, ties=False)
    bounds = 0.4 * sum(step.costs.max(axis=0) for step in steps)
    value, multipliers = dual([[steps]], bounds)
    assert (multipliers >= 0).all()
    assert value >= all_scores(steps, bounds)[0] - 1e-9


def test_where_nothing_fits_nothing_is_found() -> None:
    steps = random_steps(np.random.default_rng(1), 1, ties=False)
    assert best_selections([[steps]], np.array([-1.0]), 3) == []
    together = [Step(np.zeros(2), np.array([[0.0, 2.0], [2.0, 0.0]]), np.ones(2, bool), np.zeros(2, np.int64))]
    assert best_selections([[together]], np.array([1.0, 1.0]), 1) == []
