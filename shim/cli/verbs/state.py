"""``ocishim state``: everything about one container; with ``--json`` the OCI state and what ocishim adds to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.containers.snapshot import Snapshot, look

if TYPE_CHECKING:
    from shim.containers.containers import Container

__all__ = ["command"]

# The rest of what a shim says repeats what is shown already.
_DETAILS = ("runtime_kind", "terminal", "cgroup", "limits", "streams", "dropped_bytes", "execs", "started_at")


@click.command("state")
@options.container
@options.as_json
@pass_settings
def command(settings: Settings, /, container_id: str, *, as_json: bool) -> None:
    """Show all about one container."""
    container = settings.containers.get(container_id)
    snapshot = look(container)
    state = _state(container, snapshot)
    if as_json:
        output.print_json(state)
        return
    # Of the streams, and of everything that is not so, only programs want to know; but an exit status may be 0.
    output.print_pairs(
        {
            name: _text(value)
            for name, value in state.items()
            if (value or (name == "exit_status" and value is not None)) and name != "streams"
        }
    )


def _state(container: Container, snapshot: Snapshot) -> dict[str, Any]:
    spec = _spec(container)
    return {
        "ociVersion": spec.get("ociVersion", ""),
        "id": snapshot.id,
        "status": snapshot.status,
        "pid": snapshot.pid,
        "bundle": snapshot.bundle,
        "annotations": spec.get("annotations") or {},
        "created_at": snapshot.created_at,
        "exit_status": snapshot.exit_status,
        "exited_at": snapshot.exited_at,
        "oom_killed": snapshot.oom_killed,
        "runtime": snapshot.runtime,
        "log_file": snapshot.log_file,
        "shim_pid": snapshot.shim_pid,
        **{name: snapshot.details[name] for name in _DETAILS if name in snapshot.details},
        "note": snapshot.note,
    }


def _spec(container: Container) -> dict[str, Any]:
    try:
        return dict(json.loads((container.directory / "config.json").read_bytes()))
    except (OSError, ValueError):
        return {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
