"""A container's whole life over the real socket, with each runtime."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.root


def test_a_container_runs_to_its_end(shim, runtime):
    streams = shim.streams(stdin=True, stderr=True)
    container = shim.container(["sh", "-c", "cat; echo err >&2; exit 19"], streams=streams, runtime=runtime)
    waiting = container.begin("Wait")
    assert container.state() == "CREATED"
    assert container.start() == container.pid
    assert container.state() == "RUNNING"
    assert container.pid in container.pids()
    streams.write(b"hello\n")
    streams.close_stdin()
    container.call("CloseIO", stdin=True)
    assert waiting.result().exit_status == 19
    assert container.state() == "STOPPED"
    assert container.delete().exit_status == 19
    assert streams.read() == b"hello\n"
    assert streams.read("stderr") == b"err\n"
