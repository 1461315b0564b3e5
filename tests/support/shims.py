"""A shim process of the tests' own, driven over its socket by the blocking client; everything it leaves is counted.

One process serves the tests of a module: starting one costs more than most tests do. ``lender`` has that process;
``shim`` lends it to one test, with a connection. After the test it takes away the containers that are left, and
compares what there is with what there was: processes, descriptors of the shim and of the test, mounts, cgroups, files.
The shim's log may have no errors, except where a test says that it expects them.

A conftest.py imports the fixtures ``lender`` and ``shim``.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import pytest
import tomli_w
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message_factory import GetMessageClass
from support import bed, leaks
from support.client_streams import DEADLINE_S, Streams, poll, until
from support.mounts import mount_points, unmount_below

from shim.bootstrap.start import start_shim
from shim.errors import ShimError
from shim.linux.pidfd import exit_status_of
from shim.proto import ocishim_pb2, sandbox_pb2, task_types_pb2, task_v2_pb2, task_v3_pb2
from shim.proto.runtime_options_pb2 import Options
from shim.transport.client import Client, PendingCall

NAMESPACE = "tests"
PROCESS_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES_URL = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"

_SERVICES = {
    "v2": task_v2_pb2.DESCRIPTOR.services_by_name["Task"],
    "v3": task_v3_pb2.DESCRIPTOR.services_by_name["Task"],
    "sandbox": sandbox_pb2.DESCRIPTOR.services_by_name["Sandbox"],
    "shim": ocishim_pb2.DESCRIPTOR.services_by_name["Shim"],
}


class MakeBundle(Protocol):
    def __call__(self, args: list[str], *, terminal: bool = False, **changes: Any) -> Path: ...


def json_any(url: str, value: object) -> AnyMessage:
    return AnyMessage(type_url=url, value=json.dumps(value).encode())


def options(**config: Any) -> AnyMessage:
    """Fields of Config as Create takes them."""
    body = tomli_w.dumps(config).encode()
    return AnyMessage(
        type_url="runtimeoptions.v1.Options", value=Options(config_body=body).SerializeToString()
    )


def raises(kind: type[ShimError], *words: str) -> Any:
    """As ``pytest.raises``, of exactly that kind, with one line that has all the words."""
    return _Raises(kind, words)


class _Raises:
    def __init__(self, kind: type[ShimError], words: tuple[str, ...]) -> None:
        self._kind, self._words = kind, words
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        assert error is not None, f"{self._kind.__name__} was not raised"
        if not isinstance(error, ShimError):
            return False
        self.text = str(error)
        assert type(error) is self._kind, repr(error)
        assert "\n" not in self.text
        for word in self._words:
            assert word in self.text, self.text
        return True


class Connection:
    """A client of a shim, which asks by the names of methods and fields."""

    def __init__(self, address: str) -> None:
        self.client = Client.connect(address, namespace=NAMESPACE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.close()

    def begin(
        self, method: str, *, version: str = "v3", timeout: float | None = None, **fields: Any
    ) -> PendingCall[Any]:
        """The request is on its way."""
        service = _SERVICES[version]
        types = service.methods_by_name[method]
        request = GetMessageClass(types.input_type)(**fields)
        return self.client.start(
            service.full_name, method, request, GetMessageClass(types.output_type), timeout
        )

    def call(self, method: str, *, version: str = "v3", timeout: float = DEADLINE_S, **fields: Any) -> Any:
        """The answer; raises what the shim says."""
        return self.begin(method, version=version, timeout=timeout, **fields).result()

    def inspect(self, container_id: str = "") -> dict[str, Any]:
        return json.loads(self.call("Inspect", version="shim", id=container_id).json)


class ShimProcess:
    """A running shim below the state root ``root``, configured with ``settings``."""

    def __init__(self, root: Path, *, name: str = "shim", **settings: Any) -> None:
        self.root = root
        self.name = name
        self.bundle = root / name
        self.bundle.mkdir(exist_ok=True)
        self.log = self.bundle / "shim.log"
        config = self.bundle / "config.toml"
        config.write_text(tomli_w.dumps({"state_root": str(root), **settings}))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OCISHIM_CONFIG", str(config))
            started = start_shim(
                state_root=str(root), namespace=NAMESPACE, id=name, bundle=str(self.bundle), debug=True
            )
        self.address, self.pid = started.address, started.pid
        self.status: int | None = None
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            # A fork of the template that could not begin: nobody has seen how it ended.
            self.status = -1

    def connect(self) -> Connection:
        return Connection(self.address)

    def ended(self, timeout_s: float = DEADLINE_S) -> bool:
        """Whether the process ends within ``timeout_s``; it is reaped then."""
        if self.status is None and poll(self._pidfd, select.POLLIN, timeout_s):
            self.status = self._reap()
            os.close(self._pidfd)
        return self.status is not None

    def _reap(self) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            # A fork of the template, which is reaped by the kernel.
            until(lambda: exit_status_of(self._pidfd) is not None, "the status of a process that was reaped")
            return os.waitstatus_to_exitcode(exit_status_of(self._pidfd))

    def signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """As the kernel's OOM killer would: no time for anything."""
        if self.status is None:
            self.signal(signal.SIGKILL)
            assert self.ended()

    def shutdown(self) -> None:
        """Asked to end, it does, and its socket is gone."""
        with self.connect() as connection:
            connection.call("Shutdown", id=self.name)
        assert self.ended(), f"the shim does not end:\n{self.log.read_text()}"
        assert self.status == 0
        assert not Path(self.address.removeprefix("unix://")).exists()

    def descriptors(self) -> list[str]:
        """What the process has open."""
        found = []
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/{self.pid}/fd/{fd}"))
        return sorted(found)


