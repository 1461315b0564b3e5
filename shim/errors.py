"""One error taxonomy, in the words of the gRPC codes.

Every layer raises these; ttrpc, gRPC, HTTP and the command line translate them with the tables at the end of
this file and nowhere else. ``linux/`` raises plain ``OSError`` with errno and path; the layers above translate it
once, with ``from``.

Source: google.rpc.Code; containerd errdefs (the texts after the last colon are the ones its clients look for).
"""

from __future__ import annotations

import errno
from enum import IntEnum
from http import HTTPStatus
from typing import ClassVar

__all__ = [
    "HTTP_STATUS",
    "Aborted",
    "AlreadyExists",
    "Canceled",
    "Code",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "ShimError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "from_code",
    "from_os_error",
]


class Code(IntEnum):
    """google.rpc.Code."""

    OK = 0
    CANCELED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ShimError(Exception):
    """Base of all errors that a caller of ocishim can meet.

    ``str(error)`` is one line: what failed, which value, and what to do where that is known.
    """

    code: ClassVar[Code] = Code.UNKNOWN
    suffix: ClassVar[str] = "unknown"

    def wire_message(self) -> str:
        """The text as containerd's errdefs spells it: ``<detail>: <suffix>``."""
        text = str(self)
        return text if text.endswith(self.suffix) else f"{text}: {self.suffix}"


class Canceled(ShimError):
    """The caller gave up."""

    code = Code.CANCELED
    suffix = "context canceled"


class Unknown(ShimError):
    """Something outside failed, most often the OCI runtime."""

    def wire_message(self) -> str:
        """The text alone: containerd's shim adds no class to what has none, and Docker shows what it gets."""
        return str(self)


class InvalidArgument(ShimError):
    """The request can never work as it is written."""

    code = Code.INVALID_ARGUMENT
    suffix = "invalid argument"


class DeadlineExceeded(ShimError):
    """It took longer than it was allowed to."""

    code = Code.DEADLINE_EXCEEDED
    suffix = "context deadline exceeded"


class NotFound(ShimError):
    """There is no such container, process or file."""

    code = Code.NOT_FOUND
    suffix = "not found"


class AlreadyExists(ShimError):
    """The name is taken."""

    code = Code.ALREADY_EXISTS
    suffix = "already exists"


class PermissionDenied(ShimError):
    """The caller may not do that."""

    code = Code.PERMISSION_DENIED
    suffix = "permission denied"


class ResourceExhausted(ShimError):
    """Disk, memory, descriptors, processes or a message limit ran out."""

    code = Code.RESOURCE_EXHAUSTED
    suffix = "resource exhausted"


class FailedPrecondition(ShimError):
    """The request is well formed, but not in this state."""

    code = Code.FAILED_PRECONDITION
    suffix = "failed precondition"


class Aborted(ShimError):
    """A concurrent change won."""

    code = Code.ABORTED
    suffix = "aborted"


class OutOfRange(ShimError):
    """A value lies outside of what is possible."""

    code = Code.OUT_OF_RANGE
    suffix = "out of range"


class Unimplemented(ShimError):
    """There is no such service, method or feature here."""

    code = Code.UNIMPLEMENTED
    suffix = "not implemented"


class Internal(ShimError):
    """A fault of our own."""

    code = Code.INTERNAL
    suffix = "internal"


class Unavailable(ShimError):
    """The other side cannot be reached now."""

    code = Code.UNAVAILABLE
    suffix = "unavailable"


class DataLoss(ShimError):
    """Something that was stored is broken."""

    code = Code.DATA_LOSS
    suffix = "data loss"


class Unauthenticated(ShimError):
    """The caller did not say who it is."""

    code = Code.UNAUTHENTICATED
    suffix = "unauthorized"


_BY_CODE: dict[Code, type[ShimError]] = {
    cls.code: cls
    for cls in (
        Canceled,
        Unknown,
        InvalidArgument,
        DeadlineExceeded,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        ResourceExhausted,
        FailedPrecondition,
        Aborted,
        OutOfRange,
        Unimplemented,
        Internal,
        Unavailable,
        DataLoss,
        Unauthenticated,
    )
}

_BY_ERRNO: dict[int, type[ShimError]] = {
    errno.ENOENT: NotFound,
    errno.ESRCH: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EPERM: PermissionDenied,
    errno.EACCES: PermissionDenied,
    errno.EROFS: FailedPrecondition,
    errno.EBUSY: FailedPrecondition,
    errno.ENOTEMPTY: FailedPrecondition,
    errno.EINVAL: InvalidArgument,
    errno.ENAMETOOLONG: InvalidArgument,
    errno.ENOTDIR: InvalidArgument,
    errno.ELOOP: InvalidArgument,
    errno.ENOSPC: ResourceExhausted,
    errno.EDQUOT: ResourceExhausted,
    errno.EMFILE: ResourceExhausted,
    errno.ENFILE: ResourceExhausted,
    errno.ENOMEM: ResourceExhausted,
    errno.EAGAIN: ResourceExhausted,
    errno.ENOSYS: Unimplemented,
    errno.EOPNOTSUPP: Unimplemented,
    errno.ETIMEDOUT: DeadlineExceeded,
    errno.ECONNREFUSED: Unavailable,
    errno.EPIPE: Unavailable,
}

HTTP_STATUS: dict[Code, HTTPStatus] = {
    Code.OK: HTTPStatus.OK,
    Code.CANCELED: HTTPStatus.REQUEST_TIMEOUT,
    Code.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Code.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Code.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    Code.ABORTED: HTTPStatus.CONFLICT,
    Code.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Code.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Code.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DATA_LOSS: HTTPStatus.INTERNAL_SERVER_ERROR,
    Code.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}


def from_code(code: int, message: str) -> ShimError:
    """The exception of a peer's answer; codes that no one defined are Unknown."""
    cls = _BY_CODE.get(Code(code) if code in Code._value2member_map_ else Code.UNKNOWN, Unknown)
    return cls(message.removesuffix(f": {cls.suffix}"))


def from_os_error(error: OSError, what: str) -> ShimError:
    """The exception for a failed system call: ``<what>: <strerror>``, with the path where the error has one."""
    cls = _BY_ERRNO.get(error.errno or 0, Unknown)
    where = f" {error.filename}" if isinstance(error.filename, str) and error.filename not in what else ""
    return cls(f"{what}{where}: {error.strerror or error}")
