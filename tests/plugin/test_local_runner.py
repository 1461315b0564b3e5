"""A plugin as a plain process: its output, its end, and what it leaves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from pathlib import Path

import pytest
from support.coroutines import until

from shim.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from shim.plugin.local_process import LocalProcess
from shim.plugin.local_runner import LocalRunner


async def started(script: str, env=None, **how) -> LocalRunner:
    runner = LocalRunner(["/bin/sh", "-c", script], env or {}, **how)
    await runner.start()
    return runner


def digest_of(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


async def test_its_output_and_its_status_are_read(leaks):
    runner = await started("echo out; echo err >&2; read nothing; exit 7")
    assert await runner.stdout.read() == b"out\n"
    assert await runner.stderr.read() == b"err\n"
    assert await asyncio.gather(runner.wait(), runner.wait()) == [7, 7]
    assert runner.name == "/bin/sh"
    assert (
        runner.diagnose() == "the command /bin/sh -c 'echo out; echo err >&2; read nothing; exit 7' exited 7"
    )
    await runner.kill()
    await runner.kill()


async def test_it_is_killed_whoever_holds_its_output(leaks):
    runner = await started("sleep 1000 & echo $!; wait")
    sleeper = int(await runner.stdout.readline())
    try:
        assert runner.diagnose().endswith("is running")
        assert int(runner.id) > 0
        await runner.kill()
        assert await runner.wait() == 128 + signal.SIGKILL
        assert runner.diagnose().endswith("was ended by signal 9")
        assert await runner.stdout.read() == b""
    finally:
        os.kill(sleeper, signal.SIGKILL)


async def test_its_environment_is_ours_and_what_is_given(leaks, monkeypatch):
    monkeypatch.setenv("OCISHIM_TEST_OURS", "1")
    for inherit, expected in [(True, b"1 2\n"), (False, b" 2\n")]:
        runner = await started(
            'echo "$OCISHIM_TEST_OURS $OCISHIM_TEST_ITS"', {"OCISHIM_TEST_ITS": "2"}, inherit_env=inherit
        )
        assert await runner.stdout.read() == expected
        await runner.kill()


@pytest.mark.parametrize(
    ("argv", "kind", "text"),
    [
        (["/nowhere/plugin"], NotFound, "/nowhere/plugin"),
        (["ocishim-no-such-plugin"], NotFound, "ocishim-no-such-plugin"),
        (["/etc/passwd"], PermissionDenied, "/etc/passwd"),
        (["/bin/sh", "a\0b"], InvalidArgument, "NUL"),
    ],
)
async def test_what_cannot_be_started_leaves_nothing(leaks, argv, kind, text):
    runner = LocalRunner(argv, {})
    with pytest.raises(kind, match=text):
        await runner.start()
    assert runner.id == ""
    assert runner.diagnose().endswith("was not started")
    await runner.kill()
    with pytest.raises(FailedPrecondition):
        await runner.wait()


async def test_it_is_started_if_it_is_the_program_that_is_meant(leaks):
    digest = digest_of("/bin/sh")
    for sha256 in [digest, f"sha256:{digest.upper()}"]:
        runner = LocalRunner(["sh", "-c", "exit 3"], {}, sha256=sha256)
        await runner.start()
        assert await runner.wait() == 3
        await runner.kill()
    other = LocalRunner(["sh", "-c", "exit 3"], {}, sha256="0" * 64)
    with pytest.raises(FailedPrecondition, match=f"its checksum is sha256:{digest}, not sha256:0000"):
        await other.start()
    assert other.id == ""


async def test_what_is_detached_runs_on(leaks):
    runner = await started("echo ready; exec sleep 1000")
    assert await runner.stdout.readline() == b"ready\n"
    pid = int(runner.id)
    runner.detach()
    assert await runner.stdout.read() == b""
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: os.waitpid(pid, os.WNOHANG) != (0, 0))


async def test_one_that_another_process_started_is_waited_for_and_killed(leaks):
    # The sleeper's parent is a shell that stays, so the kernel gives its status to that.
    runner = await started("sleep 1000 & echo $!; wait $!; echo $?; exec sleep 1000")
    process = LocalProcess.attach(int(await runner.stdout.readline()))
    assert process.exit is None
    await process.kill()
    await process.kill()
    assert await process.wait() in {128 + signal.SIGKILL, 255}
    assert await runner.stdout.readline() == b"137\n"
    await runner.kill()
