"""A group of commands of which some live in modules of their own, imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LateGroup"]


class LateGroup(click.Group):
    """``late``: names of commands, and of the modules of ``shim.cli.verbs`` that have them as ``command``."""

    def __init__(self, *args: Any, late: Mapping[str, str], **rest: Any) -> None:
        super().__init__(*args, **rest)
        self._late = late

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return sorted([*super().list_commands(ctx), *self._late])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """That one, imported."""
        if cmd_name not in self._late:
            return super().get_command(ctx, cmd_name)
        found = import_module(f"shim.cli.verbs.{self._late[cmd_name]}").command
        assert isinstance(found, click.Command)  # noqa: S101 - for the type checker
        return found
