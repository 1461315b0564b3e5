"""A verb's process in the foreground: streams, terminal and signals put together, and what to say at the end.

``run``, ``start -a``, ``attach``, ``exec`` and ``logs -f`` differ in what they open and in what they do about a
process that they leave; the loop is one.
"""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from shim.cli import exit_codes, output
from shim.cli.detach import DetachKeys
from shim.cli.foreground import End, Foreground, Outcome
from shim.cli.log_file import LogOutput
from shim.cli.streams import FifoOutput, Input, Sink
from shim.cli.terminal import Terminal, raw
from shim.containers.fifos import Fifos
from shim.errors import FailedPrecondition, NotFound, ShimError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from shim.cli.signals import Signals
    from shim.cli.streams import Output
    from shim.containers.containers import Container
    from shim.containers.fifos import OpenFifos
    from shim.containers.task_client import Pending, Task

__all__ = ["Session", "attached", "connect_terminal", "exec_directory"]

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_KILLED_S = 10.0


def exec_directory(container: Container, exec_id: str) -> Path:
    """Where the FIFOs of an exec are; a detached one has none."""
    return container.directory / "exec" / exec_id


@contextmanager
def attached(
    container: Container, *, exec_id: str = "", stdin: bool = True, **more: Any
) -> Iterator[Session]:
    """A session with a container, or an exec of it, that exists already; ``more`` are members of the session.

    Raises:
        FailedPrecondition: somebody else is attached, or there is nothing to attach to.
        ShimError: its shim is gone, or its streams are.
    """
    record = container.record()
    directory = exec_directory(container, exec_id) if exec_id else container.directory / "fifos"
    log_file = "" if exec_id else record.log_file
    fifos = Fifos(directory)
    if not directory.is_dir() and not log_file:
        raise FailedPrecondition(f"exec {exec_id} of container {container.id} has no streams to attach to")
    terminal = not fifos.path("stderr") if exec_id else record.terminal
    with ExitStack() as stack:
        task = stack.enter_context(container.connect())
        opened = fifos.open(stdin=stdin) if directory.is_dir() else None
        if opened:
            stack.callback(opened.close)
            # The shim has had its ends open since Create.
            opened.shim_is_connected()
        yield Session(container, task, opened, terminal, exec_id=exec_id, log_file=log_file, **more)


def connect_terminal(task: Task, exec_id: str = "") -> None:
    """The process's terminal has, or will have, the size of ours; nothing happens where we have none."""
    if terminal := Terminal.find():
        # A process that has ended has no use for it.
        with suppress(FailedPrecondition):
            task.begin_resize(terminal.size(), exec_id).result()


@dataclass(slots=True)
class Session:
    """What one process in the foreground needs. ``fifos`` stays the caller's to close."""

    container: Container
    task: Task
    fifos: OpenFifos | None
    terminal: bool
    """Whether the process has a terminal."""
    exec_id: str = ""
    signals: Signals | None = None
    log_file: str = ""
    """Followed instead of output FIFOs."""
    from_end: bool = False
    detach_keys: bytes = b""
    end_stdin: bool = True
    finish: Callable[[], Pending] | None = None
    sigpipe: bool = False

    def run(self) -> Outcome:
        """Be in the foreground until the process has ended, or is left alone.

        Raises:
            ShimError: the shim is gone without a word on how the process ended, or our own side failed.
        """
        with ExitStack() as stack:
            if self.terminal and self.fifos and self.fifos.stdin:
                stack.enter_context(raw(_STDIN))
            loop = Foreground(
                self.task,
                self.exec_id,
                self._outputs(),
                signals=self.signals,
                stdin=self._input(),
                end_stdin=self.end_stdin,
                terminal=Terminal.find() if self.terminal else None,
                drained=self._drained if self.log_file else None,
                finish=self.finish,
                sigpipe=self.sigpipe,
            )
            try:
                return loop.run()
            except (Unavailable, NotFound):
                # Whoever deleted the container, or killed its shim, was faster than our Wait.
                ended = None if self.exec_id else self.container.exit_record()
                if ended is None:
                    raise
                return Outcome(End.EXITED, ended.status)

    def forget_exec(self) -> None:
        """Nothing is left of the exec, in the shim or on disk; one that runs is killed. Idempotent, and silent."""
        with suppress(ShimError):
            self._delete_exec()
        Fifos(exec_directory(self.container, self.exec_id)).remove()

    def _delete_exec(self) -> None:
        try:
            self.task.delete(self.exec_id)
        except FailedPrecondition:
            wait = self.task.begin_wait(self.exec_id, _KILLED_S)
            self.task.kill(signal.SIGKILL, self.exec_id)
            wait.result()
            self.task.delete(self.exec_id)

    def conclude(self, outcome: Outcome) -> int:
        """The exit code for an outcome after which the process is left as it is; says what the user should know."""
        if outcome.end is End.EXITED:
            if not self.exec_id:
                self.warn_about_end()
            return outcome.status
        name = self.container.id
        what, where = f"container {name}", name
        if self.exec_id:
            what, where = f"exec {self.exec_id} of container {name}", f"--exec {self.exec_id} {name}"
        if outcome.end is End.DETACHED:
            click.echo(err=True)  # the cursor is where the process left it
            output.warn(f"detached from {what}, which goes on; to come back: ocishim attach {where}")
            return 0
        output.warn(f"nobody reads the output any more; {what} goes on, to see it: ocishim attach {where}")
        return exit_codes.PIPE_CLOSED

    def warn_about_end(self) -> None:
        """A line on stderr each, if the container ended for want of memory, and if output of it was lost."""
        try:
            about = self.task.inspect()
        except ShimError:
            return
        name = self.container.id
        if about["oom_killed"]:
            limit = about["limits"].get("memory", {}).get("limit")
            bound = f" (limit {output.size(limit)})" if limit else ""
            output.warn(f"container {name} was killed: out of memory{bound}")
        if lost := about["dropped_bytes"]:
            output.warn(f"container {name}: {lost} bytes of output are lost, nobody took them in time")

    def _outputs(self) -> list[Output]:
        if self.log_file:
            return [LogOutput(self.log_file, Sink(_STDOUT), from_end=self.from_end)]
        outputs: list[Output] = []
        if self.fifos and self.fifos.stdout:
            outputs.append(FifoOutput(self.fifos.stdout, Sink(_STDOUT)))
        if self.fifos and self.fifos.stderr:
            outputs.append(FifoOutput(self.fifos.stderr, Sink(_STDERR)))
        return outputs

    def _input(self) -> Input | None:
        if not self.fifos or not self.fifos.stdin:
            return None
        typed = self.terminal and os.isatty(_STDIN)
        keys = DetachKeys(self.detach_keys) if typed and self.detach_keys else None
        return Input(_STDIN, self.fifos.stdin, keys)

    def _drained(self) -> bool:
        try:
            streams = self.task.inspect()["streams"]
        except ShimError:
            return True
        return all(stream["ended"] for stream in streams if not stream["name"].endswith(" stdin"))
