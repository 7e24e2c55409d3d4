"""Random numbers keyed by (seed, stream, step), so that a step is a function of its number (DESIGN, "Randomness")."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


def key(seed: int, stream: str, *steps: int) -> int:
    """A 63-bit number that depends on every argument and on nothing else.

    Args:
        seed: the run's seed.
        stream: what the numbers are for ("gates", "order", "augment", ...).
        steps: which step, epoch or part of the stream.
    """
    text = "/".join([str(seed), stream, *map(str, steps)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(seed: int, stream: str, *steps: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device` that starts from the key of (seed, stream, steps)."""
    return torch.Generator(device=device).manual_seed(key(seed, stream, *steps))


@contextmanager
def keyed(seed: int, stream: str, *steps: int) -> Iterator[None]:
    """Run a block with torch's global generators keyed, and put their state back afterwards.

    For code that takes no generator: initialisation, dropout, drop-path.
    """
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices):
        torch.manual_seed(key(seed, stream, *steps))
        yield
