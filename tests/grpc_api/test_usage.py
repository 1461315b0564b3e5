"""What a shim says of a container's use, as the first API's Stats: each number in its place."""

from __future__ import annotations

import itertools

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict

from shim.errors import Internal, Unimplemented
from shim.grpc_api.usage import to_cgroup_stats
from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2


def numbered(message, numbers):
    """Every number of the message is another one; of repeated fields there is one."""
    for field in message.DESCRIPTOR.fields:
        if field.type == field.TYPE_MESSAGE:
            inner = getattr(message, field.name)
            numbered(inner.add() if field.is_repeated else inner, numbers)
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, "2MB" if field.name == "pagesize" else "Read")
        elif field.is_repeated:
            getattr(message, field.name).extend([next(numbers), next(numbers)])
        else:
            setattr(message, field.name, next(numbers))
    return message


def converted(metrics) -> dict:
    made = AnyMessage(type_url=metrics.DESCRIPTOR.full_name, value=metrics.SerializeToString())
    return MessageToDict(to_cgroup_stats(made), preserving_proto_field_name=True)


def ints(value):
    """Strings of digits, as JSON has 64 bits, as numbers."""
    if isinstance(value, dict):
        return {name: ints(member) for name, member in value.items()}
    if isinstance(value, list):
        return [ints(member) for member in value]
    return int(value) if isinstance(value, str) and value.isdigit() else value


def test_v1_is_as_the_kernel_says():
    metrics = numbered(MetricsV1(), itertools.count(1))
    found = ints(converted(metrics))
    cpu, memory = metrics.cpu, metrics.memory
    assert found["cpu_stats"] == {
        "cpu_usage": {
            "total_usage": cpu.usage.total,
            "percpu_usage": list(cpu.usage.per_cpu),
            "usage_in_kernelmode": cpu.usage.kernel,
            "usage_in_usermode": cpu.usage.user,
        },
        "throttling_data": {
            "periods": cpu.throttling.periods,
            "throttled_periods": cpu.throttling.throttled_periods,
            "throttled_time": cpu.throttling.throttled_time,
        },
    }
    counters = found["memory_stats"].pop("stats")
    assert found["memory_stats"] == {
        "cache": memory.cache,
        **{
            name: {"usage": entry.usage, "max_usage": entry.max, "failcnt": entry.failcnt}
            for name, entry in (
                ("usage", memory.usage),
                ("swap_usage", memory.swap),
                ("kernel_usage", memory.kernel),
            )
        },
    }
    assert len(counters) == 32
    assert (counters["pgmajfault"], counters["total_pgpgin"]) == (memory.pg_maj_fault, memory.total_pg_pg_in)
    assert (counters["rss"], counters["hierarchical_memory_limit"]) == (
        memory.rss,
        memory.hierarchical_memory_limit,
    )
    assert len(found["blkio_stats"]) == 8
    for name, (entry,) in found["blkio_stats"].items():
        (its,) = getattr(metrics.blkio, name)
        assert entry == {"major": its.major, "minor": its.minor, "op": "Read", "value": its.value}
    (huge,) = metrics.hugetlb
    assert found["hugetlb_stats"] == {
        "2MB": {"usage": huge.usage, "max_usage": huge.max, "failcnt": huge.failcnt}
    }


def test_v2_is_made_like_v1():
    metrics = numbered(MetricsV2(), itertools.count(1))
    found = ints(converted(metrics))
    cpu, memory = metrics.cpu, metrics.memory
    assert found["cpu_stats"] == {
        "cpu_usage": {
            "total_usage": cpu.usage_usec * 1000,
            "usage_in_kernelmode": cpu.system_usec * 1000,
            "usage_in_usermode": cpu.user_usec * 1000,
        },
        "throttling_data": {
            "periods": cpu.nr_periods,
            "throttled_periods": cpu.nr_throttled,
            "throttled_time": cpu.throttled_usec * 1000,
        },
    }
    counters = found["memory_stats"].pop("stats")
    assert found["memory_stats"] == {
        "cache": memory.file,
        "usage": {
            "usage": memory.usage,
            "max_usage": memory.max_usage,
            "failcnt": metrics.memory_events.max,
        },
        "swap_usage": {
            "usage": memory.usage + memory.swap_usage,
            "max_usage": memory.max_usage + memory.swap_max_usage,
        },
        "kernel_usage": {"usage": memory.kernel_stack + memory.slab},
    }
    assert len(counters) == 31
    assert (counters["anon"], counters["thp_collapse_alloc"]) == (memory.anon, memory.thp_collapse_alloc)
    (device,) = metrics.io.usage
    where = {"major": device.major, "minor": device.minor}
    assert found["blkio_stats"] == {
        "io_service_bytes_recursive": [
            {**where, "op": "Read", "value": device.rbytes},
            {**where, "op": "Write", "value": device.wbytes},
        ],
        "io_serviced_recursive": [
            {**where, "op": "Read", "value": device.rios},
            {**where, "op": "Write", "value": device.wios},
        ],
    }
    (huge,) = metrics.hugetlb
    assert found["hugetlb_stats"] == {"2MB": {"usage": huge.current, "failcnt": huge.failcnt}}


def test_what_is_neither():
    with pytest.raises(Unimplemented, match=r"x\.Metrics"):
        to_cgroup_stats(AnyMessage(type_url="x.Metrics"))
    with pytest.raises(Internal, match="cannot be decoded"):
        to_cgroup_stats(AnyMessage(type_url="io.containerd.cgroups.v2.Metrics", value=b"\xff"))
