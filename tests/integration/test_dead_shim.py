"""A shim is killed under its container, and the container is cleared away from disk alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import bed
from support.client_streams import until
from support.mounts import mount_points
from support.shims import options

from shim.store import records

pytestmark = pytest.mark.root

# In a process of its own, as containerd and the command line do it: it becomes a subreaper.
PROGRAM = """
import dataclasses, json, sys
from shim.bootstrap.delete import delete_from_disk
from shim.errors import ShimError
try:
    print(json.dumps([dataclasses.asdict(delete_from_disk(bundle)) for bundle in sys.argv[1:]]))
except ShimError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def delete(*bundles: Path, expect: int = 0) -> Any:
    """What is told of the end of each, or the error."""
    argv = [sys.executable, "-c", PROGRAM, *map(str, bundles)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=bed.CHECKOUT, check=False)
    assert done.returncode == expect, done.stderr
    return done.stderr if expect else json.loads(done.stdout)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and after
        return False


def test_containers_in_every_state(shim, runtime):
    created, paused = shim.container(runtime=runtime), shim.running(runtime=runtime)
    paused.call("Pause")
    stopped = shim.running(["sh", "-c", "exit 7"], runtime=runtime)
    assert stopped.wait() == 7
    told = stopped.call("Wait").exited_at.ToNanoseconds()
    running = shim.running(["sh", "-c", "sleep 1000 & sleep 1000 & wait"], runtime=runtime)
    running.exec("e", ["sleep", "1000"])
    containers = [created, paused, stopped, running]
    pids = [pid for container in (created, paused, running) for pid in container.pids()]

    shim.process.kill()
    assert all(map(is_alive, pids))
    bundles = [container.bundle for container in containers]
    *ends, stopped_again, running_again = delete(*bundles, stopped.bundle, running.bundle)
    until(lambda: not any(map(is_alive, pids)), "the end of all")
    assert [end["exit"]["status"] for end in ends] == [137, 137, 7, 137]
    assert [end["pid"] for end in ends] == [container.pid for container in containers]
    assert (stopped_again, running_again["exit"]["status"]) == (ends[2], 137)
    assert not any(end["oom_killed"] for end in ends)
    assert ends[2]["exit"]["exited_at_ns"] == told


def test_what_the_kernel_does_not_end_with_the_init(shim):
    """Processes in the host's pid namespace, and mounts, one of them busy."""
    made = shim.make_bundle(["true"])
    config = json.loads((made / "config.json").read_text())
    source = config["root"]["path"]
    shared = {"linux": {"namespaces": [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]}}
    containers = []
    for runtime in ("runc", "crun"):
        streams = shim.streams()
        bundle = shim.make_bundle(
            ["sh", "-c", "sleep 1000 & echo up; wait"], root={"path": "rootfs"}, **shared
        )
        rootfs = [
            {"type": "bind", "source": source, "options": ["rbind"]},
            {"type": "tmpfs", "source": "tmpfs", "target": "/root"},
        ]
        containers.append(shim.running(bundle, runtime=runtime, streams=streams, rootfs=rootfs))
        streams.read_until(b"up")
    pids = [pid for container in containers for pid in container.pids()]
    assert len(pids) == 4
    mounts = {f"{c.bundle}/rootfs{below}" for c in containers for below in ("", "/root")}
    assert mounts <= set(mount_points().values())

    shim.process.kill()
    with open(containers[0].bundle / "rootfs" / "bin" / "busybox", "rb"):
        delete(*(container.bundle for container in containers))
        assert not mounts & set(mount_points().values())
    until(lambda: not any(map(is_alive, pids)), "the end of all")


def test_a_bundle_that_never_had_a_container(tmp_path):
    assert delete(tmp_path)[0]["exit"]["status"] == 137
    assert os.listdir(tmp_path) == []


def test_records_that_are_broken(tmp_path):
    (tmp_path / "container.json").write_text("{")
    assert "container.json" in delete(tmp_path, expect=1)
    (tmp_path / "container.json").unlink()
    (tmp_path / "exit.json").write_text("{")
    assert delete(tmp_path)[0]["exit"]["status"] == 137


def test_a_runtime_that_is_gone(shim, tmp_path):
    """What needs no runtime is done; a second time, with the runtime, all of it."""
    runtime = tmp_path / "runc-own"
    runtime.symlink_to(bed.need_runtime("runc"))
    container = shim.running(runtime=str(runtime))
    shim.process.kill()
    away = runtime.rename(tmp_path / "away")
    assert "runc-own" in delete(container.bundle, expect=1)
    assert records.load(container.bundle / "container.json")["id"] == container.id
    away.rename(runtime)
    delete(container.bundle)
    until(lambda: not is_alive(container.pid), "its end")


def test_a_shim_that_dies_while_it_creates(shim, tmp_path):
    """The record is there before the runtime is called."""
    runtime = tmp_path / "runc-slow"
    runtime.write_text(
        f"""#!/bin/sh
        case " $* " in *" create "*) {bed.need_runtime("runc")} "$@"; touch {tmp_path}/made; exec sleep 1000; esac
        exec {bed.need_runtime("runc")} "$@"
        """
    )
    runtime.chmod(0o755)
    bundle = shim.make_bundle(["sleep", "1000"])
    shim.begin("Create", id="c", bundle=str(bundle), options=options(runtime=str(runtime)))
    until((tmp_path / "made").exists, "the container")
    shim.process.kill()
    pid = int((bundle / "init.pid").read_text())
    delete(bundle)
    until(lambda: not is_alive(pid), "its end")