class CgroupParent:
    """A group of the tests' own in every hierarchy, below which the shim's containers are."""

    def __init__(self) -> None:
        self.path = f"/ocishim-test-{secrets.token_hex(4)}"
        tops = [bed.CGROUP] if bed.has_cgroup2() else [p for p in bed.CGROUP.iterdir() if p.is_dir()]
        self.folders = [Path(f"{top}{self.path}") for top in tops if not top.is_symlink()]
        for folder in self.folders:
            folder.mkdir()

    def groups(self) -> set[str]:
        """All groups below it, and what is still in them."""
        return {path for top in self.folders for path, _, _ in os.walk(top) if path != str(top)}

    def remove(self) -> None:
        for top in self.folders:
            for path, _, _ in os.walk(top, topdown=False):
                os.rmdir(path)


class Container:
    """One container of a shim, by its id."""

    def __init__(self, shim: Shim, container_id: str, bundle: Path, pid: int) -> None:
        self.shim, self.id, self.bundle, self.pid = shim, container_id, bundle, pid

    def begin(self, method: str, **fields: Any) -> PendingCall[Any]:
        return self.shim.begin(method, id=self.id, **fields)

    def call(self, method: str, **fields: Any) -> Any:
        return self.shim.call(method, id=self.id, **fields)

    def start(self, exec_id: str = "") -> int:
        return self.call("Start", exec_id=exec_id).pid

    def wait(self, exec_id: str = "") -> int:
        """The exit status."""
        return self.call("Wait", exec_id=exec_id).exit_status

    def kill(self, number: int = signal.SIGKILL, exec_id: str = "", *, everybody: bool = False) -> None:
        self.call("Kill", signal=number, exec_id=exec_id, all=everybody)

    def delete(self, exec_id: str = "") -> Any:
        return self.call("Delete", exec_id=exec_id)

    def end(self, number: int = signal.SIGKILL) -> int:
        """Killed and deleted; the exit status."""
        self.kill(number)
        status = self.wait()
        self.delete()
        return status

    def state(self, exec_id: str = "") -> str:
        return task_types_pb2.Status.Name(self.call("State", exec_id=exec_id).status)

    def pids(self) -> list[int]:
        return [process.pid for process in self.call("Pids").processes]

    def add_exec(self, exec_id: str, args: list[str], streams: Streams | None = None, **fields: Any) -> None:
        """Registered, not started; ``fields`` are of the OCI Process."""
        process = {"args": args, "cwd": "/", "env": ["PATH=/bin", leaks.MARK], "user": {"uid": 0, "gid": 0}}
        spec = json_any(PROCESS_URL, {**process, **fields})
        self.call("Exec", exec_id=exec_id, spec=spec, **(streams.fields if streams else {}))

    def exec(self, exec_id: str, args: list[str], streams: Streams | None = None, **fields: Any) -> int:
        """Registered and started; its pid."""
        self.add_exec(exec_id, args, streams, **fields)
        return self.start(exec_id)

    def inspect(self) -> dict[str, Any]:
        return self.shim.inspect(self.id)


