"""From a bundle to a container that waits for ``start``: what all who make containers have in common.

Order: everything that can be wrong with the request is found out first, then the id is claimed, then the FIFOs, then
the shim, then the container. ``prepared`` and ``launched`` take all of it back, last made first, when the block that they
guard raises; that is how a failed start, or ctrl-c before there is anything to signal, leaves nothing behind.

Whoever has an event loop enters ``prepared`` in a thread, and calls Create itself.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import tomli_w

from shim.bootstrap.start import start_shim
from shim.containers import bundle, removal
from shim.containers.containers import Container, Containers, Record
from shim.containers.events_socket import events_address
from shim.containers.fifos import Fifos, OpenFifos
from shim.containers.shim_process import ShimProcess
from shim.containers.task_client import NAMESPACE, Streams, Task
from shim.errors import AlreadyExists, FailedPrecondition, ShimError, Unavailable, from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from shim.config import Config
    from shim.containers.task_client import Pending

__all__ = ["Launched", "Prepared", "Request", "launched", "options_toml", "prepared", "shim_log"]

_CREATE_ENDS_S = 5.0


def _nothing(_: Container) -> None:
    return


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be run, and how it is connected."""

    bundle: Path
    """Absolute."""
    config: Config
    id: str = ""
    """Empty: one is made up."""
    terminal: bool = False
    """Give it a terminal, also where config.json asks for none."""
    interactive: bool = False
    """Keep a stdin for it; a terminal always has one."""
    log_file: str = ""
    """Where output goes; empty: to us in the foreground, else to a file in the container's directory."""
    foreground: bool = False
    streams: Streams | None = None
    """Where its streams go, where that is somebody else's business; the three above then say nothing."""
    claimed: Callable[[Container], None] = _nothing
    """Called when the id is this container's, before there is anything else of it."""
    open_files: int = -1
    """The soft limit of descriptors of all that is started; -1: ours."""
    events_address: str = ""
    """The ttrpc socket of whoever is to hear of it; empty: the daemon, where there is one."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A shim that serves, and has no container yet. ``prepared`` closes ``fifos``."""

    container: Container
    record: Record
    shim: ShimProcess
    streams: Streams
    """For Create."""
    fifos: OpenFifos | None
    keep: Callable[[], object]
    """From this call on all of it stays, whatever happens."""


@dataclass(frozen=True, slots=True)
class Launched:
    """A container that waits for ``start``. ``launched`` closes ``task`` and ``fifos``."""

    container: Container
    record: Record
    task: Task
    pid: int
    fifos: OpenFifos | None
    keep: Callable[[], object]
    """From this call on the container stays, whatever happens."""


@contextmanager
def prepared(request: Request) -> Iterator[Prepared]:
    """A shim with a bundle that is as ``request`` asks; when the block raises, nothing of it is left, unless ``keep`` was called.

    Nor of the container, if the shim has one by then.

    Raises:
        ShimError: it cannot be made. Says what to do where that is known.
    """
    with ExitStack() as close, ExitStack() as undo:
        spec = bundle.read(request.bundle)
        log_file = _check_log_file(request.log_file, undo) if request.log_file else ""
        container = _claim(Containers(request.config.state_root), request)
        undo.callback(container.remove)
        request.claimed(container)
        streams = _Streams.make(container, request, log_file, terminal=request.terminal or spec.terminal)
        fifos = close.enter_context(streams.opened()) if request.foreground else None
        bundle.derive(spec, request.bundle, container.directory, terminal=streams.terminal)
        record, shim = _start_shim(container, request, streams)
        undo.callback(_remove, container, record, shim)
        container.save(record)
        yield Prepared(container, record, shim, streams.for_shim(), fifos, keep=undo.pop_all)
        undo.pop_all()


@contextmanager
def launched(
    request: Request, interruptible: Callable[[], AbstractContextManager[None]]
) -> Iterator[Launched]:
    """A container of which nothing is left when the block raises, unless it has called ``keep``.

    The calls that may be cut short are made within ``interruptible``: an exception that it raises there ends them.

    Raises:
        ShimError: it cannot be made. Says what to do where that is known.
    """
    with prepared(request) as ready, ExitStack() as close, ExitStack() as undo:
        container = ready.container
        with shim_log(container):
            task = close.enter_context(container.connect())
            creation = task.begin_create(
                str(container.directory),
                ready.streams,
                options_toml(request.config),
                terminal=ready.record.terminal,
            )
            undo.callback(_settle, task, creation, ready.shim)
            with interruptible():
                pid = creation.result().pid
        undo.pop_all()
        if ready.fifos:
            ready.fifos.shim_is_connected()
        yield Launched(container, ready.record, task, pid, ready.fifos, keep=ready.keep)


