import asyncio
import errno
import os
import signal

import pytest

from shim.process import Child, Exit

SLEEP = ["sleep", "1000"]


@pytest.mark.parametrize(
    ("script", "status", "number"),
    [
        ("exit 0", 0, None),
        ("exit 19", 19, None),
        ("exit 255", 255, None),
        ("kill -KILL $$", 137, signal.SIGKILL),
        ("kill -SEGV $$", 139, signal.SIGSEGV),
    ],
)
async def test_exit_of_a_process(reaper, null, script, status, number):
    ended = await reaper.spawn(["sh", "-c", script], fds=[null] * 3).wait()
    assert (ended.status, ended.signal) == (status, number)


async def test_any_number_of_waiters_before_and_after(reaper, null):
    child = reaper.spawn(["sh", "-c", "read x; exit 3"], fds=[null] * 3)
    seen = []
    child.on_exit(seen.append)
    waiters = [asyncio.create_task(child.wait()) for _ in range(10)]
    ended = await child.wait()
    assert ended.status == 3
    assert await asyncio.gather(*waiters) == [ended] * 10
    assert await child.wait() is ended
    child.on_exit(seen.append)
    assert seen == [ended, ended]


async def test_a_cancelled_waiter_harms_nobody(reaper, null):
    child = reaper.spawn(SLEEP, fds=[null] * 3)
    given_up, patient = (asyncio.create_task(child.wait()) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    child.send_signal(signal.SIGTERM)
    assert (await patient).status == 143


async def test_a_waiter_cancelled_at_the_very_moment_of_the_exit(reaper, null):
    child = reaper.spawn(SLEEP, fds=[null] * 3)
    given_up, patient = (asyncio.create_task(child.wait()) for _ in range(2))
    await asyncio.sleep(0)
    child.on_exit(lambda _: given_up.cancel())
    child.send_signal(signal.SIGKILL)
    assert (await patient).status == 137
    assert (await asyncio.gather(given_up, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_an_error_in_a_callback_stops_neither_the_others_nor_the_reaper(reaper, null, caplog):
    def fail(_ended):
        raise KeyError("bug")

    child, later = (reaper.spawn(SLEEP, fds=[null] * 3) for _ in range(2))
    seen = []
    child.on_exit(fail)
    child.on_exit(seen.append)
    child.send_signal(signal.SIGKILL)
    later.send_signal(signal.SIGKILL)
    assert [(await child.wait()), (await later.wait()).status] == [seen[0], 137]
    assert f"the end of process {child.pid} failed" in caplog.text


async def test_a_callback_may_start_the_next_process(reaper, null):
    following = []
    child = reaper.spawn(["true"], fds=[])
    child.on_exit(lambda _: following.append(reaper.spawn(["sh", "-c", "exit 4"], fds=[null] * 3)))
    await child.wait()
    assert (await following[0].wait()).status == 4


async def test_no_signal_after_the_end(reaper):
    child = reaper.spawn(["true"], fds=[])
    await child.wait()
    with pytest.raises(ProcessLookupError) as caught:
        child.send_signal(signal.SIGKILL)
    assert caught.value.errno == errno.ESRCH
    child.close()


async def test_close_leaves_the_process_and_its_exit_is_told(reaper, null):
    child = reaper.spawn(SLEEP, fds=[null] * 3)
    child.close()
    child.close()
    with pytest.raises(ProcessLookupError):
        child.send_signal(0)
    os.kill(child.pid, signal.SIGTERM)
    assert (await child.wait()).status == 143


@pytest.mark.parametrize("number", [-1, 65, 1 << 20, 1 << 40])
async def test_a_number_that_is_no_signal(reaper, null, number):
    child = reaper.spawn(SLEEP, fds=[null] * 3)
    with pytest.raises(OSError) as caught:
        child.send_signal(number)
    assert caught.value.errno == errno.EINVAL
    assert child.exit is None
    child.send_signal(signal.SIGKILL)
    await child.wait()


async def test_what_a_child_looks_like(reaper):
    child = reaper.spawn(["true"], fds=[])
    assert repr(child) == f"<Child {child.pid} running>"
    ended = await child.wait()
    assert repr(child) == f"<Child {child.pid} {ended}>"
    assert Child(1, None, Exit(0, 0)).exit == Exit(0, 0)
