"""The check that random numbers come from the generators that are given, not from that of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def leaving_torch_alone() -> Iterator[None]:
    """Run a block that must not draw from torch's generator of the process: it is to repeat whatever ran before."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before), (
        "it draws from torch's generator of the process; draw from the generator that is given or from "
        "datanas.core.seeding, or restore the state"
    )
