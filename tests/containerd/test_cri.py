"""Kubernetes' pods over our shim, driven as a kubelet does it: with a pause container, and where containerd knows of it
in a sandbox of the shim's own."""

from __future__ import annotations

import os
import signal

import grpc
import pytest
from support import bed
from support.cri import CRI, KERNELS, SANDBOXES, KubernetesContainerd
from support.cri_streams import STDERR

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_pods")]

GVISOR = ["runsc"] if bed.has_steady_runsc() else []

DEAF = "trap '' TERM; while :; do sleep 0.05; done"
POLITE = "echo started; trap 'exit 7' TERM; while :; do sleep 0.05; done"


def test_containerd_serves_cri(kubernetes: KubernetesContainerd) -> None:
    assert kubernetes.call("Version", CRI.VersionRequest()).runtime_name == "containerd"


@pytest.mark.containerd2
def test_a_kubelet_is_told_what_a_handler_can(kubernetes: KubernetesContainerd) -> None:
    """Where containerd asks only what it takes for its own shim (2.0, 2.1) one is named by its path: deploy/README.md."""
    handlers = kubernetes.call("Status", CRI.StatusRequest()).runtime_handlers
    (features,) = (handler.features for handler in handlers if handler.name == "path")
    assert features.user_namespaces
    assert features.recursive_read_only_mounts
    pod = kubernetes.run_pod("by-path", "path")
    assert pod.wait(pod.start("c", "sh", "-c", "exit 4")) == 4
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", "crun", *GVISOR, *SANDBOXES, *KERNELS])
def test_life_of_a_pod(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("life", handler)
    assert kubernetes.pods() == {pod.id: CRI.SANDBOX_READY}
    pod.remove_container(pod.create("unstarted", "true"))
    lasting = pod.start("lasting", "sh", "-c", POLITE)
    ended = pod.start("ended", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert pod.wait(ended) == 3
    assert sorted(pod.log("ended")) == ["err", "out"]
    assert len(kubernetes.shims()) == 1
    assert pod.exec(lasting, "sh", "-c", "echo inside; echo bad >&2; exit 5") == ("inside\n", "bad\n", 5)
    stats = pod.stats(lasting)
    assert stats.attributes.id == lasting
    assert stats.memory.usage_bytes.value > 0
    pod.stop_container(lasting, grace_s=20)
    assert pod.wait(lasting) == 7
    pod.remove_container(ended)
    pod.stop()
    assert pod.status().state == CRI.SANDBOX_NOTREADY
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES])
def test_a_pod_has_a_network_and_a_name_of_its_own(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("netted", handler, host_network=False)
    container = pod.start("c", "sleep", "100")
    address = pod.status().network.ip
    assert address.startswith("10.97.0.")
    assert address in pod.exec(container, "ip", "addr")[0]
    assert pod.exec(container, "hostname")[0] == "netted\n"
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES])
def test_a_client_talks_to_a_command(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("commanded", handler)
    container = pod.start("c", "sleep", "100")
    with pod.converse(container, "sh", "-c", "read a; echo got $a; read b; echo $b >&2; exit 5") as streams:
        streams.send(b"one\n")
        streams.until(b"got one\n")
        streams.send(b"two\n")
        assert streams.exit_code() == 5
        assert streams.received[STDERR] == b"two\n"
    with pod.converse(container, "sh", tty=True) as streams:
        streams.resize(33, 77)
        streams.send(sized(b"33 77") + b"exit 0\n")
        streams.until(b"is 33 77")
        assert streams.exit_code() == 0
    pod.stop()
    pod.remove()


def sized(size: bytes) -> bytes:
    """A line for a shell, which says so once the terminal has that size: containerd tells it beside what is typed, not before."""
    return b"until [ \"$(stty size)\" = '%b' ]; do sleep 0.02; done; echo is $(stty size)\n" % size


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES, *KERNELS])
def test_a_client_is_attached(kubernetes: KubernetesContainerd, handler: str) -> None:
    """stdin ends with the client where the container asks for it; its log has everything all the same."""
    pod = kubernetes.run_pod("attached", handler)
    container = pod.start("once", "sh", "-c", "cat; echo end; exit 6", stdin=True, stdin_once=True)
    with pod.attach(container) as streams:
        streams.send(b"to and fro\n")
        streams.until(b"to and fro\n")
    assert pod.wait(container) == 6
    assert pod.log("once") == ["to and fro", "end"]
    shell = pod.start("shell", "sh", stdin=True, tty=True)
    for size in (b"33 77", b"44 88"):
        with pod.attach(shell, tty=True) as streams:
            streams.resize(*map(int, size.split()))
            streams.send(sized(size))
            streams.until(b"is " + size)
    with pod.attach(shell, tty=True) as streams:
        streams.send(b"exit 7\n")
        streams.ended()
    assert pod.wait(shell) == 7
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES])
def test_a_port_is_forwarded(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("forwarded", handler, host_network=False)
    container = pod.start("c", "sh", "-c", "echo the page > /index.html; httpd -f -p 8080 & sleep 100")

    def page() -> bytes:
        with pod.forward(8080) as channels:
            channels.send(b"GET / HTTP/1.0\r\n\r\n")
            return channels.ended().received[0]

    bed.until(lambda: b"the page\n" in page(), "the server does not answer")
    assert pod.container(container).state == CRI.CONTAINER_RUNNING
    with pod.forward(8081) as channels:
        assert b"8081" in channels.ended().received[1]
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES])
def test_a_command_that_takes_too_long_is_killed(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("slow", handler)
    container = pod.start("c", "sleep", "100")
    with pytest.raises(grpc.RpcError) as caught:
        pod.exec(container, "sleep", "1234", timeout_s=1)
    assert caught.value.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN}
    assert "deadline exceeded" in caught.value.details()
    assert "sleep 1234" not in pod.exec(container, "ps")[0]
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES])
def test_a_pod_tells_what_it_uses(kubernetes: KubernetesContainerd, handler: str, pod_group: str) -> None:
    pod = kubernetes.run_pod("measured", handler, host_network=False, cgroup_parent=pod_group)
    containers = {pod.start(name, "sleep", "100") for name in ("first", "second")}
    one = pod.all_stats()
    assert one.attributes.id == pod.id
    (of_all,) = kubernetes.call("ListPodSandboxStats", CRI.Nothing()).stats
    assert of_all.attributes.id == pod.id
    for stats in (one, of_all):
        assert stats.linux.memory.usage_bytes.value > 0
        assert stats.linux.cpu.usage_core_nano_seconds.value > 0
        assert stats.linux.process.process_count.value > 0
        assert stats.linux.network.default_interface.name == "eth0"
        assert {container.attributes.id for container in stats.linux.containers} == containers
    listed = kubernetes.call("ListContainerStats", CRI.Nothing()).stats
    assert {stats.attributes.id for stats in listed} == containers
    assert all(stats.memory.usage_bytes.value > 0 for stats in listed)
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES, *KERNELS])
def test_containers_may_see_each_others_processes(kubernetes: KubernetesContainerd, handler: str) -> None:
    """One that does not listen is killed, with all that it has started and nothing else."""
    pod = kubernetes.run_pod("pids", handler, shared_pids=True)
    first = pod.start("first", "sh", "-c", f"sleep 1234 & {DEAF}")
    second = pod.start("second", "sleep", "4321")
    seen = pod.exec(first, "ps")[0]
    assert "sleep 4321" in seen
    assert "sleep 1234" in seen
    pod.exec(first, "touch", "/dev/shm/shared")
    assert pod.exec(second, "ls", "/dev/shm")[0] == "shared\n"
    pod.stop_container(first)
    assert pod.wait(first) == 137
    assert pod.container(second).state == CRI.CONTAINER_RUNNING
    assert "sleep 1234" not in pod.exec(second, "ps")[0]
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES, *KERNELS])
def test_a_pod_without_its_first_process_is_not_ready(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("dying", handler)
    os.kill(pod.pid, signal.SIGKILL)
    bed.until(lambda: pod.status().state == CRI.SANDBOX_NOTREADY, "the pod stays ready")
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *SANDBOXES, *KERNELS])
def test_a_pod_whose_shim_is_killed_leaves_nothing(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("shimless", handler)
    container = pod.start("c", "sleep", "100")
    (shim,) = kubernetes.shims()
    os.kill(shim, signal.SIGKILL)
    bed.until(lambda: pod.container(container).state == CRI.CONTAINER_EXITED, "the container counts as alive")

    def not_ready() -> bool:
        try:
            return pod.status().state == CRI.SANDBOX_NOTREADY
        except grpc.RpcError as error:
            # Until all is cleared away containerd 2.1 asks the dead shim.
            if "ttrpc: closed" not in error.details():
                raise
            return False

    bed.until(not_ready, "the pod stays ready")
    pod.stop()
    pod.remove()
