"""HTTP/1.1 on one connection: uvicorn's protocol over h11, with times for what it waits for, and envelopes for what it refuses.

h11, since the other parser knows no LIST. Uvicorn waits without end for the first head of a connection, for one that comes byte
by byte, and for a client that does not read; here each of these has the time of a request.

Source: uvicorn, protocols/http/h11_impl.py; h11's documentation.
"""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ["HttpProtocol", "Refusal"]

# How long a client that was refused may go on sending into nothing.
_LINGER_S: Final = 2.0


class HttpProtocol(H11Protocol):
    """``state`` comes with every request of the connection; ``timeout_s`` is how long the client may take.

    ``lost`` is called once the connection is no more.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        state: dict[str, Any],
        timeout_s: float,
        lost: Callable[[], None],
    ) -> None:
        super().__init__(config, server_state, state, asyncio.get_running_loop())
        self._timeout_s = timeout_s
        self._lost = lost
        self._owed: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._discards = False
        self._ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """A head is waited for."""
        super().connection_made(transport)
        if certificate := transport.get_extra_info("peercert"):
            self.app_state["certificate"] = _subject(certificate)
        self._owed = self.loop.call_later(self._timeout_s, self._too_late)

    def data_received(self, data: bytes) -> None:
        """Requests begin or go on."""
        if not self._discards:
            # Whatever begins now is answered with it.
            self.server_state.default_headers = [(b"date", formatdate(usegmt=True).encode("ascii"))]
            super().data_received(data)
            self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's closes at once
        """The client sends no more. What it has sent is answered, all of it; TLS has no half-open connections."""
        cycle = self.cycle
        # Uvicorn's annotations leave out that there may be none.
        if not cycle or cycle.response_complete or cycle.more_body or self.scheme == "https":  # type: ignore[truthy-bool]
            return False
        self._ended = True
        cycle.keep_alive = bool(self.conn.trailing_data[0])
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._drop_timer("_owed")
        self._drop_timer("_unread")
        self._lost()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self._timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._drop_timer("_unread")
        super().resume_writing()

    def on_response_complete(self) -> None:
        """One request is answered. Called by uvicorn."""
        super().on_response_complete()
        if self._ended and self.cycle.response_complete:
            self.transport.close()
        self._watch()

    def shutdown(self) -> None:
        """The daemon stops. Called by uvicorn."""
        if self._discards:
            self.transport.abort()
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP. Called by uvicorn."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _watch(self) -> None:
        """What the client has begun to send must end in time: a head, or a body that was answered before it was read."""
        state = self.conn.their_state
        begun = state is h11.IDLE and self.conn.trailing_data[0]
        if not (begun or (state is h11.SEND_BODY and self.cycle.response_complete)):
            self._drop_timer("_owed")
        elif self._owed is None and not self.transport.is_closing():
            self._owed = self.loop.call_later(self._timeout_s, self._too_late)

    def _too_late(self) -> None:
        self._owed = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the request has not arrived within {self._timeout_s:g} s"
            )
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        self._drop_timer("_owed")
        self._discards = True
        try:
            wire = b"".join(self.conn.send(event) or b"" for event in _events(status, text))
        except h11.LocalProtocolError:
            # An answer has begun already: nothing can be added to it.
            self.transport.abort()
            return
        self._owed = _last_words(self.loop, self.transport, wire)

    def _drop_timer(self, name: str) -> None:
        timer: asyncio.TimerHandle | None = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)


class Refusal(asyncio.Protocol):
    """Answers the first that comes on a connection with an error, and closes it; closes it without if nothing comes."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        self._status = status
        self._text = text
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._said = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has a moment to speak."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(_LINGER_S, transport.abort)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - whatever it is
        """The first is answered."""
        if self._said or self._transport is None or self._timer is None:
            return
        self._said = True
        self._timer.cancel()
        connection = h11.Connection(h11.SERVER)
        wire = b"".join(connection.send(event) or b"" for event in _events(self._status, self._text))
        self._timer = _last_words(asyncio.get_running_loop(), self._transport, wire)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason changes nothing
        """It is over."""
        if self._timer is not None:
            self._timer.cancel()


def _last_words(
    loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, wire: bytes
) -> asyncio.TimerHandle:
    """``wire`` goes out, and the connection closes when the client has closed its side, or at the end of the timer.

    Not at once: the kernel answers what comes after a close, or was not read before, with a reset, and the client, which may
    still be sending, loses the answer with it.
    """
    transport.write(wire)
    if transport.can_write_eof():
        transport.write_eof()
    else:
        transport.close()
    return loop.call_later(_LINGER_S, transport.abort)


def _events(status: HTTPStatus, text: str) -> tuple[h11.Event, ...]:
    """The whole answer with that error."""
    body = json.dumps({"errors": [text]}, separators=(",", ":")).encode("ascii") + b"\n"
    headers = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    head = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
    return head, h11.Data(data=body), h11.EndOfMessage()


def _subject(certificate: dict[str, Any]) -> str:
    """The names in a certificate, as ``CN=client,O=team``."""
    short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU"}
    pairs = [pair for relative in certificate.get("subject", ()) for pair in relative]
    return ",".join(f"{short.get(key, key)}={value}" for key, value in pairs)
