"""Channels as their clients and their processes use them, without either."""

from __future__ import annotations

import asyncio
import os

import pytest
from support.coroutines import until

from shim.errors import Aborted, AlreadyExists
from shim.stdio.exchange import Channel, Exchange


@pytest.fixture
def exchange() -> Exchange:
    return Exchange()


def always() -> bool:
    return True


async def test_a_channel_is_found_before_and_after_it_is_there(exchange: Exchange):
    early = [asyncio.create_task(exchange.find("x")) for _ in range(3)]
    other = asyncio.create_task(exchange.find("y"))
    await asyncio.sleep(0)
    fd, channel = exchange.offer("x", to_process=False)
    with fd:
        assert [await task for task in early] == [channel] * 3
        assert await exchange.find("x") is channel
        assert not other.done()
        other.cancel()
        await asyncio.wait([other])
        exchange.withdraw(channel)
    assert exchange._waiting == exchange._channels == {}


async def test_of_two_that_wait_one_may_leave(exchange: Exchange):
    """As when containerd was killed, and its old connection is seen to have ended after the new one came."""
    old, new = (asyncio.create_task(exchange.find("x")) for _ in range(2))
    await asyncio.sleep(0)
    old.cancel()
    await asyncio.wait([old])
    fd, channel = exchange.offer("x", to_process=False)
    assert await new is channel
    fd.close()
    exchange.withdraw(channel)


async def test_an_id_is_taken_until_it_is_withdrawn(exchange: Exchange):
    first, channel = exchange.offer("x", to_process=False)
    with first, pytest.raises(AlreadyExists, match="stream x"):
        exchange.offer("x", to_process=True)
    exchange.withdraw(channel)
    second, later = exchange.offer("x", to_process=True)
    exchange.withdraw(channel)  # the earlier one, again
    assert await exchange.find("x") is later
    exchange.withdraw(later)
    second.close()


async def test_without_descriptors_nothing_is_taken(exchange: Exchange, monkeypatch):
    def none_left():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("shim.stdio.exchange.pipe", none_left)
    with pytest.raises(OSError, match="Too many"):
        exchange.offer("x", to_process=True)
    assert exchange._channels == {}


async def test_output_waits_for_whoever_reads(exchange: Exchange):
    sink, channel = exchange.offer("x", to_process=False)
    os.write(sink.fileno(), b"abcdef")
    async with channel.held() as still_ours:
        assert await channel.read(4, still_ours) == b"abcd"
    async with channel.held() as still_ours:
        assert await channel.read(4, still_ours) == b"ef"
        reading = asyncio.create_task(channel.read(4, still_ours))
        await asyncio.sleep(0)
        sink.close()
        assert await reading == b""
    exchange.withdraw(channel)
    assert channel._fd.closed


async def test_a_reader_gets_the_rest_of_what_is_withdrawn(exchange: Exchange):
    sink, channel = exchange.offer("x", to_process=False)
    async with channel.held() as still_ours:
        os.write(sink.fileno(), b"last")
        sink.close()
        exchange.withdraw(channel)
        assert await channel.read(9, still_ours) == b"last"
        assert await channel.read(9, still_ours) == b""
    assert channel._fd.closed
    async with channel.held() as still_ours:
        assert await channel.read(9, still_ours) == b""


async def test_nothing_is_read_that_would_be_lost(exchange: Exchange):
    sink, channel = exchange.offer("x", to_process=False)
    os.write(sink.fileno(), b"kept")
    with pytest.raises(Aborted):
        await channel.read(4, lambda: False)
    assert await channel.read(4, always) == b"kept"
    exchange.withdraw(channel)
    sink.close()


async def test_the_later_reader_has_it(exchange: Exchange):
    sink, channel = exchange.offer("x", to_process=False)
    order = []

    async def client(name: str) -> bytes:
        async with channel.held() as still_ours:
            order.append(name)
            return await channel.read(9, still_ours)

    first = asyncio.create_task(client("first"))
    await until(lambda: order)
    second = asyncio.create_task(client("second"))
    await asyncio.wait([first])
    assert first.cancelled()
    os.write(sink.fileno(), b"data")
    assert await second == b"data"
    assert order == ["first", "second"]
    exchange.withdraw(channel)
    sink.close()


def written(exchange: Exchange) -> tuple[int, Channel]:
    source, channel = exchange.offer("x", to_process=True)
    os.set_blocking(source.fileno(), False)
    return source.detach(), channel


async def test_input_that_does_not_fit_goes_on_without_its_client(exchange: Exchange):
    source, channel = written(exchange)
    async with channel.held():
        channel.write(bytes(100_000))
        assert not channel._drained.is_set()
    taken = len(os.read(source, 1 << 20))
    await channel.drained()
    taken += len(os.read(source, 1 << 20))
    assert taken == 100_000
    channel.finish()
    assert os.read(source, 1) == b""
    os.close(source)
    exchange.withdraw(channel)


async def test_the_end_of_input_comes_after_all_of_it(exchange: Exchange):
    source, channel = written(exchange)
    channel.write(bytes(100_000))
    channel.finish()
    taken = 0
    while chunk := os.read(source, 1 << 20):
        taken += len(chunk)
        await until(lambda: channel._fd.closed or channel._unwritten == b"")
    assert taken == 100_000
    channel.write(b"too late")
    os.close(source)
    exchange.withdraw(channel)


async def test_input_that_nobody_wants_holds_up_nobody(exchange: Exchange):
    source, channel = written(exchange)
    channel.write(bytes(100_000))
    os.close(source)
    await channel.drained()
    channel.write(b"more")
    await channel.drained()
    exchange.withdraw(channel)


@pytest.mark.parametrize("held", [False, True])
async def test_released_input_ends_when_its_client_has_left(exchange: Exchange, held):
    source, channel = written(exchange)
    if held:
        async with channel.held():
            channel.release()
            channel.write(b"still")
            assert os.read(source, 9) == b"still"
            with pytest.raises(BlockingIOError):
                os.read(source, 9)
    else:
        channel.release()
    assert os.read(source, 9) == b""
    os.close(source)
    exchange.withdraw(channel)


async def test_withdrawn_input_tells_its_client(exchange: Exchange):
    source, channel = written(exchange)
    async with channel.held():
        channel.write(bytes(100_000))
        exchange.withdraw(channel)
        await channel.withdrawn.wait()
        await channel.drained()
        channel.write(b"to nobody")
    os.close(source)