class Shim(Connection):
    """A shim process lent to one test, with what the test needs to make containers."""

    def __init__(self, process: ShimProcess, make_bundle: MakeBundle, folder: Path) -> None:
        super().__init__(process.address)
        self.process = process
        self.make_bundle = make_bundle
        self._folder = folder
        self.may_log_errors = False
        self._streams: list[Streams] = []

    def streams(self, **wanted: bool) -> Streams:
        """New FIFOs, which are closed after the test."""
        streams = Streams(self._folder / f"streams{len(self._streams)}", **wanted)
        self._streams.append(streams)
        return streams

    def new_id(self) -> str:
        """An id that no other test on this machine uses: runsc names a socket of the whole host after it."""
        return f"c{secrets.token_hex(4)}"

    def container(
        self,
        args: list[str] | Path = ("sleep", "1000"),  # type: ignore[assignment]
        *,
        id: str | None = None,  # noqa: A002 - the wire's name
        streams: Streams | None = None,
        changes: dict[str, Any] | None = None,
        rootfs: tuple[Any, ...] = (),
        version: str = "v3",
        timeout: float = DEADLINE_S,
        stdout: str = "",
        checkpoint: str = "",
        **config: Any,
    ) -> Container:
        """A container that is created, of a new bundle that runs ``args`` or of the bundle ``args``.

        ``config`` are fields of Config; ``stdout`` is a URI where there are no ``streams``.
        """
        name = id or self.new_id()
        fields: dict[str, Any] = streams.fields if streams else {"stdout": stdout}
        bundle = args
        if not isinstance(bundle, Path):
            bundle = self.make_bundle(list(args), terminal=bool(fields.get("terminal")), **(changes or {}))
        answer = self.call(
            "Create",
            id=name,
            bundle=str(bundle),
            rootfs=rootfs,
            checkpoint=checkpoint,
            options=options(**config),
            version=version,
            timeout=timeout,
            **fields,
        )
        return Container(self, name, bundle, answer.pid)

    def running(self, args: list[str] = ("sleep", "1000"), **how: Any) -> Container:  # type: ignore[assignment]
        """A container that is started."""
        container = self.container(args, **how)
        container.start()
        return container

    def close_streams(self) -> None:
        for streams in self._streams:
            streams.__exit__()


def descendants(pid: int) -> set[str]:
    """The children of a process and theirs; a shim is a subreaper, so nothing that it started is missing."""
    found = set[str]()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                stat = Path(f"/proc/{child}/stat").read_text()
                found |= {f"process {stat[: stat.rindex(')') + 1]}", *descendants(int(child))}
    return found


