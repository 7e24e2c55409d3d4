"""Everything is timed in turn, and what is typical of it is the least."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from datanas.engine.timing import clock_of, interleaved_ms, repeat_error, typical_ms

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_calls_take_turns_after_they_are_warm() -> None:
    order: list[str] = []
    times = interleaved_ms([lambda: order.append("a"), lambda: order.append("b")], 3, threads=1, device=CPU)
    assert "".join(order) == 3 * "aaabbb"  # two of three to warm up
    assert times.shape == (3, 2)
    assert (times >= 0).all()


def test_blocks_go_on_until_the_times_have_settled() -> None:
    seen: list[int] = []

    def is_settled(times: np.ndarray) -> bool:
        seen.append(len(times))
        return len(times) >= 4

    assert len(interleaved_ms([lambda: None], 2, threads=1, device=CPU, blocks=5, is_settled=is_settled)) == 4
    assert seen == [2, 4]
    assert len(interleaved_ms([lambda: None], 2, threads=1, device=CPU, blocks=3)) == 6


def test_calls_run_with_the_threads_that_are_asked_for_and_without_gradients() -> None:
    seen: list[tuple[int, bool]] = []
    interleaved_ms([lambda: seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))], 1, threads=2,
                   device=CPU)  # fmt: skip
    assert seen[-1] == (2, True)
    assert torch.get_num_threads() == 1


def test_one_thread_is_timed_by_its_own_processor_time() -> None:
    assert clock_of(CPU, 1) is time.thread_time
    assert clock_of(CPU, 2) is clock_of(GPU, 1) is time.perf_counter


def test_the_typical_time_is_the_median_and_where_others_count_the_least() -> None:
    times = np.array([[3.0, 9.0], [1.0, 5.0], [2.0, 7.0]])
    assert typical_ms(times, CPU, 1).tolist() == typical_ms(times, GPU, 2).tolist() == [2.0, 7.0]
    assert typical_ms(times, CPU, 2).tolist() == [1.0, 5.0]


def test_two_halves_are_compared() -> None:
    times = np.array([[1.0, 4.0], [2.0, 4.0], [1.5, 4.0], [1.1, 4.4]])
    assert repeat_error(times, CPU, 2) == pytest.approx((0.1 + 0.0) / 2)
    assert repeat_error(times, CPU, 1) == pytest.approx((0.3 / 1.25 + 0.05) / 2)
