"""Random numbers keyed by (seed, stream, step), so that a step is a function of its number (DESIGN, "Randomness").

They come from generators that belong to the block that keys them, in its thread. torch's own generators belong to
whoever calls this package, and to all threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from typing import Literal, TypeAlias

import torch
from torch import nn

from datanas.core.torch_draws import OwnDraws, draws_unasked, process_generators

Reach: TypeAlias = Literal["thread", "asking", "process"]
"""What a keyed block reaches: all of torch's random functions in its thread; only code that asks `current`, which costs
nothing; or the generators of the whole process, one block at a time, since compiled code and that of others may draw
from no others."""


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


class _Draws:
    """The generators of a keyed block, one a device, each made when it is first asked for."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._generators: dict[torch.device, torch.Generator] = {}

    def on(self, device: torch.device) -> torch.Generator | None:
        if device.type == "meta":
            return None
        if device == torch.device("cuda"):  # the one that is current
            device = torch.device("cuda", torch.cuda.current_device())
        if device not in self._generators:
            self._generators[device] = torch.Generator(device=device).manual_seed(self._key)
        return self._generators[device]

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """Run a block, then let every generator stand where it stood."""
        before = {device: each.get_state() for device, each in self._generators.items()}
        try:
            yield
        finally:
            for device, each in self._generators.items():
                if device in before:
                    each.set_state(before[device])
                else:
                    each.manual_seed(self._key)


class _Thread(threading.local):
    draws: _Draws | None = None
    is_reached: bool = False
    """Whether torch's functions draw from `draws`, whoever calls them."""


_thread = _Thread()


def current(device: torch.device | str = "cpu") -> torch.Generator | None:
    """The generator on `device` of the keyed block that this thread is in; None outside of any, for torch's own.

    For code that draws inside a module, where nobody can hand it a generator: initialisation, dropout, drop-path. Two
    blocks of the same key give the same numbers.

    Example:
        >>> with keyed(0, "weights", 5):
        ...     first = torch.rand(2, generator=current())
        >>> with keyed(0, "weights", 5):
        ...     bool((torch.rand(2, generator=current()) == first).all())
        True
    """
    if torch.compiler.is_compiling() or _thread.draws is None:
        return None
    return _thread.draws.on(torch.device(device))


@contextmanager
def keyed(seed: int, stream: str, *steps: int, reach: Reach = "thread") -> Iterator[None]:
    """Run a block whose random numbers depend on the key alone, and which leaves torch's own generators alone.

    Args:
        seed, stream, steps: as for `key`.
        reach: whose random numbers; see `Reach`.
    """
    before, was_reached = _thread.draws, _thread.is_reached
    with ExitStack() as stack:
        if reach == "process":
            _thread.draws = None
            stack.enter_context(process_generators(key(seed, stream, *steps)))
        else:
            _thread.draws = _Draws(key(seed, stream, *steps))
        try:
            if reach == "thread" and not was_reached:
                stack.enter_context(OwnDraws(current))
                _thread.is_reached = True
            yield
        finally:
            _thread.draws, _thread.is_reached = before, was_reached


@contextmanager
def put_back() -> Iterator[None]:
    """Run a block, then let the numbers that this thread draws go on as if the block had drawn none."""
    if _thread.draws is not None:
        with _thread.draws.put_back():
            yield
        return
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices):
        yield


def reach_of(*parts: object, is_compiled: bool = False) -> Reach:
    """What a block that runs these parts, forward and backward, has to reach.

    Of others' parts it is the process: a checkpoint of `torch.utils` draws its numbers again by torch's own generators,
    and backward may run in a thread of its own.

    Args:
        parts: networks and tasks; those of this package ask for their random numbers, of others that is not known, nor
            of those that call what they were given (`draws_like_unknown`).
        is_compiled: whether torch compiles what runs.
    """
    if is_compiled:
        return "process"
    modules = [part for part in parts if isinstance(part, nn.Module)]
    others = [part for part in parts if not isinstance(part, nn.Module)]
    are_own = all(
        type(part).__module__.startswith("datanas.") and not getattr(part, "draws_like_unknown", False)
        for part in others
    )
    return "asking" if are_own and not draws_unasked(*modules) else "process"
