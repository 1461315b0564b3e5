"""One process in the foreground: its streams, our signals and terminal, and its end, in one loop.

The loop polls our stdin, the output FIFOs (or the log file), the pipe of our signals and the connection to the shim, on
which Wait is open all the time. When Wait has answered, the loop goes on until both outputs have ended: the exit is told
as soon as it is known, the last output may still be on its way. A background process that inherited the output holds
it open for ever; when nothing has come for ``_QUIET_S`` while we could have written, the caller's ``finish`` (Delete)
makes the shim end the streams, and without one the rest is left.
"""

from __future__ import annotations

import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from shim.errors import ShimError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shim.cli.signals import Signals
    from shim.cli.streams import Input, Output
    from shim.cli.terminal import Terminal
    from shim.containers.task_client import Pending, Task

__all__ = ["End", "Foreground", "Outcome"]

_QUIET_S = 1.0
_LOOK_AGAIN_S = 0.02


class End(Enum):
    """Why the loop ended."""

    EXITED = "the process has ended and all its output is delivered"
    DETACHED = "the detach keys were typed"
    UNREAD = "whoever read our stdout or stderr closed it"


class Outcome(NamedTuple):
    """How it came out; ``status`` counts only for EXITED."""

    end: End
    status: int = 0


@dataclass(slots=True)
class Foreground:
    """The loop for one process. Owns ``outputs`` and ``stdin``: both are closed when ``run`` returns or raises."""

    task: Task
    exec_id: str
    """Empty: the container's init."""
    outputs: Sequence[Output]
    signals: Signals | None = None
    stdin: Input | None = None
    end_stdin: bool = True
    """The end of our stdin is the end of the process's."""
    terminal: Terminal | None = None
    """Whose size the process's terminal is to have."""
    drained: Callable[[], bool] | None = None
    """Whether all output is in the log file that we follow; None: FIFOs end by themselves."""
    finish: Callable[[], Pending] | None = None
    """Begins what makes a left-over writer let go of the output."""
    sigpipe: bool = False
    """When nobody reads our output any more, tell the process and go on, instead of leaving it."""

    def run(self) -> Outcome:
        """Move bytes and forward signals until the process has ended, or is left alone.

        Raises:
            Unavailable: the shim is gone.
            NotFound: the container or exec was deleted by somebody else.
            ShimError: our own side failed.
        """
        try:
            wait = self.task.begin_wait(self.exec_id)
            while not wait.done:
                self._turn(None)
                if self.stdin and self.stdin.detached:
                    return Outcome(End.DETACHED)
            try:
                status = wait.result().exit_status
            finally:
                # Also when the shim is gone: what is left in the FIFOs is the process's output all the same.
                self._drain()
        except BrokenPipeError:
            return Outcome(End.UNREAD)
        finally:
            self._close()
        return Outcome(End.EXITED, status)

    def _close(self) -> None:
        for output in self.outputs:
            output.close()
        if self.stdin:
            self.stdin.close()

    def _open_outputs(self) -> list[Output]:
        return [output for output in self.outputs if not output.ended]

    def _holding(self) -> bool:
        return any(output.holds for output in self._open_outputs())

    def _turn(self, timeout_s: float | None) -> bool:
        """Wait until something can be done, and do it; False when nothing could be within ``timeout_s``."""
        poll = select.poll()
        client = self.task.client.fileno()
        if client >= 0:
            poll.register(client, select.POLLIN)
        if self.signals:
            poll.register(self.signals, select.POLLIN)
        outputs = {output.interest()[0]: output for output in self._open_outputs()}
        for output in outputs.values():
            poll.register(*output.interest())
        if self.stdin and not self.stdin.ended:
            poll.register(*self.stdin.interest())
        ready = [fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)]
        # Signals and answers first: they must not wait behind bytes.
        if client in ready:
            self.task.client.receive()
        if self.signals and self.signals.fileno() in ready:
            self._forward(self.signals.take())
        for fd in ready:
            if fd in outputs:
                self._move(outputs[fd])
        if self.stdin and not self.stdin.ended and self.stdin.interest()[0] in ready:
            self._move_stdin(self.stdin)
        return bool(ready)

    def _move(self, output: Output) -> None:
        try:
            output.move()
        except BrokenPipeError:
            if not self.sigpipe:
                raise
            self.sigpipe = False
            for each in self.outputs:
                each.discard()
            self._forward([signal.SIGPIPE])

    def _move_stdin(self, stdin: Input) -> None:
        stdin.move()
        if stdin.ended and self.end_stdin:
            with suppress(ShimError):
                self.task.begin_close_stdin(self.exec_id)

    def _forward(self, numbers: Sequence[int]) -> None:
        # Nobody waits for the answers: the process may have ended meanwhile, which Wait tells.
        for number in numbers:
            with suppress(ShimError):
                if number != signal.SIGWINCH:
                    self.task.begin_kill(number, self.exec_id)
                elif self.terminal:
                    self.task.begin_resize(self.terminal.size(), self.exec_id)

    def _drain(self) -> None:
        if self.drained:
            self._until_drained(self.drained)
        while self._open_outputs() and (self._turn(_QUIET_S) or self._holding()):
            pass
        if not self._open_outputs() or not self.finish:
            return
        with suppress(ShimError):
            finished = self.finish()
            while self._open_outputs() and (self._turn(_LOOK_AGAIN_S) or not finished.done):
                pass

    def _until_drained(self, drained: Callable[[], bool]) -> None:
        quiet_since = time.monotonic()
        while not drained() and time.monotonic() - quiet_since < _QUIET_S:
            if self._turn(_LOOK_AGAIN_S):
                quiet_since = time.monotonic()
        for output in self.outputs:
            output.writer_ended()
