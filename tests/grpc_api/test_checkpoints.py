"""Checkpoints through the first API: with criu under runc, gVisor's own under runsc."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import bed
from support.client_streams import until
from support.first_api import Server, lend
from support.gate import Gate

pytestmark = pytest.mark.root
criu = pytest.mark.criu

# It writes on, and so would tell of any number that is missing or comes twice.
COUNT = "i=0; while :; do echo count $i; i=$((i+1)); sleep 0.02; done"
# A connection within the container: every number goes over it.
COUNT_OVER_TCP = """
mkfifo /tmp/f; exec 8<>/tmp/f
nc -l -p 7 <&8 & until netstat -ltn | grep -q :7; do :; done
i=0; while :; do echo count $i; i=$((i+1)); sleep 0.02; done | nc 127.0.0.1 7
"""

RUNTIMES = [pytest.param("runc", marks=criu), *(["runsc"] if bed.has_steady_runsc() else [])]


@pytest.fixture(params=RUNTIMES)
def server(request, api_of):
    bed.need_runtime(request.param)
    yield from lend(api_of.get(runtime=request.param))


@pytest.fixture
def runc(api_of):
    """The API with runc, also where there is no criu."""
    bed.need_runtime("runc")
    yield from lend(api_of.get())


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out"
    path.touch()
    return path


def numbers(path: Path) -> list[int]:
    """What was counted, of whole lines."""
    lines = path.read_text().split("\n")[:-1]
    return [int(line.split()[1]) for line in lines if line.startswith("count ")]


def counts(path: Path, more: int) -> None:
    """It counts on by so many."""
    goal = len(numbers(path)) + more
    until(lambda: len(numbers(path)) >= goal, f"it does not count: {path.read_text()[-200:]!r}")


def names(server: Server, container_id: str) -> list[str]:
    return [c["name"] for c in server.call("ListCheckpoint", id=container_id).get("checkpoints", [])]


def checkpoint(server: Server, container_id: str, name: str, **flags: bool) -> None:
    server.call("CreateCheckpoint", id=container_id, checkpoint={"name": name, **flags})


def test_a_counter_counts_on_in_a_new_container(server, bundle, out):
    folder = bundle(["sh", "-c", COUNT])
    server.create("c1", folder, stdout=str(out))
    counts(out, 5)
    checkpoint(server, "c1", "first", exit=True)
    # With the answer it has ended, and its id is free.
    assert server.states() == {}
    assert server.call("ListCheckpoint", id="c1") == {"checkpoints": [{"name": "first", "exit": True}]}
    before = numbers(out)
    pid = server.create("c1", folder, stdout=str(out), checkpoint="first")
    assert server.states()["c1"]["processes"][0]["pid"] == pid
    counts(out, 20)
    assert numbers(out) == list(range(len(numbers(out))))
    assert len(numbers(out)) >= len(before) + 20
    server.kill("c1")
    assert names(server, "c1") == ["first"]
    assert server.call("DeleteCheckpoint", id="c1", name="first") == {}
    server.refuses("NOT_FOUND", "container c1 does not exist", "ListCheckpoint", id="c1")
    assert list(server.data_root.glob("checkpoints/*")) == []


@criu
def test_an_open_connection_comes_back(runc, bundle, out):
    folder = bundle(["sh", "-c", COUNT_OVER_TCP])
    runc.create("c1", folder, stdout=str(out))
    counts(out, 5)
    runc.refuses("UNKNOWN", "criu failed", "CreateCheckpoint", id="c1", checkpoint={"name": "first"})
    assert runc.states()["c1"]["status"] == "running"
    assert names(runc, "c1") == []
    checkpoint(runc, "c1", "first", exit=True, tcp=True, unixSockets=True)
    (told,) = runc.call("ListCheckpoint", id="c1")["checkpoints"]
    assert told == {"name": "first", "exit": True, "tcp": True, "unixSockets": True}
    runc.create("c1", folder, stdout=str(out), checkpoint="first")
    counts(out, 20)
    assert numbers(out) == list(range(len(numbers(out))))


@criu
def test_a_container_runs_on_and_has_several(runc, bundle, out):
    folder = bundle(["sh", "-c", COUNT])
    pid = runc.create("c1", folder, stdout=str(out))
    for name in ("b", "a"):
        counts(out, 3)
        checkpoint(runc, "c1", name)
    assert names(runc, "c1") == ["a", "b"]
    counts(out, 3)
    assert runc.states()["c1"]["processes"][0]["pid"] == pid
    runc.refuses(
        "ALREADY_EXISTS", "has a checkpoint a already", "CreateCheckpoint", id="c1", checkpoint={"name": "a"}
    )
    runc.kill("c1")
    for name in ("a", "b", "a"):
        runc.create("c1", folder, checkpoint=name)
        runc.kill("c1")


@criu
def test_a_container_with_a_terminal(runc, bundle, tmp_path):
    folder = bundle(["sh", "-c", COUNT], terminal=True)
    out = tmp_path / "out"
    out.touch()
    runc.create("c1", folder, stdout=str(out))
    counts(out, 3)
    checkpoint(runc, "c1", "first", exit=True, shell=True)
    runc.create("c1", folder, stdout=str(out), checkpoint="first")
    counts(out, 10)
    assert numbers(out) == list(range(len(numbers(out))))


@criu
def test_what_cannot_be_restored_leaves_nothing(runc, bundle):
    folder = bundle(["sleep", "1000"])
    runc.create("c1", folder)
    checkpoint(runc, "c1", "first", exit=True)
    (runc.data_root / "checkpoints/c1/first/inventory.img").unlink()
    runc.refuses(
        "UNKNOWN", "restore failed", "CreateContainer", id="c1", bundlePath=str(folder), checkpoint="first"
    )
    assert runc.containers.ids() == []
    runc.call("DeleteCheckpoint", id="c1", name="first")


def test_only_what_runs_is_written(runc, bundle):
    command = [sys.executable, "-m", "shim", "--config", str(runc.config), "create"]
    subprocess.run([*command, str(bundle(["true"])), "c1"], check=True, stdout=subprocess.DEVNULL)
    why = "cannot checkpoint .*c1.* created"
    runc.refuses("FAILED_PRECONDITION", why, "CreateCheckpoint", id="c1", checkpoint={"name": "x"})
    assert runc.call("ListCheckpoint", id="c1") == {}
    assert list(runc.data_root.glob("checkpoints/*")) == []


def held_up(server: Server, gate: Gate, container_id: str, **flags: bool) -> int:
    """A call that waits for a checkpoint "x", which is not written before the gate is open."""
    gate.close("checkpoint")
    call = server.begin("CreateCheckpoint", id=container_id, checkpoint={"name": "x", **flags})
    gate.wait("checkpoint")
    return call


@criu
def test_a_checkpoint_that_nobody_waits_for_is_thrown_away(gated, gate, bundle):
    pid = gated.create("c1", bundle(["sleep", "1000"]))
    call = held_up(gated, gate, "c1")
    refused = "checkpoint x of container c1 is being written"
    gated.refuses("ALREADY_EXISTS", refused, "CreateCheckpoint", id="c1", checkpoint={"name": "x"})
    gated.refuses("FAILED_PRECONDITION", refused, "DeleteCheckpoint", id="c1", name="x")
    gated.rpc.cancel(call)
    gate.open()
    until(lambda: not list(gated.data_root.glob("checkpoints/*")), "it is still there")
    assert gated.states()["c1"]["processes"][0]["pid"] == pid
    checkpoint(gated, "c1", "x")


@criu
def test_a_checkpoint_that_is_all_that_is_left_stays(gated, gate, bundle, out):
    folder = bundle(["sh", "-c", COUNT])
    gated.create("c1", folder, stdout=str(out))
    counts(out, 3)
    gated.rpc.cancel(held_up(gated, gate, "c1", exit=True))
    gate.open()
    gated.gone("c1")
    assert names(gated, "c1") == ["x"]
    gated.create("c1", folder, stdout=str(out), checkpoint="x")
    counts(out, 10)
    assert numbers(out) == list(range(len(numbers(out))))


@criu
def test_what_a_killed_server_did_not_finish_the_next_one_does(gated, gate, bundle, out):
    folder = bundle(["sh", "-c", COUNT])
    gated.create("c1", folder, stdout=str(out))
    counts(out, 3)
    held_up(gated, gate, "c1", exit=True)
    gated.end(signal.SIGKILL)
    gated.start()
    gated.refuses("ALREADY_EXISTS", "being finished", "CreateCheckpoint", id="c1", checkpoint={"name": "x"})
    gate.open()
    gated.gone("c1")
    until(lambda: names(gated, "c1") == ["x"], "it is not finished")
    gated.create("c1", folder, stdout=str(out), checkpoint="x")
    counts(out, 10)
    assert numbers(out) == list(range(len(numbers(out))))


def test_what_a_killed_server_had_only_begun_is_thrown_away(runc):
    making = runc.data_root / "checkpoints/c9/.making-0/x"
    making.mkdir(parents=True)
    grave = runc.data_root / "checkpoints/c9/.deleted-0"
    grave.mkdir()
    runc.end(signal.SIGKILL)
    runc.start()
    until(lambda: not making.parent.exists() and not grave.exists(), "it is still there")
