"""``ocishim sandbox``: containers that share a network and a name, from one file or one by one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from shim.cli import exit_codes, options, output
from shim.cli.catalog_runtime import for_sandbox
from shim.cli.sandbox_file import read_config
from shim.cli.settings import Settings, pass_settings
from shim.errors import FailedPrecondition, ShimError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shim.sandbox import Sandbox, SandboxConfig, SandboxStatus

__all__ = ["command"]

_ID = click.argument("sandbox_id", cls=options.Argument, metavar="SANDBOX")


@click.group("sandbox")
def command() -> None:
    """Run and control sandboxes: containers that share a network, a name and their ipc."""


@command.command("run")
@options.file_or_stdin
@click.option("-d", "--detach", is_flag=True, help="Leave it running, and print its id.")
@pass_settings
def run(settings: Settings, /, file: str, *, detach: bool) -> int:
    """Run the sandbox that FILE (YAML or TOML) describes, until its containers have ended.

    Their output is shown with their names. Ctrl-C ends them; the sandbox is removed at the end. The exit code is that of
    the first container.
    """
    config = for_sandbox(read_config(file), settings.config)
    if detach:
        asyncio.run(_create(settings, config))
        output.say(config.id)
        return 0
    try:
        return asyncio.run(_run(settings, config))
    except asyncio.CancelledError:
        return exit_codes.SIGNALLED + signal.SIGTERM


@command.command("create")
@options.file_or_stdin
@options.as_json
@pass_settings
def create(settings: Settings, /, file: str, *, as_json: bool) -> None:
    """Make and start the sandbox that FILE (YAML or TOML) describes, and leave it running."""
    status = asyncio.run(_create(settings, for_sandbox(read_config(file), settings.config)))
    if as_json:
        output.print_json(status.to_dict())
    else:
        output.say(status.id)


@command.command("list")
@options.as_json
@pass_settings
def list_(settings: Settings, /, *, as_json: bool) -> None:
    """List sandboxes."""
    from shim.sandbox import list_sandboxes  # noqa: PLC0415 - start-up time

    found = asyncio.run(list_sandboxes(**_where(settings)))
    if as_json:
        output.print_json([status.to_dict() for status in found])
        return
    rows = [
        (each.id, str(each.state), each.runtime, str(each.pid or ""), " ".join(c.id for c in each.containers))
        for each in found
    ]
    output.print_table(("SANDBOX", "STATUS", "RUNTIME", ">PID", "CONTAINERS"), rows)


@command.command("status")
@_ID
@options.as_json
@pass_settings
def status_(settings: Settings, /, sandbox_id: str, *, as_json: bool) -> None:
    """Show a sandbox and its containers."""
    status = asyncio.run(_with(settings, sandbox_id, lambda sandbox: sandbox.status()))
    if as_json:
        output.print_json(status.to_dict())
        return
    about = {"id": status.id, "status": str(status.state), "runtime": status.runtime, "netns": status.netns}
    output.print_pairs({name: value for name, value in {**about, "note": status.note}.items() if value})
    rows = [
        (
            c.id,
            str(c.state),
            str(c.pid or ""),
            "" if c.exit_status is None else str(c.exit_status),
            c.started_at,
        )
        for c in status.containers
    ]
    output.print_table(("CONTAINER", "STATUS", ">PID", ">EXIT", "STARTED"), rows)


@command.command("pause")
@_ID
@pass_settings
def pause(settings: Settings, /, sandbox_id: str) -> None:
    """Freeze every process of a sandbox."""
    asyncio.run(_with(settings, sandbox_id, lambda sandbox: sandbox.pause()))


@command.command("resume")
@_ID
@pass_settings
def resume(settings: Settings, /, sandbox_id: str) -> None:
    """Let a paused sandbox go on."""
    asyncio.run(_with(settings, sandbox_id, lambda sandbox: sandbox.resume()))


@command.command("stop")
@_ID
@pass_settings
def stop(settings: Settings, /, sandbox_id: str) -> None:
    """End every process of a sandbox."""
    asyncio.run(_with(settings, sandbox_id, lambda sandbox: sandbox.stop()))


@command.command("delete")
@click.option("-f", "--force", is_flag=True, help="Stop it first, and remove it with a broken record, too.")
@_ID
@pass_settings
def delete(settings: Settings, /, sandbox_id: str, *, force: bool) -> None:
    """Remove a sandbox that does not run, with its containers and its network."""
    if force:
        from shim.sandbox import clear_sandbox  # noqa: PLC0415 - start-up time

        asyncio.run(clear_sandbox(sandbox_id, **_where(settings)))
    else:
        asyncio.run(_with(settings, sandbox_id, lambda sandbox: sandbox.delete()))


@command.command("monitor")
@_ID
@options.as_json
@pass_settings
def monitor(settings: Settings, /, sandbox_id: str, *, as_json: bool) -> None:
    """Tell what goes wrong in a sandbox, until it is paused or removed."""
    with suppress(KeyboardInterrupt):
        asyncio.run(_with(settings, sandbox_id, lambda sandbox: _tell(sandbox, as_json=as_json)))


def _where(settings: Settings) -> dict[str, str]:
    return {"state_root": settings.config.state_root, "storage": settings.config.storage}


async def _create(settings: Settings, config: SandboxConfig) -> SandboxStatus:
    from shim.sandbox import create_sandbox  # noqa: PLC0415 - start-up time

    async with await create_sandbox(config, **_where(settings)) as sandbox:
        return await sandbox.status()


async def _with(settings: Settings, sandbox_id: str, function: Callable[[Sandbox], Awaitable[Any]]) -> Any:
    from shim.sandbox import fetch_sandbox  # noqa: PLC0415 - start-up time

    async with await fetch_sandbox(sandbox_id, **_where(settings)) as sandbox:
        return await function(sandbox)


async def _tell(sandbox: Sandbox, *, as_json: bool) -> None:
    async for failure in sandbox.monitor():
        if as_json:
            print(json.dumps(failure.to_dict()), flush=True)  # noqa: T201 - the answer
        else:
            print(failure.text, flush=True)  # noqa: T201 - the answer


async def _run(settings: Settings, config: SandboxConfig) -> int:
    from shim.sandbox import clear_sandbox, create_sandbox  # noqa: PLC0415 - start-up time

    if not config.containers:
        raise FailedPrecondition(
            f"sandbox {config.id} has no containers to run; use --detach for an empty one"
        )
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - for the type checker
    # As asyncio does with SIGINT.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    sandbox = await create_sandbox(config, **_where(settings))
    try:
        ends = await asyncio.gather(*(_follow(sandbox, container.id) for container in config.containers))
    finally:
        # Ctrl-C comes as a cancellation: what is cleared away now is not to be cancelled, too.
        await asyncio.shield(asyncio.ensure_future(clear_sandbox(config.id, **_where(settings))))
        sandbox.release()
    return ends[0]


async def _follow(sandbox: Sandbox, container_id: str) -> int:
    stream = await sandbox.io_stream(container_id, container_id)
    try:
        readers = [(stream.stdout, sys.stdout), (stream.stderr, sys.stderr)]
        await asyncio.gather(*(_copy(container_id, *pair) for pair in readers if pair[0] is not None))
    finally:
        stream.close()
    with suppress(ShimError):
        return await sandbox.wait_process(container_id, container_id)
    return os.EX_SOFTWARE


async def _copy(name: str, source: asyncio.StreamReader | None, target: Any) -> None:
    while source is not None and (line := await source.readline()):
        target.write(f"{name} | {line.decode(errors='replace').rstrip()}\n")
        target.flush()
