"""``ocishim plugin run``: a plugin of the catalog in its container, with its runtime's limits, for as long as it runs.

What is run is what Vault would run: the image with the version as its tag and the digest that was registered, below the
cgroup and with the limits of the runtime; and the handshake is that of Vault's plugins, unless another is given.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

import click

from shim.cli import exit_codes, options, output
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import ENV
from shim.cli.vault_style import VaultCommand, catalog
from shim.errors import FailedPrecondition, InvalidArgument, Unimplemented

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shim.catalog import Plugin, PluginRuntime
    from shim.plugin import Config, HandshakeConfig
    from shim.plugin.client import PluginClient

__all__ = ["command"]


@click.command("run", cls=VaultCommand)
@click.argument("name", cls=options.Argument, metavar="NAME")
@click.option(
    "--type", "kind", type=click.Choice(["auth", "database", "secret"]), help="Where several have the name."
)
@click.option(
    "--version",
    default="",
    metavar="VERSION",
    help="A semantic version. [default: the one without, or the newest]",
)
@click.option(
    "--cookie",
    type=ENV,
    metavar="NAME=VALUE",
    help="The plugin's magic cookie. [default: that of Vault's plugins]",
)
@click.option(
    "--protocol-version",
    "versions",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="What we can talk to; any number of them. [default: those of Vault]",
)
@click.option(
    "--group",
    type=click.IntRange(1, 2**32 - 2),
    metavar="GID",
    help="Who may use its sockets. [default: our own, if it is not root's]",
)
@click.option("--no-mtls", is_flag=True, help="Without certificates: for clients that cannot be told a key.")
@click.option("--diagnose", is_flag=True, help="When it fails tell its environment and its last output, too.")
@options.as_json
@pass_settings
def command(settings: Settings, /, name: str, *, as_json: bool, **given: Any) -> int:
    """Run the plugin NAME of the catalog in its container, until it ends or Ctrl-C.

    What a client needs to attach to it is printed; with --json also the key, in the form that shim.plugin reads. The exit
    code is the plugin's.

    \b
      ocishim plugin run --json mine
    """  # noqa: D301 - click's mark for lines that stay as they are
    plugin = catalog(settings).plugin_to_run(given["kind"] or "", name, given["version"])
    runtime = catalog(settings).runtime(plugin.runtime) if plugin.runtime else None
    with exit_codes.foreground():
        client = _client(settings, plugin, runtime, given)
        return asyncio.run(_run(client, as_json=as_json))


def _client(
    settings: Settings, plugin: Plugin, runtime: PluginRuntime | None, given: dict[str, Any]
) -> PluginClient:
    try:
        from shim.plugin.client import ClientConfig, PluginClient  # noqa: PLC0415 - start-up time, and an extra
    except ImportError as error:
        raise Unimplemented(f"plugins need {error.name}: pip install 'ocishim[daemon]'") from error
    from shim.plugin import PluginContainer  # noqa: PLC0415 - start-up time

    mtls = not given["no_mtls"]
    group = given["group"] or os.getegid()
    config = _config(plugin, runtime, group=group, mtls=mtls, debug=given["diagnose"])
    return PluginClient(
        ClientConfig(
            _handshake(plugin, given["cookie"], given["versions"]),
            auto_mtls=mtls,
            group=str(group) if group else "",
            logger=_logger(settings, plugin.name),
        ),
        PluginContainer.factory(config, settings.config),
    )


def _config(plugin: Plugin, runtime: PluginRuntime | None, *, group: int, mtls: bool, debug: bool) -> Config:
    from shim.catalog import PluginRuntime  # noqa: PLC0415 - start-up time
    from shim.plugin import Config  # noqa: PLC0415 - start-up time
    from shim.plugin.vault import ENVIRONMENT  # noqa: PLC0415 - start-up time

    if not plugin.oci_image:
        raise FailedPrecondition(f"plugin {plugin.name} has no image, and only plugins in containers are run")
    limits = runtime or PluginRuntime("")
    if limits.rootless and not group:
        raise InvalidArgument(
            f"runtime {limits.name} is rootless: say with --group whose the plugin's sockets are"
        )
    return Config(
        image=plugin.oci_image,
        tag=plugin.version.removeprefix("v"),
        sha256=plugin.sha256,
        entrypoint=(plugin.command,) if plugin.command else None,
        args=plugin.args if plugin.args or plugin.command else None,
        env=(*(ENVIRONMENT if mtls else ()), *plugin.env),
        group_add=group,
        labels={"ocishim.plugin": f"{plugin.type}/{plugin.name}"},
        runtime=limits.binary,
        cgroup_parent=limits.cgroup_parent,
        nano_cpus=limits.cpu_nanos,
        memory=limits.memory_bytes,
        rootless=limits.rootless,
        debug=debug,
    )


def _handshake(plugin: Plugin, cookie: str | None, versions: Sequence[int]) -> HandshakeConfig:
    from shim.plugin import HandshakeConfig  # noqa: PLC0415 - start-up time
    from shim.plugin.vault import handshake_of  # noqa: PLC0415 - start-up time

    usual = handshake_of(plugin.type)
    key, _, value = (cookie or f"{usual.magic_cookie_key}={usual.magic_cookie_value}").partition("=")
    return HandshakeConfig(key, value, tuple(versions) or usual.protocol_versions)


def _logger(settings: Settings, name: str) -> logging.Logger:
    logger = logging.getLogger(f"plugin.{name}")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(1 if settings.debug else logging.INFO)
    return logger


async def _run(client: PluginClient, *, as_json: bool) -> int:
    running = asyncio.ensure_future(_started(client, as_json=as_json))
    received: list[int] = []

    def end(number: int) -> None:
        # Once: what is cleared away then is not to be left half way for being asked again.
        if not received:
            received.append(number)
            running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    await asyncio.wait([running])
    await client.close()
    return exit_codes.SIGNALLED + received[0] if running.cancelled() else running.result()


async def _started(client: PluginClient, *, as_json: bool) -> int:
    await client.start()
    found = client.reattach_config()
    if as_json:
        output.print_json_line(found.to_record())
    else:
        address = f"{found.address.network}://{found.address.address}"
        output.say(f"{found.id} {address} version {found.address.version}")
    return await client.wait()
