"""A plugin in a container: started, read from, ended. The container is the only one of a sandbox.

In the order of things: the image is found and compared with its digest; the plugin gets a directory of its own, with a
private root file system; its addresses are taken; the sandbox is made; the container is made, its streams are opened, and
it is started. What fails undoes what was before it.

Without ``disable_network`` and ``endpoints_config`` it has the host's network. Docker would give it the default bridge, which
is the Docker daemon's; there is no daemon here whose network could be the default.

Source: hashicorp/go-secure-stdlib, plugincontainer (container_runner.go).
"""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from shim.cgroup.group import clean_path
from shim.config import load, section
from shim.errors import FailedPrecondition, ShimError, from_os_error
from shim.image import Images, resolve_user
from shim.linux.acl import ACL_READ, ACL_WRITE, set_default_acl
from shim.oci.spec import to_json
from shim.plugin.container.attached import AttachedContainer
from shim.plugin.container.bundle import container_document
from shim.plugin.container.connections import connections
from shim.plugin.container.diagnosis import Tail, diagnosis
from shim.plugin.container.remains import addresses_of, clear, clear_ended
from shim.plugin.container.rootfs import provide
from shim.plugin.container.selection import find_image
from shim.process.thread import in_thread
from shim.sandbox import ContainerConfig, SandboxConfig, create_sandbox

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from shim.config import Config as Settings
    from shim.image import Image
    from shim.net import InterfaceConfig, Route
    from shim.plugin.container.config import Config
    from shim.plugin.runner import RunnerFactory
    from shim.sandbox import IOStream, Sandbox

__all__ = ["PluginContainer"]

_log = logging.getLogger(__name__)


