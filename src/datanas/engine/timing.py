"""Times of many calls on a machine that others use too: all in turn, round after round, and the least of each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

CALLS_ON_GPU = 20
"""Of one call in a row there, where a call alone would be timed with the wait for its end."""


def clock_of(device: torch.device, threads: int) -> Callable[[], float]:
    """What tells the seconds of a call there: the processor time of one thread, or the time of day."""
    return time.thread_time if device.type == "cpu" and threads == 1 else time.perf_counter


def interleaved_ms(
    calls: Sequence[Callable[[], object]],
    rounds: int,
    *,
    threads: int,
    device: torch.device,
    blocks: int = 1,
    is_settled: Callable[[NDArray[np.float64]], bool] = lambda _: False,
) -> NDArray[np.float64]:
    """Milliseconds of every call in every round, shape (rounds, calls).

    What disturbs the machine for a second then disturbs all calls alike. torch.utils.benchmark's timer sets the
    threads, warms up by two calls each time, and waits for the device.

    With one thread on the CPU it is the time that this thread ran, so that it does not count when others ran in its
    place: on a machine without others the two are the same.

    Args:
        threads: of torch on the CPU.
        blocks: of so many rounds, at most.
        is_settled: whether the times so far are enough, asked after each block.
    """
    # The timer's module looks for compilers, and tells of every GPU that is not there.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    number = 1 if device.type == "cpu" else CALLS_ON_GPU
    clock = clock_of(device, threads)
    timers = [Timer("call()", timer=clock, globals={"call": call}, num_threads=threads) for call in calls]
    found: list[list[float]] = []
    with torch.inference_mode():
        for _ in range(blocks):
            found += [[1000 * timer.timeit(number).mean for timer in timers] for _ in range(rounds)]
            if is_settled(np.array(found)):
                break
    return np.array(found)


def typical_ms(times: NDArray[np.float64], device: torch.device, threads: int) -> NDArray[np.float64]:
    """The time of each call from those of its rounds.

    The median; on the CPU with several threads the least, since the time of day counts what else ran there, which only
    adds.

    Args:
        times: (rounds, calls).
    """
    is_disturbed = device.type == "cpu" and clock_of(device, threads) is time.perf_counter
    found: NDArray[np.float64] = np.min(times, axis=0) if is_disturbed else np.median(times, axis=0)
    return found


def repeat_error(times: NDArray[np.float64], device: torch.device, threads: int) -> float:
    """The mean relative difference between what every other round gives and what the rest give."""
    one, other = (typical_ms(times[start::2], device, threads) for start in (0, 1))
    return float(np.mean(np.abs(one - other) / np.minimum(one, other)))
