"""Typed facade of the C extension: starting programs and copying streams.

The only importer of ``shim._ffi`` (built from ``native/``). The extension releases the GIL in every call. File
descriptors are plain integers here; who owns them is said at each function.

Source: clone(2), execve(2), epoll(7), splice(2), pipe(7), pty(7).
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from shim._ffi import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EventKind", "Relay", "RelayEvent", "spawn"]

EventKind = Literal["stalled", "dropped", "resumed", "end"]

_KINDS: dict[int, EventKind] = {
    lib.RELAY_STALLED: "stalled",
    lib.RELAY_DROPPED: "dropped",
    lib.RELAY_RESUMED: "resumed",
    lib.RELAY_END: "end",
}
_POLL_ROOM = 64
_EVENTS_OF_ONE_STREAM = len(_KINDS)


def spawn(
    argv: Sequence[bytes],
    env: Sequence[bytes],
    fds: Sequence[int],
    *,
    cwd: bytes | None = None,
    cgroup_procs_fd: int = -1,
    pdeathsig: int = 0,
    setsid: bool = False,
    open_files: int = -1,
) -> tuple[int, int]:
    """A child of ours runs ``argv[0]`` (a path, PATH is not searched); returns its pid and a pidfd that the caller owns.

    ``fds[i]`` is descriptor ``i`` of the child and every other descriptor is closed there; the caller keeps its own.
    The child has an empty signal mask and the default action for every signal. With ``cgroup_procs_fd`` it is in
    that cgroup before its program starts. ``pdeathsig`` comes when the *thread* that called ends, as the kernel has
    it. ``open_files`` is its soft limit of descriptors, -1 for ours. Thread-safe.

    Raises:
        OSError: Any step failed, exec included; nothing is left behind. The file name is ``argv[0]``, or ``cwd`` if
            that could not be entered; the text starts with the name of the step unless it was the exec.
        ValueError: ``argv`` is empty or has no ``/`` in its first element, or a string contains NUL.
    """
    if not argv or b"/" not in argv[0]:
        raise ValueError(f"not a path of a program: {argv[:1]!r}")
    argv_block, env_block = _block(argv), _block(env)
    cwd_block = ffi.NULL if cwd is None else ffi.from_buffer("char[]", _block([cwd]))
    fd_array = ffi.new("int[]", list(fds))
    request = ffi.new(
        "spawn_request *",
        {
            "argv": ffi.from_buffer("char[]", argv_block),
            "argc": len(argv),
            "env": ffi.from_buffer("char[]", env_block),
            "envc": len(env),
            "fds": fd_array,
            "nfds": len(fds),
            "cwd": cwd_block,
            "cgroup_procs_fd": cgroup_procs_fd,
            "pdeathsig": pdeathsig,
            "setsid": setsid,
            "open_files": open_files,
        },
    )
    result = ffi.new("spawn_result *")
    error = -lib.ocishim_spawn(request, result)
    if error:
        step = ffi.string(result.failed).decode()
        text = os.strerror(error) if step == "execve" else f"{step}: {os.strerror(error)}"
        raise OSError(error, text, os.fsdecode(cwd if cwd is not None and step == "chdir" else argv[0]))
    return result.pid, result.pidfd


def _block(strings: Sequence[bytes]) -> bytes:
    """The strings one after the other, each with its NUL, as the extension takes them."""
    block = b"\0".join([*strings, b""])
    if block.count(b"\0") != len(strings):
        raise ValueError(f"NUL in one of {strings!r}")
    return block


class RelayEvent(NamedTuple):
    """What happened to a stream.

    ``copied`` and ``dropped`` are the stream's totals in bytes. ``errno`` is why a sink failed ("stalled",
    "dropped"; 0 for bytes that cancel() left) or why the source ended ("end"; 0 for its regular end).
    """

    stream: int
    kind: EventKind
    errno: int
    copied: int
    dropped: int


class Relay:
    """One thread, without the GIL, that copies from sources to sinks until it is closed.

    Every stream waits for its own reader only. A sink that fails (full disk, no reader) is tried again, after at
    most a second each time; its bytes are kept, the writer waits, and "stalled" is reported, "resumed" when it works
    again. After ``give_up`` seconds (infinity allowed) the writer is let go on and what the sink does not take is
    counted and reported as "dropped". A sink that is a file on a disk that hangs holds up all streams, as the kernel
    has no non-blocking write for those; ``busy_s`` tells.

    The methods belong to one thread at a time. Use as a context manager, or call close().
    """

    def __init__(self, *, give_up: float = 10.0) -> None:
        handle = ffi.new("relay **")
        error = -lib.relay_new(-1 if math.isinf(give_up) else round(give_up * 1000), handle)
        if error:
            raise OSError(error, os.strerror(error))
        self._relay = ffi.gc(handle[0], lib.relay_close)
        self._events = ffi.new("relay_event[]", _POLL_ROOM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """An eventfd of the relay's: readable while poll() has something."""
        return int(lib.relay_fileno(self._open()))

    @property
    def busy_s(self) -> float:
        """How long the thread has not waited for anything but a disk; next to nothing unless that hangs."""
        return int(lib.relay_busy_ms(self._open())) / 1000

    def add(self, source_fd: int, sink_fd: int, *, eof: bytes = b"", pty: bool = False) -> int:
        """Bytes flow from source to sink; returns the id of the stream, never used again. Owns both fds from now on.

        At the end of the source the rest is written, then ``eof``, then both fds are closed and "end" is reported.
        The end of a FIFO is the close of its last writer; one that never had a writer is not at its end. With
        ``pty`` the source is a pty master whose end is finish() alone: while no slave is open it is looked at again
        at least every second. Both open file descriptions become non-blocking.

        Raises:
            OSError: An fd is not open or not for this direction (EBADF); both are closed then, too.
        """
        if self._relay is None:
            os.close(source_fd)
            os.close(sink_fd)
        stream = int(lib.relay_add(self._open(), source_fd, sink_fd, eof, len(eof), pty))
        if stream < 0:
            raise OSError(-stream, os.strerror(-stream))
        return stream

    def finish(self, stream: int) -> None:
        """The stream ends after what its source holds now, whoever still has the other side open.

        Nothing happens when it has ended already. Waits neither here nor for more input, but the sink may take its
        time: cancel() bounds that.
        """
        lib.relay_command(self._open(), stream, lib.RELAY_FINISH)

    def cancel(self, stream: int) -> None:
        """The stream ends at once; what was not written, in the source too, counts as dropped."""
        lib.relay_command(self._open(), stream, lib.RELAY_CANCEL)

    def pending(self, stream: int) -> int:
        """Bytes taken from the source and not yet written; 0 for a stream that has ended."""
        return int(lib.relay_pending(self._open(), stream))

    def poll(self) -> list[RelayEvent]:
        """The events since the last call, without waiting; in order for each stream, "end" being its last."""
        events: list[RelayEvent] = []
        count = _POLL_ROOM
        while count > _POLL_ROOM - _EVENTS_OF_ONE_STREAM:
            count = lib.relay_poll(self._open(), self._events, _POLL_ROOM)
            events += [
                RelayEvent(e.stream, _KINDS[e.kind], e.error, e.copied, e.dropped)
                for e in self._events[0:count]
            ]
        return events

    def close(self) -> None:
        """The thread has ended and every fd is closed; live streams lose what they hold. Idempotent."""
        if self._relay is not None:
            ffi.release(self._relay)
            self._relay = None

    def _open(self) -> ffi.CData:
        if self._relay is None:
            raise ValueError("the relay is closed")
        return self._relay
