from __future__ import annotations

import os
import signal
import threading
from typing import NoReturn

import pytest

from datanas.runs import StopRequest
from datanas.runs.signals import StoppedAtOnce


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_sets_the_flag(signum: signal.Signals, code: int) -> None:
    with StopRequest() as stop:
        assert not stop
        assert stop.exit_code == 0
        os.kill(os.getpid(), signum)
        assert stop
        assert stop.signum == signum
        assert stop.exit_code == code


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_interrupts_and_carries_its_number(first: signal.Signals, second: signal.Signals) -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), first)
        with pytest.raises(StoppedAtOnce) as caught:
            os.kill(os.getpid(), second)
        assert caught.value.signum == second
        assert isinstance(caught.value, KeyboardInterrupt)
        assert stop.signum == first


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_handlers_come_back(signum: signal.Signals) -> None:
    def mine(*_: object) -> NoReturn:
        raise AssertionError

    before = signal.signal(signum, mine)
    try:
        with StopRequest():
            assert signal.getsignal(signum) is not mine
        assert signal.getsignal(signum) is mine
        with pytest.raises(ZeroDivisionError), StopRequest():
            raise ZeroDivisionError
        assert signal.getsignal(signum) is mine
    finally:
        signal.signal(signum, before)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert not stop
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_installs_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter() -> None:
        with StopRequest() as stop:
            seen.append((bool(stop), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
