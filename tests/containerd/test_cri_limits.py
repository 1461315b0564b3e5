"""Kubernetes' pods where there are cgroup v2 controllers: limits in force, and what happens at them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import bed
from support.cri import CRI, SANDBOXES, KubernetesContainerd, Pod

pytestmark = [pytest.mark.root, pytest.mark.cgroup2, pytest.mark.usefixtures("no_pods")]

# Of the sandboxes one: they differ in their streams.
HANDLERS = ["runc", "crun", *SANDBOXES[:1]]
MIB = 1 << 20


def limits(memory: int, quota: int = 50_000) -> Any:
    return CRI.LinuxContainerResources(cpu_period=100_000, cpu_quota=quota, memory_limit_in_bytes=memory)


@pytest.fixture(params=HANDLERS)
def pod(request: pytest.FixtureRequest, kubernetes: KubernetesContainerd, pod_group: str) -> Pod:
    return kubernetes.run_pod("limited", request.param, host_network=False, cgroup_parent=pod_group)


def ended(pod: Pod, container: str, group: Path) -> None:
    pod.stop_container(container)
    pod.remove_container(container)
    assert not group.exists()
    pod.stop()
    pod.remove()


def test_limits_are_in_force_below_the_pods_cgroup(pod: Pod, pod_group: str) -> None:
    container = pod.start("c", "sleep", "100", limits=limits(64 * MIB))
    group = Path(f"{bed.CGROUP}{pod_group}/{container}")
    assert (group / "cpu.max").read_text() == "50000 100000\n"
    assert (group / "memory.max").read_text() == f"{64 * MIB}\n"
    pod.update(container, limits(32 * MIB, quota=20_000))
    assert (group / "cpu.max").read_text() == "20000 100000\n"
    assert (group / "memory.max").read_text() == f"{32 * MIB}\n"
    assert pod.exec(container, "cat", "/sys/fs/cgroup/memory.max")[0] == f"{32 * MIB}\n"
    ended(pod, container, group)


def test_a_pod_tells_what_it_uses(pod: Pod) -> None:
    container = pod.start("c", "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 100")
    busy = int(1e6)
    bed.until(lambda: pod.stats(container).cpu.usage_core_nano_seconds.value > busy, "no CPU is counted")
    stats = pod.all_stats().linux
    assert [one.attributes.id for one in stats.containers] == [container]
    assert stats.cpu.usage_core_nano_seconds.value > busy
    assert 0 < stats.memory.working_set_bytes.value <= stats.memory.usage_bytes.value
    assert stats.network.default_interface.name == "eth0"
    assert stats.process.process_count.value >= 1
    pod.stop()
    pod.remove()


def test_out_of_memory_is_told_as_such(pod: Pod, pod_group: str) -> None:
    container = pod.start("c", "tail", "/dev/zero", limits=limits(16 * MIB))
    assert pod.wait(container) == 137
    bed.until(lambda: pod.container(container).reason == "OOMKilled", "the container only ended")
    ended(pod, container, Path(f"{bed.CGROUP}{pod_group}/{container}"))
