"""Descriptors and processes run out: what cannot be done is refused, and nothing of it is left."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.root


@contextmanager
def open_files(soft: int) -> Iterator[None]:
    """This process, and whoever is started now, has that soft limit."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_shim_has_all_descriptors_and_its_containers_what_they_had(start, lend):
    """By crun, which passes its own limit on; some versions of Go raise runc's, whoever runs it."""
    with open_files(700):
        process = start()
    shim = lend(process)
    shim.call("Connect", id="x")
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard
    streams = shim.streams()
    own, told = shim.make_bundle(["sh", "-c", "ulimit -Sn"], process={"rlimits": None}), []
    for bundle in (
        own,
        shim.make_bundle(
            ["sh", "-c", "ulimit -Sn"],
            process={"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 900, "hard": 1000}]},
        ),
    ):
        container = shim.running(bundle, streams=streams, runtime="crun")
        container.wait()
        container.delete()
        told.append(streams.seen().split()[-1])
    assert told == [b"700", b"900"]
    shim.close_streams()
    process.shutdown()
