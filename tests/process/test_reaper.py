import asyncio
import errno
import os
import select
import signal
from contextlib import contextmanager

import pytest
from support.coroutines import has_children, until

from shim.errors import NotFound
from shim.linux.fd import OwnedFd, pipe
from shim.process import Exit, Reaper
from shim.process.reaper import which

# The shell ends at once, and what it started waits for that: a shell may reap a child that is quicker than itself.
ORPHAN = "{ read x <&3; %s; } <&- >&- & echo $!"


async def run(reaper, argv, *more_fds, **options):
    """Standard output of a program, and how it ended."""
    source, sink = pipe()
    with source:
        with sink:
            child = reaper.spawn(argv, fds=[source.fileno(), sink.fileno(), 2, *more_fds], **options)
        ended = await child.wait()
        os.set_blocking(source.fileno(), False)
        return os.read(source.fileno(), 1 << 16), ended


async def waiting_orphan(reaper, script, held):
    """The pid of a process that a shell, which has ended, left behind; it does ``script`` once ``held`` ends."""
    output, ended = await run(reaper, ["sh", "-c", ORPHAN % script], held)
    assert ended.status == 0
    return int(output)


async def orphan(reaper, script):
    """The same, and it is doing it."""
    with gate() as (held, _):
        return await waiting_orphan(reaper, script, held)


