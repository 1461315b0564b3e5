"""Statistics become the messages of containerd, field by field."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest

from shim.cgroup import legacy_stats, stats
from shim.proto.cgroups_v1_pb2 import Metrics as MetricsV1
from shim.proto.cgroups_v2_pb2 import Metrics as MetricsV2
from shim.service.metrics import to_any

CASES = [(stats, MetricsV2, True), (legacy_stats, MetricsV1, False)]


def filled(kind: Any, module: Any, counter: list[int]) -> Any:
    """A value of the dataclass ``kind`` in which every number is another one."""
    values = {}
    for field, hint in get_type_hints(kind, vars(module)).items():
        values[field] = one(hint, module, counter)
    return kind(**values)


def one(hint: Any, module: Any, counter: list[int]) -> Any:
    inner = [arg for arg in getattr(hint, "__args__", ()) if arg not in {type(None), Ellipsis}]
    if getattr(hint, "__origin__", None) is tuple:
        return tuple(one(inner[0], module, counter) for _ in range(2))
    if inner:
        return one(inner[0], module, counter)
    if is_dataclass(hint):
        return filled(hint, module, counter)
    counter[0] += 1
    return hint(counter[0])


def numbers(value: Any) -> list[str]:
    """All leaves, in the order of the dataclass's fields."""
    if is_dataclass(value):
        return [leaf for field in fields(value) for leaf in numbers(getattr(value, field.name))]
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in numbers(item)]
    return [str(value)]


def leaves(message: Any) -> list[str]:
    found = []
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            found += leaves(item) if field.message_type else [str(item)]
    return found


@pytest.mark.parametrize(("module", "message", "unified"), CASES, ids=["v2", "v1"])
def test_every_number_arrives(module, message, unified):
    statistics = filled(module.Stats, module, [0])
    packed = to_any(statistics, unified=unified)
    assert packed.type_url == message.DESCRIPTOR.full_name
    assert sorted(leaves(message.FromString(packed.value))) == sorted(numbers(statistics))


@pytest.mark.parametrize(("module", "message", "unified"), CASES, ids=["v2", "v1"])
def test_nothing_known_is_no_error(module, message, unified):
    assert message.FromString(to_any(module.Stats(), unified=unified).value) is not None
