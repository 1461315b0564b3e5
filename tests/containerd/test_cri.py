"""Kubernetes' pods over our shim, driven as a kubelet does it."""

from __future__ import annotations

import pytest
from support import bed
from support.cri import CRI, KubernetesContainerd

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_pods")]

DEAF = "trap '' TERM; while :; do sleep 0.05; done"
POLITE = "echo started; trap 'exit 7' TERM; while :; do sleep 0.05; done"


def test_containerd_serves_cri(kubernetes: KubernetesContainerd) -> None:
    assert kubernetes.call("Version", CRI.VersionRequest()).runtime_name == "containerd"


def test_life_of_a_pod(kubernetes: KubernetesContainerd, runtime: str) -> None:
    pod = kubernetes.run_pod("life", runtime)
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


@pytest.mark.parametrize("handler", ["runc", "runsc"])
def test_a_pod_has_a_network_and_a_name_of_its_own(kubernetes: KubernetesContainerd, handler: str) -> None:
    bed.need_runtime(handler)
    pod = kubernetes.run_pod("netted", handler, host_network=False)
    container = pod.start("c", "sleep", "100")
    address = pod.status().network.ip
    assert address.startswith("10.97.0.")
    assert address in pod.exec(container, "ip", "addr")[0]
    assert pod.exec(container, "hostname")[0] == "netted\n"
    pod.stop()
    pod.remove()


def test_containers_may_see_each_others_processes(kubernetes: KubernetesContainerd) -> None:
    """One that does not listen is killed, with all that it has started and nothing else."""
    pod = kubernetes.run_pod("pids", shared_pids=True)
    first = pod.start("first", "sh", "-c", f"sleep 1234 & {DEAF}")
    second = pod.start("second", "sleep", "4321")
    seen = pod.exec(first, "ps")[0]
    assert "sleep 4321" in seen
    assert "sleep 1234" in seen
    pod.stop_container(first)
    assert pod.wait(first) == 137
    assert pod.container(second).state == CRI.CONTAINER_RUNNING
    assert "sleep 1234" not in pod.exec(second, "ps")[0]
    pod.stop()
    pod.remove()


@pytest.mark.parametrize("handler", ["runc", "runsc"])
def test_a_pod_whose_first_container_dies_is_not_ready(
    kubernetes: KubernetesContainerd, handler: str
) -> None:
    bed.need_runtime(handler)
    pod = kubernetes.run_pod("dying", handler)
    kubernetes.ctr("task", "kill", "-s", "SIGKILL", pod.id)
    bed.until(lambda: pod.status().state == CRI.SANDBOX_NOTREADY, "the pod stays ready")
    pod.stop()
    pod.remove()
