"""Sandboxes of real runtimes, from their creation to their end, and what can be done to them meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support import bed
from support.coroutines import until

from shim.errors import (
    AlreadyExists,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ShimError,
    Unavailable,
)
from shim.net import InterfaceConfig, parse_address, parse_route
from shim.sandbox import (
    ContainerConfig,
    DeviceConfig,
    State,
    clear_sandbox,
    create_sandbox,
    fetch_sandbox,
    list_sandboxes,
    sync,
)

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

ON_CGROUP2 = pytest.param("runc", marks=pytest.mark.cgroup2, id="runc-on-cgroup2")
ECHO = "echo ready; while read line; do echo got $line; done; exit 3"


@pytest.mark.parametrize("runtime", ["runc", "crun", "runsc", ON_CGROUP2])
async def test_a_life(config, container, state_root, runtime):
    """Two containers; a second object, as another process would have it; pause; exec on a terminal; stop; delete."""
    wanted = config(
        runtime=runtime, hostname="web", containers=(container("a", ECHO, stdin=True), container("b"))
    )
    root = str(state_root)
    async with await create_sandbox(wanted, state_root=root) as sandbox:
        stream = await sandbox.io_stream("a", "a")
        assert await stream.stdout.readline() == b"ready\n"
        stream.close()
    async with await fetch_sandbox("s1", state_root=root) as sandbox:
        assert sandbox.config == wanted
        status = await sandbox.status()
        assert (status.state, status.runtime, status.note) == (State.RUNNING, runtime, "")
        assert [(each.id, each.state) for each in status.containers] == [("a", "running"), ("b", "running")]
        stream = await sandbox.io_stream("a", "a")
        stream.stdin.write(b"one\n")
        assert await stream.stdout.readline() == b"got one\n"

        shell = await sandbox.enter_container(
            "b", ["sh", "-c", "read x; stty size; hostname; exit 9"], terminal=True
        )
        assert (await sandbox.status_container("b")).execs == (shell.token,)
        await sandbox.winsize_process("b", shell.token, 11, 22)
        terminal = await sandbox.io_stream("b", shell.token)
        terminal.stdin.write(b"go\n")
        assert (await terminal.stdout.read()).split() == [b"go", b"11", b"22", b"web"]
        assert await sandbox.wait_process("b", shell.token) == 9
        terminal.close()
        await sandbox.delete_process("b", shell.token)
        assert (await sandbox.status_container("b")).execs == ()

        await sandbox.pause()
        assert (await sandbox.status()).state == State.PAUSED
        assert (await sandbox.status_container("a")).state == State.PAUSED
        await sandbox.resume()
        stream.stdin.write(b"two\n")
        assert await stream.stdout.readline() == b"got two\n"
        stream.close()
        await sandbox.close_stdin("a", "a")
        assert await sandbox.wait_process("a", "a") == 3
        assert (await sandbox.status_container("a")).exit_status == 3
        await sandbox.delete_container("a")
        await sandbox.stop()
        await sandbox.stop()
        (listed,) = await list_sandboxes(state_root=root)
        assert (listed.id, listed.state, [each.state for each in listed.containers]) == (
            "s1", "stopped", ["stopped"],
        )  # fmt: skip
        await sandbox.delete()
    assert await list_sandboxes(state_root=root) == []
    assert os.listdir(state_root / "sandboxes") == []


@pytest.mark.parametrize("runtime", ["runc", "crun", ON_CGROUP2])
async def test_what_is_plugged_in_while_it_runs(config, container, state_root, tmp_path, runtime):
    (tmp_path / "file").write_text("of the host\n")
    wanted = config(runtime=runtime, containers=(container("a"), container("b")))
    async with await create_sandbox(wanted, state_root=str(state_root)) as sandbox:
        config_ = InterfaceConfig(
            "hot0",
            peer_name="ocishim-hot0",
            mac="02:00:00:00:00:05",
            addresses=(parse_address("10.97.0.2/24"),),
        )
        added = await sandbox.add_interface(config_)
        assert added.mac in {each.mac for each in await sandbox.list_interfaces()}
        routes = await sandbox.update_routes([parse_route("default via 10.97.0.1")])
        assert routes[0] in await sandbox.list_routes()
        assert "default via 10.97.0.1 dev hot0" in map(str, routes)
        for name in ("a", "b"):
            assert b"hot0" in await output(sandbox, name, "ls /sys/class/net")
        await sandbox.add_device("a", DeviceConfig(str(tmp_path), "/dev/shared", read_only=True))
        assert await output(sandbox, "a", "cat /dev/shared/file") == b"of the host\n"
        assert b"No such file" in await output(sandbox, "b", "ls /dev/shared 2>&1")
        assert [device.target for device in await sandbox.list_devices("a")] == ["/dev/shared"]
        assert await sandbox.remove_device("a", "/dev/shared")
        assert not await sandbox.remove_device("a", "/dev/shared")
        assert await sandbox.remove_interface(mac=added.mac)
        assert not await sandbox.remove_interface(mac=added.mac)
        assert b"hot0" not in await output(sandbox, "b", "ls /sys/class/net")


@pytest.mark.guest
async def test_a_hundred_times_leaves_nothing(config, state_root):
    routes = [[parse_route("default via 10.94.0.1")], [parse_route("10.93.0.0/16 dev eth0")]]
    wanted = config(
        interfaces=(
            InterfaceConfig("eth0", peer_name="ocishim-h0", addresses=(parse_address("10.94.0.2/24"),)),
        )
    )
    async with await create_sandbox(wanted, state_root=str(state_root)) as sandbox:
        descriptors = len(os.listdir("/proc/self/fd"))
        for number in range(100):
            await sandbox.update_routes(routes[number % 2])
            added = await sandbox.add_interface(InterfaceConfig("eth1", peer_name="ocishim-h1"))
            await sandbox.remove_interface(mac=added.mac)
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert {each.name for each in await sandbox.list_interfaces()} == {"lo", "eth0"}
        own = [
            str(route)
            for route in await sandbox.list_routes()
            if "10.93" in str(route) or not route.destination.prefixlen
        ]
        assert own == ["10.93.0.0/16 dev eth0"]


async def output(sandbox, container_id, script, **more) -> bytes:
    command = ["sh", "-c", f"read go; {script}"]
    process = await sandbox.enter_container(container_id, command, stdin=True, **more)
    stream = await sandbox.io_stream(container_id, process.token)
    stream.stdin.write(b"\n")
    text = await stream.stdout.read()
    await sandbox.wait_process(container_id, process.token)
    stream.close()
    await sandbox.delete_process(container_id, process.token)
    return text


CREATOR = """
import asyncio, json, sys
from shim.net import InterfaceConfig
from shim.sandbox import SandboxConfig, create_sandbox

