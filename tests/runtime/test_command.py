"""One call: its output, its log, its deadline, and what is left of it."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from shim.errors import DeadlineExceeded, NotFound, PermissionDenied
from shim.runtime import command
from shim.runtime.command import LOG_PATH

MIB = 1 << 20


def test_output_input_and_exit_code(run, script):
    fake = script("cat; echo err >&2; exit 3")

    async def body(reaper):
        return await command.run(reaper, [fake], name="fake", timeout=20, stdin=b"x" * MIB)

    result = run(body)
    assert (result.exit.status, result.exit.signal) == (3, None)
    assert result.stdout == b"x" * MIB
    assert result.stderr == b"err\n"
    assert result.message == "err"


def test_the_last_error_of_the_log_is_the_message(run, script):
    fake = script(
        f"""echo '{{"level":"error","msg":"first"}}' >> {LOG_PATH}
echo '{{"level":"error","msg":"last"}}' >> {LOG_PATH}
echo '{{"level":"warning","msg":"odd"}}' >> {LOG_PATH}
echo err >&2; exit 1"""
    )

    async def body(reaper):
        return await command.run(reaper, [fake], name="fake", timeout=20)

    result = run(body)
    assert result.errors == ("first", "last")
    assert result.message == "last"


def test_warnings_of_the_log_go_to_ours(run, script, caplog):
    fake = script(f"""echo '{{"level":"warning","msg":"odd"}}' >> {LOG_PATH}""")

    async def body(reaper):
        return await command.run(reaper, [fake], name="fake create c1", timeout=20)

    run(body)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("WARNING", "fake create c1: odd")]


def test_concurrent_calls_do_not_read_each_others_errors(leaks, run, script):
    fake = script(f"""echo '{{"level":"error","msg":"'$1'"}}' >> {LOG_PATH}; exit 1""")

    async def body(reaper):
        calls = [command.run(reaper, [fake, str(n)], name="fake", timeout=20) for n in range(20)]
        return await asyncio.gather(*calls)

    assert [r.message for r in run(body)] == [str(n) for n in range(20)]


def test_a_log_that_is_kept_open_cannot_grow_after_the_call(leaks, run, script, tmp_path):
    """As runsc's sandbox keeps it."""
    fake = script(
        f"(exec 9>>{LOG_PATH}; read _ < {tmp_path}/go; echo more >&9 || echo refused > {tmp_path}/answer) &"
    )
    os.mkfifo(tmp_path / "go")

    async def body(reaper):
        await command.run(reaper, [fake], name="fake", timeout=20, fds=(0, 1, 1))
        with open(tmp_path / "go", "w", encoding="ascii") as go:  # noqa: ASYNC230  # opens when the child reads
            go.write("go\n")

    run(body)
    assert (tmp_path / "answer").read_text() == "refused\n"


def test_a_flood_is_taken_and_its_ends_are_kept(leaks, run, script):
    fake = script(
        f"echo first >&2; head -c {64 * MIB} /dev/zero >&2; head -c {64 * MIB} /dev/zero; echo last >&2; exit 1"
    )

    async def body(reaper):
        return await command.run(reaper, [fake], name="fake", timeout=30)

    result = run(body)
    assert len(result.stdout) == 16 * MIB
    assert len(result.stderr) == 64 << 10
    assert result.stderr.startswith(b"first\n")
    assert result.stderr.endswith(b"last\n")


def test_a_grandchild_that_holds_the_pipes_is_not_waited_for(leaks, run, script, tmp_path):
    fake = script(f"echo out; sleep 1000 & echo $! > {tmp_path}/pid")

    async def body(reaper):
        result = await command.run(reaper, [fake], name="fake", timeout=20)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        return result

    assert run(body).stdout == b"out\n"


def test_stdio_is_passed_and_stays_the_callers(run, script, tmp_path):
    fake = script("cat; echo err >&2; ls /proc/self/fd | wc -l")
    (tmp_path / "in").write_text("in\n")
    with open(tmp_path / "in", "rb") as source, open(tmp_path / "out", "wb") as sink:
        fds = (source.fileno(), sink.fileno(), sink.fileno())

        async def body(reaper):
            return await command.run(reaper, [fake], name="fake", timeout=20, fds=fds)

        assert run(body).stdout == b""
        os.fstat(sink.fileno())
    # 0, 1, 2, the log, and the folder that ls reads.
    assert (tmp_path / "out").read_text() == "in\nerr\n5\n"


