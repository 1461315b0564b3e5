"""What a handler gets, and how its result or error becomes an answer.

The only place where exceptions turn into status codes on the wire; the codes and texts themselves are in
``shim/errors.py``. Source: containerd/ttrpc request.proto, server.go; errdefs for the texts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from shim.errors import Code, DeadlineExceeded, Internal, ShimError, from_os_error
from shim.proto.ttrpc_pb2 import Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from google.protobuf.message import Message

__all__ = ["NAMESPACE_KEY", "CallContext", "Method", "context_of", "failure", "status", "success"]

NAMESPACE_KEY: Final = "containerd-namespace-ttrpc"

# A status text is for people; the whole of a runtime's output belongs in a log.
_MAX_TEXT: Final = 16 << 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallContext:
    """What came along with a request."""

    namespace: str | None = None
    deadline: float | None = None
    """When the caller gives up, in the time of the event loop."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Keys are lower case; of a key that came several times, the first value."""


class Method(NamedTuple):
    """One entry of a service.

    ``handler`` gets an instance of ``request`` and returns a message, or None for an empty one. ``shielded``: what
    it changes must not stop half-way, so it goes on when its deadline passes or the connection that asked is lost;
    its result then goes nowhere. All other handlers are cancelled.
    """

    handler: Callable[[Any, CallContext], Awaitable[Any]]
    request: type[Message]
    shielded: bool = False


def context_of(request: Request, deadline: float | None) -> CallContext:
    """The context of one decoded request."""
    metadata: dict[str, str] = {}
    for pair in request.metadata:
        metadata.setdefault(pair.key, pair.value)
    return CallContext(metadata.get(NAMESPACE_KEY), deadline, metadata)


def success(result: Message | None) -> bytes:
    """The serialized Response for what a handler returned."""
    payload = b"" if result is None else result.SerializeToString()
    return Response(payload=payload).SerializeToString()


def status(code: Code, text: str) -> bytes:
    """The serialized Response for an error, ``text`` as it is."""
    # Paths with undecodable bytes are carried as lone surrogates, which protobuf refuses.
    clean = text[:_MAX_TEXT].encode("utf-8", "replace").decode()
    response = Response()
    response.status.code = code
    response.status.message = clean
    return response.SerializeToString()


def failure(error: Exception, what: str) -> bytes:
    """The serialized Response for an exception that left the handler of ``what``."""
    known = _translated(error, what)
    return status(known.code, known.wire_message())


def _translated(error: Exception, what: str) -> ShimError:
    if isinstance(error, ShimError):
        return error
    if isinstance(error, TimeoutError):  # an OSError too, but asyncio raises it without an errno
        return DeadlineExceeded(f"{what}: {error}" if str(error) else what)
    if isinstance(error, OSError):
        return from_os_error(error, what)
    _log.error("%s failed", what, exc_info=error)
    return Internal(f"{what}: {type(error).__name__}: {error}")
