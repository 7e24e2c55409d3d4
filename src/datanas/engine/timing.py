"""Times of many calls on a machine that others use too: all in turn, round after round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datanas.kernels.hardware import synchronize

CALLS_ON_GPU = 20
"""Of one call in a row there, where a call alone would be timed with the wait for its end."""


def clock_of(device: torch.device, threads: int) -> Callable[[], float]:
    """What tells the seconds of a call there: the time of its one thread, or the time of day once a GPU is done."""
    if device.type == "cpu" and threads == 1:
        return time.thread_time

    def clock() -> float:
        synchronize(device)
        return time.perf_counter()

    return clock


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

    What disturbs the machine for a second then disturbs all calls alike. Every round has another order, so that none
    always follows the same one; each call is made once before it is timed.

    With one thread on the CPU it is the time that this thread ran, so that it does not count when others ran in its
    place: on a machine without others the two are the same.

    Args:
        threads: of torch on the CPU.
        blocks: of so many rounds, at most.
        is_settled: whether the times so far are enough, asked after each block.
    """
    number, clock = 1 if device.type == "cpu" else CALLS_ON_GPU, clock_of(device, threads)
    before, order = torch.get_num_threads(), np.random.default_rng(0)
    times: list[list[float]] = []
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            for call in calls:
                call()
            for _ in range(blocks):
                for _ in range(rounds):
                    times.append([0.0] * len(calls))
                    for index in order.permutation(len(calls)):
                        times[-1][index] = 1000 * _seconds(calls[index], number, clock)
                if is_settled(np.array(times)):
                    break
    finally:
        torch.set_num_threads(before)
    return np.array(times)


def _seconds(call: Callable[[], object], number: int, clock: Callable[[], float]) -> float:
    call()  # so that it finds its own code and weights in the caches, as in a network
    start = clock()
    for _ in range(number):
        call()
    return (clock() - start) / number


def typical_ms(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The time of each call t from those of its rounds, as the machine is in the quietest of them.

    How slow the machine is in a round, s_r, is the median over the calls of t_r relative to the call's own median; what
    comes out is median_r(t_r / s_r) * min_r(s_r). The least of the rounds alone would be up to a single lucky one.

    Args:
        times: (rounds, calls).
    """
    slowness = np.median(times / np.median(times, axis=0), axis=1)
    typical: NDArray[np.float64] = np.median(times / slowness[:, None], axis=0) * slowness.min()
    return typical


def repeat_error(times: NDArray[np.float64]) -> float:
    """The mean relative difference between what every other round gives and what the rest give.

    By how much all of one half is slower than the other is left out: it says nothing of one call beside another.
    """
    one, other = (typical_ms(times[start::2]) for start in (0, 1))
    ratio = one / other
    return float(np.mean(np.abs(ratio / np.median(ratio) - 1)))
