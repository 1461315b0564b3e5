"""A blocking ttrpc client over a unix socket, with several calls pending on one connection.

    with Client.connect("unix:///run/ocishim/s/1f.sock") as client:
        wait = client.start("containerd.task.v3.Task", "Wait", WaitRequest(id="x"), WaitResponse)
        client.call("containerd.task.v3.Task", "Kill", KillRequest(id="x", signal=15), Empty)
        print(wait.result().exit_status)

Whoever has other descriptors to watch selects on ``fileno()`` together with them and calls ``receive()`` when it is
readable. Not for use by several threads at once. No asyncio here: a command line must not wait for its import.

Signals: waiting happens in poll(2) and may be interrupted there by an exception of a signal handler
(KeyboardInterrupt); client and pending calls are as good as before. Should it strike in the few instructions in
which bytes are being moved, nobody could say which ones arrived, so the connection is closed and calls fail with
Unavailable: never with another call's answer. A signal that comes just before poll is noticed after it, as ever in
Python; who cannot have that adds signal.set_wakeup_fd to what it selects on.

Source: unix(7), containerd/ttrpc client.go.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import Any, Final, Generic, Self, TypeVar

from google.protobuf.message import DecodeError, Message

from shim.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    ShimError,
    Unavailable,
    from_code,
    from_os_error,
)
from shim.proto.ttrpc_pb2 import KeyValue, Request, Response
from shim.ttrpc import Connection, Event, RemoteProtocolError, ResponseReceived, Role, StreamRejected

__all__ = ["MAX_PATH", "Client", "PendingCall", "socket_path"]

# sun_path has 108 bytes, and the last one is the NUL.
MAX_PATH: Final = 107

_NAMESPACE_KEY: Final = "containerd-namespace-ttrpc"

_READ_SIZE: Final = 64 << 10

# connect(2) on a unix socket gives EAGAIN instead of waiting when the server's queue is full.
_CONNECT_RETRY_S: Final = 0.005

_MAX_NANO: Final = 2**63 - 1

# poll takes its milliseconds as an int; whoever waits longer is woken once a day.
_MAX_POLL_MS: Final = 86_400_000

_Answer = TypeVar("_Answer", bound=Message)


def socket_path(address: str) -> str:
    """The path in ``unix:///path``, or ``address`` itself when it is a path.

    Raises:
        InvalidArgument: another scheme, no path, or one that no unix socket can have.
    """
    scheme, separator, rest = address.partition("://")
    if separator and scheme != "unix":
        raise InvalidArgument(f"address {address!r}: {scheme} is not supported, only unix:// and paths are")
    path = rest if separator else address
    size = len(os.fsencode(path))
    if not path or "\0" in path:
        raise InvalidArgument(f"address {address!r} has no usable path")
    if size > MAX_PATH:
        raise InvalidArgument(
            f"socket path of {size} bytes is longer than the {MAX_PATH} that unix(7) allows: {path}"
        )
    return path


class PendingCall(Generic[_Answer]):
    """A call that was sent; its answer may have come already."""

    def __init__(
        self, client: Client, stream_id: int, what: str, answer: type[_Answer], deadline: float | None
    ) -> None:
        self._client = client
        self._stream_id = stream_id
        self._what = what
        self._type = answer
        self._deadline = deadline
        self._outcome: _Answer | ShimError | None = None

    @property
    def done(self) -> bool:
        """Whether ``result`` returns or raises at once. Does not look at the socket; ``Client.receive`` does."""
        return self._outcome is not None

    def result(self) -> _Answer:
        """The answer, waited for until the call's deadline; the same one whenever it is asked for.

        Raises:
            ShimError: by the code of the server's answer; DeadlineExceeded when there was none in time; Unavailable
                when the connection is gone.
        """
        while self._outcome is None:
            if self._client.wait_readable(self._deadline):
                self._client.receive()
            elif self._deadline is not None and time.monotonic() >= self._deadline:
                self._client.forget(self._stream_id)
                self._outcome = DeadlineExceeded(f"{self._what}: no answer in time")
        if isinstance(self._outcome, ShimError):
            raise self._outcome.with_traceback(None)  # not that of the last time
        return self._outcome

    def settle(self, outcome: bytes | ShimError) -> None:
        """The call is done with this, a serialized Response or an error. For Client."""
        if isinstance(outcome, ShimError):
            self._outcome = outcome
            return
        try:
            response = Response.FromString(outcome)
            if response.status.code:
                self._outcome = from_code(response.status.code, response.status.message)
            else:
                self._outcome = self._type.FromString(response.payload)
        except DecodeError:
            self._outcome = Internal(f"{self._what}: the answer cannot be decoded")


class Client:
    """One connection. Use ``connect``; close it, or use it as a context manager."""

    def __init__(self, sock: socket.socket, peer: str, namespace: str | None = None) -> None:
        """Takes ownership of ``sock``, a connected stream socket; ``peer`` names the other end in errors."""
        sock.setblocking(False)
        self._sock = sock
        self._peer = peer
        self._metadata = [KeyValue(key=_NAMESPACE_KEY, value=namespace)] if namespace else []
        self._machine = Connection(Role.CLIENT)
        self._calls: dict[int, PendingCall[Any]] = {}
        self._closed: str | None = None  # why
        # poll, not select: descriptors above 1023 are nothing special in a process with many containers.
        self._readable, self._movable = select.poll(), select.poll()
        self._readable.register(sock, select.POLLIN)
        self._movable.register(sock, select.POLLIN | select.POLLOUT)

    @classmethod
    def connect(cls, address: str, timeout: float = 5.0, *, namespace: str | None = None) -> Client:
        """A client that is connected to ``address``, within ``timeout`` seconds.

        ``namespace`` goes along with every request.

        Raises:
            InvalidArgument: see ``socket_path``.
            Unavailable: nobody listens there.
            DeadlineExceeded: the server does not accept.
            PermissionDenied: the socket's directory or mode does not let us.
        """
        path = socket_path(address)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _connect(sock, path, time.monotonic() + timeout)
        except BaseException:
            sock.close()
            raise
        return cls(sock, path, namespace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket, for select; -1 when closed."""
        return self._sock.fileno()

    def call(
        self,
        service: str,
        method: str,
        request: Message,
        response_type: type[_Answer],
        timeout: float | None = None,
    ) -> _Answer:
        """The answer of the server. Raises as ``start`` and ``PendingCall.result`` do."""
        return self.start(service, method, request, response_type, timeout).result()

    def start(
        self,
        service: str,
        method: str,
        request: Message,
        response_type: type[_Answer],
        timeout: float | None = None,
    ) -> PendingCall[_Answer]:
        """The request is sent; it may take ``timeout`` seconds from now, which the server is told too.

        Raises:
            Unavailable: the connection is gone.
            ResourceExhausted: the request is larger than 4 MiB.
            DeadlineExceeded: the server did not take the request in time; the connection is closed.
        """
        if self._closed is not None:
            raise Unavailable(self._closed)
        what = f"{service}/{method}"
        deadline = None if timeout is None else time.monotonic() + timeout
        envelope = Request(
            service=service,
            method=method,
            payload=request.SerializeToString(),
            timeout_nano=0 if timeout is None else min(max(1, int(timeout * 1e9)), _MAX_NANO),
            metadata=self._metadata,
        )
        stream_id, wire = self._machine.open_stream(envelope.SerializeToString())
        pending = PendingCall(self, stream_id, what, response_type, deadline)
        self._calls[stream_id] = pending
        self._send(wire, what, deadline)
        return pending

    def receive(self) -> None:
        """What can be read now is read, and the calls it answers are done. Does not wait; raises nothing.

        When the connection is found closed, all pending calls are done: with Unavailable.
        """
        if self._closed is not None:
            return
        try:
            data = self._sock.recv(_READ_SIZE)
            for event in self._machine.receive_data(data):
                self._event(event)
        except (BlockingIOError, InterruptedError):
            pass
        except RemoteProtocolError as error:
            self._lose(str(error))
        except OSError as error:
            self._lose(error.strerror or str(error))
        except BaseException:
            self._lose("interrupted while reading")
            raise
        else:
            if not data:
                self._lose("the shim closed the connection")

    def _event(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self._calls.pop(event.stream_id).settle(event.payload)
        elif isinstance(event, StreamRejected):
            self._calls.pop(event.stream_id).settle(from_code(event.code, event.text))

    def forget(self, stream_id: int) -> None:
        """The answer to this call is of no interest any more."""
        self._machine.forget(stream_id)
        self._calls.pop(stream_id, None)

    def wait_readable(self, deadline: float | None) -> bool:
        """Whether there is something to ``receive`` before ``deadline`` (in time.monotonic)."""
        return self._closed is not None or bool(self._readable.poll(_milliseconds(deadline)))

    def _send(self, wire: bytes, what: str, deadline: float | None) -> None:
        """All of ``wire`` is sent. Answers are taken in meanwhile, or two full buffers could face each other."""
        rest = memoryview(wire)
        try:
            while rest:
                try:
                    rest = rest[self._sock.send(rest, socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    self._wait_movable(what, deadline)
        except OSError as error:
            while self._closed is None and self._readable.poll(0):
                self.receive()  # answers that came before the end
            self._lose(error.strerror or str(error))
            raise Unavailable(self._closed) from error
        except BaseException:
            # A request that is half sent cannot be taken back.
            self._lose("interrupted while sending")
            raise

    def _wait_movable(self, what: str, deadline: float | None) -> None:
        ready = self._movable.poll(_milliseconds(deadline))
        if not ready:
            raise DeadlineExceeded(f"{what}: the server does not take the request")
        if ready[0][1] & select.POLLIN:
            self.receive()
        if self._closed is not None:
            raise Unavailable(self._closed)

    def _lose(self, why: str) -> None:
        if self._closed is not None:
            return
        self._closed = f"{self._peer}: {why}"
        self._sock.close()
        calls = list(self._calls.values())
        self._calls.clear()
        for pending in calls:
            pending.settle(Unavailable(self._closed))

    def close(self) -> None:
        """The connection is closed; calls that are pending fail with Unavailable. Idempotent."""
        self._lose("the connection was closed here")


def _connect(sock: socket.socket, path: str, deadline: float) -> None:
    sock.setblocking(False)
    while True:
        try:
            sock.connect(path)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(f"{path}: the shim accepts no connection") from error
            time.sleep(_CONNECT_RETRY_S)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ECONNREFUSED}:
                hint = "nobody listens there, the shim is gone"
                raise Unavailable(f"{path}: {error.strerror} ({hint})") from error
            raise from_os_error(error, f"connect to {path}") from error
        else:
            return


def _milliseconds(deadline: float | None) -> float | None:
    """What is left until ``deadline``, as poll wants it."""
    return None if deadline is None else min(max(0.0, deadline - time.monotonic()) * 1000, _MAX_POLL_MS)