async def main():
    async with await create_sandbox(SandboxConfig.from_dict(json.loads(sys.argv[2])), state_root=sys.argv[1]) as sandbox:
        await sandbox.add_interface(InterfaceConfig("late0", peer_name="ocishim-late0"))

asyncio.run(main())
"""


@pytest.mark.parametrize("runtime", [pytest.param("runc", marks=pytest.mark.guest), "crun"])
async def test_whoever_made_it_may_be_gone(config, container, state_root, runtime):
    wanted = config(runtime=runtime, containers=(container("a", ECHO, stdin=True),))
    command = [sys.executable, "-c", CREATOR, str(state_root), json.dumps(wanted.to_dict())]
    await asyncio.to_thread(subprocess.run, command, check=True)
    async with await fetch_sandbox("s1", state_root=str(state_root)) as sandbox:
        assert sandbox.config == wanted
        assert {each.name for each in await sandbox.list_interfaces()} == {"lo", "late0"}
        stream = await sandbox.io_stream("a", "a")
        assert await stream.stdout.readline() == b"ready\n"
        waiting = asyncio.ensure_future(sandbox.wait_process("a", "a"))
        await sandbox.close_stdin("a", "a")
        stream.close()
        assert await waiting == 3


@pytest.mark.guest
async def test_users(config, container, state_root):
    """Of a container, and of what is run in it later; without the rights that only root has."""
    script = "id -u; id -g; grep CapEff /proc/self/status"
    containers = (container("a", user="5:6"), container("b"))
    async with await create_sandbox(config(containers=containers), state_root=str(state_root)) as sandbox:
        assert (await output(sandbox, "a", script)).split() == [b"5", b"6", b"CapEff:", b"0" * 16]
        root = (await output(sandbox, "b", script)).split()
        assert root[:2] == [b"0", b"0"]
        assert int(root[3], 16) != 0
        assert (await output(sandbox, "b", script, user="7")).split() == [b"7", b"0", b"CapEff:", b"0" * 16]
        await sandbox.stop()
        await sandbox.delete()


async def test_its_containers_share_what_a_pod_shares(config, container, state_root):
    wanted = config(
        share_pids=True,
        nameservers=("10.1.2.3",),
        sysctls={"net.ipv4.ip_forward": "1"},
        interfaces=(
            InterfaceConfig("eth0", peer_name="ocishim-eth0", addresses=(parse_address("10.96.0.2/24"),)),
        ),
        routes=(parse_route("default via 10.96.0.1"),),
        containers=(
            container("a", "exec sleep 4242"),
            container("b", "trap '' TERM; while :; do sleep 1; done", resources={"pids": {"limit": 50}}),
        ),
    )
    async with await create_sandbox(wanted, state_root=str(state_root)) as sandbox:
        assert b"sleep 4242" in await output(sandbox, "b", "ps")
        assert await output(sandbox, "a", "cat /etc/resolv.conf") == b"nameserver 10.1.2.3\n"
        assert await output(sandbox, "a", "cat /proc/sys/net/ipv4/ip_forward") == b"1\n"
        assert {interface.name for interface in await sandbox.list_interfaces()} == {"lo", "eth0"}
        assert "default via 10.96.0.1 dev eth0" in map(str, await sandbox.list_routes())
        assert (await sandbox.stats_container("b")).type_url
        await sandbox.update_container("b", {"pids": {"limit": 40}})
        await sandbox.pause_container("b")
        assert (await sandbox.status_container("b")).state == State.PAUSED
        await sandbox.resume_container("b")
        await sandbox.kill_container("a", signal.SIGTERM)
        assert await sandbox.wait_process("a", "a") == 143
        assert await sandbox.stop_container("b", grace_s=0) == 137


@pytest.mark.cgroup2
async def test_limits_are_below_the_parent_and_an_oom_kill_is_told(config, container, state_root):
    hog = container(
        "hog",
        "read go; tail /dev/zero",
        stdin=True,
        resources={"memory": {"limit": 16 << 20}, "cpu": {"quota": 50000}},
    )
    wanted = config(containers=(hog,))
    async with await create_sandbox(wanted, state_root=str(state_root)) as sandbox:
        group = bed.CGROUP / wanted.cgroup_parent.lstrip("/") / "s1" / "hog"
        assert (group / "memory.max").read_text() == f"{16 << 20}\n"
        assert (group / "cpu.max").read_text() == "50000 100000\n"
        await sandbox.update_container("hog", {"memory": {"limit": 32 << 20}})
        assert (group / "memory.max").read_text() == f"{32 << 20}\n"
        failures = sandbox.monitor()
        stream = await sandbox.io_stream("hog", "hog")
        stream.stdin.write(b"\n")
        failure = await anext(failures)
        assert (failure.kind, failure.container, failure.exit_status) == ("oom", "hog", 137)
        await failures.aclose()
        stream.close()


def groups_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


@pytest.mark.guest
@pytest.mark.parametrize("where", ["relative", "configured"])
async def test_its_groups_are_below_one_of_its_own(
    config, container, state_root, tmp_path, monkeypatch, where
):
    parent = config().cgroup_parent
    file = tmp_path / "config.toml"
    file.write_text(f'cgroup_parent = "{parent}"\n' if where == "configured" else "")
    monkeypatch.setenv("OCISHIM_CONFIG", str(file))
    wanted = config(
        cgroup_parent="" if where == "configured" else parent.lstrip("/"), containers=(container("a"),)
    )
    async with await create_sandbox(wanted, state_root=str(state_root)) as sandbox:
        pid = (await sandbox.status_container("a")).pid
        assert f":{parent}/s1/a\n" in groups_of(pid)
        file.write_text("")
        await sandbox.stop()
        await sandbox.delete()


@pytest.mark.guest
@pytest.mark.parametrize(
    ("members", "error", "text"),
    [
        ({"runtime": "no-such-runtime"}, ShimError, "no-such-runtime"),
        ({"interfaces": (InterfaceConfig("eth0", bridge="no0"),)}, NotFound, "no0"),
        ({"routes": (parse_route("default via 10.0.0.1"),)}, ShimError, "route default via 10"),
        ({"containers": (ContainerConfig("a", bundle="/no/bundle"),)}, NotFound, "has no config.json"),
        ({"containers": (ContainerConfig("a", rootfs="/no/rootfs", args=("sh",)),)}, ShimError, "rootfs"),
        ({"sysctls": {"kernel.hostname": "x"}}, InvalidArgument, "sysctl"),
    ],
)
async def test_what_cannot_be_made_leaves_nothing(config, container, state_root, members, error, text):
    first = (container("first"),)
    wanted = config(**{**members, "containers": (*first, *members.get("containers", ()))})
    with pytest.raises(error, match=text):
        await create_sandbox(wanted, state_root=str(state_root))
    assert os.listdir(state_root / "sandboxes") == []
    assert await list_sandboxes(state_root=str(state_root)) == []


@pytest.mark.guest
async def test_unknown_ids_and_wrong_states(config, container, state_root):
    root = str(state_root)
    with pytest.raises(NotFound, match="sandbox s1 does not exist"):
        await fetch_sandbox("s1", state_root=root)
    with pytest.raises(InvalidArgument, match="sandbox id"):
        await fetch_sandbox("../s1", state_root=root)
    async with await create_sandbox(config(containers=(container("a"),)), state_root=root) as sandbox:
        with pytest.raises(AlreadyExists, match="sandbox s1 exists already"):
            await create_sandbox(config(), state_root=root)
        with pytest.raises(AlreadyExists, match="container a of sandbox s1"):
            await sandbox.create_container(container("a"))
        with pytest.raises(FailedPrecondition, match="container a is running: it has to be ready"):
            await sandbox.start_container("a")
        with pytest.raises(FailedPrecondition, match="container a is running"):
            await sandbox.delete_container("a")
        with pytest.raises(
            FailedPrecondition, match="sandbox s1 is running: it has to be ready or paused or stopped"
        ):
            await sandbox.delete()
        with pytest.raises(FailedPrecondition, match="sandbox s1 is running: it has to be paused"):
            await sandbox.resume()
        with pytest.raises(InvalidArgument, match="is the init of its container"):
            await sandbox.delete_process("a", "a")
        for call in (
            sandbox.start_container, sandbox.delete_container, sandbox.status_container, sandbox.stop_container,
            sandbox.pause_container, sandbox.stats_container, sandbox.list_devices,
        ):  # fmt: skip
            with pytest.raises(NotFound, match="container b does not exist in sandbox s1"):
                await call("b")
        for call in (sandbox.wait_process, sandbox.io_stream, sandbox.close_stdin, sandbox.delete_process):
            with pytest.raises(NotFound):
                await call("a", "0123")
        with pytest.raises(NotFound):
            await sandbox.signal_process("a", "0123", 9)
        for number in (-1, 65, 999):
            with pytest.raises(InvalidArgument, match=f"{number} is no signal"):
                await sandbox.signal_process("a", "a", number)
        with pytest.raises(InvalidArgument, match="args"):
            await sandbox.enter_container("a", [])
        with pytest.raises(InvalidArgument, match="user 'me'"):
            await sandbox.enter_container("a", ["true"], user="me")
        with pytest.raises(ShimError, match="nonesuch"):
            await sandbox.enter_container("a", ["/nonesuch"])
        assert (await sandbox.status_container("a")).execs == ()
        await sandbox.pause()
        with pytest.raises(FailedPrecondition, match="sandbox s1 is paused: it cannot become paused"):
            await sandbox.pause()
        for refused in (
            sandbox.create_container(container("c")),
            sandbox.start_container("a"),
            sandbox.enter_container("a", ["true"]),
        ):
            with pytest.raises(FailedPrecondition, match="sandbox s1 is paused: it has to be running"):
                await refused
        with pytest.raises(FailedPrecondition, match="paused"):
            sandbox.monitor()
        await sandbox.delete()


@pytest.mark.guest
async def test_the_hosts_network(config, state_root):
    async with await create_sandbox(config(host_network=True), state_root=str(state_root)) as sandbox:
        assert (await sandbox.status()).netns == ""
        for refused in (sandbox.list_interfaces(), sandbox.add_interface(InterfaceConfig("eth0"))):
            with pytest.raises(FailedPrecondition, match="the network of the host"):
                await refused


async def test_gvisor_takes_nothing_in_while_it_runs(config, container, state_root):
    wanted = config(runtime="runsc", containers=(container("a"),))
    async with await create_sandbox(wanted, state_root=str(state_root)) as sandbox:
        for refused in (
            sandbox.add_interface(InterfaceConfig("eth0")),
            sandbox.update_routes([]),
            sandbox.add_device("a", DeviceConfig("/dev/null", "/dev/x")),
        ):
            with pytest.raises(FailedPrecondition, match="gVisor"):
                await refused
        assert [each.name for each in await sandbox.list_interfaces()] == ["lo"]


@pytest.mark.guest
async def test_monitor_tells_of_ends_until_it_is_released(config, container, state_root):
    wanted = config(containers=(container("a", "read x; exit 4", stdin=True), container("b")))
    async with await create_sandbox(wanted, state_root=str(state_root)) as sandbox:
        failures = sandbox.monitor()
        stream = await sandbox.io_stream("a", "a")
        stream.stdin.write(b"\n")
        first = await anext(failures)
        assert (first.kind, first.container, first.exit_status) == ("exit", "a", 4)
        stream.close()
        holder = (await sandbox.status()).pid
        os.kill(holder, signal.SIGKILL)
        assert (await anext(failures)).kind == "sandbox"
        sandbox.release()
        assert [failure async for failure in failures] == []


@pytest.mark.guest
async def test_a_shim_that_is_killed(config, container, state_root):
    root = str(state_root)
    async with await create_sandbox(config(containers=(container("a"),)), state_root=root) as sandbox:
        failures = sandbox.monitor()
        os.kill(await shim_pid(sandbox), signal.SIGKILL)
        failure = await anext(failures)
        assert (failure.kind, failure.text) == ("shim", "the shim of sandbox s1 is gone")
        await failures.aclose()
        with pytest.raises(Unavailable, match="the shim of sandbox s1 is gone"):
            await sandbox.start_container("a")
    async with await fetch_sandbox("s1", state_root=root) as sandbox:
        status = await sandbox.status()
        assert (status.state, status.containers) == (State.STOPPED, ())
        assert "gone" in status.note
        await sandbox.delete()
    assert await list_sandboxes(state_root=root) == []


async def shim_pid(sandbox) -> int:
    return (await sandbox._shim.inspect(""))["pid"]


ANOTHER = """
import asyncio, sys
from shim.errors import FailedPrecondition
from shim.net import InterfaceConfig
from shim.sandbox import fetch_sandbox

