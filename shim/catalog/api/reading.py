"""Requests of HTTP as calls: methods, headers, queries and bodies, each checked before anybody is asked for it.

Source: Vault's http/logical.go buildLogicalRequest, http/util.go; sdk/helper/jsonutil.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect

from shim.catalog.api.call import Call, Operation
from shim.catalog.api.failures import HttpFailure
from shim.catalog.fields import Fields
from shim.errors import Canceled, InvalidArgument

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.requests import Request

__all__ = ["read_call", "secret_of"]

_PREFIX = "/v1/"
_OPERATIONS = {
    "GET": Operation.READ,
    "HEAD": Operation.READ,
    "LIST": Operation.LIST,
    "POST": Operation.UPDATE,
    "PUT": Operation.UPDATE,
    "DELETE": Operation.DELETE,
    "PATCH": Operation.PATCH,
}
_MAX_FIELDS = 1000
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# Vault's tokens have none of it, and so no look-up needs to see it.
_SECRET = re.compile(r"[\x21-\x7e]{1,1024}")


async def read_call(request: Request, *, max_bytes: int, header_required: bool) -> Call:
    """What ``request`` asks for; its body has been read, as far as it has a meaning.

    Raises:
        HttpFailure: the method means nothing, the body is too large, or the header is missing.
        NotFound: another namespace is meant.
        InvalidArgument: the rest.
        Canceled: the client has gone before it had said all.
    """
    operation = _OPERATIONS.get(request.method)
    if operation is None:
        raise HttpFailure(HTTPStatus.METHOD_NOT_ALLOWED, "unsupported operation")
    headers = request.headers
    if header_required and headers.get("x-vault-request") != "true":
        raise HttpFailure(HTTPStatus.PRECONDITION_FAILED, "missing 'X-Vault-Request' header")
    _check_headers(headers)
    path = request.scope["path"].removeprefix(_PREFIX)
    kind = headers.get("content-type", "")
    ignored: tuple[str, ...] = ()
    if operation in {Operation.UPDATE, Operation.PATCH}:
        parameters = _parse_body(await _body(request, max_bytes), kind)
        ignored = tuple(_parse_form(request.scope["query_string"], "query"))
    else:
        parameters = _parse_form(request.scope["query_string"], "query")
        if operation is Operation.READ and Fields({"list": parameters.pop("list", None) or None}).flag(
            "list"
        ):
            operation = Operation.LIST
        # The body of the others has no meaning, and is not even read.
        if operation is Operation.DELETE:
            parameters = {**_parse_body(await _body(request, max_bytes), kind), **parameters}
    return Call(operation, path, parameters, secret_of(headers), ignored)


def secret_of(headers: Headers) -> str:
    """The token that a client shows, empty without one. What can be none is shown as a text that is none."""
    secret = headers.get("x-vault-token", "")
    if not secret:
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        secret = credentials.strip() if scheme.lower() == "bearer" else ""
    return secret if not secret or _SECRET.fullmatch(secret) else "?"


def _check_headers(headers: Headers) -> None:
    if headers.get("x-vault-wrap-ttl", ""):
        raise InvalidArgument("X-Vault-Wrap-TTL: answers cannot be wrapped here; leave the header out")
    namespace = headers.get("x-vault-namespace", "").strip("/")
    if namespace not in {"", "root"}:
        raise HttpFailure(
            HTTPStatus.NOT_FOUND, "X-Vault-Namespace: there is the root namespace only; leave the header out"
        )


async def _body(request: Request, max_bytes: int) -> bytes:
    """All of it."""
    too_large = HttpFailure(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"http: request body too large; at most {max_bytes} bytes"
    )
    # h11 has seen to it that the header is a number. It saves the client the sending, where it waits to be asked.
    if int(request.headers.get("content-length", "0")) > max_bytes:
        raise too_large
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise too_large
            parts.append(part)
    except ClientDisconnect as error:
        raise Canceled("the client has gone before it had sent all of the request") from error
    return b"".join(parts)


def _parse_body(body: bytes, kind: str) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"error parsing JSON: byte {error.start} is not UTF-8") from error
    # What curl says of everything that it sends by --data, so that the text itself has to tell.
    if (
        kind.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"
        and text.lstrip()[0] not in '{["'
    ):
        return _parse_form(body, "form")
    return _parse_json(text)


def _parse_json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"error parsing JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise InvalidArgument("error parsing JSON: an object is needed")
    # The escape of half a character is JSON, and no text: it could not be encoded in any answer.
    if "\\u" in text and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise InvalidArgument("error parsing JSON: half of a surrogate pair")
    return value


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    # Which of two limits is meant nobody can tell; the others take the last, or the first.
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise ValueError(f"{name[:80]!r} is there twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _parse_form(body: bytes, what: str) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError as error:
        raise InvalidArgument(f"error parsing {what} data: {str(error)[:200]}") from error
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            before = found[key]
            found[key] = [*(before if isinstance(before, list) else [before]), value]
        else:
            found[key] = value
    return found
