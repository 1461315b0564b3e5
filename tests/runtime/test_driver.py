"""Every verb against real runtimes: what it does, and which error it raises in which state."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest

from shim.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ShimError,
    Unimplemented,
    Unknown,
)
from shim.runtime import exec_exit_code

pytestmark = pytest.mark.root

SLEEP = ["sleep", "1000"]


def process_of(args: list[str], **fields: object) -> bytes:
    process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, **fields}
    return json.dumps(process).encode()


async def raises(kind: type[ShimError], call) -> str:
    with pytest.raises(ShimError) as caught:
        await call
    assert type(caught.value) is kind, caught.value
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_container_runs_and_its_exit_is_its_childs(leaks, runtime, playground, bundle):
    folder = bundle(["sh", "-c", "echo out; echo err >&2; exit 19"])

    async def body(here):
        init = await here.create("one", folder)
        state = await here.driver.state("one")
        assert (state["id"], state["status"], state["pid"]) == ("one", "created", init.pid)
        assert state["bundle"] == str(folder)
        await here.driver.start("one")
        assert (await init.wait()).status == 19
        assert sorted(here.out.read_text().split()) == ["err", "out"]
        assert (await here.driver.state("one"))["status"] == "stopped"
        assert (await here.driver.state("one"))["pid"] == 0
        assert [c["id"] for c in await here.driver.list()] == ["one"]
        await here.driver.delete("one")
        assert await here.driver.list() == []

    playground(runtime, body)


def test_states_decide_what_is_possible(leaks, runtime, playground, bundle):
    folder = bundle(SLEEP)

    async def body(here):
        driver = here.driver
        init = await here.create("one", folder)
        await raises(AlreadyExists, here.create("one", folder))
        assert (await driver.state("one"))["status"] == "created"
        await driver.start("one")
        await raises(FailedPrecondition, driver.start("one"))
        await raises(FailedPrecondition, driver.delete("one"))
        await driver.pause("one")
        # In v1 crun does not wait until all are frozen.
        while (await driver.state("one"))["status"] != "paused":
            pass
        await raises(FailedPrecondition, here.exec("one", process_of(["true"])))
        await driver.resume("one")
        pids = await driver.ps("one")
        assert pids == ([1] if driver.waits_by_command else [init.pid])
        await driver.kill("one", signal.SIGKILL)
        assert (await init.wait()).status == 128 + signal.SIGKILL
        await raises(NotFound, driver.kill("one", signal.SIGTERM))
        await raises(FailedPrecondition, driver.start("one"))
        await raises(FailedPrecondition, driver.pause("one"))
        await raises(FailedPrecondition, here.exec("one", process_of(["true"])))
        await driver.delete("one")

    playground(runtime, body)


def test_an_unknown_container_is_not_found(leaks, runtime, playground):
    async def body(here):
        driver = here.driver
        calls = [
            driver.start("none"),
            driver.kill("none", signal.SIGTERM),
            driver.kill("none", signal.SIGTERM, all_processes=True),
            driver.delete("none"),
            driver.state("none"),
            driver.ps("none"),
            driver.pause("none"),
            driver.resume("none"),
            here.exec("none", process_of(["true"])),
        ]
        for call in calls:
            await raises(NotFound, call)
        await driver.delete("none", force=True)

    playground(runtime, body)


def test_processes_run_in_a_running_container(leaks, runtime, playground, bundle):
    folder = bundle(SLEEP)

    async def body(here):
        init = await here.create("one", folder)
        await here.driver.start("one")
        child, inner = await here.exec(
            "one", process_of(["sh", "-c", "echo $A; exit 7"], env=["PATH=/bin", "A=b"])
        )
        assert (await child.wait()).status == 7
        assert here.out.read_text() == "b\n"
        assert (inner is not None) == here.driver.waits_by_command

        wait_for_usr1 = "trap 'exit 5' USR1; echo ready; sleep 1000 & wait"
        child, inner = await here.exec("one", process_of(["sh", "-c", wait_for_usr1]))
        await here.printed("ready")
        if inner is None:
            child.send_signal(signal.SIGUSR1)
            await raises(Unimplemented, here.driver.kill_process("one", child.pid, signal.SIGUSR1))
        else:
            await here.driver.kill_process("one", inner, signal.SIGUSR1)
        assert (await child.wait()).status == 5
        if inner is not None:
            await raises(NotFound, here.driver.kill_process("one", inner, signal.SIGUSR1))
        assert not list(here.folder.glob("*.inner"))

        await here.driver.kill("one", signal.SIGKILL, all_processes=True)
        await init.wait()
        await here.driver.delete("one")

    playground(runtime, body)


def pids_limit(group: str) -> str:
    [found] = {f.read_text().strip() for f in Path("/sys/fs/cgroup").rglob(f"{group}/pids.max")}
    return found


UNRUNNABLE = [
    (["nope"], 127),
    (["/nope/nope"], 127),
    (["/etc/not-executable"], 126),
    (["/bin"], 126),
    (["/bin/busybox/nope"], 126),
]


@pytest.fixture
def rootfs_with_plain_file(tmp_path):
    """A bind mount that puts a file without the x bit at /etc/not-executable."""
    file = tmp_path / "not-executable"
    file.write_text("text\n")
    return {
        "destination": "/tmp/not-executable",
        "type": "bind",
        "source": str(file),
        "options": ["bind", "ro"],
    }


async def create_and_start(here, folder: Path) -> None:
    await here.create("one", folder)
    await here.driver.start("one")


def test_a_program_that_cannot_run_has_a_shells_exit_code(
    leaks, runtime, playground, bundle, rootfs_with_plain_file
):
    mounts = json.loads((bundle(SLEEP) / "config.json").read_text())["mounts"]
    more = {"mounts": [*mounts, rootfs_with_plain_file]}
    cases = [
        (args if args != ["/etc/not-executable"] else ["/tmp/not-executable"], code)
        for args, code in UNRUNNABLE
    ]
    folders = [bundle(args, **more) for args, _ in cases]
    sleeper = bundle(SLEEP, **more)

    async def body(here):
        for (args, code), folder in zip(cases, folders, strict=True):
            text = await raises(Unknown, create_and_start(here, folder))
            assert exec_exit_code(text) == code, (args, text)
            await here.driver.delete("one", force=True)
        await here.create("sleeper", sleeper)
        await here.driver.start("sleeper")
        for args, code in cases:
            text = await raises(Unknown, here.exec("sleeper", process_of(args)))
            assert exec_exit_code(text) == code, (args, text)
        assert text.startswith("OCI runtime exec failed: ")

    playground(runtime, body)


def received_terminal(listener: socket.socket) -> int:
    connection, _ = listener.accept()
    with connection:
        _, [terminal], _, _ = socket.recv_fds(connection, 4096, 1)
    return terminal


def test_terminals_come_through_the_console_socket(leaks, runtime, playground, bundle):
    folder = bundle(["sh", "-c", "test -t 0 && echo on a terminal; exec sleep 1000"], terminal=True)

    async def body(here):
        process = process_of(["sh", "-c", "test -t 0 && exit 4"], terminal=True)
        path = str(here.folder / "console.sock")
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            receiving = loop.run_in_executor(None, received_terminal, listener)
            await here.create("one", folder, console_socket=path)
            terminal = await receiving
            await here.driver.start("one")
            text = await loop.run_in_executor(None, os.read, terminal, 100)
            assert text.strip() == b"on a terminal"

            # The first one stays open: its hang-up would end the container.
            receiving = loop.run_in_executor(None, received_terminal, listener)
            child, _ = await here.exec("one", process, console_socket=path)
            assert (await child.wait()).status == 4
            os.close(await receiving)
            os.close(terminal)

    playground(runtime, body)


def test_signals_that_do_not_exist_are_invalid(leaks, runtime, playground, bundle):
    folder = bundle(SLEEP)

    async def body(here):
        await here.create("one", folder)
        await here.driver.start("one")
        await raises(InvalidArgument, here.driver.kill("one", 99))

    playground(runtime, body)


def test_update(leaks, runtime, playground, bundle):
    group = f"ocishim-test-{os.getpid()}-update"
    folder = bundle(SLEEP, linux={"cgroupsPath": f"/{group}", "resources": {"pids": {"limit": 100}}})

    async def body(here):
        await here.create("one", folder)
        await here.driver.start("one")
        if here.driver.kind == "runsc":
            text = await raises(Unimplemented, here.driver.update("one", b'{"pids": {"limit": 50}}'))
            assert "'update'" in text
            return
        await here.driver.update("one", b'{"pids": {"limit": 50}}')
        assert pids_limit(group) == "50"
        await raises(InvalidArgument, here.driver.update("one", b'{"cpu": {"quota": 50, "period": 100000}}'))
        await raises(InvalidArgument, here.driver.update("one", b"no JSON"))

    playground(runtime, body)


def test_version_features_stats(leaks, runtime, playground, bundle):
    folder = bundle(SLEEP)

    async def body(here):
        assert (await here.driver.version())[0].isdigit()
        with nullcontext() if here.driver.kind == "runc" else suppress(Unimplemented):
            assert "ociVersionMin" in await here.driver.features()
        await here.create("one", folder)
        await here.driver.start("one")
        if here.driver.kind == "crun":
            await raises(Unimplemented, here.driver.stats("one"))
        else:
            assert (await here.driver.stats("one"))["data"]["pids"]["current"] >= 1

    playground(runtime, body)


def test_a_missing_root_filesystem_is_named(leaks, runtime, playground, bundle):
    folder = bundle(SLEEP, root={"path": "/nonexistent/rootfs"})

    async def body(here):
        text = await raises(Unknown, here.create("one", folder))
        assert text.startswith("OCI runtime create failed: ")
        assert "no such file" in text.lower()
        await here.driver.delete("one", force=True)

    playground(runtime, body)


def test_the_callers_end_is_the_runtimes_end(leaks, runtime, playground, bundle):
    """A cancelled create leaves no process; what the runtime keeps on disk goes with a forced delete."""
    folder = bundle(SLEEP)

    async def body(here):
        for _ in range(3):
            running = here.reaper.children
            creating = asyncio.create_task(here.create("one", folder))
            # Turn by turn of the loop: nothing may end before it is cancelled.
            while here.reaper.children == running:  # noqa: ASYNC110 - no event is told of a spawn
                await asyncio.sleep(0)
            creating.cancel()
            with pytest.raises(asyncio.CancelledError):
                await creating
            await here.driver.delete("one", force=True)

    playground(runtime, body)
