"""Further processes in a container."""

from __future__ import annotations

import signal

import pytest
from support import bed
from support.client_streams import until
from support.shims import raises

from shim.errors import FailedPrecondition, NotFound, ShimError

pytestmark = pytest.mark.root


def test_an_exec_runs_beside_the_init(shim, runtime):
    container = shim.running(runtime=runtime)
    streams = shim.streams(stdin=True, stderr=True)
    container.add_exec("e", ["sh", "-c", "cat; echo $V >&2; exit 5"], streams, env=["PATH=/bin", "V=value"])
    waiting = container.begin("Wait", exec_id="e")
    pid = container.start("e")
    assert pid not in {0, container.pid}
    streams.write(b"to the exec")
    streams.close_stdin()
    container.call("CloseIO", exec_id="e", stdin=True)
    assert waiting.result().exit_status == 5
    deleted = container.delete("e")
    assert (deleted.pid, deleted.exit_status) == (pid, 5)
    assert streams.read() == b"to the exec"
    assert streams.read("stderr") == b"value\n"
    assert container.state() == "RUNNING"
    container.end()


def test_an_exec_in_a_created_container(shim, runtime):
    """runsc has no processes before the start; the error has to say so, and nothing may hang."""
    container = shim.container(runtime=runtime)
    streams = shim.streams()
    container.add_exec("e", ["echo", "early"], streams)
    if runtime == "runsc":
        with pytest.raises(ShimError):
            container.start("e")
        assert container.wait("e") == 255
    else:
        container.start("e")
        assert container.wait("e") == 0
    container.delete("e")
    assert streams.read() == (b"" if runtime == "runsc" else b"early\n")
    container.start()
    assert container.end() == 137


def test_signals_reach_the_exec_alone(shim, runtime):
    container = shim.running(runtime=runtime)
    streams = shim.streams()
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done"
    container.exec("e", ["sh", "-c", script], streams)
    streams.read_until(b"up")
    container.kill(signal.SIGTERM, "e")
    assert container.wait("e") == 9
    container.delete("e")
    container.exec("f", ["sleep", "1000"])
    container.kill(signal.SIGKILL, "f")
    assert container.wait("f") == 137
    assert container.state() == "RUNNING"
    container.end()


def test_a_background_child_holds_nobody_up(shim, runtime):
    """The exit is told at once, Delete waits for the drain bound, and what was written is delivered."""
    container = shim.running(runtime=runtime, drain_timeout=0.3)
    streams = shim.streams()
    container.exec("e", ["sh", "-c", "sleep 1000 & echo hi"], streams)
    assert container.wait("e") == 0
    assert container.state("e") == "STOPPED"
    container.delete("e")
    assert streams.read() == b"hi\n"
    assert container.state() == "RUNNING"
    container.end()


def test_a_background_child_of_the_init_holds_nobody_up(shim):
    """In a pid namespace it dies with the init; the stream ends by itself then."""
    streams = shim.streams()
    container = shim.running(["sh", "-c", "sleep 1000 & echo hi"], streams=streams, drain_timeout=20.0)
    assert container.wait() == 0
    container.delete()
    assert streams.read() == b"hi\n"


def test_seventy_at_once(shim):
    container = shim.running()
    names = [f"e{i}" for i in range(70)]
    outputs = {name: shim.streams() for name in names}
    for name in names:
        container.add_exec(name, ["echo", name], outputs[name])
    waits = {name: container.begin("Wait", exec_id=name) for name in names}
    for call in [container.begin("Start", exec_id=name) for name in names]:
        assert call.result().pid
    assert {name: call.result().exit_status for name, call in waits.items()} == dict.fromkeys(names, 0)
    assert container.state() == "RUNNING"
    for call in [container.begin("Delete", exec_id=name) for name in names]:
        call.result()
    for name in names:
        assert outputs[name].read() == name.encode() + b"\n"
    about = container.inspect()
    assert about["execs"] == []
    assert shim.inspect()["children"] == 1
    container.end()


