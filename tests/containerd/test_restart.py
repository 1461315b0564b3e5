"""containerd dies and comes back; containers do not notice, and nothing of theirs is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import bed
from support.containerd import Containerd
from support.cri import CRI, SANDBOXES, KubernetesContainerd

pytestmark = pytest.mark.root


def test_containerd_may_die_under_a_talking_container(own_daemon: Containerd, tmp_path: Path) -> None:
    log = tmp_path / "out.log"
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ -e /tmp/go ] || [ $i -lt 100 ] || sleep 0.002; done; exit 9"
    own_daemon.run("c7", "sh", "-c", script, options=("-d", "--log-uri", f"file://{log}"))
    (shim,) = own_daemon.shims()
    own_daemon.kill()
    size = log.stat().st_size
    bed.until(lambda: log.stat().st_size > size + 1000, "the output stopped with containerd")
    own_daemon.start()
    assert own_daemon.shims() == [shim]
    bed.until(lambda: "c7" not in own_daemon.running(), "c7 runs on")
    assert log.read_text() == "".join(f"line {i}\n" for i in range(3000))
    assert "exit code 9" in own_daemon.ctr("task", "rm", "c7", check=False).stderr
    own_daemon.ctr("container", "rm", "c7")


@pytest.mark.parametrize("handler", ["runc", *SANDBOXES])
def test_containerd_may_die_under_a_pod(leaks: None, run_daemon: Any, tmp_path: Path, handler: str) -> None:
    with run_daemon(tmp_path, KubernetesContainerd) as daemon:
        pod = daemon.run_pod("orphaned", handler)
        lasting = pod.start("lasting", "sleep", "100")
        ended = pod.start("ended", "sh", "-c", "until [ -e /go ]; do sleep 0.02; done; exit 4")
        daemon.kill()
        daemon.start()
        assert daemon.pods() == {pod.id: CRI.SANDBOX_READY}
        assert pod.exec(ended, "touch", "/go") == ("", "", 0)
        assert pod.wait(ended) == 4
        assert pod.wait(pod.start("new", "sh", "-c", "exit 6")) == 6
        pod.stop()
        assert pod.container(lasting).state == CRI.CONTAINER_EXITED
        pod.remove()
        assert daemon.pods() == {}
