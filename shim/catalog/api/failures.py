"""Errors as answers: the status of the one table of ``errors``, but where Vault's clients expect another.

Source: Vault's sdk/logical/response_util.go RespondErrorCommon.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from shim.catalog.api.answer import refused
from shim.errors import HTTP_STATUS, Code, ShimError

if TYPE_CHECKING:
    from shim.catalog.api.answer import Answer

__all__ = ["PERMISSION_DENIED", "HttpFailure", "answer_to"]

_log = logging.getLogger(__name__)

# Go's multierror, whose words clients look for.
PERMISSION_DENIED: Final = "1 error occurred:\n\t* permission denied\n\n"

# Vault knows no 401, and takes what is in use for a bad request.
_STATUS: Final = {
    **HTTP_STATUS,
    Code.UNAUTHENTICATED: HTTPStatus.FORBIDDEN,
    Code.ALREADY_EXISTS: HTTPStatus.BAD_REQUEST,
}


class HttpFailure(ShimError):
    """What only HTTP has a word for."""

    def __init__(self, status: HTTPStatus, text: str, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


def answer_to(error: ShimError) -> Answer:
    """What a client gets for ``error``. The log has it, too, where it is none of the client's."""
    if isinstance(error, HttpFailure):
        return refused(error.status, str(error), retry_after_s=error.retry_after_s)
    status = _STATUS[error.code]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s", error)
    return refused(status, str(error))
