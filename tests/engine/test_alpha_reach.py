"""How far P can get: the rule is about P, not about the number of steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from datanas.codes.choice_group import ChoiceGroup
from datanas.core.settings import validate
from datanas.engine.alpha_reach import FLAT, flat_warning, log_odds_within
from datanas.engine.search import SearchJob, search
from datanas.samplers import samplers
from datanas.samplers.interface import BaseSampler

GROUP = ChoiceGroup(
    "normal", ((0, 2), (1, 2)), ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3"), outputs=(2,), inputs=2
)
MOVED = [name for name in sorted(samplers) if samplers[name].learns and samplers[name].uses_optimizer]


def make(name: str, **options: Any) -> BaseSampler:
    torch.manual_seed(0)
    kind = samplers[name]
    return kind(validate(kind.Config, {"name": name, **options}, "sampler"), {"normal": GROUP}, "conv_cell")


@pytest.mark.parametrize("name", ["darts", "egs", "gdas", "pc_darts", "proxylessnas", "snas"])
@pytest.mark.parametrize("movement", [0.0, 0.01, 0.4])
def test_a_softmax_moves_by_twice_the_movement_of_its_logits(name: str, movement: float) -> None:
    made = make(name)
    assert log_odds_within(made, movement) == pytest.approx(2 * movement, abs=1e-5)


@pytest.mark.parametrize("movement", [0.01, 0.4])
def test_a_relu_moves_by_the_ratio_of_what_rose_and_what_fell(movement: float) -> None:
    made = make("egs", preset="official", init_std=0.0)
    assert log_odds_within(made, movement) == pytest.approx(math.log((1 + movement) / (1 - movement)), abs=1e-4)


@pytest.mark.parametrize("name", MOVED)
def test_farther_steps_lead_farther_and_the_sampler_stays(name: str) -> None:
    made = make(name)
    if not list(made.parameters()):
        return
    before = [parameter.detach().clone() for parameter in made.parameters()]
    found = [log_odds_within(made, movement) for movement in (0.0, 0.001, 0.03, 0.3)]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found == sorted(found)
    assert found[-1] > 0.1
    assert all(torch.equal(now, then) for now, then in zip(made.parameters(), before, strict=True))


def test_nothing_is_told_of_a_method_whose_p_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("darts")
    kind = type(made)
    original = kind.draw

    def draw(self: Any, *args: Any, **options: Any) -> Any:
        with torch.no_grad():
            return original(self, *args, **options)

    monkeypatch.setattr(kind, "draw", draw)
    assert log_odds_within(made, 0.0) == math.inf


@pytest.mark.parametrize(("rate", "is_told"), [(1e-5, True), (0.288 / 240, True), (0.295 / 240, False), (0.05, False)])
def test_the_rate_decides_whatever_the_number_of_steps(
    rate: float, is_told: bool, search_job: Callable[..., SearchJob]
) -> None:
    """240 steps; FLAT is log((1 + m) / (1 - m)) at m = 0.291, for a relu of alpha."""
    assert FLAT == 0.6
    search_settings = {"epochs": 20, "batch_size": 2, "alpha": {"lr": rate}}
    sampler = {"preset": "official", "scope": "node", "init_std": 0.0}
    warning = flat_warning(search_job(search=search_settings, sampler=sampler))
    assert (warning is not None) == is_told


def test_a_search_says_so_once_at_its_start(
    config: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config()
    settings["search"]["alpha"] = {"lr": 1e-6}
    search(settings)
    lines = [line for line in capsys.readouterr().err.splitlines() if "so P can hardly move" in line]
    assert len(lines) == 1
    assert lines[0].startswith("warning: ")
