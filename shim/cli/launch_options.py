"""The arguments and options of what makes a container: ``run`` and ``create`` have all of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shim.cli import options
from shim.cli.catalog_runtime import for_container
from shim.cli.values import CONTAINER, Value
from shim.oci.resources import parse_cpus, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from shim.config import Config
    from shim.containers.launch import Request

__all__ = ["LaunchOptions", "launch_options"]

_CPUS = Value("cpus", parse_cpus)
_SIZE = Value("size", parse_size)

_LAUNCH = (
    click.argument("bundle", type=click.Path(path_type=Path, file_okay=False, resolve_path=True)),
    click.argument("container_id", cls=options.Argument, metavar="[ID]", required=False, type=CONTAINER),
    click.option("-t", "--terminal", is_flag=True, help="Give it a terminal; implies -i."),
    click.option("-i", "--interactive", is_flag=True, help="Pass our stdin on; without, its stdin is empty."),
    options.runtime,
    click.option("--cpus", type=_CPUS, metavar="N", help="CPUs it may use, such as 1.5."),
    click.option(
        "--cpu-nanos", type=click.IntRange(min=1), metavar="N", help="The same in billionths of a CPU."
    ),
    click.option("--memory", type=_SIZE, metavar="SIZE", help="Memory it may use, such as 64m."),
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

    def request(self, config: Config, *, foreground: bool, auto_remove: bool = False) -> Request:
        """What the command line asks for, on top of ``config``."""
        from shim.containers.launch import Request  # noqa: PLC0415 - start-up time

        overrides = self.overrides()
        config = for_container(replace(config, **overrides, auto_remove=auto_remove), overrides)
        return Request(
            bundle=self.bundle,
            config=config,
            id=self.container_id or "",
            terminal=self.terminal,
            interactive=self.interactive,
            log_file=self.log_file or "",
            foreground=foreground,
        )


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
