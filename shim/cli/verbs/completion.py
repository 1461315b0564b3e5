"""``ocishim completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from shim.cli import output

__all__ = ["command"]


# \b keeps click from filling the lines.
_HELP = """Print the completion script of a shell.

\b
bash:  eval "$(ocishim completion bash)"   in ~/.bashrc
zsh:   eval "$(ocishim completion zsh)"    in ~/.zshrc
fish:  ocishim completion fish > ~/.config/fish/completions/ocishim.fish
"""


@click.command("completion", help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """The script is on stdout."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - for the type checker; the choices are click's
    output.say(kind(ctx.find_root().command, {}, "ocishim", "_OCISHIM_COMPLETE").source())
