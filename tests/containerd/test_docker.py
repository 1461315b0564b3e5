"""Docker with deploy/docker/daemon.json, on a containerd of its own: `docker run`, `docker exec`, `docker stop`."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from support import bed
from support.containerd import RUNTIME, Containerd

pytestmark = [pytest.mark.root, pytest.mark.docker]

Docker: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


def _configuration(daemon: Containerd, disk: Path) -> dict[str, object]:
    text = (bed.CHECKOUT / "deploy" / "docker" / "daemon.json").read_text()
    (daemon.folder / "gvisor.toml").write_text((bed.CHECKOUT / "deploy/ocishim/gvisor.toml").read_text())
    own = {
        "containerd": str(daemon.socket),
        "hosts": [f"unix://{daemon.folder}/docker.sock"],
        "data-root": str(disk / "docker"),
        "exec-root": str(daemon.folder / "docker"),
        "pidfile": str(daemon.folder / "docker.pid"),
        "storage-driver": "vfs",
        "cgroup-parent": f"/{daemon.namespace}",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
    }
    return {**json.loads(text.replace("/etc/ocishim", str(daemon.folder))), **own}


def _image() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(bed.rootfs(), arcname=".")
    return out.getvalue()


@pytest.fixture
def docker(own_daemon: Containerd, tmp_path: Path) -> Iterator[Docker]:
    """The ``docker`` of a dockerd that has the image ``busybox``."""
    config = own_daemon.folder / "daemon.json"
    config.write_text(json.dumps(_configuration(own_daemon, tmp_path)))
    log = tmp_path / "dockerd.log"

    def docker(*args: str, image: bytes | None = None) -> subprocess.CompletedProcess[str]:
        command = ["docker", "--host", f"unix://{own_daemon.folder}/docker.sock", *args]
        done = subprocess.run(command, input=image, capture_output=True, timeout=60, check=False)
        return subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    with (
        log.open("wb") as out,
        subprocess.Popen(["dockerd", "--config-file", config], stdout=out, stderr=out) as dockerd,
    ):
        try:
            bed.until(lambda: docker("version").returncode == 0, "dockerd does not answer")
            assert docker("import", "-", "busybox", image=_image()).returncode == 0
            yield docker
        except BaseException:
            print(log.read_text()[-3000:])  # noqa: T201 - pytest shows it when the test has failed
            raise
        finally:
            dockerd.send_signal(signal.SIGTERM)


def test_docker_runs_containers(docker: Docker) -> None:
    runtimes = json.loads(docker("info", "--format", "{{json .Runtimes}}").stdout)
    assert {"ocishim", "ocishim-gvisor"} <= runtimes.keys()

    offline = ("--network", "none")
    script = "echo out; echo err >&2; exit 7"
    done = docker("run", "--rm", *offline, "--runtime", RUNTIME, "busybox", "sh", "-c", script)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)

    script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"
    started = docker(
        "run", "-d", "--name", "named", *offline, "--runtime", "ocishim", "busybox", "sh", "-c", script
    )
    assert started.returncode == 0, started.stderr
    bed.until(lambda: docker("logs", "named").stdout == "up\n", "it does not come up")
    done = docker("exec", "named", "sh", "-c", "cat /proc/1/comm; exit 4")
    assert (done.stdout, done.returncode) == ("sh\n", 4)
    done = docker("exec", "named", "nosuch")
    assert done.returncode == 127
    assert (done.stdout + done.stderr).rstrip().endswith('"nosuch": executable file not found in $PATH')
    assert docker("stop", "named").returncode == 0
    assert docker("inspect", "--format", "{{.State.ExitCode}}", "named").stdout == "5\n"
    assert docker("rm", "named").returncode == 0