def inventory(
    root: Path, folder: Path, cgroups: CgroupParent, process: ShimProcess | None = None
) -> set[object]:
    """All that a test may not leave behind: below its state root and ``folder``, its bundles; and in ``process``."""
    found: set[object] = descendants(os.getpid()) | leaks.descriptors() | cgroups.groups() | leaks.files(root)
    ours = [str(root), str(folder)]
    found |= {f"mount on {p}" for p in mount_points().values() if any(p.startswith(o) for o in ours)}
    if process is not None:
        open_there = process.descriptors()
        found |= {f"{open_there.count(what)} of the shim's descriptors -> {what}" for what in open_there}
    return found


def left_since(before: set[object], now: Callable[[], set[object]]) -> str:
    """What ``now`` tells of that was not there ``before``, after it has had time to go; empty when that is nothing."""
    deadline = time.monotonic() + leaks.SETTLE_S
    while (left := now() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    return "\n".join(sorted(f"  {item}" for item in left))


class Lender:
    """The shim process of a module: started when it is first needed, and again after a test has ended it."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ocishim-", dir="/run"))
        self.cgroups = CgroupParent()
        self._process: ShimProcess | None = None

    def process(self, make_bundle: MakeBundle, folder: Path) -> ShimProcess:
        if self._process is None or self._process.ended(0):
            self._process = ShimProcess(self.root, cgroup_parent=self.cgroups.path, idle_timeout=3600.0)
            with Shim(self._process, make_bundle, folder / "warm") as shim:
                # The relay and its descriptors come with the first stream; they are there to stay.
                shim.container(["true"], streams=shim.streams()).delete()
                shim.close_streams()
        return self._process

    def close(self) -> None:
        try:
            if self._process is not None and not self._process.ended(0):
                self._process.shutdown()
        finally:
            if self._process is not None:
                self._process.kill()
            unmount_below(self.root)
            self.cgroups.remove()
            for folder, folders, files in os.walk(self.root, topdown=False):
                for name in files:
                    os.unlink(f"{folder}/{name}")
                for name in folders:
                    os.rmdir(f"{folder}/{name}")
            os.rmdir(self.root)


def _take_away(connection: Connection, container_id: str) -> None:
    """The container is gone, whatever state it was in."""
    for method, fields in [("Resume", {}), ("Kill", {"signal": 9, "all": True}), ("Kill", {"signal": 9})]:
        with contextlib.suppress(ShimError):
            connection.call(method, id=container_id, **fields)
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            connection.call("Delete", id=container_id)
        except ShimError:
            if container_id not in connection.inspect()["containers"]:
                return
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.fixture(scope="module")
def lender() -> Iterator[Lender]:
    """The shim process of the module; of a shim that was killed, too, no process may be left."""
    before = leaks.processes()
    lender = Lender()
    yield lender
    lender.close()
    left = left_since(before, leaks.processes)
    assert not left, f"left behind:\n{left}"


@pytest.fixture
def shim(lender: Lender, bundle: MakeBundle, tmp_path: Path) -> Iterator[Shim]:
    """A shim for this test, which leaves nothing behind in it."""
    process = lender.process(bundle, tmp_path)

    def now() -> set[object]:
        return inventory(lender.root, tmp_path, lender.cgroups, process)

    before = now()
    logged = process.log.stat().st_size
    with Shim(process, bundle, tmp_path) as lent:
        yield lent
        lent.close_streams()
    alive = not process.ended(0)
    if alive:
        with process.connect() as connection:
            for container_id in connection.inspect()["containers"]:
                _take_away(connection, container_id)
    lines = process.log.read_bytes()[logged:].decode().splitlines()
    print(*lines, sep="\n")  # noqa: T201 - pytest shows it when the test has failed
    left = left_since(before, now) if alive else ""
    assert not left, f"left behind:\n{left}"
    errors = [line for line in lines if "level=error" in line or "level=fatal" in line]
    assert not errors or lent.may_log_errors, "\n".join(errors)


__all__ = ["Connection", "Container", "Lender", "Shim", "ShimProcess", "Streams", "lender", "raises", "shim"]
