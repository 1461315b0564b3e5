"""What a handler gets, and how its result or error becomes an answer.

The only place where exceptions turn into status codes on the wire; the codes and texts themselves are in
``shim/errors.py``. Source: containerd/ttrpc request.proto, server.go; errdefs for the texts.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shim.errors import Canceled, Code, DeadlineExceeded, Internal, NotFound, ShimError, from_os_error
from shim.proto.ttrpc_pb2 import Response
from shim.ttrpc import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from google.protobuf.message import Message

    from shim.proto.ttrpc_pb2 import Request

__all__ = ["HANDLER_ERRORS", "NAMESPACE_KEY", "CallContext", "Method", "failure", "status", "success"]

NAMESPACE_KEY: Final = "containerd-namespace-ttrpc"

# A status text is for people; the whole of a runtime's output belongs in a log.
_MAX_TEXT: Final = 16 << 10

# Whatever a handler raises is an answer, except what ends the process. CancelledError is no Exception.
HANDLER_ERRORS: Final = (Exception, asyncio.CancelledError)

# Of a Response, the tag of the field ``payload``: its number, 2, and that a length follows.
_PAYLOAD: Final = b"\x12"
_BYTES: Final = tuple(bytes((number,)) for number in range(0x80))

_log = logging.getLogger(__name__)


class CallContext:
    """What came along with a request. Decoded when it is asked for: few handlers do, and every call pays."""

    __slots__ = ("_request", "deadline")

    def __init__(self, request: Request, deadline: float | None = None) -> None:
        """``deadline``: when the caller gives up, in the time of the event loop."""
        self.deadline = deadline
        self._request = request

    @property
    def metadata(self) -> Mapping[str, str]:
        """Keys are lower case; of a key that came several times, the first value."""
        found: dict[str, str] = {}
        for pair in self._request.metadata:
            found.setdefault(pair.key, pair.value)
        return found

    @property
    def namespace(self) -> str | None:
        """The containerd namespace of the caller, if it told one."""
        return self.metadata.get(NAMESPACE_KEY)


class Method(NamedTuple):
    """One entry of a service.

    ``handler`` gets an instance of ``request`` and returns a message, or None for an empty one. It is a coroutine
    function if it may have to wait, else a plain one, which is called and answered without a task. ``shielded``:
    what it changes must not stop half-way, so it goes on when its deadline passes or the connection that asked is
    lost; its result then goes nowhere. All other handlers are cancelled.

    Of ``kind`` BIDI_STREAM, ``handler`` gets a Stream of ``request`` messages instead, and ends it by returning None.
    """

    handler: Callable[[Any, CallContext], Coroutine[Any, Any, Any] | Message | None]
    request: type[Message]
    shielded: bool = False
    kind: Kind = Kind.UNARY


def success(result: Message | None) -> bytes:
    """The serialized Response for what a handler returned.

    Put together here: it is one field, and protobuf takes as long for this envelope as for the message in it.
    """
    payload = b"" if result is None else result.SerializeToString()
    return _PAYLOAD + varint(len(payload)) + payload if payload else b""


def varint(number: int) -> bytes:
    """``number``, not negative, as protobuf writes lengths: seven bits a byte, the lowest first."""
    if number < 0x80:
        return _BYTES[number]
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7)


def status(code: Code, text: str) -> bytes:
    """The serialized Response for an error, ``text`` as it is."""
    # Paths with undecodable bytes are carried as lone surrogates, which protobuf refuses.
    clean = text[:_MAX_TEXT].encode("utf-8", "replace").decode()
    return Response(status={"code": code, "message": clean}).SerializeToString()


def failure(error: BaseException, what: str) -> bytes:
    """The serialized Response for an exception that left the handler of ``what``."""
    known = _translated(error, what)
    # What is not there is what clients ask for; a fault of our own is in the log already.
    if not isinstance(known, NotFound | Canceled | Internal):
        _log.info("%s", known if str(known).startswith(what) else f"{what}: {known}")
    return status(known.code, known.wire_message())


def _translated(error: BaseException, what: str) -> ShimError:
    if isinstance(error, ShimError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return Canceled(what)
    if isinstance(error, TimeoutError):  # an OSError too, but asyncio raises it without an errno
        return DeadlineExceeded(f"{what}: {error}" if str(error) else what)
    if isinstance(error, OSError):
        return from_os_error(error, what)
    _log.error("%s failed", what, exc_info=error)
    return Internal(f"{what}: {type(error).__name__}: {error}")