async def main(root, name, times):
    async with await fetch_sandbox("s1", state_root=root) as sandbox:
        for number in range(times):
            await sandbox.add_interface(InterfaceConfig(f"{name}{number}", peer_name=f"oci-{name}{number}"))
            while not await paused(sandbox):
                pass
            await sandbox.resume()
            assert await sandbox.remove_interface(name=f"{name}{number}")

async def paused(sandbox):
    try:
        await sandbox.pause()
    except FailedPrecondition:  # the other one has
        return False
    return True

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def another(state_root, name, times):
    return subprocess.Popen([sys.executable, "-c", ANOTHER, str(state_root), name, str(times)])


@pytest.mark.guest
async def test_two_processes_take_turns(config, container, state_root):
    async with await create_sandbox(
        config(containers=(container("a"),)), state_root=str(state_root)
    ) as sandbox:
        processes = [another(state_root, name, 5) for name in ("x", "y")]
        ends = [await asyncio.to_thread(process.wait) for process in processes]
        assert ends == [0, 0]
        status = await sandbox.status()
        assert status.state == State.RUNNING
        assert status.containers[0].state == State.RUNNING
        assert {each.name for each in await sandbox.list_interfaces()} == {"lo"}


@pytest.mark.guest
async def test_a_broken_record_is_no_reason_to_stay(config, container, state_root):
    root = str(state_root)
    async with await create_sandbox(config(containers=(container("a"),)), state_root=root):
        (state_root / "sandboxes" / "s1" / "record.json").write_text("{")
        with pytest.raises(DataLoss, match=r"s1.record"):
            await fetch_sandbox("s1", state_root=root)
        await clear_sandbox("s1", state_root=root)
    assert os.listdir(state_root / "sandboxes") == []
    with pytest.raises(NotFound):
        await clear_sandbox("s1", state_root=root)