def test_the_environment_is_ours_without_the_notify_socket(run, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")

    async def body(reaper):
        return await command.run(reaper, ["env"], name="env", timeout=20)

    words = run(body).stdout.decode().split("\n")
    assert "XDG_RUNTIME_DIR=/run/user/7" in words
    assert not any(word.startswith("NOTIFY_SOCKET") for word in words)


HANGS = {
    "plainly": "sleep 1000",
    "with children": "sleep 1000 & sleep 1000 & wait",
    "with children that have left its session": "setsid sleep 1000 & setsid sh -c 'setsid sleep 1000 & wait' & wait",
    "deaf to signals": "trap '' TERM INT HUP; while :; do sleep 0.1; done",
    "stopped": "kill -STOP $$",
}


@pytest.mark.parametrize("how", HANGS)
def test_what_hangs_is_killed_with_all_it_started(leaks, run, script, how):
    fake = script(HANGS[how])

    async def body(reaper):
        with pytest.raises(DeadlineExceeded) as caught:
            await command.run(reaper, [fake], name="runc start c1", timeout=0.3)
        return str(caught.value)

    assert run(body) == "runc start c1 did not end within 0.3 s and was killed"


def test_a_cancelled_call_is_killed(leaks, run, script, tmp_path):
    fake = script(f"echo > {tmp_path}/ready; sleep 1000")
    os.mkfifo(tmp_path / "ready")

    async def body(reaper):
        call = asyncio.create_task(command.run(reaper, [fake], name="fake", timeout=20))
        await asyncio.sleep(0)
        (tmp_path / "ready").read_text()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    run(body)


def test_failing_calls_leave_no_descriptor(run, script):
    fake = script("sleep 1000")

    async def body(reaper):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with pytest.raises(DeadlineExceeded):
                await command.run(reaper, [fake], name="fake", timeout=0.01)
            with pytest.raises(NotFound):
                await command.run(reaper, ["/nonexistent"], name="fake", timeout=20)
        assert len(os.listdir("/proc/self/fd")) == before

    run(body)


def test_a_crash_has_its_signal(run, script):
    fake = script("kill -SEGV $$")

    async def body(reaper):
        return await command.run(reaper, [fake], name="fake", timeout=20)

    assert run(body).exit.signal == signal.SIGSEGV


def test_a_program_that_is_not_there(run):
    async def body(reaper):
        for argv in (["/nonexistent/runc"], ["no-such-program"]):
            with pytest.raises(NotFound, match=argv[0]):
                await command.run(reaper, argv, name="runc create c1", timeout=20)

    run(body)


def test_a_program_that_may_not_run(run, tmp_path):
    (tmp_path / "plain").write_text("")

    async def body(reaper):
        with pytest.raises(PermissionDenied, match="cannot run"):
            await command.run(reaper, [str(tmp_path / "plain")], name="runc create c1", timeout=20)

    run(body)


def test_it_is_killed_when_its_starter_dies(run, script):
    """PR_SET_PDEATHSIG as the child sees it."""
    fake = script(
        "exec python3 -c 'import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)'"
    )

    async def body(reaper):
        return await command.run(reaper, [fake], name="fake", timeout=20)

    assert run(body).stdout == b"9\n"


def test_its_session_is_its_own(run, script):
    async def body(reaper):
        return await command.run(reaper, [script("ps -o sid= -p $$; echo $$")], name="fake", timeout=20)

    session, pid = run(body).stdout.split()
    assert session == pid


def test_it_stays_in_a_session_that_we_lead(run, script, monkeypatch):
    ours = os.getsid(0)
    monkeypatch.setattr(os, "getsid", lambda _pid: os.getpid())

    async def body(reaper):
        return await command.run(reaper, [script("ps -o sid= -p $$")], name="fake", timeout=20)

    assert int(run(body).stdout) == ours
