"""The errors that users see, and the one that is none."""

from __future__ import annotations

import pickle
import signal
from contextlib import suppress

import pytest

from datanas.core.errors import Interrupted


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_loop_of_trials_does_not_go_on_after_a_signal(signum: int) -> None:
    def trial() -> None:
        with suppress(Exception):
            raise Interrupted("the state is saved", signum)

    with pytest.raises(Interrupted, match="state is saved") as caught:
        trial()
    assert (caught.value.signum, caught.value.exit_code) == (signum, 128 + signum)


def test_only_ctrl_c_is_a_keyboard_interrupt() -> None:
    assert isinstance(Interrupted("", signal.SIGINT), KeyboardInterrupt)
    assert not isinstance(Interrupted("", signal.SIGTERM), KeyboardInterrupt)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_reaches_another_process_whole(signum: int) -> None:
    error = Interrupted("the state is saved", signum)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.exit_code) == (type(error), str(error), error.exit_code)
