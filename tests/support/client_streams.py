"""The client's ends of a process's stdio: FIFOs with a reader, and reads with a deadline."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import Self

DEADLINE_S = 60.0


class Streams:
    """FIFOs in ``folder``, the outputs open for reading. A context manager; ``fields`` go into Create or Exec."""

    def __init__(
        self, folder: Path, *, stdin: bool = False, stderr: bool = False, terminal: bool = False
    ) -> None:
        folder.mkdir(parents=True)
        names = ["stdout", *(["stderr"] if stderr else []), *(["stdin"] if stdin else [])]
        self.paths = {name: folder / name for name in names}
        for path in self.paths.values():
            os.mkfifo(path)
        self._readers = {
            name: os.open(self.paths[name], os.O_RDONLY | os.O_NONBLOCK)
            for name in ("stdout", "stderr")
            if name in self.paths
        }
        self._writer: int | None = None
        self._seen = dict.fromkeys(self._readers, b"")
        self.fields = {name: str(path) for name, path in self.paths.items()}
        if terminal:
            self.fields["terminal"] = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close_stdin()
        for name in list(self._readers):
            self.close_reader(name)

    def close_reader(self, name: str = "stdout") -> None:
        os.close(self._readers.pop(name))

    def open_reader(self, name: str = "stdout") -> None:
        self._readers[name] = os.open(self.paths[name], os.O_RDONLY | os.O_NONBLOCK)

    def reader(self, name: str = "stdout") -> int:
        return self._readers[name]

    def write(self, data: bytes) -> None:
        """``data`` is written to stdin, which is opened now if it was not; a shim must have it open."""
        if self._writer is None:
            self._writer = os.open(self.paths["stdin"], os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(self._writer, True)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._writer, rest) :]

    def close_stdin(self) -> None:
        if self._writer is not None:
            os.close(self._writer)
            self._writer = None

    def read(self, name: str = "stdout") -> bytes:
        """All output up to its end, what was seen before included."""
        while chunk := self._read(name):
            self._seen[name] += chunk
        return self._seen[name]

    def read_until(self, text: bytes, name: str = "stdout") -> bytes:
        """The output until ``text`` has come; what was seen before included."""
        while text not in self._seen[name]:
            chunk = self._read(name)
            assert chunk, f"{name} ended without {text!r}: {self._seen[name]!r}"
            self._seen[name] += chunk
        return self._seen[name]

    def seen(self, name: str = "stdout") -> bytes:
        """What has come up to now."""
        while poll(self._readers[name], select.POLLIN, 0) and (chunk := self._read(name)):
            self._seen[name] += chunk
        return self._seen[name]

    def read_more(self, name: str = "stdout") -> bytes:
        """The output, with at least one byte that was not seen before."""
        chunk = self._read(name)
        assert chunk, f"{name} has ended"
        self._seen[name] += chunk
        return self._seen[name]

    def is_silent(self, for_s: float, name: str = "stdout") -> bool:
        """Whether nothing more comes for that long."""
        self.seen(name)
        return not poll(self._readers[name], select.POLLIN, for_s)

    def _read(self, name: str) -> bytes:
        # A FIFO that nobody has opened for writing yet has no POLLHUP, so its end is not taken for the end of output.
        if not poll(self._readers[name], select.POLLIN, DEADLINE_S):
            raise AssertionError(
                f"no end of {name} after {DEADLINE_S} s; so far: {self._seen[name][-1000:]!r}"
            )
        return os.read(self._readers[name], 1 << 20)


def poll(fd: int, events: int, timeout_s: float) -> bool:
    """Whether ``fd`` has one of ``events``, or has hung up, within ``timeout_s``."""
    waiting = select.poll()
    waiting.register(fd, events)
    return bool(waiting.poll(timeout_s * 1000))


def until(condition: object, what: str, timeout_s: float = DEADLINE_S) -> None:
    """``condition()`` holds; for what the kernel has no event for."""
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not come true within {timeout_s} s"
        time.sleep(0.002)
