"""``ocishim --host URL stats``: what containers of a daemon use, once or every second."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import click

from shim.cli import options
from shim.cli.looks import EVERY_S, FIRST_S, percent, show, size, text
from shim.cli.remote.connection import connected
from shim.cli.settings import Settings, pass_settings

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from shim.cli.looks import Row
    from shim.client import BlockingClient, Stats

__all__ = ["command"]

_COLUMNS = {
    "ID": text("id"),
    ">CPU": percent("cpu_percent"),
    ">MEMORY": size("memory_bytes"),
    ">READ": size("read_bytes"),
    ">WRITTEN": size("written_bytes"),
    ">RECEIVED": size("received_bytes"),
    ">SENT": size("sent_bytes"),
}


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
    with connected(settings) as client:
        ids = container_ids or [c.id for c in client.state().containers if c.status in {"running", "paused"}]
        looks = _looks(client, ids, EVERY_S if watch else FIRST_S)
        show(looks, _COLUMNS, watch=watch, as_json=as_json)


def _looks(client: BlockingClient, ids: Any, interval_s: float) -> Generator[list[Row]]:
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
