"""A shim process of one peer, started and asked as containerd does it; the same lines for every peer.

Source: containerd docs/runtime-v2.md, core/runtime/v2.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message_factory import GetMessageClass

from harness.process import ended
from harness.workshop import NAMESPACE
from shim.errors import ShimError
from shim.proto import task_v2_pb2, task_v3_pb2
from shim.transport.client import Client

if TYPE_CHECKING:
    from harness.peers import Peer
    from harness.workshop import Bundle, Workshop

DEADLINE_S = 60.0
_SERVICES = {
    2: task_v2_pb2.DESCRIPTOR.services_by_name["Task"],
    3: task_v3_pb2.DESCRIPTOR.services_by_name["Task"],
}
_PROCESS_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"
_TRUE = ["/bin/true"]


def invoke(peer: Peer, workshop: Workshop, bundle: Bundle, action: str, *flags: str) -> bytes:
    """What the shim's program prints for `start` or `delete`, up to the end of both its outputs and of itself."""
    argv = [peer.program, "-namespace", NAMESPACE, "-address", workshop.address]
    argv += ["-publish-binary", "/usr/bin/containerd", "-id", bundle.id, *flags, action]
    done = subprocess.run(
        argv,
        cwd=bundle.folder,
        env=workshop.env | peer.env,
        input=workshop.options.SerializeToString(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{peer.name} {action}: {done.stdout.decode()}")
    return done.stdout


@cache
def _method(version: int, name: str) -> tuple[str, type, type]:
    service = _SERVICES[version]
    types = service.methods_by_name[name]
    return service.full_name, GetMessageClass(types.input_type), GetMessageClass(types.output_type)


class Shim:
    """A running shim process with a connection; `bundle` is its first container's."""

    def __init__(self, peer: Peer, workshop: Workshop, bundle: Bundle) -> None:
        self.peer, self.workshop, self.bundle = peer, workshop, bundle
        begin = time.perf_counter()
        text = invoke(peer, workshop, bundle, "start").decode()
        self.start_s = time.perf_counter() - begin
        answer = json.loads(text) if text.startswith("{") else {"version": 2, "address": text.strip()}
        (bundle.folder / "answer").write_text(answer["address"])
        self.version, self.address = answer["version"], answer["address"]
        self.client = Client.connect(self.address, namespace=NAMESPACE)
        self.pid = self.call("Connect", id=bundle.id).shim_pid
        self._pidfd = os.pidfd_open(self.pid)

    def begin(self, method: str, **fields: object):
        """The request is on its way."""
        service, request, answer = _method(self.version, method)
        return self.client.start(service, method, request(**fields), answer, DEADLINE_S)

    def call(self, method: str, **fields: object):
        return self.begin(method, **fields).result()

    def caller(self, method: str, **fields: object):
        """A function without arguments that makes the call; the request is made but once."""
        service, request, answer = _method(self.version, method)
        return partial(self.client.call, service, method, request(**fields), answer, DEADLINE_S)

    def create(self, bundle: Bundle | None = None, **streams: object) -> Container:
        """A container that is created, of the shim's own bundle if no other is given."""
        bundle = bundle or self.bundle
        self.call("Create", id=bundle.id, bundle=str(bundle.folder), options=self.workshop.options, **streams)
        return Container(self, bundle)

    def run(self, bundle: Bundle | None = None, **streams: object) -> Container:
        """A container that runs."""
        container = self.create(bundle, **streams)
        self.call("Start", id=container.id)
        return container

    def shutdown(self) -> None:
        """The process has ended; for a shim without containers. What it has logged as an error is kept."""
        with suppress(ShimError):  # it may end before its answer is sent
            self.call("Shutdown", id=self.bundle.id)
        self.gone()

    def gone(self) -> None:
        """The connection is closed, as containerd does it after Shutdown, and the process waited for."""
        self.client.close()
        if not ended(self._pidfd):
            raise RuntimeError(f"{self.peer.name}: the shim does not end")
        os.close(self._pidfd)
        lines = self.bundle.logged().splitlines()
        self.workshop.errors += [f"{self.peer.name}: {line}" for line in lines if "level=error" in line]
        os.close(self.bundle.log_fd)

    def kill(self) -> None:
        """The process has ended by SIGKILL."""
        os.kill(self.pid, 9)
        self.gone()

    def close(self) -> None:
        """Its container is ended, and the process."""
        Container(self, self.bundle).end()
        self.shutdown()


class Container:
    """A container that `shim` has made."""

    def __init__(self, shim: Shim, bundle: Bundle) -> None:
        self.shim, self.bundle, self.id = shim, bundle, bundle.id

    def live(self) -> None:
        """Started, waited for and deleted."""
        self.begin()
        self.finish()

    def begin(self) -> None:
        """Started, and waited for on the way."""
        self._wait = self.shim.begin("Wait", id=self.id)
        self.shim.call("Start", id=self.id)

    def finish(self) -> None:
        """Ended by itself, which is waited for, and deleted."""
        self._wait.result()
        self.shim.call("Delete", id=self.id)

    def begin_exec(self, name: str, args: list[str] = _TRUE):
        """The request for another process in it, which is not started yet, is on its way."""
        spec = {"args": args, "cwd": "/", "env": ["PATH=/bin"]}
        process = AnyMessage(type_url=_PROCESS_URL, value=json.dumps(spec).encode())
        return self.shim.begin("Exec", id=self.id, exec_id=name, spec=process)

    def exec(self) -> float:
        """Another process has run in it and is deleted; returns how long it took from Start to the answer of Wait."""
        names = {"id": self.id, "exec_id": "e"}
        self.begin_exec("e").result()
        wait = self.shim.begin("Wait", **names)
        begin = time.perf_counter()
        self.shim.call("Start", **names)
        wait.result()
        took = time.perf_counter() - begin
        self.shim.call("Delete", **names)
        return took

    def end(self) -> None:
        """Killed and deleted."""
        wait = self.shim.begin("Wait", id=self.id)
        self.shim.call("Kill", id=self.id, signal=9)
        wait.result()
        self.shim.call("Delete", id=self.id)