def test_start_after_the_end_of_the_init(shim):
    container = shim.container(["true"])
    container.add_exec("e", ["true"])
    container.start()
    container.wait()
    with raises(FailedPrecondition, container.id, "init process is not running"):
        container.start("e")
    waiting = container.begin("Wait", exec_id="e", timeout=20)
    container.delete()
    with raises(NotFound, "e"):
        waiting.result()


@pytest.mark.parametrize("args", [["nothing-here"], ["/etc"]])
def test_what_cannot_be_started_stays_created_and_whoever_waits_is_told_255(shim, runtime, args):
    container = shim.running(runtime=runtime)
    streams = shim.streams(stdin=True, stderr=True)
    container.add_exec("e", args, streams)
    waiting = container.begin("Wait", exec_id="e", timeout=20)
    with pytest.raises(ShimError) as caught:
        container.start("e")
    assert "OCI runtime exec failed" in str(caught.value)
    assert "\n" not in str(caught.value)
    # crun 1.8 says "open executable: Operation not permitted" of a directory.
    assert args[0] in str(caught.value) or (runtime == "crun" and args == ["/etc"])
    assert waiting.result().exit_status == 255
    assert container.state("e") == "CREATED"
    with raises(FailedPrecondition, "cannot start", "it has failed to start"):
        container.start("e")
    with raises(FailedPrecondition, "process not created"):
        container.kill(9, "e")
    container.call("ResizePty", exec_id="e", width=80, height=24)
    container.call("CloseIO", exec_id="e", stdin=True)
    assert container.delete("e").exit_status == 255
    # What the runtime said on the process's stderr is not the process's.
    assert streams.read() == streams.read("stderr") == b""
    assert container.state() == "RUNNING"
    container.end()


def test_execs_end_with_the_init(shim, runtime):
    container = shim.running(runtime=runtime)
    container.exec("e", ["sleep", "1000"])
    waiting = container.begin("Wait", exec_id="e")
    container.kill()
    assert container.wait() == 137
    assert waiting.done or waiting.result()
    assert waiting.result().exit_status == 137
    assert container.delete("e").exit_status == 137
    container.delete()


def test_the_output_of_an_exec_survives_the_container(shim, lender):
    """It has ended, its client reads late, and the container is deleted first."""
    container = shim.running(drain_timeout=20.0)
    streams = shim.streams()
    container.exec("e", ["sh", "-c", "yes | head -c 100000"], streams)
    assert container.wait("e") == 0
    container.kill()
    container.wait()
    deleting = container.begin("Delete")
    until(lambda: not (lender.root / "runtime" / "runc" / "tests" / container.id).exists(), "the deletion")
    until(lambda: shim.inspect()["children"] == 0, "the end of the runtime")
    assert len(streams.read()) == 100_000
    deleting.result()


def test_many_in_a_row_leave_nothing(shim):
    container = shim.running()
    before = shim.inspect()
    streams = shim.streams(stderr=True)
    for number in range(bed.scaled(30)):
        container.exec(f"e{number}", ["sh", "-c", f"echo x; exit {number % 256}"], streams)
        assert container.wait(f"e{number}") == number % 256
        container.delete(f"e{number}")
        assert streams.seen() == b"x\n" * (number + 1)
    after = shim.inspect()
    assert (after["fds"], after["children"]) == (before["fds"], before["children"])
    assert after["rss_bytes"] - before["rss_bytes"] < 2 << 20
    assert sorted(p.name for p in container.bundle.iterdir()) == ["config.json", "container.json", "init.pid"]


def test_an_id_as_long_as_they_get(shim):
    container = shim.running()
    name = "e" * 255
    container.exec(name, ["true"])
    assert container.wait(name) == 0
    container.delete(name)
    container.end()


def test_an_exec_that_is_called_as_the_init_is(shim):
    """The pid files must not collide."""
    container = shim.running()
    container.exec("init", ["true"])
    assert container.wait("init") == 0
    container.delete("init")
    assert container.end() == 137
