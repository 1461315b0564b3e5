"""Kubernetes' pods over our shim, driven as a kubelet does it."""

from __future__ import annotations

import pytest
from support import bed
from support.cri import CRI, KubernetesContainerd

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("no_pods")]


@pytest.fixture(params=["runc", "crun", "runsc"])
def handler(request: pytest.FixtureRequest) -> str:
    """The name of a runtime handler, which is the OCI runtime's; the test runs once for each."""
    bed.need_runtime(request.param)
    return request.param


def test_containerd_serves_cri(kubernetes: KubernetesContainerd) -> None:
    assert kubernetes.call("Version", CRI.VersionRequest()).runtime_name == "containerd"


def test_life_of_a_pod(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("life", handler)
    assert kubernetes.pods() == {pod.id: CRI.SANDBOX_READY}
    lasting = pod.start(
        "lasting", "sh", "-c", "echo started; trap 'exit 7' TERM; while :; do sleep 0.05; done"
    )
    ended = pod.start("ended", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert pod.wait(ended) == 3
    assert sorted(pod.log("ended")) == ["err", "out"]
    assert pod.container(lasting).state == CRI.CONTAINER_RUNNING
    assert pod.exec(lasting, "sh", "-c", "echo inside; echo bad >&2; exit 5") == ("inside\n", "bad\n", 5)
    stats = pod.stats(lasting)
    assert stats.attributes.id == lasting
    pod.stop_container(lasting, grace_s=20)
    assert pod.wait(lasting) == 7
    pod.remove_container(ended)
    pod.remove_container(lasting)
    pod.stop()
    assert pod.status().state == CRI.SANDBOX_NOTREADY
    pod.remove()


def test_a_pod_shares_one_shim(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("shared", handler)
    for name in ("a", "b"):
        pod.start(name, "sleep", "100")
    assert len(kubernetes.shims()) == 1
    pod.stop()
    pod.remove()


def test_a_pod_has_a_network_and_a_name_of_its_own(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("netted", handler, host_network=False)
    container = pod.start("c", "sleep", "100")
    address = pod.status().network.ip
    assert address.startswith("10.97.0.")
    assert address in pod.exec(container, "ip", "addr")[0]
    assert pod.exec(container, "hostname")[0] == "netted\n"
    pod.stop()
    pod.remove()


def test_a_container_that_does_not_listen_is_killed(kubernetes: KubernetesContainerd, handler: str) -> None:
    pod = kubernetes.run_pod("deaf", handler)
    deaf = pod.start("deaf", "sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")
    other = pod.start("other", "sleep", "100")
    pod.stop_container(deaf)
    assert pod.wait(deaf) == 137
    assert pod.container(other).state == CRI.CONTAINER_RUNNING
    pod.stop()
    pod.remove()


def test_a_container_that_was_never_started_is_removed(
    kubernetes: KubernetesContainerd, handler: str
) -> None:
    pod = kubernetes.run_pod("unstarted", handler)
    container = pod.create("c", "true")
    pod.remove_container(container)
    pod.stop()
    pod.remove()


def test_containers_may_see_each_others_processes(kubernetes: KubernetesContainerd) -> None:
    pod = kubernetes.run_pod("pids", shared_pids=True)
    first = pod.start("first", "sleep", "1234")
    second = pod.start("second", "sleep", "4321")
    assert "sleep 4321" in pod.exec(first, "ps")[0]
    pod.stop_container(first)
    assert pod.container(second).state == CRI.CONTAINER_RUNNING
    assert "sleep 1234" not in pod.exec(second, "ps")[0]
    pod.stop()
    pod.remove()


def test_a_pod_whose_first_container_dies_is_not_ready(
    kubernetes: KubernetesContainerd, handler: str
) -> None:
    pod = kubernetes.run_pod("dying", handler)
    kubernetes.ctr("task", "kill", "-s", "SIGKILL", pod.id)
    bed.until(lambda: pod.status().state == CRI.SANDBOX_NOTREADY, "the pod stays ready")
    pod.stop()
    pod.remove()
