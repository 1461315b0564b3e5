"""The API as an ASGI application: limits, the backend in a thread, envelopes, audit, metrics.

Every request gets an answer with an envelope, whatever is wrong with it, and all but those that need no token a line in the
audit log. The backend blocks as a disk does, so each call has a thread; of those there are at most MAX_CALLS, so that a disk
that hangs does not take all memory. One that takes too long is answered without it, and ends when it can.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from shim.catalog.api.answer import Answer, failed, refused
from shim.catalog.api.audit import who
from shim.catalog.api.backend import Outcome
from shim.catalog.api.call import Operation
from shim.catalog.api.failures import HttpFailure, answer_to
from shim.catalog.api.metrics import CONTENT_TYPE
from shim.catalog.api.rate import RateLimit
from shim.catalog.api.reading import read_call, secret_of
from shim.errors import ResourceExhausted, ShimError
from shim.process.thread import begin_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from starlette.types import Receive, Scope, Send

    from shim.catalog.api.audit import AuditLog
    from shim.catalog.api.backend import Backend
    from shim.catalog.api.call import Call
    from shim.catalog.api.metrics import Metrics
    from shim.catalog.api.settings import Settings

__all__ = ["MAX_CALLS", "build_app"]

MAX_CALLS: Final = 64

_PREFIX = "/v1/"
_METRICS = "metrics"  # of all endpoints the one that is not below that
# Of what a client chooses, as much goes into the audit log as helps to find out what happened.
_SHOWN = 1024
_NAMES = 32

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


def build_app(backend: Backend, audit: AuditLog, metrics: Metrics, settings: Settings) -> Router:
    """The application. The ``state`` of a scope has ``peer`` where the client came by a unix socket: its credentials."""
    api = _Api(backend, audit, metrics, settings)
    # The default gets whatever there is, methods and paths that no pattern matches included: it has an envelope for all.
    return Router([Route("/metrics", _MetricsPage(api))], redirect_slashes=False, default=api)


@dataclass(slots=True)
class _Visit:
    """One request on its way, as far as it is understood."""

    request: Request
    id: str
    began: float
    audited: bool = False
    call: Call | None = None
    line: threading.Lock = field(default_factory=threading.Lock)
    """Taken by whoever adds the line of the audit log."""


class _Api:
    def __init__(self, backend: Backend, audit: AuditLog, metrics: Metrics, settings: Settings) -> None:
        self.backend = backend
        self.metrics = metrics
        self.settings = settings
        self._audit = audit
        self._rate = RateLimit(settings.rate_limit, settings.rate_burst)
        self._room = asyncio.Semaphore(MAX_CALLS)
        self._late: set[asyncio.Future[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = _Visit(Request(scope, receive), _request_id(), time.perf_counter())
        with self.metrics.running.track_inprogress():
            answer = await self.accounted(visit, self._answered)
            await _response(answer, visit)(scope, receive, send)

    async def accounted(self, visit: _Visit, way: Callable[[_Visit], Awaitable[Outcome]]) -> Answer:
        """What ``visit`` gets: that of ``way``, counted and written down, or why it could not be."""
        outcome = await self._outcome(visit, way)
        if self._added(visit, outcome):
            if outcome.answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                outcome = await self._outcome(visit, partial(self._written, outcome))
            else:
                self._audit.write_soon()  # it may have waited long enough for a disk
        operation = visit.call.operation.value if visit.call else ""
        seconds = time.perf_counter() - visit.began
        self.metrics.answered(outcome.endpoint, operation, outcome.answer.status, seconds)
        return outcome.answer

    async def _written(self, outcome: Outcome, visit: _Visit) -> Outcome:  # noqa: ARG002 - as all ways
        await self.in_bounds(self._audit.write)
        return outcome

    def _added(self, visit: _Visit, outcome: Outcome) -> bool:
        """There is a line; whether it was added here: once, by whoever comes first, the thread that has answered or the loop."""
        if not (visit.audited and visit.line.acquire(blocking=False)):
            return False
        self._audit.add(_line(visit, outcome))
        return True

    async def handled(self, visit: _Visit, call: Callable[[], Outcome]) -> Outcome:
        """What ``call`` returns, from a thread, and written down there.

        Raises:
            Unavailable: it cannot be written down.
            HttpFailure: see ``in_bounds``.
        """

        def handle() -> Outcome:
            outcome = call()
            if self._added(visit, outcome):
                self._audit.write()
            return outcome

        return await self.in_bounds(handle)

    async def _outcome(self, visit: _Visit, way: Callable[[_Visit], Awaitable[Outcome]]) -> Outcome:
        try:
            return await way(visit)
        except ShimError as error:
            return Outcome(answer_to(error))
        except asyncio.CancelledError:
            # The server's last resort when it stops. The client is told, and the log; there is nothing else to undo.
            return Outcome(refused(HTTPStatus.SERVICE_UNAVAILABLE, "the daemon stops"))
        except Exception:  # noqa: BLE001 - in the log, with its traceback; the client gets an envelope all the same
            _log.exception("a fault at request %s", visit.id)
            return Outcome(failed())

    async def _answered(self, visit: _Visit) -> Outcome:
        request, settings = visit.request, self.settings
        path = request.scope["path"]
        if not self.backend.is_public(path.removeprefix(_PREFIX)):
            # Who watches over the daemon asks often, and gets the truth also while nothing can be written.
            self.check(visit)
        if not path.startswith(_PREFIX):
            raise HttpFailure(HTTPStatus.NOT_FOUND, "unsupported path")
        try:
            async with asyncio.timeout(settings.request_timeout_s):
                visit.call = await read_call(
                    request,
                    max_bytes=settings.max_request_bytes,
                    header_required=settings.require_request_header,
                )
        except TimeoutError:
            text = f"the request has not arrived within {settings.request_timeout_s:g} s"
            raise HttpFailure(HTTPStatus.REQUEST_TIMEOUT, text) from None
        return await self.handled(visit, partial(self.backend.handle, visit.call))

    def check(self, visit: _Visit) -> None:
        """``visit`` is one to be written down.

        Raises:
            Unavailable: nothing can be written.
            HttpFailure: its client asks too often.
        """
        self._audit.check()
        visit.audited = True
        request = visit.request
        if wait_s := self._rate.take(_client(request), time.monotonic()):
            text = f"request path {request.scope['path'][:_SHOWN]!r}: rate limit quota exceeded"
            raise HttpFailure(HTTPStatus.TOO_MANY_REQUESTS, text, RateLimit.retry_after(wait_s))

    async def in_bounds(self, call: Callable[[], _Result]) -> _Result:
        """What ``call`` returns, from a thread.

        Raises:
            HttpFailure: there was no room, or no end, within the time that a request has.
        """
        timeout_s = self.settings.request_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._room.acquire()
        except TimeoutError:
            raise HttpFailure(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_CALLS} requests wait for the catalog's disk already"
            ) from None
        try:
            outcome = begin_in_thread(call)
        except ResourceExhausted:
            self._room.release()
            raise
        outcome.add_done_callback(self._ended)
        await asyncio.wait({outcome}, timeout=timeout_s)
        if outcome.done():
            return outcome.result()
        self._late.add(outcome)
        raise HttpFailure(
            HTTPStatus.GATEWAY_TIMEOUT, f"the catalog's disk has not answered within {timeout_s:g} s"
        )

    def _ended(self, outcome: asyncio.Future[_Result]) -> None:
        self._room.release()
        if outcome in self._late:
            self._late.discard(outcome)
            _log.warning(
                "a request has ended that was answered long ago: %s", outcome.exception() or "it went well"
            )


class _MetricsPage:
    """``/metrics``: whoever may connect to the unix socket may read it, others by a token for sys/metrics."""

    def __init__(self, api: _Api) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = _Visit(Request(scope, receive), _request_id(), time.perf_counter())
        answer = await self._api.accounted(visit, self._admitted)
        if answer.errors is None:
            response = Response(self._api.metrics.text(), media_type=CONTENT_TYPE)
        else:
            response = _response(answer, visit)
        await response(scope, receive, send)

    async def _admitted(self, visit: _Visit) -> Outcome:
        request, api = visit.request, self._api
        if request.method not in {"GET", "HEAD"}:
            raise HttpFailure(HTTPStatus.METHOD_NOT_ALLOWED, "unsupported operation")
        if _peer(request) is not None or api.settings.open_metrics:
            return Outcome(Answer(), endpoint=_METRICS)
        api.check(visit)
        admit = partial(api.backend.admit, secret_of(request.headers), "sys/metrics", Operation.READ)
        return replace(await api.handled(visit, admit), endpoint=_METRICS)


def _line(visit: _Visit, outcome: Outcome) -> dict[str, object]:
    """What is told of ``visit`` in the audit log."""
    request = visit.request
    return {
        "id": visit.id,
        "client": _told(request),
        "method": request.method[:_SHOWN],
        "path": request.scope["path"][:_SHOWN],
        "operation": visit.call.operation.value if visit.call else "",
        "parameters": [name[:_SHOWN] for name in sorted(visit.call.parameters)[:_NAMES]]
        if visit.call
        else [],
        "token": who(outcome.caller, secret_of(request.headers)),
        "status": int(outcome.answer.status),
        "seconds": round(time.perf_counter() - visit.began, 6),
    }


def _request_id() -> str:
    """Looks as Vault's. It is no secret: the kernel's random bits, which take a system call, would be wasted on it."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _response(answer: Answer, visit: _Visit) -> Response:
    body = answer.body(visit.id)
    headers = {"cache-control": "no-store"}
    if answer.retry_after_s is not None:
        headers["retry-after"] = str(answer.retry_after_s)
    if visit.request.method == "HEAD":
        headers["content-length"] = str(len(body))
        body_sent = b""
    else:
        body_sent = body
    return Response(body_sent, answer.status, headers, media_type="application/json" if body else None)


def _peer(request: Request) -> tuple[int, int, int] | None:
    peer: tuple[int, int, int] | None = request.scope.get("state", {}).get("peer")
    return peer


def _client(request: Request) -> Hashable:
    """For whom there is one bucket: a user, an address, or all of whom nothing is known."""
    if (peer := _peer(request)) is not None:
        return peer[1]
    return request.client.host if request.client else None


def _told(request: Request) -> dict[str, object]:
    """Who connected, for the audit log."""
    if (peer := _peer(request)) is not None:
        return dict(zip(("pid", "uid", "gid"), peer, strict=True))
    found: dict[str, object] = (
        {"address": f"{request.client.host}:{request.client.port}"} if request.client else {}
    )
    if certificate := request.scope.get("state", {}).get("certificate"):
        found["certificate"] = certificate
    return found
