"""The program: finds the verb, runs it, and turns whatever it raises into one line and an exit code.

A verb's module is imported when that verb is asked for, and the list of verbs in ``--help`` needs none of them: half
of what the program costs at start is importing. ``main`` is the only place that prints errors.
"""

from __future__ import annotations

import os
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from shim import __version__
from shim.cli import exit_codes
from shim.cli.remote import MODULES as REMOTE
from shim.cli.settings import Settings
from shim.errors import ShimError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["cli", "main", "run"]

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Run": {
        "run": "Run a bundle.",
        "create": "Make a container of a bundle, ready to start.",
        "start": "Start a container that was created.",
        "exec": "Run a command in a running container.",
        "attach": "Connect to the streams of a container.",
        "sandbox": "Run and control containers that share a network.",
    },
    "Control": {
        "kill": "Send a signal.",
        "stop": "End containers: SIGTERM first, SIGKILL later.",
        "pause": "Freeze containers.",
        "resume": "Let paused containers go on.",
        "update": "Change the limits of a container.",
        "delete": "Remove containers that have ended.",
        "checkpoint": "Keep the state of running containers, to go on from it.",
    },
    "Look": {
        "list": "List containers.",
        "state": "Show all about one container.",
        "ps": "List the processes in a container.",
        "stats": "Show what containers use.",
        "logs": "Print the output of a container.",
        "wait": "Wait for containers to end.",
        "events": "Show what happens to the containers of a daemon.",
    },
    "Hotplug": {
        "nic": "Network interfaces of a running container.",
        "route": "Routes of a running container.",
        "device": "Files and devices of the host for a running container.",
    },
    "Plugins": {
        "runtime": "Runtimes of the catalog: what runs plugins, and with which limits.",
        "plugin": "Plugins of the catalog.",
        "token": "Who may use the API, and what for.",
        "image": "Import, list and remove images.",
    },
    "Server": {
        "daemon": "Serve the catalog over HTTP and containers over gRPC.",
    },
    "Host": {
        "spec": "Write a config.json to begin with.",
        "features": "Show what an OCI runtime can do.",
        "doctor": "Check what works on this host.",
        "completion": "Print the completion script of a shell.",
    },
}
_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)
_VERBS = {name: line for verbs in SECTIONS.values() for name, line in verbs.items()}


class VerbGroup(click.Group):
    """Commands that live in the module ``shim.cli.verbs.<name>`` as ``command``, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = f"shim.cli.verbs.{cmd_name}"
        if (host := ctx.params.get("host")) is not None:
            if cmd_name not in REMOTE:
                known = ", ".join(name for name in _VERBS if name in REMOTE)
                raise click.UsageError(
                    f"{cmd_name} is for this host only; of --host {host} there are {known}"
                )
            module = REMOTE[cmd_name]
        command = import_module(module).command
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        for title, verbs in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(verbs.items()))


@click.group(
    cls=VerbGroup, epilog=exit_codes.EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--state-root",
    metavar="DIR",
    type=click.Path(resolve_path=True, readable=False),
    help="Where containers are kept. [default: /run/ocishim, for users $XDG_RUNTIME_DIR/ocishim]",
)
@click.option(
    "--config",
    "config_path",
    metavar="FILE",
    type=click.Path(resolve_path=True, readable=False),
    help="Configuration. [default: $OCISHIM_CONFIG, /etc/ocishim/config.toml]",
)
@click.option(
    "--host",
    metavar="URL",
    envvar="OCISHIM_HOST",
    help="The containers of a daemon: unix:///path, or tcp://host:port with the three files. [default: $OCISHIM_HOST]",
)
@click.option("--tls-ca", metavar="FILE", type=_FILE, help="The authority of the daemon's certificate.")
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="Our certificate.")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Its key.")
@click.option("--debug", is_flag=True, help="More in the shim's log, and a traceback where something fails.")
@click.version_option(__version__, prog_name="ocishim")
@click.pass_obj
def cli(settings: Settings, /, **given: Any) -> None:
    """Run OCI bundles through runc, crun or runsc."""
    for name, value in given.items():
        setattr(settings, name, value)


def run(argv: Sequence[str]) -> int:
    """The exit code of the command line ``argv``; what failed is on stderr in one line."""
    settings = Settings()
    try:
        code = _invoke(argv, settings)
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return exit_codes.PIPE_CLOSED
    except KeyboardInterrupt as error:
        return getattr(error, "exit_code", exit_codes.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - nobody but the authors can do anything with a traceback
        text, code = _verdict(error)
        if settings.debug:
            traceback.print_exc()
        click.echo(text, err=True)
    return code


def _verdict(error: Exception) -> tuple[str, int]:
    """What is said on stderr, and the exit code."""
    code = exit_codes.ERROR
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error.format_message(), exit_codes.USAGE
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "ocishim"
        message = error.format_message().rstrip(".")
        text, code = f"{message[:1].lower()}{message[1:]}; see: {path} --help", exit_codes.USAGE
    elif isinstance(error, OSError):
        text = str(from_os_error(error, "the system refused"))
    elif isinstance(error, ShimError | exit_codes.Failure):
        text, code = str(error), getattr(error, "exit_code", code)
    else:
        text = f"a fault of ocishim itself: {type(error).__name__}: {error}; ocishim --debug tells where"
    return f"ocishim: {' '.join(text.split())}", code


def _invoke(argv: Sequence[str], settings: Settings) -> int:
    # Not cli.main(): that ends the process on EPIPE and prints its own errors, in more than one line.
    try:
        with cli.make_context("ocishim", list(argv), obj=settings) as ctx:
            return cli.invoke(ctx) or 0
    except click.exceptions.Exit as end:
        return end.exit_code


def _open_standard_descriptors() -> None:
    # Closed ones would be the numbers of our next FIFOs, and be taken for stdout.
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _discard_stdout() -> None:
    # The interpreter flushes stdout once more when it ends, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def main() -> None:
    """Run the command line of this process and end with its code."""
    _open_standard_descriptors()
    if "_OCISHIM_COMPLETE" in os.environ:
        cli.main(prog_name="ocishim", obj=Settings())
    sys.exit(run(sys.argv[1:]))
