"""HTTP/1.1 on one connection: uvicorn's protocol over h11, with times for what it waits for, and envelopes for what it refuses.

h11, since the other parser knows no LIST. Uvicorn waits without end for the first head of a connection, for one that comes byte
by byte, and for a client that does not read; here each of these has the time of a request.

Source: uvicorn, protocols/http/h11_impl.py; h11's documentation.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

__all__ = ["HttpProtocol", "Refusal"]

_HEAD_BYTES: Final = 64 << 10


class HttpProtocol(H11Protocol):
    """``state`` comes with every request of the connection; ``timeout_s`` is how long the client may take."""

    def __init__(
        self, config: Config, server_state: ServerState, state: dict[str, Any], timeout_s: float
    ) -> None:
        super().__init__(config, server_state, state, asyncio.get_running_loop())
        self._timeout_s = timeout_s
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """A head is waited for."""
        super().connection_made(transport)
        if certificate := transport.get_extra_info("peercert"):
            self.app_state["certificate"] = _subject(certificate)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Requests begin or go on."""
        super().data_received(data)
        # IDLE: what has come is no whole head yet.
        if self.conn.their_state is not h11.IDLE:
            self._drop_timer("_head")
        elif self._head is None and not self.transport.is_closing():
            self._await_head()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's closes at once
        """The client sends no more. Is there a request that it has sent, it gets its answer; TLS has no half-open connections."""
        cycle = self.cycle
        # Uvicorn's annotations leave out that there may be none.
        if not cycle or cycle.response_complete or cycle.more_body or self.scheme == "https":  # type: ignore[truthy-bool]
            return False
        cycle.keep_alive = False
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._drop_timer("_head")
        self._drop_timer("_unread")
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self._timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._drop_timer("_unread")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP. Called by uvicorn."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self._timeout_s, self._no_head)

    def _no_head(self) -> None:
        self._head = None
        if not self.transport.is_closing():
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the request has not arrived within {self._timeout_s:g} s"
            )

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        body = _envelope(text)
        try:
            for event in (_head_of(status, body), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            # An answer has begun already: nothing can be added to it.
            pass
        self.transport.close()

    def _drop_timer(self, name: str) -> None:
        timer: asyncio.TimerHandle | None = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)


class Refusal(asyncio.Protocol):
    """Answers the first that comes on a connection with an error, and closes it; closes it without if nothing comes."""

    def __init__(self, status: HTTPStatus, text: str, timeout_s: float = 1.0) -> None:
        self._status = status
        self._text = text
        self._timeout_s = timeout_s
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has until ``timeout_s``."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, transport.abort)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - whatever it is
        """That is answered."""
        if self._transport is None or self._transport.is_closing():
            return
        body = _envelope(self._text)
        connection = h11.Connection(h11.SERVER)
        for event in (_head_of(self._status, body), h11.Data(data=body), h11.EndOfMessage()):
            self._transport.write(connection.send(event) or b"")
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the reason changes nothing
        """It is over."""
        if self._timer is not None:
            self._timer.cancel()


def _envelope(text: str) -> bytes:
    return json.dumps({"errors": [text]}, separators=(",", ":")).encode("ascii") + b"\n"


def _head_of(status: HTTPStatus, body: bytes) -> h11.Response:
    headers = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("content-length", str(len(body))),
        ("connection", "close"),
    ]
    return h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())


def _subject(certificate: dict[str, Any]) -> str:
    """The names in a certificate, as ``CN=client,O=team``."""
    short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU"}
    pairs = [pair for relative in certificate.get("subject", ()) for pair in relative]
    return ",".join(f"{short.get(key, key)}={value}" for key, value in pairs)
