"""The loss from some words: exact where all are drawn, unbiased normaliser, frequent words always there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datanas.tasks.sampled_words import DrawnWords, WordSampler, inclusion_by, sampled_cross_entropy

WORDS, WIDTH, COUNT = 60, 5, 7
CPU = torch.device("cpu")


def parts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(COUNT, WIDTH, dtype=torch.float64, generator=generator)
    weight = torch.randn(WORDS, WIDTH, dtype=torch.float64, generator=generator)
    bias = torch.randn(WORDS, dtype=torch.float64, generator=generator)
    return features, weight, bias, torch.randint(0, WORDS, (COUNT,), generator=generator)


def text() -> Tensor:
    """The word w stands in it about 1000 / (w + 1) times."""
    return torch.repeat_interleave(torch.arange(WORDS), torch.div(1000, torch.arange(WORDS) + 1).long())


def test_with_all_words_it_is_the_exact_loss_and_has_its_gradient() -> None:
    features, weight, bias, targets = parts()
    weight.requires_grad_()
    everything = DrawnWords(torch.arange(WORDS), torch.zeros(WORDS))
    found = sampled_cross_entropy(features, weight, bias, targets, everything)
    exact = F.cross_entropy(F.linear(features, weight, bias), targets)
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=0)
    slopes = [torch.autograd.grad(each, weight)[0] for each in (found, exact)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [1, 10, 30, 59])
def test_words_are_drawn_by_their_frequency_and_so_many_on_average(size: int) -> None:
    counts = torch.bincount(text(), minlength=WORDS).double() + 1
    found = inclusion_by(counts, size)
    assert float(found.sum()) == pytest.approx(size)
    assert bool((found <= 1).all())
    below = found < 1
    ratios = found[below] / counts[below]
    torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
    assert bool((counts[~below] * ratios[:1] >= 1 - 1e-9).all())  # no more are certain than have to be


@pytest.mark.parametrize("size", [0, WORDS, WORDS + 1])
def test_a_size_that_draws_nothing_or_everything_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size"):
        inclusion_by(torch.ones(WORDS, dtype=torch.float64), size)


def test_the_normaliser_is_right_on_average() -> None:
    features, weight, bias, targets = parts()
    sampler = WordSampler(text(), WORDS, 20, 0, CPU)
    scores = F.linear(features[:1], weight, bias)[0]
    exact = float(scores.exp().sum())
    found = []
    for step in range(4000):
        loss = sampled_cross_entropy(features[:1], weight, bias, targets[:1], sampler.draw("train", step))
        found.append(float((loss + scores[targets[0]]).exp()))
    mean, error = torch.tensor(found).mean(), torch.tensor(found).std() / len(found) ** 0.5
    assert abs(float(mean) - exact) < 4 * float(error)
    assert float(error) < 0.05 * exact


def test_a_draw_is_the_same_whenever_it_is_asked_for() -> None:
    sampler, again = (WordSampler(text(), WORDS, 20, 3, CPU) for _ in range(2))
    first = sampler.draw("train", 5)
    assert torch.equal(first.ids, again.draw("train", 5).ids)
    assert not torch.equal(first.ids, sampler.draw("train", 6).ids)
    assert not torch.equal(first.ids, sampler.draw("alpha", 5).ids)
    assert 0 in first.ids.tolist()  # the most frequent word
