"""``ocishim update``: change the limits of a container while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from shim.cgroup.limits import cpu_nanos_to_quota
from shim.cli import options
from shim.cli.settings import Settings, pass_settings
from shim.cli.values import Value
from shim.oci import resources as oci_resources
from shim.oci.resources import parse_cpus, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

__all__ = ["command", "resources_of"]

_UNLIMITED = -1
_MEMORY = {"limit": "", "swap": "_swap", "reservation": "_reservation"}


def _or_max(parse: Callable[[str], int]) -> Callable[[str], int]:
    return lambda text: _UNLIMITED if text == "max" else parse(text)


_CPUS = Value("cpus", _or_max(parse_cpus))
_SIZE = Value("size", _or_max(parse_size))


@click.command("update")
@options.container
@click.option("--cpus", type=_CPUS, metavar="N", help="CPUs it may use, such as 1.5; max: all.")
@click.option("--cpu-nanos", type=click.IntRange(min=1), metavar="N", help="The same in billionths of a CPU.")
@click.option(
    "--cpu-shares", type=click.IntRange(2, 262144), metavar="N", help="Weight against others; 1024 is usual."
)
@click.option(
    "--cpu-weight", type=click.IntRange(1, 10000), metavar="N", help="The same for cgroup v2; 100 is usual."
)
@click.option("--cpuset-cpus", metavar="LIST", help="CPUs it may run on, such as 0-2,4.")
@click.option("--cpuset-mems", metavar="LIST", help="Memory nodes it may use.")
@click.option("--memory", type=_SIZE, metavar="SIZE", help="Memory it may use, such as 64m; max: all.")
@click.option("--memory-swap", type=_SIZE, metavar="SIZE", help="Memory and swap together; max: all.")
@click.option("--memory-reservation", type=_SIZE, metavar="SIZE", help="Memory it keeps when it gets scarce.")
@click.option(
    "--pids-limit", type=click.IntRange(min=-1), metavar="N", help="Processes it may have; -1: any number."
)
@click.option("--resources", type=click.File("rb"), metavar="FILE|-", help="A LinuxResources object in JSON.")
@pass_settings
def command(settings: Settings, /, container_id: str, *, resources: BinaryIO | None, **limits: Any) -> None:
    """Change the limits of a container; those that are not given stay. Options go over what FILE says."""
    asked = resources_of(limits)
    if resources is not None:
        from_file = oci_resources.parse(resources.read(), f"resources in {resources.name}")
        asked = oci_resources.merge(from_file, asked)
    if not asked:
        raise click.UsageError("no limit is given")
    with settings.containers.get(container_id).connect() as task:
        task.update(asked)


def resources_of(limits: Mapping[str, Any]) -> dict[str, Any]:
    """The LinuxResources that the options mean, without what was not given (None).

    Raises:
        UsageError: --cpus and --cpu-nanos were both given.
        InvalidArgument: less CPU than the kernel can give.
    """
    cpu = {"shares": limits["cpu_shares"], "cpus": limits["cpuset_cpus"], "mems": limits["cpuset_mems"]}
    memory = {name: limits[f"memory{suffix}"] for name, suffix in _MEMORY.items()}
    weight = limits["cpu_weight"]
    groups = {
        "cpu": _given({**_quota(limits["cpus"], limits["cpu_nanos"]), **cpu}),
        "memory": _given(memory),
        "pids": _given({"limit": limits["pids_limit"]}),
        "unified": {} if weight is None else {"cpu.weight": str(weight)},
    }
    return {name: members for name, members in groups.items() if members}


def _quota(cpus: int | None, cpu_nanos: int | None) -> dict[str, int]:
    if cpus is not None and cpu_nanos is not None:
        raise click.UsageError("--cpus and --cpu-nanos are two ways to say the same, give one")
    nanos = cpus if cpu_nanos is None else cpu_nanos
    if nanos is None:
        return {}
    if nanos == _UNLIMITED:
        return {"quota": _UNLIMITED}
    quota, period = cpu_nanos_to_quota(nanos)
    return {"quota": quota, "period": period}


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
