"""What Vault and its plugins have agreed on, which a host that is not Vault has to know to start one.

Source: hashicorp/vault, sdk/plugin/serve.go and sdk/database/dbplugin/v5 (handshake), sdk/helper/pluginutil (environment).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.errors import InvalidArgument
from shim.plugin.protocol.handshake import HandshakeConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ENVIRONMENT", "handshake_of"]

_BACKEND = HandshakeConfig("VAULT_BACKEND_PLUGIN", "6669da05-b1c8-4f49-97d9-c8e5bed98e20", (3, 4, 5))
_HANDSHAKES: Mapping[str, HandshakeConfig] = {
    "auth": _BACKEND,
    "secret": _BACKEND,
    "database": HandshakeConfig("VAULT_DATABASE_PLUGIN", "926a0820-aea2-be28-51d6-83cdf00e8edb", (5, 6)),
}

ENVIRONMENT = ("VAULT_PLUGIN_AUTOMTLS_ENABLED=true",)
"""Tells one of Vault's plugins that certificates are exchanged in the handshake; otherwise it asks a Vault for its own."""


def handshake_of(kind: str) -> HandshakeConfig:
    """That of Vault's plugins of the type ``kind``.

    Raises:
        InvalidArgument: there is no such type.
    """
    try:
        return _HANDSHAKES[kind]
    except KeyError:
        raise InvalidArgument(f"plugin type {kind!r}: use one of {', '.join(_HANDSHAKES)}") from None
