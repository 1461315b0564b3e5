"""What clients ask of any Vault before they come to what they want, and after: is it there, which version, may I; I am done.

Source: Vault's API documentation of sys/health, sys/seal-status, sys/init, sys/capabilities-self, auth/token/lookup-self and
revoke-self.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from shim import __version__
from shim.catalog.api.answer import Answer, nothing
from shim.catalog.api.call import Operation
from shim.catalog.api.routing import Endpoint
from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from shim.catalog.api.call import Call
    from shim.catalog.api.routing import Captures
    from shim.catalog.tokens import Token, Tokens

__all__ = ["VAULT_VERSION", "endpoints"]

# Which Vault's API this is: runtimes came with 1.15, and their rootless with 1.16. Clients compare it.
VAULT_VERSION: Final = f"1.16.0+ocishim.{re.sub(r'[^0-9A-Za-z.-]', '-', __version__)}"

_CLUSTER = "ocishim"
_MAX_PATHS = 256


def endpoints(tokens: Tokens) -> list[Endpoint]:
    """The paths, for whoever has one of ``tokens``."""

    def revoke(call: Call, captured: Captures) -> Answer:  # noqa: ARG001 - as all handlers
        tokens.revoke(_known(call).accessor)
        return nothing()

    return [
        Endpoint.of("health", "sys/health", {Operation.READ: _health}, public=True),
        Endpoint.of("seal status", "sys/seal-status", {Operation.READ: _seal_status}, public=True),
        Endpoint.of("init", "sys/init", {Operation.READ: _init}, public=True),
        Endpoint.of("capabilities", "sys/capabilities-self", {Operation.UPDATE: _capabilities}),
        Endpoint.of("lookup", "auth/token/lookup-self", {Operation.READ: _lookup}),
        Endpoint.of("revoke", "auth/token/revoke-self", {Operation.UPDATE: revoke}),
    ]


def _health(call: Call, captured: Captures) -> Answer:  # noqa: ARG001 - as all handlers
    plain = {
        "initialized": True,
        "sealed": False,
        "standby": False,
        "performance_standby": False,
        "replication_performance_mode": "disabled",
        "replication_dr_mode": "disabled",
        "server_time_utc": int(time.time()),
        "version": VAULT_VERSION,
        "cluster_name": _CLUSTER,
    }
    return Answer(plain=plain)


def _seal_status(call: Call, captured: Captures) -> Answer:  # noqa: ARG001 - as all handlers
    plain = {
        "type": "none",
        "initialized": True,
        "sealed": False,
        "t": 0,
        "n": 0,
        "progress": 0,
        "nonce": "",
        "version": VAULT_VERSION,
        "build_date": "",
        "migration": False,
        "cluster_name": _CLUSTER,
        "recovery_seal": False,
    }
    return Answer(plain=plain)


def _init(call: Call, captured: Captures) -> Answer:  # noqa: ARG001 - as all handlers
    return Answer(plain={"initialized": True})


def _capabilities(call: Call, captured: Captures) -> Answer:  # noqa: ARG001 - as all handlers
    caller = _known(call)
    paths = call.parameters.get("paths", call.parameters.get("path"))
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise InvalidArgument("paths must be supplied, as a list of texts")
    if len(paths) > _MAX_PATHS:
        raise InvalidArgument(f"at most {_MAX_PATHS} paths can be asked for at once")
    found = {path: sorted(caller.capabilities(path)) for path in paths}
    # As Vault: each path is a key, and for one path there is the older form, too.
    return Answer(data={**found, "capabilities": found[paths[0]]} if len(found) == 1 else found)


def _lookup(call: Call, captured: Captures) -> Answer:  # noqa: ARG001 - as all handlers
    caller = _known(call)
    ttl = 0 if caller.expires_at is None else int(caller.expires_at - caller.created_at)
    data = {
        "accessor": caller.accessor,
        "creation_time": int(caller.created_at),
        "creation_ttl": ttl,
        "display_name": caller.display_name,
        "entity_id": "",
        "expire_time": _timestamp(caller.expires_at),
        "explicit_max_ttl": ttl,
        "id": call.secret,
        "issue_time": _timestamp(caller.created_at),
        "meta": None,
        "num_uses": 0,
        "orphan": True,
        "path": "auth/token/create",
        "policies": list(caller.policies),
        "renewable": False,
        "ttl": caller.ttl_s(time.time()),
        "type": "service",
    }
    return Answer(data=data, mount="token")


def _known(call: Call) -> Token:
    assert call.caller is not None  # noqa: S101 - these paths are not public
    return call.caller


def _timestamp(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
