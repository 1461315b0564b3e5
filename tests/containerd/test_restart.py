"""containerd dies and comes back; containers do not notice, and nothing of theirs is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support import bed
from support.containerd import Containerd
from support.cri import CRI, KERNELS, SANDBOXES, KubernetesContainerd

pytestmark = pytest.mark.root


def test_containerd_may_die_under_a_talking_container(own_daemon: Containerd, tmp_path: Path) -> None:
    log = tmp_path / "out.log"
    script = "i=0; while [ ! -e /over ]; do echo line $i; i=$((i+1)); [ $i -lt 100 ] || sleep 0.002; done; echo end; exit 9"
    own_daemon.run("c7", "sh", "-c", script, options=("-d", "--log-uri", f"file://{log}"))
    (shim,) = own_daemon.shims()
    own_daemon.kill()
    size = log.stat().st_size
    bed.until(lambda: log.stat().st_size > size + 1000, "the output stopped with containerd")
    own_daemon.start()
    assert own_daemon.shims() == [shim]
    own_daemon.ctr("task", "exec", "--exec-id", "e", "c7", "touch", "/over")
    bed.until(lambda: "c7" not in own_daemon.running(), "c7 runs on")
    *lines, end = log.read_text().splitlines()
    assert (lines, end) == ([f"line {i}" for i in range(len(lines))], "end")
    assert "exit code 9" in own_daemon.ctr("task", "rm", "c7", check=False).stderr
    own_daemon.ctr("container", "rm", "c7")


@pytest.mark.timeout(max(180, bed.scaled(180)))
def test_containerd_may_die_again_and_again_under_load(own_daemon: Containerd, tmp_path: Path) -> None:
    """Of what they say nothing is lost and nothing comes twice, and whoever ends meanwhile is known with its code."""
    talk = "trap 'echo end; exit $0' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done"
    logs = {f"talk{number}": tmp_path / f"talk{number}" for number in range(bed.scaled(6))}
    for code, (name, log) in enumerate(logs.items()):
        options = ("-d", "--log-uri", f"file://{log}")
        own_daemon.run(name, "sh", "-c", talk, str(1 + code % 100), options=options)
    pids = own_daemon.pids()
    shims = sorted(own_daemon.shims())
    names = list(logs)
    for ending in (names[0::3], names[1::3], names[2::3]):
        own_daemon.kill()
        for name in ending:
            os.kill(pids.pop(name), signal.SIGTERM)
        sizes = {name: logs[name].stat().st_size for name in pids}
        bed.until(
            lambda sizes=sizes: all(logs[name].stat().st_size > size for name, size in sizes.items()),
            "the output stopped with containerd",
        )
        own_daemon.start()
        assert sorted(own_daemon.shims()) == shims
        assert own_daemon.run("new", "sh", "-c", "exit 3", options=("--rm",), check=False).returncode == 3
    for code, (name, log) in enumerate(logs.items()):
        bed.until(lambda name=name: name not in own_daemon.running(), f"{name} runs on")
        *lines, last = log.read_text().splitlines()
        assert (lines, last) == ([str(number) for number in range(len(lines))], "end")
        assert f"exit code {1 + code % 100}" in own_daemon.ctr("task", "rm", name, check=False).stderr
        own_daemon.ctr("container", "rm", name)


@pytest.mark.parametrize("handler", ["runc", *SANDBOXES, *KERNELS])
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


@pytest.mark.parametrize("handler", ["runc", *SANDBOXES])
def test_a_container_may_end_meanwhile(leaks: None, run_daemon: Any, tmp_path: Path, handler: str) -> None:
    """Its exit code is known. CRI throws away what then is in a FIFO; of a stream nothing is lost, nothing comes twice."""
    lines = [f"line{number}" for number in range(2000)]
    talk = f"i=0; while [ $i -lt {len(lines)} ]; do echo line$i; i=$((i+1)); done; exit 3"
    with run_daemon(tmp_path, KubernetesContainerd) as daemon:
        pod = daemon.run_pod("talking", handler)
        script = f"trap '{talk}' USR1; echo ready; while :; do sleep 0.02; done"
        container = pod.start("talk", "sh", "-c", script)
        bed.until(lambda: pod.log("talk") == ["ready"], "it is not ready")
        pid = daemon.pids()[container]
        daemon.kill()
        os.kill(pid, signal.SIGUSR1)
        bed.until(lambda: not Path(f"/proc/{pid}").exists(), "it does not end")
        daemon.start()
        assert pod.wait(container) == 3
        if handler == "streamed":
            bed.until(lambda: len(pod.log("talk")) > len(lines), "some lines are missing")
            assert pod.log("talk") == ["ready", *lines]
        pod.stop()
        pod.remove()
