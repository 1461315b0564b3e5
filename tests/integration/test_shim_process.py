"""How a shim process begins and ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support import bed
from support.client_streams import until
from support.shims import Container, ShimProcess, raises

from shim.bootstrap.start import start_shim
from shim.errors import AlreadyExists, InvalidArgument, ShimError, Unavailable
from shim.transport.client import Client

pytestmark = pytest.mark.root


def path_of(process: ShimProcess) -> Path:
    return Path(process.address.removeprefix("unix://"))


def test_shutdown_ends_a_shim_without_containers(start):
    start().shutdown()


def test_shutdown_waits_for_the_last_container(start, lend):
    process = start()
    shim = lend(process)
    containers = [shim.container(), shim.container()]
    shim.call("Shutdown", id="shim0", now=True)
    for container in containers:
        assert not process.ended(0)
        assert container.state() == "CREATED"
        container.delete()
    assert process.ended()
    assert process.status == 0
    assert not path_of(process).exists()


def test_shutdown_answers_before_the_end(start):
    """Who has asked for it can tell that answer from the end of the connection, and others cannot put it off."""
    process = start()
    with process.connect() as idle:
        idle.call("Connect", id="x")
        with process.connect() as connection:
            connection.call("Shutdown", id="x")
            with pytest.raises(Unavailable, match="the server is ending"):
                connection.call("Connect", id="x")
        assert process.ended()


def test_a_failed_create_ends_a_shim_that_was_asked_to_end(start, lend):
    process = start()
    shim = lend(process)
    creating = shim.begin("Create", id="c", bundle="/nowhere")
    with shim.process.connect() as other:
        other.call("Shutdown", id="x")
    with pytest.raises(ShimError):
        creating.result()
    assert process.ended()


def test_a_shim_that_nobody_uses_ends(start):
    process = start(idle_timeout=0.2)
    assert process.ended()
    assert process.status == 0
    assert not path_of(process).exists()


def test_a_shim_whose_last_client_leaves_ends(start, lend):
    process = start(idle_timeout=0.2)
    connection = lend(process)
    container = connection.running(["true"])
    assert container.wait() == 0
    assert not process.ended(0.6)
    container.delete()
    assert not process.ended(0.6)
    connection.client.close()
    assert process.ended()


def test_a_shim_with_a_container_stays_without_clients(start, lend):
    process = start(idle_timeout=0.2)
    first = lend(process)
    container = first.running(["true"], id="c")
    assert container.wait() == 0
    first.client.close()
    assert not process.ended(0.6)
    second = lend(process)
    assert Container(second, "c", container.bundle, container.pid).delete().exit_status == 0
    second.client.close()
    assert process.ended()


@pytest.mark.parametrize("started", [True, False])
def test_a_shim_whose_containers_are_cleared_away_without_it_ends(start, lend, started):
    """As containerd does it when it takes the shim for dead: by delete, from disk, and then the bundle goes."""
    process = start(idle_timeout=0.2)
    shim = lend(process)
    container = shim.container()
    if started:
        container.start()
    shim.client.close()
    assert not process.ended(0.6)
    program = "import sys; from shim.bootstrap.delete import delete_from_disk; delete_from_disk(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, container.bundle], check=True, cwd=bed.CHECKOUT)
    shutil.rmtree(container.bundle)
    assert process.ended()
    assert process.status == 0
    assert f"container {container.id} does not run and its bundle is gone" in process.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_shim_without_containers(start, number):
    process = start()
    with process.connect() as connection:
        connection.call("Connect", id="x")
    process.signal(number)
    assert process.ended()
    assert process.status == 0
    assert not path_of(process).exists()


def test_signals_do_not_end_a_shim_with_containers(start, lend):
    process = start()
    shim = lend(process)
    container = shim.running()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.signal(number)
    until(lambda: process.log.read_text().count("ignored") == 2, "the notes in the log")
    assert container.state() == "RUNNING"
    assert container.end() == 137
    process.signal(signal.SIGTERM)
    assert process.ended()


def test_sigusr1_shows_where_it_is(start):
    process = start()
    with process.connect() as connection:
        connection.call("Connect", id="x")
        process.signal(signal.SIGUSR1)
        until(lambda: "most recent call first" in process.log.read_text(), "the stack")
        connection.call("Connect", id="x")
    process.shutdown()


def test_a_second_shim_of_one_id_is_refused(start, state_root):
    process = start()
    with raises(AlreadyExists, "a shim listens on", str(path_of(process))):
        start_shim(state_root=str(state_root), namespace="tests", id="shim0", bundle=str(process.bundle))
    with process.connect() as connection:
        assert connection.call("Connect", id="x").shim_pid == process.pid
    process.shutdown()


def test_a_stale_socket_is_replaced(start, state_root):
    process = start()
    process.kill()
    assert path_of(process).exists()
    with raises(Unavailable):
        Client.connect(process.address)
    again = ShimProcess(state_root, name="shim0")
    assert again.address == process.address
    again.shutdown()


def test_a_state_root_that_is_too_long(tmp_path):
    with raises(InvalidArgument, "too long"):
        start_shim(state_root="/run/" + "x" * 100, namespace="tests", id="c", bundle=str(tmp_path))


def test_a_bundle_that_cannot_hold_the_log(state_root):
    with pytest.raises(ShimError, match="shim of container c cannot be started"):
        start_shim(state_root=str(state_root), namespace="tests", id="c", bundle="/nowhere")
    assert list((state_root / "s").iterdir()) == []


def test_a_configuration_that_is_not_valid(start):
    """The shim cannot even begin; its socket does not stay, and its log says why."""
    process = start(no_such_key=1)
    assert process.ended()
    assert process.status != 0
    assert "no_such_key" in process.log.read_text()
    assert not path_of(process).exists()


def test_it_answers_its_own_user_only(start):
    process = start()
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path_of(process)))
    finally:
        os.seteuid(0)
    process.shutdown()
