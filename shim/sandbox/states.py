"""The states of a sandbox and of a container, and which follow which.

    ready --> running <--> paused
      |          |            |
      +------> stopped <------+        stopped --> running

Source: Kata's virtcontainers, types/sandbox.go: one machine for both.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from shim.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["State", "check", "moved"]


class State(StrEnum):
    """Of a sandbox, or of a container."""

    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


_FOLLOWS: Mapping[State, frozenset[State]] = {
    State.READY: frozenset({State.RUNNING, State.STOPPED}),
    State.RUNNING: frozenset({State.PAUSED, State.STOPPED}),
    State.PAUSED: frozenset({State.RUNNING, State.STOPPED}),
    State.STOPPED: frozenset({State.RUNNING}),
}


def moved(what: str, state: State, to: State) -> State:
    """``to``, if it may follow ``state``.

    Raises:
        FailedPrecondition: it may not; names both.
    """
    if to not in _FOLLOWS[state]:
        raise FailedPrecondition(f"{what} is {state}: it cannot become {to}")
    return to


def check(what: str, state: State, *allowed: State) -> None:
    """Nothing, in one of the states ``allowed``.

    Raises:
        FailedPrecondition: it is in another.
    """
    if state not in allowed:
        raise FailedPrecondition(f"{what} is {state}: it has to be {' or '.join(allowed)} for that")
