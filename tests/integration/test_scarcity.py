"""Descriptors and processes run out: what cannot be done is refused, and nothing of it is left."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest
from support import bed
from support.client_streams import Streams
from support.shims import Shim

from shim.errors import NotFound, ResourceExhausted, ShimError

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


def live(shim: Shim, runtime: str, streams: Streams) -> None:
    """All that takes a descriptor or a process: a container and an exec, with their ends."""
    container = shim.running(["sh", "-c", "cat; exit 3"], streams=streams, runtime=runtime, drain_timeout=0.1)
    container.exec("e", ["true"])
    assert container.wait("e") == 0
    container.delete("e")
    container.call("CloseIO", stdin=True)
    assert container.wait() == 3
    container.delete()


def take_away(shim: Shim) -> None:
    """What a client does with a container that it could make and not use."""
    for name in shim.inspect()["containers"]:
        with suppress(NotFound):
            shim.call("Kill", id=name, signal=9)
        shim.call("Wait", id=name)
        shim.call("Delete", id=name)


@pytest.mark.parametrize("runtime_name", ["runc", "crun"])
def test_descriptors_run_out_at_every_step(shim, runtime_name):
    streams = shim.streams(stdin=True, stderr=True)
    live(shim, runtime_name, streams)
    limits = resource.prlimit(shim.process.pid, resource.RLIMIT_NOFILE)
    refused = 0
    for few in range(len(shim.process.descriptors()), 1000):
        resource.prlimit(shim.process.pid, resource.RLIMIT_NOFILE, (few, limits[1]))
        try:
            live(shim, runtime_name, streams)
        except ResourceExhausted as error:
            assert os.strerror(errno.EMFILE) in str(error)  # noqa: PT017 - one of the right answers
            refused += 1
        else:
            break
        finally:
            resource.prlimit(shim.process.pid, resource.RLIMIT_NOFILE, limits)
            take_away(shim)
    assert refused > 5


class ProcessTable:
    """A group with few places for processes and threads, into which a shim is put."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        top = bed.CGROUP if bed.has_cgroup2() else bed.CGROUP / "pids"
        hierarchy = "0::" if bed.has_cgroup2() else ":pids:"
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        self._before = top / next(line.split(":", 2)[2] for line in lines if hierarchy in line).strip("/")
        self._group = top / f"ocishim-few-{pid}"

    def __enter__(self) -> Self:
        self._group.mkdir()
        (self._group / "cgroup.procs").write_text(str(self._pid))
        return self

    def __exit__(self, *_error: object) -> None:
        (self._before / "cgroup.procs").write_text(str(self._pid))
        bed.until(lambda: not (self._group / "cgroup.procs").read_text(), "processes stay")
        self._group.rmdir()

    @contextmanager
    def room_for(self, count: int) -> Iterator[None]:
        """That many more can be started."""
        now = int((self._group / "pids.current").read_text())
        (self._group / "pids.max").write_text(str(now + count))
        yield
        (self._group / "pids.max").write_text("max")


@pytest.mark.parametrize("runtime_name", ["runc", "crun"])
def test_the_process_table_is_full_at_every_step(shim, runtime_name):
    streams = shim.streams(stdin=True, stderr=True)
    live(shim, runtime_name, streams)
    refused = 0
    with ProcessTable(shim.process.pid) as table:
        for room in range(100):
            try:
                with table.room_for(room):
                    live(shim, runtime_name, streams)
            except ShimError as error:
                assert room or isinstance(error, ResourceExhausted)  # noqa: PT017 - one of the right answers
                refused += 1
            else:
                break
            finally:
                take_away(shim)
    assert refused > 1