@dataclass(frozen=True, slots=True)
class _Streams:
    """How the container is connected."""

    terminal: bool
    interactive: bool
    log_file: str
    """Empty: output goes into FIFOs."""
    fifos: Fifos | None
    given: Streams | None = None

    @classmethod
    def make(cls, container: Container, request: Request, log_file: str, *, terminal: bool) -> _Streams:
        if request.streams is not None:
            return cls(terminal, bool(request.streams.stdin), "", None, request.streams)
        if not request.foreground and not log_file:
            log_file = str(container.directory / "output.log")
        interactive = request.interactive or terminal
        names = ["stdin"] if interactive else []
        if not log_file:
            names += ["stdout"] if terminal else ["stdout", "stderr"]
        fifos = Fifos.make(container.directory / "fifos", tuple(names)) if names else None
        return cls(terminal, interactive, log_file, fifos)

    @contextmanager
    def opened(self) -> Iterator[OpenFifos | None]:
        if self.fifos is None:
            yield None
            return
        fifos = self.fifos.open(stdin=self.interactive)
        try:
            yield fifos
        finally:
            fifos.close()

    def for_shim(self) -> Streams:
        if self.given is not None:
            return self.given
        stdin, stdout, stderr = (
            self.fifos.path(name) if self.fifos else "" for name in ("stdin", "stdout", "stderr")
        )
        return Streams(stdin, f"file://{quote(self.log_file)}" if self.log_file else stdout, stderr)


def _start_shim(container: Container, request: Request, streams: _Streams) -> tuple[Record, ShimProcess]:
    started = start_shim(
        state_root=request.config.state_root,
        namespace=NAMESPACE,
        id=container.id,
        bundle=str(container.directory),
        debug=request.config.debug,
        open_files=request.open_files,
        events_address=request.events_address or events_address(request.config.state_root),
    )
    shim = ShimProcess.of(started.pid)
    record = Record(
        id=container.id,
        bundle=str(request.bundle),
        created_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        address=started.address,
        shim_pid=shim.pid,
        shim_started=shim.started,
        runtime=request.config.runtime,
        terminal=streams.terminal,
        interactive=streams.interactive,
        log_file=streams.log_file,
        auto_remove=request.config.auto_remove,
    )
    return record, shim


def _check_log_file(path: str, undo: ExitStack) -> str:
    file = Path(path).absolute()
    existed = file.exists()
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise from_os_error(error, f"log file {file} cannot be written") from error
    if not existed:
        undo.callback(file.unlink, missing_ok=True)
    return str(file)


def _claim(containers: Containers, request: Request) -> Container:
    if request.id:
        return containers.claim(request.id)
    word = re.sub(r"[^A-Za-z0-9_.]+", "-", request.bundle.name).strip("-.")[:40] or "container"
    while True:
        with suppress(AlreadyExists):
            return containers.claim(f"{word}-{os.urandom(3).hex()}")


def options_toml(config: Config) -> str:
    """``config`` as the options of Create."""
    # All fields, not only the changed ones: the shim begins with /etc's, and a default must be able to win over those.
    # Our output FIFOs have their reader already, or never get one: nothing to wait for.
    return tomli_w.dumps(asdict(replace(config, fifo_timeout=0.0)))


@contextmanager
def shim_log(container: Container) -> Iterator[None]:
    """A shim that dies at once has said why in its log, which is about to be removed.

    Raises:
        FailedPrecondition: in the place of Unavailable, with what it said.
    """
    try:
        yield
    except Unavailable as error:
        lines = (container.directory / "shim.log").read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it is empty")
        raise FailedPrecondition(
            f"the shim of container {container.id} died; the end of its log: {last}"
        ) from error


def _settle(task: Task, creation: Pending, shim: ShimProcess) -> None:
    """What is still being made cannot be removed; but a runtime that hangs is not waited for, it dies with its shim."""
    task.settle(creation, _CREATE_ENDS_S)
    if not creation.done:
        shim.kill()


def _remove(container: Container, record: Record, shim: ShimProcess) -> None:
    try:
        removal.remove_known(container, record, force=True)
    except ShimError:
        # The error that brought us here is the one to tell. What the runtime could not delete is left to it.
        shim.kill()
        container.remove()
