"""Kubernetes' pods with a user namespace of their own, on a snapshotter whose layers can be id-mapped."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.containerd import RUNTIME
from support.cri import SANDBOXES, KubernetesContainerd, Pod

pytestmark = [pytest.mark.root, pytest.mark.containerd2]

OUTSIDE = 70000


# containerd itself cannot start a container for such a pod under a handler that has options.
HANDLER = f"""
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.plain]
  runtime_type = "{RUNTIME}"
"""


class Mapped(KubernetesContainerd):
    runtime = ""

    def configuration(self) -> str:
        with self.shim_config.open("a") as file:
            file.write(f'runtime = "{self.runtime}"\n')
        return (
            super().configuration().replace('snapshotter = "native"', 'snapshotter = "overlayfs"') + HANDLER
        )


class WithRunc(Mapped):
    runtime = "runc"


class WithCrun(Mapped):
    runtime = "crun"


@pytest.mark.parametrize("kind", [WithRunc, WithCrun])
def test_root_of_a_pod_is_nobody_outside(leaks: None, tmp_path: Path, run_daemon, kind: type[Mapped]) -> None:
    with run_daemon(tmp_path, kind) as daemon:
        for handler in ("plain", *SANDBOXES[:1]):
            check(daemon.run_pod("users", handler, host_network=False, shared_pids=True, ids=OUTSIDE))


def check(pod: Pod) -> None:
    first = pod.start("first", "sleep", "1000")
    second = pod.start("second", "sleep", "1000")
    assert pod.exec(first, "cat", "/proc/self/uid_map")[0].split() == ["0", str(OUTSIDE), "65536"]
    assert pod.exec(first, "sh", "-c", "id -u; hostname; stat -c %u /")[0].split() == [
        "0",
        "users",
        "0",
    ]
    pod.exec(first, "touch", "/dev/shm/shared", "/mine")
    assert pod.exec(second, "ls", "/dev/shm")[0] == "shared\n"
    assert pod.exec(second, "ps")[0].count("sleep 1000") == 2
    assert pod.status().network.ip in pod.exec(first, "ip", "addr")[0]
    pod.stop()
    pod.remove()
