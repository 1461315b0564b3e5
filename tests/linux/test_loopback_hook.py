from __future__ import annotations

import json
import subprocess

import pytest

from shim.linux.loopback_hook import hook

pytestmark = pytest.mark.root


def run(pid: int) -> subprocess.CompletedProcess[str]:
    state = json.dumps({"ociVersion": "1.0.0", "id": "c", "status": "creating", "pid": pid})
    return subprocess.run(
        hook()["args"], input=state, env={}, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_loopback_of_a_new_network_namespace_is_up(leaks):
    look = "read x; cat /sys/class/net/lo/operstate; exec ip -br address show lo"
    command = ["unshare", "--net", "--mount", "sh", "-c", f"mount -t sysfs sys /sys; {look}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        # It has its namespace before it reads, and the pid of unshare is its own.
        while subprocess.run(
            ["cmp", "-s", f"/proc/{child.pid}/comm", "-"], input="sh\n", text=True, check=False
        ).returncode:
            assert child.poll() is None
        assert run(child.pid).returncode == 0
        out, _ = child.communicate("\n", timeout=30)
    assert "127.0.0.1/8" in out


def test_without_a_container_it_fails_and_says_why():
    failed = run(2**22 + 1)
    assert failed.returncode != 0
    assert "No such file or directory" in failed.stderr
