"""What a handler of the gRPC API raises becomes a status, here and nowhere else.

Handlers are coroutine functions that take a message and the call's context. What they raise is one of ``shim.errors``, or
a fault of ours. A call that its client has given up, or whose deadline has passed, is cancelled by grpc.

Source: gRPC's status codes; grpc.aio, ServicerContext.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from shim.errors import DeadlineExceeded, Internal, InvalidArgument, ShimError, Unavailable, from_os_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

__all__ = ["Context", "Streams", "metadata_number", "send_metadata", "unary"]

Context = grpc.aio.ServicerContext[Any, Any]

_STATUS = {status.value[0]: status for status in grpc.StatusCode}
# Trailers have a limit of 8 KiB on the client's side, and a status that is over it arrives as another one.
_MAX_TEXT = 2 << 10

_log = logging.getLogger(__name__)


def unary(
    handler: Callable[[Any, Context], Awaitable[Message]], request: type[Message]
) -> grpc.RpcMethodHandler[Any, Any]:
    """A method that answers once."""

    async def call(body: bytes, context: Context) -> Message | None:
        try:
            return await handler(_parsed(body, request), context)
        except Exception as error:  # noqa: BLE001 - it is told
            await _fail(error, context)
        return None

    return grpc.unary_unary_rpc_method_handler(call, response_serializer=_serialized)


class Streams:
    """Methods that answer many times, and would for ever: ``end`` ends all of them."""

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[Any]] = set()
        """Those of grpc, which end when the status was sent."""
        self._running: set[asyncio.Task[Any]] = set()
        """Of these, those whose handler has not returned."""
        self._ending = False

    def method(
        self, handler: Callable[[Any, Context], Awaitable[None]], request: type[Message]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """One of them; ``handler`` writes serialized messages into its context until it returns."""

        async def call(body: bytes, context: Context) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - for the type checker
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            try:
                await self._run(task, handler(_parsed(body, request), context))
            except Exception as error:  # noqa: BLE001 - it is told
                await _fail(error, context)

        return grpc.unary_stream_rpc_method_handler(call)

    async def _run(self, task: asyncio.Task[Any], handler: Awaitable[None]) -> None:
        self._running.add(task)
        try:
            if self._ending:
                task.cancel()
            await handler
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            raise Unavailable("the daemon ends") from None
        finally:
            self._running.discard(task)

    async def end(self, within_s: float) -> None:
        """All were sent Unavailable, but those that took none for ``within_s``; and so is whoever comes from now on.

        To be awaited before the server is stopped: it ends connections, whatever is still to be sent.
        """
        self._ending = True
        for task in self._running:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=within_s)


async def send_metadata(context: Context, *metadata: tuple[str, str]) -> None:
    """The client knows that its stream has begun. To be awaited before the first write of a stream.

    It is not interrupted: a call whose initial metadata grpc believes unsent gets them twice, and no status.
    """
    sending = asyncio.ensure_future(context.send_initial_metadata(metadata))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait([sending])
        raise


def metadata_number(context: Context, key: str, kind: type[int | float]) -> float | None:
    """The number that the client sent as ``key``, if it did.

    Raises:
        InvalidArgument: it is none, or came twice.
    """
    found = [str(value) for name, value in context.invocation_metadata() or () if name == key]
    if not found:
        return None
    if len(found) > 1:
        raise InvalidArgument(f"the metadata {key} came {len(found)} times; send it once")
    try:
        # As those of int and float, but for _, which is Python's own.
        return kind(found[0].replace("_", "?"))
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise InvalidArgument(f"the metadata {key} is {found[0]!r}; it must be a {what}") from None


def _parsed(body: bytes, request: type[Message]) -> Message:
    # Not left to grpc, to which what is broken is an unknown error.
    try:
        return request.FromString(body)
    except DecodeError as error:
        raise InvalidArgument(f"the {request.DESCRIPTOR.name} cannot be decoded") from error


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


async def _fail(error: Exception, context: Context) -> None:
    # What abort itself raises comes through here, too, when a handler has called it.
    if isinstance(error, grpc.aio.AbortError):
        raise error
    known = _translated(error)
    # What was undecodable in a path is a lone surrogate, which no status can carry.
    text = str(known)[:_MAX_TEXT].encode("utf-8", "replace").decode()
    await context.abort(_STATUS[known.code], text)


def _translated(error: Exception) -> ShimError:
    if isinstance(error, ShimError):
        return error
    if isinstance(error, TimeoutError):  # an OSError too, but asyncio raises it without an errno
        return DeadlineExceeded(str(error) or "it took too long")
    if isinstance(error, OSError):
        return from_os_error(error, "the system refused")
    _log.error("a fault of ocishim itself", exc_info=error)
    return Internal(f"a fault of ocishim itself: {type(error).__name__}: {error}")
