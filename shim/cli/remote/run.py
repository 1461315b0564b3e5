"""``ocishim --host URL run -d``: a container of a bundle on the daemon's host."""

from __future__ import annotations

import os

import click

from shim.cli import options, output
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import CONTAINER

__all__ = ["command"]


@click.command("run")
@click.argument("bundle", cls=options.Argument, metavar="BUNDLE")
@click.argument("container_id", cls=options.Argument, metavar="[ID]", type=CONTAINER, required=False)
@click.option("-d", "--detach", is_flag=True, help="Needed: the container runs there, without us.")
@click.option("--checkpoint", metavar="NAME", default="", help="Go on from a checkpoint of the container.")
@click.option("--stdin", metavar="PATH", default="", help="A FIFO there that its stdin is read from.")
@click.option(
    "--stdout", metavar="PATH", default="", help="A file or FIFO there, which exists, for its output."
)
@click.option("--stderr", metavar="PATH", default="", help="The same for its errors.")
@options.as_json
@pass_settings
def command(
    settings: Settings,
    /,
    bundle: str,
    container_id: str | None,
    *,
    detach: bool,
    as_json: bool,
    **streams: str,
) -> None:
    """Run BUNDLE, a path on the daemon's host."""
    if not detach:
        raise click.UsageError("of another host there is no foreground, use -d")
    if not os.path.isabs(bundle):
        raise click.UsageError(f"{bundle!r} must be an absolute path, it is one on the daemon's host")
    name = container_id or f"{os.path.basename(bundle.rstrip('/'))[:40] or 'container'}-{os.urandom(3).hex()}"
    with connected(settings) as client:
        pid = client.create_container(name, bundle, **streams)
    output.announce(name, pid, as_json=as_json)
