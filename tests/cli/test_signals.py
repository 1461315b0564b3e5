from __future__ import annotations

import select
import signal

import pytest

from shim.cli.signals import FORWARDED, Interrupted, Signals


@pytest.mark.parametrize("number", FORWARDED)
def test_a_forwarded_signal_becomes_data(number):
    with Signals() as signals:
        signal.raise_signal(number)
        assert select.select([signals], [], [], 10)[0]
        assert signals.take() == [number]
        assert signals.take() == []


def test_a_change_of_the_window_is_data_too():
    with Signals() as signals, signals.interruptible():
        signal.raise_signal(signal.SIGWINCH)
        assert signals.take() == [signal.SIGWINCH]


def test_an_interruptible_call_is_cut_short():
    with Signals() as signals, pytest.raises(Interrupted) as caught, signals.interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 128 + signal.SIGTERM


def test_a_signal_that_came_before_cuts_it_short_at_its_beginning():
    with Signals() as signals:
        signal.raise_signal(signal.SIGHUP)
        with pytest.raises(Interrupted), signals.interruptible():
            pytest.fail("the block was entered")


def test_only_the_first_signal_interrupts():
    """What is done about the first one is not cut short by the second."""

    def interrupted_twice(signals):
        with signals.interruptible():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGTERM)

    with Signals() as signals, pytest.raises(Interrupted) as caught:
        interrupted_twice(signals)
    assert caught.value.exit_code == 128 + signal.SIGINT


def test_afterwards_everything_is_as_before():
    before = {number: signal.getsignal(number) for number in (*FORWARDED, signal.SIGWINCH)}
    with Signals():
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.set_wakeup_fd(-1) == -1


def test_what_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.take() == []
    finally:
        signal.signal(signal.SIGHUP, before)
