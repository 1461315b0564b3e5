"""Calls that are given up, and servers that are killed: containers are unharmed, and nothing is half there."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support import bed
from support.client_streams import until
from support.first_api import Refused, Server
from support.gate import Gate

from shim.containers.shim_process import ShimProcess

pytestmark = pytest.mark.root


def give_up(server: Server, gate: Gate, command: str, how: str, method: str, **request: object) -> None:
    """The call is cancelled, or reaches its deadline, while the runtime is held up at ``command``."""
    gate.close(command)
    if how == "deadline":
        with pytest.raises(Refused, match="DEADLINE_EXCEEDED"):
            server.call(method, 1.0, **request)
    else:
        number = server.begin(method, **request)
        gate.wait(command)
        server.rpc.cancel(number)


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
@pytest.mark.parametrize("command", ["create", "start"])
def test_of_a_container_that_nobody_waits_for_nothing_is_left(gated, gate, bundle, command, how):
    folder = str(bundle(["sleep", "1000"]))
    give_up(gated, gate, command, how, "CreateContainer", id="c1", bundlePath=folder)
    until(lambda: gated.containers.ids() == [], "c1 is still there")
    gate.open()
    gated.create("c1", Path(folder))


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_of_a_process_that_nobody_waits_for_nothing_is_left(gated, gate, bundle, how):
    pid = gated.create("c1", bundle(["sleep", "1000"]))
    give_up(gated, gate, "exec", how, "AddProcess", id="c1", args=["sleep", "1000"])
    gate.open()
    until(lambda: execs(gated, "c1") == [], "the exec is still there")
    assert [process["pid"] for process in gated.states()["c1"]["processes"]] == [pid]


def execs(server: Server, container_id: str) -> list[object]:
    with server.containers.get(container_id).connect() as task:
        return task.inspect()["execs"]


def test_a_server_that_is_started_again_finds_everything(server, bundle, tmp_path):
    server.create("c1", bundle(["sleep", "1000"]))
    short, long = (
        int(server.call("AddProcess", id="c1", args=["sleep", time])["pid"]) for time in ("1001", "1002")
    )
    before = server.states()
    assert [p["args"][1] for p in before["c1"]["processes"]] == ["1000", "1001", "1002"]
    server.end(signal.SIGKILL)
    server.start()
    assert server.states() == before
    os.kill(short, signal.SIGKILL)
    until(lambda: [e["pid"] for e in execs(server, "c1")] == [long], "the exec that has ended is still there")
    server.end()
    server.start()
    assert len(server.states()["c1"]["processes"]) == 2
    server.kill("c1")
    assert server.containers.ids() == []


def test_what_ends_while_nobody_looks_is_gone_when_somebody_does(server, bundle):
    pid = server.create("c1", bundle(["sleep", "1000"]))
    server.end(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    server.start()
    server.gone("c1")
    assert server.containers.ids() == []


@pytest.mark.parametrize("command", ["create", "start"])
def test_a_server_that_is_killed_in_the_middle_leaves_nothing_half_made(gated, gate, bundle, command):
    folder = bundle(["sleep", "1000"])
    pid = gated.create("c1", folder)
    gate.close(command)
    gated.begin("CreateContainer", 30.0, id="c2", bundlePath=str(folder))
    gate.wait(command)
    gated.end(signal.SIGKILL)
    gate.open()
    gated.start()
    gated.gone("c2")
    assert gated.states()["c1"]["processes"][0]["pid"] == pid
    assert gated.create("c2", folder) > 0


def test_a_server_that_is_killed_while_a_process_is_added_leaves_the_container_alone(gated, gate, bundle):
    pid = gated.create("c1", bundle(["sleep", "1000"]))
    gate.close("exec")
    gated.begin("AddProcess", 30.0, id="c1", args=["sleep", "1001"])
    gate.wait("exec")
    gated.end(signal.SIGKILL)
    gate.open()
    gated.start()
    until(lambda: gated.states()["c1"]["status"] == "running", "c1 does not run")
    assert gated.states()["c1"]["processes"][0]["pid"] == pid
    until(lambda: all(e["status"] != "created" for e in execs(gated, "c1")), "the exec never comes")
    gated.kill("c1")


def test_a_shim_that_is_killed_is_told_as_what_it_is(server, bundle):
    server.create("c1", bundle(["sleep", "1000"]))
    os.kill(server.containers.get("c1").record().shim_pid, signal.SIGKILL)
    until(lambda: server.states()["c1"]["status"] == "unknown", "it is not known")
    server.refuses("UNAVAILABLE", "the shim of container c1 is gone", "UpdateContainer", id="c1", signal=9)


def test_calls_at_once(server, bundle):
    folder = str(bundle(["sleep", "1000"]))
    count = bed.scaled(10)
    calls = [server.begin("CreateContainer", 60.0, id=f"c{n}", bundlePath=folder) for n in range(count)]
    calls += [server.begin("CreateContainer", 60.0, id="same", bundlePath=folder) for n in range(count)]
    refused = []
    for call in calls:
        try:
            server.rpc.result(call)
        except Refused as error:
            refused.append(error.code)
    assert refused == ["ALREADY_EXISTS"] * (count - 1)
    assert sorted(server.states()) == sorted([*(f"c{n}" for n in range(count)), "same"])


def test_a_shim_without_a_template_leaves_no_zombie_whoever_removes_its_container(server, bundle):
    """It is a child of the server then."""
    server.end()
    server.start(OCISHIM_TEMPLATE="off")
    for name, end in (("c1", server.kill), ("c2", lambda _: server.clear())):
        server.create(name, bundle(["sleep", "1000"]))
        shim = ShimProcess.of(server.containers.get(name).record().shim_pid)
        end(name)
        until(lambda shim=shim: ShimProcess.of(shim.pid) != shim, f"the shim of {name} is a zombie")
    server.end()


def test_a_server_that_is_asked_to_end_takes_back_what_it_has_not_finished(gated, gate, bundle):
    pid = gated.create("c1", bundle(["sleep", "1000"]))
    gate.close("create")
    call = gated.begin("CreateContainer", 30.0, id="c2", bundlePath=str(bundle(["sleep", "1000"])))
    gate.wait("create")
    gated.end()
    with pytest.raises(Refused, match=r"CANCELLED|UNAVAILABLE"):
        gated.rpc.result(call)
    assert gated.containers.ids() == ["c1"]
    gate.open()
    gated.start()
    assert gated.states()["c1"]["processes"][0]["pid"] == pid
