"""Kubernetes' pods over our shim, driven as a kubelet does it: with a pause container, and where containerd knows of it
in a sandbox of the shim's own."""

from __future__ import annotations

import os
import signal

import pytest
from support import bed
from support.cri import CRI, SANDBOXES, KubernetesContainerd

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_pods")]

GVISOR = ["runsc"] if bed.has_steady_runsc() else []

DEAF = "trap '' TERM; while :; do sleep 0.05; done"
POLITE = "echo started; trap 'exit 7' TERM; while :; do sleep 0.05; done"


def test_containerd_serves_cri(kubernetes: KubernetesContainerd) -> None:
    assert kubernetes.call("Version", CRI.VersionRequest()).runtime_name == "containerd"


@pytest.mark.parametrize("handler", ["runc", "crun", *GVISOR, *SANDBOXES])
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


@pytest.mark.parametrize("handler", ["runc", *SANDBOXES])
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


@pytest.mark.parametrize("handler", ["runc", *GVISOR, *SANDBOXES])
def test_a_pod_without_its_first_process_is_not_ready(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("dying", handler)
    os.kill(pod.pid, signal.SIGKILL)
    bed.until(lambda: pod.status().state == CRI.SANDBOX_NOTREADY, "the pod stays ready")
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", *SANDBOXES])
def test_a_pod_whose_shim_is_killed_leaves_nothing(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("shimless", handler)
    container = pod.start("c", "sleep", "100")
    (shim,) = kubernetes.shims()
    os.kill(shim, signal.SIGKILL)
    bed.until(lambda: pod.container(container).state == CRI.CONTAINER_EXITED, "the container counts as alive")
    bed.until(lambda: pod.status().state == CRI.SANDBOX_NOTREADY, "the pod stays ready")
    pod.stop()
    pod.remove()
