"""``ocishim device``: directories, files and devices of the host in a container, while it runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from shim.cli import options, output
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import Value
from shim.containers.snapshot import look
from shim.errors import FailedPrecondition
from shim.oci.identifiers import validate_id

if TYPE_CHECKING:
    from shim.containers.containers import Container
    from shim.sandbox.devices import Device, Devices

__all__ = ["command"]


def _parse_place(text: str) -> tuple[str, str]:
    sandbox_id, slash, container_id = text.rpartition("/")
    if slash:
        validate_id(sandbox_id, "sandbox id")
    return sandbox_id, validate_id(container_id)


_ID = click.argument("place", cls=options.Argument, metavar="ID|SANDBOX/ID", type=Value("id", _parse_place))


@click.group("device")
def command() -> None:
    """Add, remove and list directories, files and devices of a container while it runs."""


@command.command("add")
@_ID
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
    place: tuple[str, str],
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
    added = _devices(settings, place).add(config)
    if as_json:
        output.print_json(added.to_dict())


@command.command("remove")
@_ID
@click.argument("target", cls=options.Argument, metavar="TARGET")
@pass_settings
def remove(settings: Settings, /, place: tuple[str, str], target: str) -> None:
    """Take away what was added at TARGET; nothing, if nothing was. What is open stays open."""
    _devices(settings, place).remove(target)


@command.command("list")
@_ID
@options.as_json
@pass_settings
def list_(settings: Settings, /, place: tuple[str, str], *, as_json: bool) -> None:
    """List what was added to a container."""
    found = _devices(settings, place).all()
    if as_json:
        output.print_json([device.to_dict() for device in found])
    else:
        output.print_table(("TARGET", "SOURCE", "KIND", "ACCESS"), map(_row, found))


def _row(device: Device) -> tuple[str, ...]:
    if device.kind == "mount":
        return device.target, device.source, "mount", "ro" if device.read_only else "rw"
    return device.target, device.source, f"{device.kind} {device.major}:{device.minor}", device.access


def _devices(settings: Settings, place: tuple[str, str]) -> Devices:
    sandbox_id, container_id = place
    if not sandbox_id:
        return _of_container(settings.containers.get(container_id))
    from shim.sandbox.sync import fetch_sandbox  # noqa: PLC0415 - start-up time

    where = {"state_root": settings.config.state_root, "storage": settings.config.storage}
    with fetch_sandbox(sandbox_id, **where) as sandbox:
        found: Devices = sandbox.devices(container_id)
        return found


def _of_container(container: Container) -> Devices:
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
