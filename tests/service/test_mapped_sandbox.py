"""Pods with a user namespace of their own: their root is nobody on this host, and owns what is the pod's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import bed
from support.sandboxes import Sandboxed, pod

from shim.linux.user_namespace import IdRange, user_namespace
from shim.proto.pod_pb2 import POD

pytestmark = pytest.mark.root

OUTSIDE = 70000
SIZE = 65536


def mapped(**modes: object) -> object:
    ids = [{"host_id": OUTSIDE, "container_id": 0, "length": SIZE}]
    return pod(userns_options={"mode": POD, "uids": ids, "gids": ids}, **modes)


def member(
    box: Sandboxed, pid: int, script: str, runtime: str, *, own: tuple = ({"type": "pid"},), **how: object
):
    """A container in the pod of ``pid``, as CRI makes it: with the path of the namespace, and the ids."""
    ids = [{"containerID": 0, "hostID": OUTSIDE, "size": SIZE}]
    user = {"type": "user", "path": f"/proc/{pid}/ns/user"}
    return box.member(
        pid,
        ["sh", "-c", script],
        own=[*own, user],
        linux={"uidMappings": ids, "gidMappings": ids},
        runtime=runtime,
        io_uid=OUTSIDE,
        io_gid=OUTSIDE,
        **how,
    )


@pytest.fixture
def mapped_network(tmp_path: Path) -> Iterator[str]:
    """The path of a network namespace as containerd makes it for such a pod: it belongs to a user namespace of the pod's ids."""
    path = tmp_path / "netns"
    path.touch()
    ids = [IdRange(0, OUTSIDE, SIZE)]
    with user_namespace(ids, ids) as user:
        enter = ["nsenter", f"--user=/proc/self/fd/{user.fileno()}", "unshare", "--net"]
        program = [*enter, "sh", "-c", "echo; exec sleep 100"]
        with subprocess.Popen(program, stdout=subprocess.PIPE, pass_fds=[user.fileno()]) as process:
            process.stdout.readline()
            subprocess.run(["mount", "--bind", f"/proc/{process.pid}/ns/net", path], check=True)
            process.kill()
    yield str(path)
    subprocess.run(["umount", path], check=True)


def namespace(pid: int | str, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_containers_share_namespaces_and_ids(
    box: Sandboxed, state_root: Path, mapped_network: str, open_rootfs: Path, runtime: str
) -> None:
    bed.need_runtime(runtime)
    # As containerd has them: the folder of all can be passed through, the sandbox's own is root's.
    state_root.chmod(0o711)
    box.process.bundle.chmod(0o700)
    pid = box.start(mapped(pid=POD), netns_path=mapped_network)
    shared = ({"type": "pid", "path": f"/proc/{pid}/ns/pid"},)
    outputs = [box.streams(stderr=True), box.streams(stderr=True)]
    script = "id -u; hostname; head -n 1 /etc/resolv.conf; stat -c %u /etc/hostname; echo shared > /dev/shm/x; sleep 1000"
    first = member(box, pid, script, runtime, own=shared, rootfs=open_rootfs, streams=outputs[0])
    outputs[0].read_until(b"0\npodname\nnameserver 192.0.2.53\n0\n")
    script = "cat /dev/shm/x; ps; exit 4"
    second = member(box, pid, script, runtime, own=shared, rootfs=open_rootfs, streams=outputs[1])
    assert second.wait() == 4
    second.delete()
    seen = outputs[1].read()
    assert seen.startswith(b"shared\n"), outputs[1].read("stderr")
    assert b"/pause" in seen
    for name in ("user", "pid", "ipc", "uts", "net"):
        assert namespace(first.pid, name) == namespace(pid, name), name
    assert Path(f"/proc/{first.pid}/uid_map").read_text().split() == ["0", str(OUTSIDE), str(SIZE)]
    box.sandbox("StopSandbox")
    assert first.wait() == 137
