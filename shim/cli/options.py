"""Options and arguments that several verbs have."""

from __future__ import annotations

import click

from shim.cli.detach import DEFAULT
from shim.cli.values import CONTAINER, DETACH_KEYS, RUNTIME

__all__ = [
    "Argument",
    "as_json",
    "container",
    "containers",
    "containers_or_all",
    "detach_keys",
    "exec_id",
    "file_or_stdin",
    "runtime",
    "stop_timeout",
    "watch",
]


class Argument(click.Argument):
    """One whose brackets and dots, which are for the usage line, stay out of error messages."""

    def get_error_hint(self, ctx: click.Context | None) -> str:  # noqa: ARG002, D102 - click's signature
        return f"'{(self.metavar or '').strip('[].')}'"


container = click.argument("container_id", cls=Argument, metavar="ID", type=CONTAINER)
containers = click.argument(
    "container_ids", cls=Argument, metavar="ID...", type=CONTAINER, nargs=-1, required=True
)
containers_or_all = click.argument("container_ids", cls=Argument, metavar="[ID...]", type=CONTAINER, nargs=-1)
file_or_stdin = click.argument("file", cls=Argument, metavar="FILE|-", type=click.Path(allow_dash=True))
watch = click.option("-w", "--watch", is_flag=True, help="Every second, until interrupted.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
detach_keys = click.option(
    "--detach-keys",
    metavar="KEYS",
    type=DETACH_KEYS,
    default=DEFAULT,
    show_default=True,
    help="Keys that leave the container alone; an empty text means none.",
)
exec_id = click.option(
    "--exec", "exec_id", metavar="EXEC", default="", help="An exec of the container, not its init."
)
runtime = click.option(
    "--runtime",
    type=RUNTIME,
    metavar="NAME|PATH",
    help="runc, crun, runsc, a path, or catalog:NAME; see ocishim runtime.",
)
stop_timeout = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="How long they have between SIGTERM and SIGKILL.",
)
