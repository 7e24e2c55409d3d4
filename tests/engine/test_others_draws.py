"""Operations of others that draw random numbers, forward, backward and in what a checkpoint runs again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datanas.core import seeding
from datanas.engine.search import SearchJob
from datanas.ops import OpSettings, operations

PRIMITIVES = ["none", "dropping", "skip_connect", "sep_conv_3x3"]


def dropping(settings: OpSettings) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(3, settings.stride, padding=1), nn.Dropout(0.5))


@pytest.fixture
def with_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "skip_connect" in operations
    monkeypatch.setitem(operations._entries, "dropping", dropping)


@pytest.mark.usefixtures("with_dropout")
def test_a_search_depends_on_its_seed_alone(search_job: Callable[..., SearchJob]) -> None:
    """Closed operations run in backward, and draw there."""
    found = []
    for callers_seed in (1, 2):
        job = search_job(space={"primitives": PRIMITIVES})
        torch.manual_seed(callers_seed)
        before = torch.get_rng_state()
        for step in range(3):
            job.step(step)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(job.state())
    for own, other in zip(found[0]["sampler"].values(), found[1]["sampler"].values(), strict=True):
        assert torch.equal(own, other)
    for own, other in zip(found[0]["supernet"].values(), found[1]["supernet"].values(), strict=True):
        assert torch.equal(own, other)


class Again(nn.Module):
    """Dropout in a checkpoint."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = checkpoint(lambda at: nn.functional.dropout(at, 0.5) * at, x, use_reentrant=False)
        return found


def test_a_checkpoint_drops_the_same_the_second_time() -> None:
    module, x = Again(), torch.ones(64, requires_grad=True)
    with seeding.keyed(0, "weights", reach=seeding.reach_of(module)):
        y = module(x)
        y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, 2 * y.detach())
