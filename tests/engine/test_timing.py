"""Everything is timed in turn, and what is typical of it is the least."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
import torch.utils.benchmark

from datanas.engine import timing
from datanas.engine.timing import clock_of, interleaved_ms, repeat_error, typical_ms

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_calls_take_turns_after_they_are_warm() -> None:
    order: list[str] = []
    times = interleaved_ms([lambda: order.append("a"), lambda: order.append("b")], 3, threads=1, device=CPU)
    text = "".join(order)
    assert text[:2] == "ab"
    assert {text[start : start + 4] for start in (2, 6, 10)} <= {"aabb", "bbaa"}
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


def test_one_thread_is_timed_by_its_own_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clock_of(CPU, 1) is time.thread_time
    waited: list[torch.device] = []
    monkeypatch.setattr(timing, "synchronize", waited.append)
    for device, threads in ((CPU, 2), (GPU, 1)):
        clock = clock_of(device, threads)
        assert clock() <= clock()
    assert waited == [CPU, CPU, GPU, GPU]


def test_how_slow_the_machine_is_in_a_round_is_divided_out() -> None:
    true, slowness = np.arange(1.0, 8.0), np.array([1.0, 3.0, 2.0, 1.5, 1.2, 2.5, 4.0, 1.1, 1.7])
    times = slowness[:, None] * true
    np.testing.assert_allclose(typical_ms(times), true)
    times[1, 0] *= 10  # one call is interrupted
    np.testing.assert_allclose(typical_ms(times), true)
    times[2, 2] /= 10  # or a clock is wrong
    np.testing.assert_allclose(typical_ms(times), true)


def test_of_one_call_it_is_the_least() -> None:
    assert typical_ms(np.array([[3.0], [1.5], [2.0]])).tolist() == [pytest.approx(1.5)]


def test_two_halves_are_compared_but_for_their_level() -> None:
    times = np.array([[1.0, 4.0, 9.0], [1.2, 4.0, 9.0]] * 3)
    assert repeat_error(times[::2]) == 0
    assert repeat_error(times * np.array([[1.0], [3.0]] * 3)) == repeat_error(times) == pytest.approx((1 / 6) / 3)
