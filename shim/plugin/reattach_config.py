"""What another process needs to go on with a plugin that runs: a record of a few lines, which holds a key.

Source: hashicorp/go-plugin, ReattachConfig; that it also works with automatic mutual TLS is ours.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shim.errors import DataLoss
from shim.plugin.protocol.handshake import PluginAddress
from shim.plugin.protocol.mutual_tls import Identity
from shim.store import records

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ReattachConfig"]


@dataclass(frozen=True, slots=True)
class ReattachConfig:
    """A plugin that runs.

    ``id`` is the runner's, ``address`` what the host connects to, and ``socket_dir`` the folder it shares with the plugin.
    """

    id: str
    address: PluginAddress
    socket_dir: str
    group: str = ""
    identity: Identity | None = None

    async def save(self, path: Path) -> None:
        """It is in the file ``path``, which only this user can read: whoever has the key can talk to the plugin.

        Raises:
            ShimError: it cannot be written.
        """
        await records.asave(path, self.to_record())

    @classmethod
    def load(cls, path: Path) -> ReattachConfig:
        """What ``save`` wrote. Blocks.

        Raises:
            NotFound: there is none.
            DataLoss: it is broken.
        """
        return cls.from_record(records.load(path), str(path))

    def to_record(self) -> dict[str, Any]:
        """As JSON has it."""
        at, identity = self.address, self.identity
        return {
            "id": self.id,
            "protocol": "grpc",
            "protocol_version": at.version,
            "network": at.network,
            "address": at.address,
            "socket_dir": self.socket_dir,
            "group": self.group,
            "certificate": base64.b64encode(at.certificate).decode(),
            "identity": None
            if identity is None
            else {"certificate": identity.certificate, "key": identity.key},
        }

    @classmethod
    def from_record(cls, record: dict[str, Any], what: str) -> ReattachConfig:
        """What ``to_record`` made; ``what`` names it in errors.

        Raises:
            DataLoss: it is broken.
        """
        try:
            certificate = base64.b64decode(record["certificate"], validate=True)
            address = PluginAddress(
                int(record["protocol_version"]), str(record["network"]), str(record["address"]), certificate
            )
            identity = Identity(**record["identity"]) if record["identity"] is not None else None
            return cls(str(record["id"]), address, str(record["socket_dir"]), str(record["group"]), identity)
        except (KeyError, TypeError, ValueError) as error:
            raise DataLoss(f"{what} tells of no plugin that could be attached to: {error!r}") from error
