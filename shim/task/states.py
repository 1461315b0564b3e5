"""The states of init and exec processes, and what may be asked of them in each.

Theory of operation. A process moves forward only, but for pause and resume:

    created --start--> running --exit--> stopped --delete--> deleted
                        |   ^
                      pause resume          created --exit--> stopped  (killed before it was started)
                        v   |
              pausing, paused               created --delete--> deleted

An exec whose start has failed stays created: clients of containerd's shim look for that.

``Machine.move`` is the only writer. Whoever asks for something impossible is told the verb and the state, with the code
FailedPrecondition, which clients can tell from a failure of the runtime. A deleted process is one that nobody knows.

Source: containerd's runc shim, process/init_state.go and exec_state.go; the tables are those of its Task API.
"""

from __future__ import annotations

from enum import StrEnum

from shim.errors import FailedPrecondition, NotFound

__all__ = ["Machine", "State"]


class State(StrEnum):
    """Spelt as the OCI runtime-spec and containerd do."""

    CREATED = "created"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPED = "stopped"
    DELETED = "deleted"


_C, _R, _PG, _P, _S, _D = State

_ALLOWED: dict[str, frozenset[State]] = {
    "start": frozenset({_C}),
    "delete": frozenset({_C, _S}),
    "pause": frozenset({_R}),
    "resume": frozenset({_P}),
    "update": frozenset({_C, _R, _P}),
    "checkpoint": frozenset({_R, _P}),
    "exec in": frozenset({_C, _R}),
    "kill": frozenset({_C, _R, _PG, _P}),
}

_MOVES: dict[State, frozenset[State]] = {
    _C: frozenset({_R, _S, _D}),
    _R: frozenset({_PG, _S}),
    _PG: frozenset({_P, _R, _S}),
    _P: frozenset({_R, _S}),
    _S: frozenset({_D}),
    _D: frozenset(),
}


class Machine:
    """The state of one process."""

    __slots__ = ("state", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.state = State.CREATED

    def check(self, verb: str) -> None:
        """Nothing, when ``verb`` is possible now.

        Raises:
            NotFound: the process is deleted, or has ended and ``verb`` is a kill.
            FailedPrecondition: it is in another state than ``verb`` needs.
        """
        if self.state in _ALLOWED[verb]:
            return
        if self.state is State.DELETED:
            raise NotFound(f"{self.what} does not exist any more")
        if verb == "kill":
            raise NotFound(f"{self.what}: process already finished")
        raise FailedPrecondition(f"cannot {verb} {self.what}: it is {self.state.value}")

    def move(self, to: State) -> None:
        """Be in ``to``; a move that the picture above does not have is our own fault and a RuntimeError."""
        if to not in _MOVES[self.state]:
            raise RuntimeError(f"{self.what} cannot go from {self.state.value} to {to.value}")
        self.state = to
