"""Calls in, answers out: who asks is looked up, whether it may is decided, and a handler answers. Blocking, without HTTP.

First the token, then the path, as Vault does: who may not do something does not learn whether it exists.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from shim.catalog.api import plugin_endpoints, runtime_endpoints, system_endpoints
from shim.catalog.api.answer import Answer, failed, refused
from shim.catalog.api.call import Operation
from shim.catalog.api.failures import PERMISSION_DENIED, answer_to
from shim.catalog.api.routing import find
from shim.errors import PermissionDenied, ShimError, from_os_error

if TYPE_CHECKING:
    from shim.catalog.api.call import Call
    from shim.catalog.catalog import Catalog
    from shim.catalog.tokens import Token, Tokens

__all__ = ["Backend", "Outcome"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer, and what is to be said of it in logs and metrics."""

    answer: Answer
    caller: Token | None = None
    endpoint: str = ""


class Backend:
    """The API over one catalog and its tokens. Calls may come from any thread, and block for as long as a disk does."""

    def __init__(self, catalog: Catalog, tokens: Tokens) -> None:
        self._tokens = tokens
        self._endpoints = [
            *system_endpoints.endpoints(tokens),
            *runtime_endpoints.endpoints(catalog),
            *plugin_endpoints.endpoints(catalog),
        ]

    def is_public(self, path: str) -> bool:
        """Whether ``path`` needs no token."""
        found = find(self._endpoints, path)
        return found is not None and found[0].public

    def handle(self, call: Call) -> Outcome:
        """The answer to ``call``; whatever fails is an answer, too."""
        found = find(self._endpoints, call.path)
        name = found[0].name if found else ""
        caller = None
        try:
            if found is None or not found[0].public:
                caller = self._tokens.lookup(call.secret)
                lists = found is not None and Operation.LIST in found[0].operations
                _authorize(caller, call, lists=lists)
            if found is None:
                return Outcome(refused(HTTPStatus.NOT_FOUND, "unsupported path"), caller)
            endpoint, captured = found
            if call.operation not in endpoint.operations:
                return Outcome(refused(HTTPStatus.METHOD_NOT_ALLOWED, "unsupported operation"), caller, name)
            answer = endpoint.operations[call.operation](replace(call, caller=caller), captured)
        except ShimError as error:
            answer = answer_to(error)
        except OSError as error:
            answer = answer_to(from_os_error(error, "the catalog cannot be used"))
        except Exception:  # noqa: BLE001 - in the log, with its traceback
            _log.exception("a fault at %s of %s", call.operation.value, call.path)
            answer = failed()
        return Outcome(answer, caller, name)

    def admit(self, secret: str, path: str, operation: Operation) -> Outcome:
        """Whether the token of ``secret`` may do that with a path that is served elsewhere: a refusal where it may not."""
        caller = None
        try:
            caller = self._tokens.lookup(secret)
            if not caller.allows(path, operation.value):
                raise PermissionDenied(PERMISSION_DENIED)
        except ShimError as error:
            return Outcome(answer_to(error), caller)
        return Outcome(Answer(), caller)


def _authorize(caller: Token, call: Call, *, lists: bool) -> None:
    """Raises PermissionDenied unless ``caller`` may. ``lists``: what is there is a list."""
    # Vault adds the slash before it looks at policies: "catalog/*" is about listing "catalog", too.
    listed = f"{call.path.removesuffix('/')}/"
    may_list = caller.allows(listed, Operation.LIST.value, listing=True)
    if call.operation is Operation.LIST:
        allowed = may_list
    else:
        # What a plain GET of a list gives is the list: who may list may have it so, too.
        allowed = caller.allows(call.path, call.operation.value) or (
            may_list and lists and call.operation is Operation.READ
        )
    if not allowed:
        raise PermissionDenied(PERMISSION_DENIED)
