"""``ocishim --host URL stats``: what containers of a daemon use, once or every second."""

from __future__ import annotations

from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

import click

from shim.cli import options, output
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shim.client import BlockingClient, Stats

__all__ = ["command"]

_FIRST_S = 0.5
_EVERY_S = 1.0
_COLUMNS = ("ID", ">CPU", ">MEMORY", ">READ", ">WRITTEN", ">RECEIVED", ">SENT")


@click.command("stats")
@options.containers_or_all
@options.watch
@options.as_json
@pass_settings
def command(settings: Settings, /, container_ids: tuple[str, ...], *, watch: bool, as_json: bool) -> None:
    """Show what containers of a daemon use; all that run, where none is named.

    CPU is a percentage of one CPU. Memory is without page cache that is not in use.
    With --json every look at a container is one line.
    """
    with connected(settings) as client, suppress(KeyboardInterrupt):
        ids = container_ids or [c.id for c in client.state().containers if c.status in {"running", "paused"}]
        interval_s = _EVERY_S if watch else _FIRST_S
        for rows in _looks(client, ids, interval_s):
            if as_json:
                for row in rows:
                    output.print_json_line(row)
            else:
                output.print_table(_COLUMNS, map(_row, rows))
            if not watch:
                return


def _looks(client: BlockingClient, ids: Any, interval_s: float) -> Iterator[list[dict[str, Any]]]:
    """One list of rows after the other, until all have ended. A share of CPU needs two looks."""
    with ExitStack() as stack:
        streams = {
            name: stack.enter_context(closing(client.stats(name, interval_s=interval_s))) for name in ids
        }
        before = {name: _use(next(stream)) for name, stream in streams.items()}
        while streams:
            now = {name: stats for name, stream in streams.items() if (stats := next(stream, None))}
            streams = {name: streams[name] for name in now}
            rows = {name: _use(stats) for name, stats in now.items()}
            if rows:
                yield [
                    {"id": name, "cpu_percent": _percent(before[name], row, interval_s), **row}
                    for name, row in rows.items()
                ]
            before = rows


def _percent(before: Mapping[str, int], now: Mapping[str, int], interval_s: float) -> float:
    return round((now["cpu_ns"] - before["cpu_ns"]) / interval_s / 1e7, 2)


def _use(stats: Stats) -> dict[str, int]:
    cgroup = stats.cgroup_stats
    memory = cgroup.memory_stats
    inactive = memory.stats.get("total_inactive_file", memory.stats.get("inactive_file", 0))
    moved = {"read": 0, "write": 0}
    for entry in cgroup.blkio_stats.io_service_bytes_recursive:
        if entry.op.lower() in moved:
            moved[entry.op.lower()] += entry.value
    return {
        "cpu_ns": cgroup.cpu_stats.cpu_usage.total_usage,
        "memory_bytes": max(0, memory.usage.usage - inactive),
        "read_bytes": moved["read"],
        "written_bytes": moved["write"],
        "received_bytes": sum(one.rx_bytes for one in stats.network_stats if one.name != "lo"),
        "sent_bytes": sum(one.Tx_bytes for one in stats.network_stats if one.name != "lo"),
    }


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    sizes = ("memory_bytes", "read_bytes", "written_bytes", "received_bytes", "sent_bytes")
    return (row["id"], f"{row['cpu_percent']:.1f} %", *(output.size(row[name]) for name in sizes))
