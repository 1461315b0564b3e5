"""``ocishim daemon``."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from shim.cli.settings import Settings, pass_settings
from shim.errors import Unimplemented

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shim.config import Config
    from shim.daemon.config import DaemonConfig

__all__ = ["command"]


@click.command("daemon")
@click.option(
    "--socket",
    metavar="PATH",
    type=click.Path(resolve_path=True, readable=False),
    help="Where the HTTP API listens. [default: daemon.sock in the state directory]",
)
@click.option(
    "--grpc-socket",
    metavar="PATH",
    type=click.Path(resolve_path=True, readable=False),
    help="Where the gRPC API listens. [default: grpc.sock in the state directory]",
)
@pass_settings
def command(settings: Settings, /, **sockets: str | None) -> None:
    """Serve the catalog over HTTP and containers over gRPC, until SIGTERM.

    On unix sockets, for this user and root; what else, and over TCP with TLS, is in the table [daemon] of the configuration.
    SIGHUP reads that again. The log goes to stderr.
    """
    try:
        from shim.daemon.activation import take_sockets  # noqa: PLC0415 - an extra, and slow to import
        from shim.daemon.daemon import Daemon  # noqa: PLC0415
        from shim.daemon.logs import log_to_stderr  # noqa: PLC0415
        from shim.daemon.notify import Notifier  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "shim").partition(".")[0] == "shim":
            raise
        raise Unimplemented(f"the daemon needs {error.name}: pip install 'ocishim[daemon]'") from error
    given = {name: path for name, path in sockets.items() if path}
    inherited = take_sockets(os.environ)
    notifier = Notifier()
    _load(settings, given)  # what is wrong with it is said as all verbs say it
    log_to_stderr(debug=settings.debug)

    async def serve() -> None:
        await Daemon(lambda: _load(settings, given), notifier, inherited).run()

    asyncio.run(serve())


def _load(settings: Settings, given: Mapping[str, str]) -> tuple[Config, DaemonConfig]:
    """The configuration as it is now, with what the command line says."""
    from shim.config import section  # noqa: PLC0415 - as above
    from shim.daemon.config import DaemonConfig  # noqa: PLC0415

    fresh = replace(settings)  # a new one, which has not read the file yet
    table = section("daemon", fresh.config_path)
    return fresh.config, DaemonConfig.load({**table, **given}, fresh.config)
