"""``ocishim --host URL exec -d``: one more process in a container of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import ENV, Value
from shim.oci import process as oci_process

if TYPE_CHECKING:
    from shim.client import User

__all__ = ["command"]

_USER = Value("user", oci_process.parse_user)


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@options.container
@click.argument("args", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-d", "--detach", is_flag=True, help="Needed: the process runs there, without us.")
@click.option("-u", "--user", metavar="UID[:GID]", type=_USER, help="Who it runs as; numbers.")
@click.option("-w", "--cwd", metavar="DIR", default="", help="Where it runs, in the container.")
@click.option(
    "-e", "--env", metavar="NAME[=VALUE]", type=ENV, multiple=True, help="A variable to set, or to pass on."
)
@pass_settings
def command(
    settings: Settings,
    /,
    container_id: str,
    args: tuple[str, ...],
    *,
    detach: bool,
    user: tuple[int, int] | None,
    cwd: str,
    env: tuple[str, ...],
) -> None:
    """Run CMD in a container of a daemon, as its init runs, and print the pid that it has there."""
    if not detach:
        raise click.UsageError("of another host there is no foreground, use -d")
    with connected(settings) as client:
        pid = client.add_process(container_id, args, env=env, cwd=cwd, user=_user(user))
    output.say(str(pid))


def _user(given: tuple[int, int] | None) -> User | None:
    from shim.client import User  # noqa: PLC0415 - an extra

    return None if given is None else User(uid=given[0], gid=given[1])
