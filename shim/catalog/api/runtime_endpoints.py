"""``sys/plugins/runtimes/catalog``.

Source: Vault's API documentation of that path; vault/logical_system.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shim.catalog.api.answer import Answer, listed, nothing
from shim.catalog.api.call import Operation
from shim.catalog.api.parameters import warnings_about
from shim.catalog.api.routing import NAME, Endpoint
from shim.catalog.runtimes import PluginRuntime, validate_type
from shim.errors import InvalidArgument

if TYPE_CHECKING:
    from shim.catalog.api.call import Call
    from shim.catalog.api.routing import Captures
    from shim.catalog.catalog import Catalog

__all__ = ["endpoints"]

_ROOT = "sys/plugins/runtimes/catalog"


def endpoints(catalog: Catalog) -> list[Endpoint]:
    """The paths, over ``catalog``."""
    runtimes = _Runtimes(catalog)
    return [
        Endpoint.of(
            "runtimes",
            f"{_ROOT}/?",
            {Operation.LIST: runtimes.list, Operation.READ: runtimes.list_for_get},
        ),
        Endpoint.of(
            "runtime",
            f"{_ROOT}/(?P<type>container)/{NAME}",
            {
                Operation.READ: runtimes.read,
                Operation.UPDATE: runtimes.register,
                Operation.DELETE: runtimes.delete,
            },
        ),
    ]


class _Runtimes:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def list(self, call: Call, captured: Captures) -> Answer:
        found = self.list_for_get(call, captured)
        assert found.data is not None  # noqa: S101 - for the type checker
        return listed(found.data, empty=not found.data["runtimes"])

    def list_for_get(self, call: Call, captured: Captures) -> Answer:  # noqa: ARG002 - as all handlers
        # Vault's Go client sends GET, and takes an answer without runtimes for a broken one.
        if asked := call.parameters.get("type"):
            if not isinstance(asked, str):
                raise InvalidArgument("type is given more than once")
            validate_type(asked)
        return Answer(data={"runtimes": [runtime.to_data() for runtime in self._catalog.runtimes()]})

    def read(self, call: Call, captured: Captures) -> Answer:  # noqa: ARG002 - as all handlers
        return Answer(data=self._catalog.runtime(captured["name"]).to_data())

    def register(self, call: Call, captured: Captures) -> Answer:
        runtime, unknown = PluginRuntime.from_input(captured["name"], call.parameters)
        self._catalog.register_runtime(runtime)
        return nothing(warnings_about([*unknown, *call.ignored], call.parameters, captured))

    def delete(self, call: Call, captured: Captures) -> Answer:  # noqa: ARG002 - as all handlers
        self._catalog.delete_runtime(captured["name"])
        return nothing()
