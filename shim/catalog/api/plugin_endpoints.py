"""``sys/plugins/catalog``, as far as plugins in containers need it.

Source: Vault's API documentation of that path; vault/logical_system.go.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from shim.catalog.api.answer import Answer, listed, nothing, refused
from shim.catalog.api.call import Operation
from shim.catalog.api.parameters import warnings_about
from shim.catalog.api.routing import NAME, Endpoint
from shim.catalog.plugins import TYPES, Plugin
from shim.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from shim.catalog.api.call import Call
    from shim.catalog.api.routing import Captures
    from shim.catalog.catalog import Catalog

__all__ = ["endpoints"]

_ROOT = "sys/plugins/catalog"
_TYPE = f"(?P<type>{'|'.join(TYPES)})"


def endpoints(catalog: Catalog) -> list[Endpoint]:
    """The paths, over ``catalog``."""
    plugins = _Plugins(catalog)
    lists = {Operation.LIST: plugins.list_all, Operation.READ: plugins.list_all}
    of_type = {Operation.LIST: plugins.list_type, Operation.READ: plugins.list_type}
    one = {
        Operation.READ: plugins.read,
        Operation.UPDATE: plugins.register,
        Operation.DELETE: plugins.delete,
    }
    return [
        Endpoint.of("plugins", f"{_ROOT}/?", lists),
        Endpoint.of("plugins of a type", f"{_ROOT}/{_TYPE}/?", of_type),
        Endpoint.of("plugin", f"{_ROOT}/{_TYPE}/{NAME}", one),
    ]


class _Plugins:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def list_all(self, call: Call, captured: Captures) -> Answer:  # noqa: ARG002 - as all handlers
        found = self._catalog.plugins()
        by_type = {kind: sorted({p.name for p in found if p.type == kind}) for kind in TYPES}
        return Answer(data={**by_type, "detailed": [plugin.to_summary() for plugin in found]})

    def list_type(self, call: Call, captured: Captures) -> Answer:  # noqa: ARG002 - as all handlers
        keys = sorted({plugin.name for plugin in self._catalog.plugins(captured["type"])})
        return listed({"keys": keys}, empty=not keys)

    def read(self, call: Call, captured: Captures) -> Answer:
        try:
            plugin = self._catalog.plugin(captured["type"], captured["name"], _version(call))
        except NotFound:
            # As Vault, which has no words for it.
            return refused(HTTPStatus.NOT_FOUND)
        return Answer(data=plugin.to_data())

    def register(self, call: Call, captured: Captures) -> Answer:
        plugin, unknown = Plugin.from_input(captured["type"], captured["name"], call.parameters)
        self._catalog.register_plugin(plugin)
        return nothing(warnings_about([*unknown, *call.ignored], call.parameters, captured))

    def delete(self, call: Call, captured: Captures) -> Answer:
        self._catalog.delete_plugin(captured["type"], captured["name"], _version(call))
        return nothing()


def _version(call: Call) -> str:
    version = call.parameters.get("version") or ""
    if not isinstance(version, str):
        raise InvalidArgument('error converting input for field "version": a text is needed')
    return version