class PluginContainer(AttachedContainer):
    """A ``Runner`` of an image."""

    def __init__(
        self,
        config: Config,
        env: Mapping[str, str],
        socket_dir: str,
        settings: Settings | None = None,
        networks: Mapping[str, Any] | None = None,
    ) -> None:
        """``env`` is what go-plugin wants in the environment, ``socket_dir`` the folder of the sockets, which exists.

        ``settings`` and ``networks`` (tables by name) are ocishim's; those of its configuration where they are not given.
        """
        super().__init__(f"plugin-{secrets.token_hex(8)}", os.path.abspath(socket_dir), settings or load())
        self._config = config
        self._env = dict(env)
        parent = config.cgroup_parent or self._settings.cgroup_parent
        self._cgroup_parent = clean_path(parent) if parent else ""
        self._networks = networks
        self._debug = config.debug
        self._streams: IOStream | None = None
        self._tails: tuple[Tail, ...] = ()

    @classmethod
    def factory(
        cls, config: Config, settings: Settings | None = None, networks: Mapping[str, Any] | None = None
    ) -> RunnerFactory:
        """Makes those of ``config``, for ``PluginClient``."""
        return lambda env, socket_dir: cls(config, env, socket_dir, settings, networks)

    @property
    def name(self) -> str:
        """The image."""
        return self._config.image

    @property
    def stdout(self) -> asyncio.StreamReader:
        """What the plugin writes to its descriptor 1."""
        return self._stream("stdout")

    @property
    def stderr(self) -> asyncio.StreamReader:
        """What the plugin writes to its descriptor 2."""
        return self._stream("stderr")

    def _stream(self, name: str) -> asyncio.StreamReader:
        for tail in self._tails:
            if tail.name == name:
                return tail.reader
        reader = getattr(self._streams, name, None)
        if reader is None:
            raise FailedPrecondition(f"plugin {self.name} has not been started")
        stream: asyncio.StreamReader = reader
        return stream

    async def start(self) -> None:
        """The plugin runs. What others, who were killed, left of plugins that have ended is cleared away first.

        Raises:
            NotFound: there is no such image, network or runtime.
            FailedPrecondition: it was started before; the digest is another's ("SHA256 mismatch").
            ShimError: it cannot be started. Nothing is left then.
        """
        if self._sandbox is not None:
            raise FailedPrecondition(f"plugin {self.name} was started before")
        images = Images(self._settings.data_root)
        await clear_ended(self._settings, images)
        async with AsyncExitStack() as undo:
            image = await in_thread(find_image, images, self._config)
            await self._claim(image)
            undo.push_async_callback(self._unmake)
            interfaces, routes = await in_thread(self._prepare, images, image)
            sandbox = await self._create(interfaces, routes)
            undo.callback(sandbox.release)
            await sandbox.create_container(ContainerConfig(self._container, bundle=str(self._home.path)))
            streams = await sandbox.io_stream(self._container, self._container)
            undo.callback(streams.close)
            tails = await self._kept(streams, undo)
            await sandbox.start_container(self._container)
            self._streams, self._tails = streams, tails
            self._watch(sandbox)
            undo.pop_all()

    async def kill(self) -> None:
        """See ``AttachedRunner``; the streams end."""
        await super().kill()
        self._close()

    def release(self) -> None:
        """See ``AttachedContainer``; the streams end, the plugin's output waits for whoever opens them again."""
        super().release()
        self._close()

    def _close(self) -> None:
        for tail in self._tails:
            tail.close()
        if self._streams is not None:
            self._streams.close()

    def diagnose(self) -> str:
        """See ``Runner``; in several lines."""
        return diagnosis(self._config, self._settings, self._env, self._ending, self._tails)

    async def _unmake(self) -> None:
        try:
            await clear(self._settings, self._home)
        except ShimError as error:
            # Not raised: why it could not be started matters more.
            _log.warning("plugin container %s could not be started, and is not all gone: %s", self.id, error)

    async def _claim(self, image: Image) -> None:
        config = self._config
        await in_thread(
            partial(self._home.claim, debug=config.debug),
            config.reference,
            image.id,
            self._settings.state_root,
            self._cgroup_parent,
            tuple(config.endpoints_config),
        )

    def _prepare(self, images: Images, image: Image) -> tuple[tuple[InterfaceConfig, ...], tuple[Route, ...]]:
        """Its bundle is there, and its addresses are its own."""
        config = self._config
        provide(images, image, self._home, self._settings.data_root)
        document = container_document(
            config,
            image.config,
            resolve_user(self._home.rootfs, image.config.user),
            self._env,
            rootfs=str(self._home.rootfs),
            socket_dir=self._socket_dir,
        )
        try:
            (self._home.path / "config.json").write_bytes(to_json(document))
            if config.rootless:
                set_default_acl(self._socket_dir, os.geteuid(), ACL_READ | ACL_WRITE)
        except OSError as error:
            raise from_os_error(error, f"plugin container {self.id} cannot be prepared") from error
        if not config.endpoints_config:
            return (), ()
        networks = section("networks") if self._networks is None else self._networks
        return connections(config.endpoints_config, networks, addresses_of(self._settings), self.id)

    async def _create(self, interfaces: tuple[InterfaceConfig, ...], routes: tuple[Route, ...]) -> Sandbox:
        config = self._config
        sandbox = SandboxConfig(
            self.id,
            runtime=config.runtime or self._settings.runtime,
            host_network=not (config.disable_network or config.endpoints_config),
            interfaces=interfaces,
            routes=routes,
            cgroup_parent=self._cgroup_parent,
            options=self._options(),
            annotations={**config.labels, "ocishim.plugin.image": config.reference},
        )
        return await create_sandbox(
            sandbox, state_root=self._settings.state_root, storage=self._settings.storage
        )

    def _options(self) -> dict[str, Any]:
        config = self._config
        # gVisor has its own network, and lets nobody at sockets of the host unless it is told to.
        network = "" if config.endpoints_config else "none" if config.disable_network else "host"
        gvisor = {"host-uds": "all", **({"network": network} if network else {})}
        limits = {"cpu_nanos": config.nano_cpus, "memory_bytes": config.memory}
        return {
            # The configuration's goes over the sandbox's, and this plugin may have another.
            "cgroup_parent": "",
            "runsc_config": {**gvisor, **self._settings.runsc_config},
            **{name: value for name, value in limits.items() if value},
        }

    async def _kept(self, streams: IOStream, undo: AsyncExitStack) -> tuple[Tail, ...]:
        if not self._debug:
            return ()
        assert streams.stderr is not None  # noqa: S101 - there is no terminal
        tails = []
        for name, stream in (("stdout", streams.stdout), ("stderr", streams.stderr)):
            tails.append(await Tail.of(name, stream))
            undo.callback(tails[-1].close)
        return tuple(tails)
