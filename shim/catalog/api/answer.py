"""What is answered, and the envelope it goes in.

Source: Vault's http/logical.go respondLogical, sdk/logical/response_util.go; see also its API documentation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Answer", "failed", "listed", "nothing", "refused"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Either ``data``, in the envelope; or ``plain``, a whole body; or ``errors``; or none: no content."""

    status: int = HTTPStatus.OK
    data: Mapping[str, Any] | None = None
    plain: Mapping[str, Any] | None = None
    errors: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    mount: str = "system"
    retry_after_s: int | None = None

    def body(self, request_id: str) -> bytes:
        """What follows the headers; empty where there is nothing to say."""
        value = self._members(request_id)
        # The newline is Go's json.Encoder's; whoever looks with curl likes it.
        return b"" if value is None else json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"

    def _members(self, request_id: str) -> Mapping[str, Any] | None:
        if self.errors is not None:
            return {"errors": self.errors}
        if self.plain is not None:
            return self.plain
        if self.data is None and not self.warnings:
            return None
        # Clients of the seed's days read members at the top as well as in ``data`` for some paths; not for these.
        return {
            "request_id": request_id,
            "lease_id": "",
            "renewable": False,
            "lease_duration": 0,
            "data": self.data,
            "wrap_info": None,
            "warnings": self.warnings or None,
            "auth": None,
            "mount_type": self.mount,
        }


def nothing(warnings: tuple[str, ...] = ()) -> Answer:
    """It is done: 204, or 200 where there is something to say about it."""
    return Answer(HTTPStatus.OK if warnings else HTTPStatus.NO_CONTENT, warnings=warnings)


def listed(data: Mapping[str, Any], *, empty: bool) -> Answer:
    """What LIST gives: of nothing, Vault says that it is not there."""
    return Answer(HTTPStatus.NOT_FOUND, errors=()) if empty else Answer(data=data)


def refused(status: int, *texts: str, retry_after_s: int | None = None) -> Answer:
    """An error with these texts."""
    return Answer(status, errors=texts, retry_after_s=retry_after_s)


def failed() -> Answer:
    """A fault of our own, which is in the log and not here."""
    return refused(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
