"""The same for scripts: every call blocks until it is done. Not for a thread in which an event loop runs."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Self

from shim import sandbox as library

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.sandbox import IOStream, Sandbox, SandboxConfig, SandboxStatus

__all__ = ["BlockingSandbox", "BlockingStream", "create_sandbox", "fetch_sandbox", "list_sandboxes"]


class BlockingStream:
    """The streams of one process."""

    def __init__(self, stream: IOStream, runner: asyncio.Runner) -> None:
        self._stream = stream
        self._runner = runner

    def read(self, size: int = -1, *, stderr: bool = False) -> bytes:
        """At most ``size`` bytes of output, all up to its end where that is negative; empty at the end."""
        return self._runner.run(self._reader(stderr=stderr).read(size))

    def readline(self, *, stderr: bool = False) -> bytes:
        """A line of output, with its newline; what is left of it at the end."""
        return self._runner.run(self._reader(stderr=stderr).readline())

    def write(self, data: bytes) -> None:
        """``data`` is on its way into the process's stdin.

        Raises:
            ValueError: it has none.
        """
        writer = self._stream.stdin
        if writer is None:
            raise ValueError("the process has no stdin")
        writer.write(data)
        self._runner.run(writer.drain())

    def close(self) -> None:
        """As ``IOStream.close``."""
        self._stream.close()
        # asyncio closes what was closed in its next turn.
        self._runner.run(asyncio.sleep(0))

    def _reader(self, *, stderr: bool) -> asyncio.StreamReader:
        reader = self._stream.stderr if stderr else self._stream.stdout
        if reader is None:
            raise ValueError("with a terminal there is one output")
        return reader


class BlockingSandbox:
    """A ``Sandbox`` whose coroutines are plain methods. ``monitor`` is for programs with an event loop only."""

    def __init__(self, sandbox: Sandbox, runner: asyncio.Runner) -> None:
        self._sandbox = sandbox
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        """As in ``Sandbox``."""
        found = getattr(self._sandbox, name)
        if name.startswith("_") or name == "monitor":
            raise AttributeError(name)
        return self._blocking(found) if inspect.iscoroutinefunction(found) else found

    def _blocking(self, method: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._runner.run(method(*args, **kwargs))

    def io_stream(self, container_id: str, token: str) -> BlockingStream:
        """As in ``Sandbox``."""
        return BlockingStream(self._runner.run(self._sandbox.io_stream(container_id, token)), self._runner)

    def release(self) -> None:
        """As in ``Sandbox``; the event loop behind it is closed."""
        self._sandbox.release()
        self._runner.run(asyncio.sleep(0))
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()


def create_sandbox(
    config: SandboxConfig, *, state_root: str | None = None, storage: str | None = None
) -> BlockingSandbox:
    """As ``shim.sandbox.create_sandbox``."""
    return _opened(lambda: library.create_sandbox(config, state_root=state_root, storage=storage))


def fetch_sandbox(
    sandbox_id: str, *, state_root: str | None = None, storage: str | None = None
) -> BlockingSandbox:
    """As ``shim.sandbox.fetch_sandbox``."""
    return _opened(lambda: library.fetch_sandbox(sandbox_id, state_root=state_root, storage=storage))


def list_sandboxes(*, state_root: str | None = None, storage: str | None = None) -> list[SandboxStatus]:
    """As ``shim.sandbox.list_sandboxes``."""
    return asyncio.run(library.list_sandboxes(state_root=state_root, storage=storage))


def _opened(open_: Callable[[], Any]) -> BlockingSandbox:
    runner = asyncio.Runner()
    try:
        return BlockingSandbox(runner.run(open_()), runner)
    except BaseException:
        runner.close()
        raise