def wait_for_zombie(pid):
    """Return when the child has ended; the loop does not run meanwhile, so nobody reaps it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@contextmanager
def gate():
    """A descriptor on which every ``read`` waits, and the function that lets them go."""
    source, sink = pipe()
    with source, sink:
        yield source.fileno(), sink.close


async def test_environment_directory_and_descriptors(reaper, tmp_path):
    output, _ = await run(
        reaper, ["sh", "-c", "echo $A; pwd; echo /proc/self/fd/*"], env={"A": "b=c"}, cwd=str(tmp_path)
    )
    lines = output.decode().splitlines()
    assert lines[:2] == ["b=c", str(tmp_path)]
    assert lines[2].split() == [f"/proc/self/fd/{n}" for n in (0, 1, 2, 3)]  # 3 reads the directory


async def test_without_an_environment_ours(reaper, monkeypatch):
    monkeypatch.setenv("FROM_US", "yes")
    assert (await run(reaper, ["sh", "-c", "echo $FROM_US"]))[0] == b"yes\n"


@pytest.mark.parametrize("path", ["/no/such/program", "/etc/passwd", "/"])
async def test_a_program_that_cannot_be_run_leaves_nothing(reaper, path):
    with pytest.raises(OSError) as caught:
        reaper.spawn([path], fds=[])
    assert caught.value.filename == path
    assert reaper.children == 0
    assert not has_children()


async def test_path_is_searched(reaper, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    script = tmp_path / "sub" / "mine"
    script.write_text("#!/bin/sh\necho $0 in $PWD\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    # A relative folder of PATH is looked at from here, although the child runs elsewhere.
    monkeypatch.setenv("PATH", f"{tmp_path}/absent:sub:{os.environ['PATH']}")
    assert (await run(reaper, ["mine"], cwd="/"))[0].decode() == f"{script} in /\n"


def test_which(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f":{tmp_path}")
    assert which("./program") == "./program"
    with pytest.raises(NotFound, match=f"'program' is not on PATH=:{tmp_path}"):
        which("program")
    program.chmod(0o755)
    assert which("program") == str(program)
    monkeypatch.setenv("PATH", "")
    for name in ("program", "", "a\0b"):
        with pytest.raises(NotFound):
            which(name)


async def test_an_orphan_is_adopted(reaper):
    with reaper.window() as window:
        pid = await orphan(reaper, "sleep 1000")
        child = window.adopt(pid)
        assert window.adopt(pid) is child
    assert reaper.children == 1
    child.send_signal(signal.SIGTERM)
    assert (await child.wait()).status == 143
    assert reaper.orphans == 0


async def test_an_orphan_that_ended_before_it_was_adopted(reaper):
    with reaper.window() as window:
        pid = await orphan(reaper, "exit 19")
        await until(lambda: pid in window.unclaimed)
        child = window.adopt(pid)
    assert child.exit is not None
    assert (await child.wait()).status == 19
    assert reaper.orphans == 0
    with pytest.raises(ProcessLookupError):
        child.send_signal(signal.SIGKILL)


async def test_an_orphan_that_ended_and_was_not_reaped_yet(reaper):
    with reaper.window() as window, gate() as (held, release):
        pid = await waiting_orphan(reaper, "exit 21", held)
        release()
        wait_for_zombie(pid)
        child = window.adopt(pid)
        assert child.exit is None
        assert (await child.wait()).status == 21


async def test_an_orphan_is_adopted_without_a_descriptor(reaper, monkeypatch):
    """It is a child of ours, and nobody else reaps it: it can be signalled and waited for all the same."""

    def refuse(_: int) -> OwnedFd:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("shim.process.reaper.pidfd_open", refuse)
    with reaper.window() as window:
        child = window.adopt(await orphan(reaper, "sleep 1000"))
    child.send_signal(0)
    child.send_signal(signal.SIGTERM)
    assert (await child.wait()).signal == signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        child.send_signal(0)


@pytest.mark.parametrize("pid", [0, -1, 1, 1 << 31, 1 << 80])
async def test_what_is_no_child_is_not_adopted(reaper, pid):
    with reaper.window() as window, pytest.raises(NotFound, match=f"process {pid} is not a child"):
        window.adopt(pid)
    assert reaper.children == 0


async def test_a_stranger_is_not_adopted(reaper):
    """Its exit would never come, and a signal meant for a container would hit it."""
    with reaper.window() as window:
        for stranger in (os.getpid(), os.getppid()):
            with pytest.raises(NotFound):
                window.adopt(stranger)


async def test_no_exit_goes_from_one_window_to_a_later_one(reaper):
    with reaper.window() as early:
        pid = await orphan(reaper, "exit 1")
        await until(lambda: pid in early.unclaimed)
    with reaper.window() as late, pytest.raises(NotFound):
        late.adopt(pid)
    assert reaper.orphans == 1


async def test_a_pid_that_came_round_again_is_the_one_that_lives(reaper):
    with reaper.window() as window:
        pid = await orphan(reaper, "sleep 1000")
        window.unclaimed[pid] = Exit(1, 0)
        child = window.adopt(pid)
        assert child.exit is None
    child.send_signal(signal.SIGKILL)
    assert (await child.wait()).status == 137


async def test_a_pid_that_a_program_of_ours_has_by_now(reaper, null):
    with reaper.window() as window:
        ours = reaper.spawn(["sleep", "1000"], fds=[null] * 3)
        window.unclaimed[ours.pid] = Exit(7, 0)
        assert window.adopt(ours.pid).exit == Exit(7, 0)
        assert window.adopt(ours.pid) is ours
    ours.send_signal(signal.SIGKILL)
    await ours.wait()


async def test_windows_that_overlap(reaper):
    with reaper.window() as outer:
        with reaper.window() as inner:
            mine, nobodys = await orphan(reaper, "exit 5"), await orphan(reaper, "exit 6")
            await until(lambda: {mine, nobodys} <= outer.unclaimed.keys())
            assert outer.unclaimed == inner.unclaimed
            assert inner.adopt(mine).exit.status == 5
            assert mine not in outer.unclaimed
            with pytest.raises(NotFound):
                outer.adopt(mine)
        assert reaper.orphans == 0  # the outer one may still want it
    assert reaper.orphans == 1


async def test_an_orphan_is_for_the_window_that_outlives_the_other(reaper):
    with reaper.window() as outer:
        with reaper.window():
            pid = await orphan(reaper, "exit 5")
            await until(lambda: pid in outer.unclaimed)
        assert outer.adopt(pid).exit.status == 5
    assert reaper.orphans == 0


async def test_a_window_ends_with_an_error_in_it(reaper):
    with pytest.raises(KeyError), reaper.window():
        raise KeyError
    pid = await orphan(reaper, "exit 1")
    await until(lambda: reaper.orphans == 1)
    with reaper.window() as window, pytest.raises(NotFound):
        window.adopt(pid)


async def test_what_ended_before_start_is_reaped():
    wait_for_zombie(os.posix_spawn("/bin/true", ["true"], {}))  # noqa: ASYNC221 - starts it, no more
    reaper = Reaper()
    reaper.start()
    assert not has_children()
    assert reaper.orphans == 1
    reaper.stop()
    reaper.stop()


@pytest.mark.slow
async def test_a_thousand_exits_while_the_loop_is_busy(reaper, null):
    """Each exit arrives, with its own status, and the flood of signals says nothing on standard error."""
    await asyncio.sleep(0)  # the loop has had its first round since start
    children = [reaper.spawn(["sh", "-c", f"exit {number % 256}"], fds=[null] * 3) for number in range(1000)]
    poll = select.poll()
    for child in children:
        poll.register(child._pidfd.fileno(), select.POLLIN)
    while len(poll.poll()) < len(children):  # all are zombies now, and the loop has not run
        pass
    ended = await asyncio.gather(*(child.wait() for child in children))
    assert [e.status for e in ended] == [number % 256 for number in range(1000)]
    assert reaper.children == 0
    assert not has_children()


async def test_many_orphans_end_at_once(reaper, null):
    with gate() as (held, release):
        script = "for i in $(seq 300); do read x <&3 & done"
        await reaper.spawn(["sh", "-c", script], fds=[null, null, null, held]).wait()
        before = reaper.orphans
        release()
        await until(lambda: reaper.orphans == before + 300)
    assert not has_children()


async def test_starting_and_ending_mixed(reaper, null):
    """Children end while others start: every pid is registered before its exit can be seen."""

    async def one(number):
        child = reaper.spawn(["sh", "-c", f"exit {number}"], fds=[null] * 3)
        await asyncio.sleep(0)
        return (await child.wait()).status

    for _ in range(4):
        assert await asyncio.gather(*map(one, range(25))) == list(range(25))
    assert reaper.children == 0