@pytest.mark.guest
async def test_a_process_killed_at_any_moment_leaves_a_record(config, container, state_root):
    async with await create_sandbox(
        config(containers=(container("a"),)), state_root=str(state_root)
    ) as sandbox:
        record = state_root / "sandboxes" / "s1" / "record.json"
        before = record.stat().st_ino
        for _ in range(3):
            process = another(state_root, "z", 1000)
            # Killed in the middle of its work, at a moment that depends on nothing.
            await until(lambda: record.stat().st_ino != before)  # noqa: B023 - it is called here and now
            before = record.stat().st_ino
            process.kill()
            process.wait()
            assert json.loads(record.read_text())["state"] in {"running", "paused"}
            with suppress(FailedPrecondition):
                await sandbox.resume()
            for interface in await sandbox.list_interfaces():
                if interface.kind != "loopback":
                    await sandbox.remove_interface(name=interface.name)
            before = record.stat().st_ino


@pytest.mark.parametrize("storage", ["filesystem", "leveldb"])
def test_for_scripts(config, container, state_root, storage):
    kept = {"state_root": str(state_root), "storage": storage}
    with sync.create_sandbox(config(containers=(container("a", ECHO, stdin=True),)), **kept) as sandbox:
        stream = sandbox.io_stream("a", "a")
        assert stream.readline() == b"ready\n"
        stream.write(b"x\n")
        assert stream.readline() == b"got x\n"
        stream.close()
        assert sandbox.status().state == State.RUNNING
        with pytest.raises(AttributeError):
            sandbox.monitor  # noqa: B018 - looking is what fails
    with pytest.raises(NotFound):
        sync.fetch_sandbox("s2", **kept)
    with sync.fetch_sandbox("s1", **kept) as sandbox:
        sandbox.stop()
        sandbox.delete()
    assert sync.list_sandboxes(**kept) == []
    # The database itself stays, as a directory would.
    shutil.rmtree(state_root / "leveldb", ignore_errors=True)
