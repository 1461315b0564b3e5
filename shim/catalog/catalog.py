"""What is registered: runtimes, and the plugins that are run by them.

Both are in one record. A plugin is registered only while its runtime is, and a runtime with plugins cannot be deleted;
each is one change under one lock, so that neither overtakes the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shim.catalog.collection import Collection
from shim.catalog.names import canonical_version, version_order
from shim.catalog.plugins import Plugin
from shim.catalog.runtimes import PluginRuntime
from shim.errors import FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Catalog"]


class Catalog:
    """The catalog below ``data_root``, shared by all processes that name it. Every call may block as a disk does."""

    def __init__(self, storage: str, data_root: str) -> None:
        """Nothing is read or made yet.

        Raises:
            ShimError: there is no such storage here.
        """
        self._collection = Collection(storage, data_root, "catalog")

    def runtimes(self) -> list[PluginRuntime]:
        """All of them, by name."""
        return [
            PluginRuntime.from_data(data) for _, data in sorted(_runtimes(self._collection.load()).items())
        ]

    def runtime(self, name: str) -> PluginRuntime:
        """The runtime of that name.

        Raises:
            NotFound: there is none.
        """
        return _runtime(self._collection.load(), name)

    def register_runtime(self, runtime: PluginRuntime) -> None:
        """It is registered, in place of whatever had its name.

        Raises:
            InvalidArgument: it cannot be.
        """
        runtime.check()
        with self._collection.changed() as record:
            record.setdefault("runtimes", {})[runtime.name] = runtime.to_data()

    def delete_runtime(self, name: str) -> None:
        """There is no runtime of that name any more.

        Raises:
            NotFound: there was none.
            FailedPrecondition: plugins name it; says which.
        """
        with self._collection.changed() as record:
            if name not in _runtimes(record):
                raise NotFound("plugin runtime not found")
            users = sorted({plugin["name"] for plugin in _plugins(record) if plugin["runtime"] == name})
            if users:
                raise FailedPrecondition(
                    f'unable to delete "{name}" runtime. Registered plugins=[{" ".join(users)}] are referencing it.'
                )
            del record["runtimes"][name]

    def plugins(self, type: str = "") -> list[Plugin]:  # noqa: A002 - Vault's name
        """All of that type, or of all, by type, name and version."""
        found = [Plugin.from_record(plugin) for plugin in _plugins(self._collection.load())]
        return sorted(
            (plugin for plugin in found if type in {"", plugin.type}),
            key=lambda plugin: (plugin.type, plugin.name, version_order(plugin.version)),
        )

    def plugin(self, type: str, name: str, version: str = "") -> Plugin:  # noqa: A002 - Vault's name
        """That one; an empty version is that which has none.

        Raises:
            NotFound: it is not there.
            InvalidArgument: the version is none.
        """
        version = canonical_version(version)
        found = [plugin for plugin in self.plugins(type) if plugin.name == name]
        for plugin in found:
            if plugin.version == version:
                return plugin
        raise NotFound(_absent(type, name, version, found))

    def plugin_to_run(self, type: str, name: str, version: str = "") -> Plugin:  # noqa: A002 - Vault's name
        """As Vault chooses when it mounts: that version; without, the plugin that has none, else the newest.

        An empty type is any, as long as only one has a plugin of that name.

        Raises:
            NotFound: there is none.
            InvalidArgument: the version is none, or several types have it.
        """
        version = canonical_version(version)
        found = [plugin for plugin in self.plugins(type) if plugin.name == name]
        types = sorted({plugin.type for plugin in found})
        if len(types) > 1:
            raise InvalidArgument(f"plugin {name} is there as {' and as '.join(types)}; say which type")
        exact = [plugin for plugin in found if plugin.version == version]
        if not (exact or (found and not version)):
            raise NotFound(_absent(type, name, version, found))
        return (exact or found)[-1]

    def register_plugin(self, plugin: Plugin) -> None:
        """It is registered, in place of whatever had its type, name and version.

        Raises:
            InvalidArgument: its runtime is not registered.
        """
        with self._collection.changed() as record:
            if plugin.runtime:
                try:
                    _runtime(record, plugin.runtime)
                except NotFound as error:
                    raise InvalidArgument(
                        f'failed to get configured runtime for plugin "{plugin.name}": {error}'
                    ) from error
            others = [other for other in _plugins(record) if _key(other) != _key(plugin.to_record())]
            record["plugins"] = [*others, plugin.to_record()]

    def delete_plugin(self, type: str, name: str, version: str = "") -> bool:  # noqa: A002 - Vault's name
        """That one is not there any more; whether it was. An empty version is that which has none.

        Raises:
            InvalidArgument: the version is none.
        """
        key = (type, name, canonical_version(version))
        with self._collection.changed() as record:
            before = _plugins(record)
            record["plugins"] = [plugin for plugin in before if _key(plugin) != key]
            return len(record["plugins"]) < len(before)


def _runtimes(record: Mapping[str, Any]) -> dict[str, Any]:
    return dict(record.get("runtimes", {}))


def _plugins(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(record.get("plugins", []))


def _runtime(record: Mapping[str, Any], name: str) -> PluginRuntime:
    try:
        return PluginRuntime.from_data(_runtimes(record)[name])
    except KeyError:
        raise NotFound(
            f'failed to retrieve container plugin runtime "{name}": plugin runtime not found'
        ) from None


def _key(plugin: Mapping[str, Any]) -> tuple[str, str, str]:
    return plugin["type"], plugin["name"], plugin["version"]


def _absent(type: str, name: str, version: str, others: list[Plugin]) -> str:  # noqa: A002 - Vault's name
    words = " ".join(word for word in (type, "plugin", name, version) if word)
    there = ", ".join(plugin.version or "one without a version" for plugin in others)
    return f"{words}: plugin not found" + (f"; there is {there}" if there else "")
