"""Options and arguments that several verbs have."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shim.cli.detach import DEFAULT
from shim.cli.values import CONTAINER, DETACH_KEYS, RUNTIME, Value
from shim.oci.resources import parse_cpus, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CPUS",
    "SIZE",
    "LaunchOptions",
    "as_json",
    "container",
    "containers",
    "containers_or_all",
    "detach_keys",
    "exec_id",
    "launch_options",
]

CPUS = Value("cpus", parse_cpus)
SIZE = Value("size", parse_size)
CPU_NANOS = click.IntRange(min=1)

container = click.argument("container_id", metavar="ID", type=CONTAINER)
containers = click.argument("container_ids", metavar="ID...", type=CONTAINER, nargs=-1, required=True)
containers_or_all = click.argument("container_ids", metavar="[ID...]", type=CONTAINER, nargs=-1)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
detach_keys = click.option(
    "--detach-keys",
    metavar="KEYS",
    type=DETACH_KEYS,
    default=DEFAULT,
    show_default=True,
    help="Keys that leave the container alone; an empty text means none.",
)
exec_id = click.option(
    "--exec", "exec_id", metavar="EXEC", default="", help="An exec of the container, not its init."
)

_LAUNCH = (
    click.argument("bundle", type=click.Path(path_type=Path, file_okay=False, resolve_path=True)),
    click.argument("container_id", metavar="[ID]", required=False, type=CONTAINER),
    click.option("-t", "--terminal", is_flag=True, help="Give it a terminal; implies -i."),
    click.option("-i", "--interactive", is_flag=True, help="Pass our stdin on; without, its stdin is empty."),
    click.option("--runtime", type=RUNTIME, metavar="NAME|PATH", help="runc, crun, runsc, or a path."),
    click.option("--cpus", type=CPUS, metavar="N", help="CPUs it may use, such as 1.5."),
    click.option("--cpu-nanos", type=CPU_NANOS, metavar="N", help="The same in billionths of a CPU."),
    click.option("--memory", type=SIZE, metavar="SIZE", help="Memory it may use, such as 64m."),
    click.option("--cgroup-parent", metavar="PATH", help="Where its cgroup is made, such as /mine/."),
    click.option("--log-file", metavar="FILE", type=click.Path(), help="Append its output to FILE."),
)


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What ``launch_options`` gathers, checked as far as that needs no configuration."""

    bundle: Path
    container_id: str | None
    terminal: bool
    interactive: bool
    log_file: str | None
    runtime: str | None
    cpus: int | None
    cpu_nanos: int | None
    memory: int | None
    cgroup_parent: str | None

    def __post_init__(self) -> None:
        if self.cpus is not None and self.cpu_nanos is not None:
            raise click.UsageError("--cpus and --cpu-nanos are two ways to say the same, give one")

    def overrides(self) -> dict[str, Any]:
        """The fields of the configuration that the command line sets."""
        given = {
            "runtime": self.runtime,
            "cpu_nanos": self.cpus if self.cpu_nanos is None else self.cpu_nanos,
            "memory_bytes": self.memory,
            "cgroup_parent": self.cgroup_parent,
        }
        return {key: value for key, value in given.items() if value is not None}


def launch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with the arguments and options of what makes a container, as one argument ``launch``."""
    names = [field.name for field in fields(LaunchOptions)]

    @wraps(function)
    def gathered(*args: Any, **given: Any) -> Any:
        launch = LaunchOptions(**{name: given.pop(name) for name in names})
        return function(*args, launch=launch, **given)

    for decorate in reversed(_LAUNCH):
        gathered = decorate(gathered)
    return gathered
