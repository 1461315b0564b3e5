"""The gRPC API from the outside: a server process, and a client that was generated from containerd's own file.

``rpc`` is the client, one process for all tests. ``api_of`` starts servers, one a runtime and module; ``served`` lends one to a
test, and compares what there is afterwards with what there was: processes, descriptors of the server, mounts, cgroups, files.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from support import bed, leaks
from support.client_streams import DEADLINE_S, until
from support.mounts import unmount_below
from support.shims import CgroupParent

from shim.containers import removal
from shim.containers.containers import Containers
from shim.errors import ShimError

HERE = Path(__file__).parent
SEED = HERE / "containerd-first-api.proto.txt"


class Refused(Exception):
    """A status other than OK."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self.code = code
        self.details = details


def generate(folder: Path) -> Path:
    """Stubs of the seed in ``folder``, which begins after what was around it on the page that it was taken from."""
    text = SEED.read_text()
    (folder / "api.proto").write_text(text[text.index('syntax = "proto3"') :])
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={folder}"]
    subprocess.run(
        [*command, f"--python_out={folder}", f"--grpc_python_out={folder}", "api.proto"], check=True
    )
    return folder


class Rpc:
    """Calls, each by its name and the fields of its request."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "first_api_client.py"), str(generate(folder))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}

    def _say(self, what: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def begin(self, socket: Path, method: str, request: dict[str, Any], timeout_s: float) -> int:
        number = next(self._numbers)
        self._say(
            {"id": number, "socket": str(socket), "method": method, "request": request, "timeout": timeout_s}
        )
        return number

    def result(self, number: int) -> dict[str, Any]:
        """The answer; raises Refused."""
        assert self.process.stdout is not None
        while number not in self._answers:
            line = self.process.stdout.readline()
            assert line, "the client has ended"
            answer = json.loads(line)
            self._answers[answer["id"]] = answer
        found = self._answers.pop(number)
        if "code" in found:
            raise Refused(found["code"], found["details"])
        return found["answer"]

    def cancel(self, number: int) -> None:
        self._say({"cancel": number})
        with pytest.raises(Refused, match="CANCELLED"):
            self.result(number)

    def forget(self, socket: Path) -> None:
        """No connection to that server is left."""
        number = next(self._numbers)
        self._say({"id": number, "forget": str(socket)})
        self.result(number)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Server:
    """The API over a state directory of its own. May be killed and started again."""

    def __init__(self, rpc: Rpc, root: Path, **config: Any) -> None:
        self.rpc = rpc
        self.root = root
        self.data_root = root / "data"
        self.socket = root / "api.sock"
        self.log = root / "api.log"
        self.cgroups = CgroupParent()
        self.config = root / "config.toml"
        known = {
            "state_root": str(root),
            "data_root": str(self.data_root),
            "cgroup_parent": self.cgroups.path,
        }
        self.config.write_text(
            "".join(f"{key} = {json.dumps(value)}\n" for key, value in {**known, **config}.items())
        )
        self.containers = Containers(str(root))
        self.process: subprocess.Popen[str] | None = None

    def start(self, **environment: str) -> Self:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "dev", str(HERE / "first_api_server.py"), str(self.config), str(self.socket)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "PYTHONPATH": str(bed.CHECKOUT), **environment},
            )  # fmt: skip
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        self.process.stdout.close()
        assert ready == "ready\n", self.log.read_text()
        return self

    def end(self, number: int = signal.SIGTERM) -> None:
        """It has ended; containers are left alone."""
        if self.process is None:
            return
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        self.process = None
        self.rpc.forget(self.socket)
        assert status == (0 if number == signal.SIGTERM else -number), self.log.read_text()

    def close(self) -> None:
        self.clear()
        with suppress(ProcessLookupError):
            self.end()
        self.cgroups.remove()

    def clear(self) -> None:
        """Every container is gone, and every checkpoint that was finished."""
        for container in self.containers.all():
            with suppress(ShimError):
                removal.remove(container, force=True)
        for image in self.data_root.glob("checkpoints/*/[!.]*"):
            shutil.rmtree(image)
            with suppress(OSError):
                image.parent.rmdir()

    def descriptors(self) -> int:
        """How many the server has open."""
        assert self.process is not None
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def concerns(self, item: object) -> bool:
        """Whether it is for us to take away: other tests have cgroups, too, and the server keeps its events."""
        text = str(item)
        if self.process is not None and getattr(item, "pid", 0) == self.process.pid:
            return False
        if text.startswith("cgroup "):
            return self.cgroups.path in text
        if text.startswith("mount "):
            return str(self.root) in text
        if text.startswith("network namespace "):
            return False  # one of ours would be that of a process of ours
        return not re.search(rf"{self.log}|{self.data_root}/events|{self.root}/events.sock.unsent", text)

    # Calls.

    def begin(self, method: str, timeout_s: float = DEADLINE_S, /, **request: Any) -> int:
        return self.rpc.begin(self.socket, method, request, timeout_s)

    def call(self, method: str, timeout_s: float = DEADLINE_S, /, **request: Any) -> dict[str, Any]:
        return self.rpc.result(self.begin(method, timeout_s, **request))

    def refuses(self, code: str, text: str, method: str, /, **request: Any) -> None:
        """The call fails with that status, and one line that matches ``text``."""
        with pytest.raises(Refused) as refused:
            self.call(method, **request)
        assert refused.value.code == code, refused.value
        assert re.search(text, refused.value.details), refused.value
        assert "\n" not in refused.value.details

    def create(self, container_id: str, bundle: Path, /, **more: Any) -> int:
        """The pid of a new container's init."""
        return int(self.call("CreateContainer", id=container_id, bundlePath=str(bundle), **more)["pid"])

    def states(self) -> dict[str, dict[str, Any]]:
        """What State says, by id."""
        return {each["id"]: each for each in self.call("State").get("containers", [])}

    def kill(self, container_id: str) -> None:
        """It has ended, and is gone."""
        self.call("UpdateContainer", id=container_id, signal=9)
        self.gone(container_id)

    def gone(self, container_id: str) -> None:
        until(lambda: container_id not in self.states(), f"{container_id} stays")


