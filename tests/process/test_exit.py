import os
import signal
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shim.process import Exit

# On a busy machine everything is slow.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@untimed
@given(st.integers(0, 255))
def test_a_code_is_the_status(code):
    ended = Exit.from_wait_status(code << 8)
    assert (ended.status, ended.signal) == (code, None)


@untimed
@given(st.integers(1, signal.NSIG - 1), st.booleans())
def test_a_signal_is_128_and_its_number(number, core_dumped):
    ended = Exit.from_wait_status(number | 0x80 * core_dumped)
    assert (ended.status, ended.signal) == (128 + number, number)


def test_the_time_is_now_and_the_value_cannot_change():
    before = time.time_ns()
    ended = Exit.from_wait_status(0)
    assert before <= ended.exited_at_ns <= time.time_ns()
    with pytest.raises(AttributeError):
        ended.status = 1


@pytest.mark.parametrize("code", [0, 1, 255])
def test_what_the_kernel_says(code):
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], {})
    assert Exit.from_wait_status(os.waitpid(pid, 0)[1]).status == code
