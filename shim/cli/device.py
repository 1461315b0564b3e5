"""``ocishim device``: directories, files and devices of the host in a container, while it runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.cli.snapshot import look
from shim.errors import FailedPrecondition

if TYPE_CHECKING:
    from shim.cli.containers import Container
    from shim.sandbox.devices import Device, Devices

__all__ = ["command"]


@click.group("device")
def command() -> None:
    """Add, remove and list directories, files and devices of a container while it runs."""


@command.command("add")
@options.container
@click.argument("source", cls=options.Argument, metavar="SOURCE")
@click.argument("target", cls=options.Argument, metavar="[TARGET]", default="")
@click.option("-r", "--read-only", is_flag=True, help="The container may not write.")
@click.option(
    "--access", default="rwm", show_default=True, metavar="RWM", help="Of a device: r(ead), w(rite), m(knod)."
)
@options.as_json
@pass_settings
def add(
    settings: Settings,
    /,
    container_id: str,
    source: str,
    target: str,
    *,
    read_only: bool,
    access: str,
    as_json: bool,
) -> None:
    """Give a container the directory, file or device SOURCE, at TARGET or at the same path.

    \b
      ocishim device add c1 /srv/data /data --read-only
      ocishim device add c1 /dev/fuse

    A device is allowed by the container's cgroup, too, until it is removed.
    """  # noqa: D301 - click's mark for lines that stay as they are
    from shim.sandbox.devices import DeviceConfig  # noqa: PLC0415 - start-up time

    config = DeviceConfig(os.path.abspath(source), target, read_only, access)
    added = _devices(settings.containers.get(container_id)).add(config)
    if as_json:
        output.print_json(added.to_dict())


@command.command("remove")
@options.container
@click.argument("target", cls=options.Argument, metavar="TARGET")
@pass_settings
def remove(settings: Settings, /, container_id: str, target: str) -> None:
    """Take away what was added at TARGET; nothing, if nothing was. What is open stays open."""
    _devices(settings.containers.get(container_id)).remove(target)


@command.command("list")
@options.container
@options.as_json
@pass_settings
def list_(settings: Settings, /, container_id: str, *, as_json: bool) -> None:
    """List what was added to a container."""
    found = _devices(settings.containers.get(container_id)).all()
    if as_json:
        output.print_json([device.to_dict() for device in found])
    else:
        output.print_table(("TARGET", "SOURCE", "KIND", "ACCESS"), map(_row, found))


def _row(device: Device) -> tuple[str, ...]:
    if device.kind == "mount":
        return device.target, device.source, "mount", "ro" if device.read_only else "rw"
    return device.target, device.source, f"{device.kind} {device.major}:{device.minor}", device.access


def _devices(container: Container) -> Devices:
    from shim.cgroup.hierarchy import detect  # noqa: PLC0415 - start-up time
    from shim.sandbox.devices import Devices  # noqa: PLC0415

    snapshot = look(container)
    if snapshot.pid == 0:
        raise FailedPrecondition(f"container {container.id} is {snapshot.status}: it has no file system")
    if snapshot.details.get("runtime_kind") == "runsc":
        raise FailedPrecondition(
            f"container {container.id} runs under gVisor, whose kernel has its mounts and devices from its start"
        )
    return Devices(container.directory, snapshot.pid, detect())
