"""torch's random functions draw from a generator of one's own, the numbers that torch's own generator would give."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datanas.core.seeding import keyed
from datanas.core.torch_draws import draws_unasked, process_generators

KEY = (0, "weights", 5)

x = torch.linspace(0.1, 0.9, 24).view(2, 3, 2, 2)
channels_last = torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)

DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(5),
    "randn": lambda: torch.randn(2, 3),
    "randint": lambda: torch.randint(100, (5,)),
    "randperm": lambda: torch.randperm(20),
    "rand_like": lambda: torch.rand_like(x),
    "randn_like": lambda: torch.randn_like(x),
    "randint_like": lambda: torch.randint_like(x, 50),
    "normal": lambda: torch.normal(0.0, 2.0, (7,)),
    "normal of tensors": lambda: torch.normal(x, x),
    "bernoulli": lambda: torch.bernoulli(x),
    "Tensor.bernoulli": lambda: x.bernoulli(0.3),
    "Tensor.multinomial": lambda: torch.ones(9).multinomial(5),
    "multinomial": lambda: torch.multinomial(torch.ones(9), 5),
    "poisson": lambda: torch.poisson(9 * x),
    "binomial": lambda: torch.binomial(torch.full((5,), 10.0), torch.full((5,), 0.4)),
    "uniform_": lambda: torch.empty(5).uniform_(-1, 1),
    "normal_": lambda: torch.empty(40).normal_(),
    "exponential_": lambda: torch.empty(5).exponential_(),
    "bernoulli_": lambda: torch.empty(50).bernoulli_(0.2),
    "random_": lambda: torch.empty(5).random_(),
    "geometric_": lambda: torch.empty(5).geometric_(0.3),
    "log_normal_": lambda: torch.empty(5).log_normal_(),
    "cauchy_": lambda: torch.empty(5).cauchy_(),
    "dirichlet": lambda: torch.distributions.Dirichlet(torch.ones(4)).rsample(),
    "gamma": lambda: torch.distributions.Gamma(torch.ones(4), torch.ones(4)).sample(),
    "init.uniform_": lambda: nn.init.uniform_(torch.empty(5)),
    "init.kaiming_normal_": lambda: nn.init.kaiming_normal_(torch.empty(5, 5)),
    "init.kaiming_uniform_": lambda: nn.init.kaiming_uniform_(torch.empty(5, 5)),
    "init.xavier_uniform_": lambda: nn.init.xavier_uniform_(torch.empty(5, 5)),
    "init.orthogonal_": lambda: nn.init.orthogonal_(torch.empty(5, 5)),
    "init.trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(5, 5)),
    "Linear": lambda: nn.Linear(4, 3).weight.detach(),
    "Conv2d": lambda: nn.Conv2d(4, 3, 3).weight.detach(),
    "Embedding": lambda: nn.Embedding(4, 3).weight.detach(),
    "LSTM": lambda: nn.LSTM(4, 3).get_parameter("weight_hh_l0").detach(),
    "dropout": lambda: F.dropout(x, 0.4),
    "dropout in channels last": lambda: F.dropout(channels_last, 0.4),
    "dropout in place": lambda: F.dropout(x.clone(), 0.4, True, True),
    "dropout of everything": lambda: F.dropout(x, 1.0),
    "dropout while evaluating": lambda: F.dropout(x, 0.4, training=False),
    "dropout2d": lambda: F.dropout2d(x, 0.4),
    "dropout1d of one example": lambda: F.dropout1d(x[0, 0], 0.4),
    "dropout1d": lambda: F.dropout1d(x[0], 0.4),
    "dropout3d of one example": lambda: F.dropout3d(x, 0.4),
    "dropout3d": lambda: F.dropout3d(x[None], 0.4),
    "torch.dropout": lambda: torch.dropout(x, 0.4, True),
    "torch.feature_dropout": lambda: torch.feature_dropout(x, p=0.4, train=True),
    "Dropout": lambda: nn.Dropout(0.3)(x),
    "alpha_dropout": lambda: F.alpha_dropout(x, 0.4, True),
    "rrelu": lambda: F.rrelu(-x, training=True),
    "gumbel_softmax": lambda: F.gumbel_softmax(x),
    "FractionalMaxPool2d": lambda: nn.FractionalMaxPool2d(2, output_ratio=0.5)(torch.ones(1, 1, 9, 9).cumsum(2)),
    "attention": lambda: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    "MultiheadAttention": lambda: nn.MultiheadAttention(4, 2, dropout=0.5)(*[x.view(2, 3, 4)] * 3)[0].detach(),
    "LSTM with dropout": lambda: nn.LSTM(4, 3, 2, dropout=0.5)(x.view(2, 3, 4))[0].detach(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_numbers_are_those_of_torch_s_own_generator(name: str) -> None:
    """And so those of versions that seeded the generator of the process, bit for bit."""
    from datanas.core.seeding import key

    with process_generators(key(*KEY)):
        expected = DRAWS[name](), torch.rand(3)
    with keyed(*KEY):
        found = DRAWS[name](), torch.rand(3)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("name", DRAWS)
def test_torch_s_own_generator_stays_as_it_is(name: str) -> None:
    before = torch.get_rng_state()
    with keyed(*KEY):
        DRAWS[name]()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_that_is_given_is_kept() -> None:
    with keyed(*KEY):
        found = torch.rand(3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found, torch.rand(3, generator=torch.Generator().manual_seed(1)))


def test_threads_draw_what_they_draw_alone() -> None:
    def drawn(seed: int) -> list[float]:
        with keyed(seed, "x"):
            return [float(F.dropout(torch.rand(50), 0.5).sum()) for _ in range(200)]

    alone = [drawn(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, range(4))) == alone


def test_dropout_has_its_gradient() -> None:
    leaf = torch.ones(50, requires_grad=True)
    with keyed(*KEY):
        output = F.dropout(leaf, 0.5)
    output.sum().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, output.detach())


def test_dropout_refuses_what_torch_refuses() -> None:
    with keyed(*KEY), pytest.raises(ValueError, match="between 0 and 1"):
        F.dropout(x, 1.5)


class Stranger(nn.Module):
    """What a plugin brings."""


@pytest.mark.parametrize(
    ("module", "may_draw"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU(), nn.AvgPool2d(2)), False),
        (nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5)), True),
        (nn.RReLU(), True),
        (nn.FractionalMaxPool2d(2, output_ratio=0.5), True),
        (nn.LSTM(2, 2, 2, dropout=0.5), True),
        (nn.MultiheadAttention(4, 2), True),
        (nn.Sequential(Stranger()), True),
    ],
)
def test_it_is_known_which_modules_may_draw(module: nn.Module, may_draw: bool) -> None:
    assert draws_unasked(module) is may_draw
