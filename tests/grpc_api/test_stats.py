"""GetStats of real containers: every field, the pace, the end, and what many streams cost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from support import bed
from support.api_in_loop import translated
from support.coroutines import until

from shim.client import Client, Stats
from shim.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from shim.grpc_api.stats import INTERVAL_KEY
from shim.proto import first_api_pb2 as wire

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]

# Whoever is refused has sent a packet, and got one.
TALKS = ["sh", "-c", "while :; do nc 127.0.0.1 7000; sleep 0.05; done"]


async def looks(api, container_id: str, count: int, interval_s: float = 0.1) -> list[Stats]:
    async with aclosing(api.client.stats(container_id, interval_s=interval_s)) as stream:
        return [await anext(stream) for _ in range(count)]


async def check_all_fields(api, bundle) -> Stats:
    """Of a container that computes, is throttled, holds memory and writes; what it has used grows."""
    script = "head -c 8000000 /dev/zero > /tmp/file; while :; do :; done"
    limits = {"memory": {"limit": 64 << 20}, "cpu": {"quota": 5000, "period": 10000}}
    await api.client.create_container("c1", str(bundle(["sh", "-c", script], linux={"resources": limits})))
    before, now = None, None
    async with aclosing(api.client.stats("c1", interval_s=0.1)) as stream:
        async for now in stream:
            before = before or now
            cpu = now.cgroup_stats.cpu_stats
            if cpu.throttling_data.throttled_time and now.cgroup_stats.memory_stats.cache > 4 << 20:
                break
    assert before is not None
    assert abs(now.timestamp - time.time()) < 60
    assert cpu.cpu_usage.total_usage > before.cgroup_stats.cpu_stats.cpu_usage.total_usage
    assert cpu.throttling_data.periods >= cpu.throttling_data.throttled_periods > 0
    memory = now.cgroup_stats.memory_stats
    assert 64 << 20 >= memory.usage.max_usage >= memory.usage.usage >= memory.cache
    assert memory.stats["pgfault"] > 0
    assert [one.name for one in now.network_stats] == ["lo"]
    return now


async def test_every_field(api, bundle):
    now = await check_all_fields(api, bundle)
    cpu, memory = now.cgroup_stats.cpu_stats.cpu_usage, now.cgroup_stats.memory_stats
    if not bed.has_cgroup2():
        assert sum(cpu.percpu_usage) == pytest.approx(cpu.total_usage, rel=0.1)
        assert memory.stats["total_cache"] > 4 << 20
        return
    assert not cpu.percpu_usage
    assert cpu.usage_in_usermode > 0
    assert memory.stats["file"] == memory.cache
    assert memory.kernel_usage.usage > 0
    assert memory.swap_usage.usage >= memory.usage.usage


@pytest.mark.cgroup2
async def test_every_field_on_cgroup_v2(api, bundle):
    await test_every_field(api, bundle)


async def test_what_its_interfaces_have_counted(api, bundle):
    await api.client.create_container("c1", str(bundle(TALKS)))
    async with aclosing(api.client.stats("c1", interval_s=0.1)) as stream:
        async for now in stream:
            (lo,) = now.network_stats
            if lo.rx_Packets:
                break
    assert (lo.rx_bytes, lo.rx_Packets) == (lo.Tx_bytes, lo.Tx_packets)
    assert lo.rx_bytes > 0
    assert (lo.Rx_errors, lo.Rx_dropped, lo.Tx_errors, lo.Tx_dropped) == (0, 0, 0, 0)


async def test_the_hosts_network_is_nobodys(api, bundle):
    folder = bundle(
        ["sleep", "1000"], linux={"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}]}
    )
    await api.client.create_container("c1", str(folder))
    (now,) = await looks(api, "c1", 1)
    assert not now.network_stats
    assert now.HasField("cgroup_stats")


async def test_the_stream_ends_with_the_container(api, bundle):
    await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    stream = api.client.stats("c1", interval_s=600)
    await anext(stream)
    waiting = asyncio.create_task(anext(stream, None))
    await api.client.update_container("c1", signal=9)
    # Long before the next look.
    assert await waiting is None


async def test_a_shim_that_is_killed(api, bundle):
    pid = await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    stream = api.client.stats("c1", interval_s=600)
    await anext(stream)
    waiting = asyncio.create_task(anext(stream, None))
    os.kill(_parent(pid), signal.SIGKILL)
    with pytest.raises(Unavailable):
        await waiting


def _parent(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("PPid:"))


async def test_who_has_no_statistics(api, bundle):
    with pytest.raises(NotFound, match="nobody"):
        await looks(api, "nobody", 1)
    with pytest.raises(InvalidArgument):
        await looks(api, "", 1)
    with pytest.raises(InvalidArgument):
        await looks(api, "../c1", 1)
    await api.ocishim("run", "-d", bundle(["true"]), "c1")
    await api.ocishim("wait", "c1")
    with pytest.raises(FailedPrecondition, match="has ended"):
        await looks(api, "c1", 1)
    assert api.server._stats._samples == {}


@pytest.mark.parametrize("value", ["", "x", "0", "0.09", "-1", "nan", "inf", "1e9"])
async def test_an_interval_that_cannot_be(api, value):
    call = api.client._stream("GetStats", wire.StatsRequest(id="c1"), Stats, {INTERVAL_KEY: value})
    with pytest.raises(InvalidArgument, match=INTERVAL_KEY):
        await translated(api.client, call)


async def test_a_thousand_streams_cost_one_reading_each_time(api, bundle, monkeypatch):
    await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    readings = 0
    connect = api.server._stats._connect

    async def counted(container_id):
        nonlocal readings
        connection = await connect(container_id)
        stats = connection.stats

        async def counting(name):
            nonlocal readings
            readings += 1
            return await stats(name)

        connection.stats = counting
        return connection

    monkeypatch.setattr(api.server._stats, "_connect", counted)
    async with Client(api.url) as client:
        streams = [client.stats("c1", interval_s=0.5) for _ in range(1000)]
        first = await asyncio.gather(*(anext(stream) for stream in streams))
        assert len(first) == 1000
        before = readings
        await asyncio.gather(*(anext(stream) for stream in streams))
        # As many as one stream would have cost in that time.
        (samples,) = api.server._stats._samples.values()
        assert (readings, samples.users) == (samples.number, 1000)
        assert readings - before < 20
        for stream in streams:
            await stream.aclose()
    await until(lambda: not api.server._stats._samples)


async def test_streams_at_other_intervals_do_not_disturb_each_other(api, bundle):
    await api.client.create_container("c1", str(bundle(["sleep", "1000"])))
    slow = api.client.stats("c1", interval_s=600)
    await anext(slow)
    assert len(await looks(api, "c1", 3)) == 3
    assert len(api.server._stats._samples) >= 1
    await slow.aclose()
    await until(lambda: not api.server._stats._samples)
