"""``ocishim ps``."""

from __future__ import annotations

from pathlib import Path

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings

__all__ = ["command"]


@click.command("ps")
@options.container
@options.as_json
@pass_settings
def command(settings: Settings, /, container_id: str, *, as_json: bool) -> None:
    """List the processes in a container, by their pids on this host."""
    with settings.containers.get(container_id).connect() as task:
        found = task.pids()
    if as_json:
        output.print_json([{"pid": pid, "exec": name, "command": _command(pid)} for pid, name in found])
    else:
        rows = [(str(pid), name, " ".join(" ".join(_command(pid)).split())) for pid, name in found]
        output.print_table((">PID", "EXEC", "COMMAND"), rows)


def _command(pid: int) -> list[str]:
    """Its arguments; its name in brackets where it has none, nothing when it has ended meanwhile."""
    process = Path("/proc", str(pid))
    try:
        if words := (process / "cmdline").read_text(encoding="utf-8", errors="replace").rstrip("\0"):
            return words.split("\0")
        return [f"[{(process / 'comm').read_text(encoding='utf-8', errors='replace').strip()}]"]
    except OSError:
        return []
