"""Containers whose shim was killed: they are said to be so, and can be cleared away from disk alone."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from shim.containers import removal, task_client
from shim.containers.containers import Containers
from shim.containers.shim_process import ShimProcess

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


def _kill_shim(ocishim, container_id):
    pid = json.loads(ocishim("state", "--json", container_id).out)["shim_pid"]
    ShimProcess.of(pid).kill()


def test_one_that_may_still_run(ocishim, bundle):
    assert ocishim("run", "-d", bundle(["sleep", "1000"]), "c1").code == 0
    _kill_shim(ocishim, "c1")
    listed = ocishim("list")
    assert "unknown" in listed.out
    assert "its shim is gone" in listed.err
    assert "its shim is gone" in ocishim("state", "c1").out
    for words in (("kill", "c1"), ("wait", "c1"), ("stats", "c1"), ("ps", "c1"), ("logs", "-f", "c1")):
        result = ocishim(*words)
        assert result.code == (0 if words[0] == "logs" else 1)
        assert "Traceback" not in result.err
    refused = ocishim("delete", "c1")
    assert refused.code == 1
    assert "delete --force c1" in refused.err
    assert ocishim("delete", "--force", "c1") == (0, "", "")
    assert ocishim("list", "-q").out == ""


def test_one_that_has_ended(ocishim, bundle):
    assert ocishim("run", bundle(["sh", "-c", "exit 9"]), "c1").code == 9
    _kill_shim(ocishim, "c1")
    assert "stopped (9)" in ocishim("list").out
    assert ocishim("wait", "c1").out == "9\n"
    assert json.loads(ocishim("wait", "--json", "c1").out)["exit_status"] == 9
    assert ocishim("delete", "c1") == (0, "", "")


def test_one_that_is_removed_by_a_thread(ocishim, bundle):
    """As a daemon does it, whose main thread has other things to do."""
    for name, force in (("c1", False), ("c2", True)):
        assert ocishim("run", "-d", bundle(["sleep", "1000"]), name).code == 0
        if not force:
            assert ocishim("stop", name).code == 0
        _kill_shim(ocishim, name)
        container = Containers(str(ocishim.state_root)).get(name)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(removal.remove, container, force=force).result()
        assert not container.directory.exists()


def test_one_that_hangs(ocishim, bundle, monkeypatch):
    """It is given its time, then it is killed, and the container with it."""
    assert ocishim("run", "-d", bundle(["sleep", "1000"]), "c1").code == 0
    pid = json.loads(ocishim("state", "--json", "c1").out)["shim_pid"]
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(task_client, "_QUICK_S", 0.3)
    listed = ocishim("list")
    assert "unknown" in listed.out
    assert "its shim does not answer" in listed.err
    refused = ocishim("delete", "--force", "c1")
    assert refused == (0, "", "")
    assert ocishim("list", "-q").out == ""


def test_what_was_cut_short_while_it_was_made(ocishim):
    (ocishim.state_root / "containers" / "c1").mkdir(parents=True)
    assert "creating" in ocishim("list").out
    assert ocishim("delete", "c1").code == 1
    assert ocishim("delete", "--force", "c1") == (0, "", "")
    assert ocishim("list", "-q").out == ""
