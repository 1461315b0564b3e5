"""The taxonomy: every code there and back, and errno to code."""

from __future__ import annotations

import errno
import os

import pytest

from shim import errors
from shim.errors import (
    HTTP_STATUS,
    Code,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unknown,
    from_code,
    from_os_error,
)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_a_code_survives_the_wire(code: Code) -> None:
    sent = from_code(code, "what happened")
    received = from_code(sent.code, sent.wire_message())
    assert type(received) is type(sent)
    assert str(received) == "what happened"


def test_every_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(Code)


def test_a_code_that_nobody_defined_is_unknown() -> None:
    assert type(from_code(99, "odd")) is Unknown


def test_the_suffix_stands_once() -> None:
    assert NotFound("container not found").wire_message() == "container not found"
    assert NotFound("container x").wire_message() == "container x: not found"
    assert Unknown("exec failed: no such file").wire_message() == "exec failed: no such file"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, NotFound),
        (errno.EPERM, PermissionDenied),
        (errno.ENOSPC, ResourceExhausted),
        (errno.EXDEV, Unknown),
    ],
)
def test_a_failed_system_call_names_its_path_once(number: int, kind: type[errors.ShimError]) -> None:
    error = from_os_error(OSError(number, os.strerror(number), "/some/path"), "it failed")
    assert type(error) is kind
    assert str(error) == f"it failed /some/path: {os.strerror(number)}"
    again = from_os_error(OSError(number, os.strerror(number), "/some/path"), "/some/path failed")
    assert str(again).count("/some/path") == 1