@pytest.fixture(scope="module")  # not longer: tests of other folders count the children of this process
def rpc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rpc]:
    client = Rpc(tmp_path_factory.mktemp("first-api"))
    yield client
    client.close()


class Servers:
    """One for each configuration."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._servers: dict[str, Server] = {}

    def get(self, **config: Any) -> Server:
        key = json.dumps(config, sort_keys=True)
        if key not in self._servers:
            root = Path(tempfile.mkdtemp(prefix="ocishim-", dir="/run"))
            self._servers[key] = Server(self._rpc, root, **config).start()
        return self._servers[key]

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
            unmount_below(server.root)
            shutil.rmtree(server.root)


@pytest.fixture(scope="module")
def api_of(rpc: Rpc) -> Iterator[Servers]:
    servers = Servers(rpc)
    yield servers
    servers.close()


def lend(server: Server) -> Iterator[Server]:
    """``server``, of which nothing may be left afterwards but itself."""
    _ready(server)
    before, descriptors = leaks.snapshot(server.root), server.descriptors()
    yield server
    server.clear()
    _ready(server)

    def left_now() -> list[object]:
        found = [item for item in leaks.snapshot(server.root) - before if server.concerns(item)]
        more = server.descriptors() - descriptors
        return [*found, *([f"{more} descriptors of the server"] if more > 0 else [])]

    deadline = time.monotonic() + leaks.SETTLE_S
    while (left := left_now()) and time.monotonic() < deadline:
        time.sleep(0.02)
    leaks.kill(left)
    if left:
        pytest.fail("left behind:\n" + "\n".join(f"  {item}" for item in left), pytrace=False)


def _ready(server: Server) -> None:
    if server.process is None:
        server.start()
    server.call("State")


def poll_readable(fd: int, timeout_s: float = DEADLINE_S) -> bool:
    return bool(select.select([fd], [], [], timeout_s)[0])
