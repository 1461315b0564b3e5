"""Many containers, one after the other and at once; the fixture counts what they leave."""

from __future__ import annotations

import pytest
from support.shims import options

pytestmark = [pytest.mark.root, pytest.mark.slow]

# crun is the fastest, so it does the most.
COUNTS = {"crun": 200, "runc": 20, "runsc": 5}


def test_many_in_a_row(shim, runtime):
    streams = shim.streams(stdin=True, stderr=True)
    bundle = shim.make_bundle(["sh", "-c", "echo x; exit 7"])
    before = shim.inspect()
    count = COUNTS[runtime]
    for _ in range(count):
        container = shim.container(bundle, streams=streams, runtime=runtime)
        waiting = container.begin("Wait")
        container.start()
        assert waiting.result().exit_status == 7
        container.delete()
        assert streams.seen().endswith(b"x\n")
    assert len(streams.seen()) == 2 * count
    after = shim.inspect()
    assert {k: after[k] for k in ("fds", "children", "threads", "containers")} == {
        k: before[k] for k in ("fds", "children", "threads", "containers")
    }
    assert after["rss_bytes"] - before["rss_bytes"] < 8 << 20


def test_fifty_at_once(shim):
    streams = [shim.streams(stdin=True, stderr=True) for _ in range(50)]
    script = ["sh", "-c", "cat; echo end >&2; exit 7"]
    containers = [shim.container(script, streams=s) for s in streams]
    waits = [c.begin("Wait") for c in containers]
    for starting in [c.begin("Start") for c in containers]:
        starting.result()
    assert len(shim.inspect()["containers"]) == 50
    for number, (container, stream) in enumerate(zip(containers, streams, strict=True)):
        assert container.state() == "RUNNING"
        stream.write(str(number).encode())
        stream.close_stdin()
        container.call("CloseIO", stdin=True)
    assert {w.result().exit_status for w in waits} == {7}
    for deleting in [c.begin("Delete") for c in containers]:
        assert deleting.result().exit_status == 7
    for number, stream in enumerate(streams):
        assert stream.read() == str(number).encode()
        assert stream.read("stderr") == b"end\n"


def test_fifty_creates_at_once(shim):
    bundles = [shim.make_bundle(["sleep", "1000"]) for _ in range(50)]
    creating = [
        shim.begin("Create", id=f"n{i}", bundle=str(b), options=options()) for i, b in enumerate(bundles)
    ]
    pids = {call.result().pid for call in creating}
    assert len(pids) == 50
    for killing in [shim.begin("Kill", id=f"n{i}", signal=9) for i in range(50)]:
        killing.result()
    waits = [shim.begin("Wait", id=f"n{i}") for i in range(50)]
    assert {w.result().exit_status for w in waits} == {137}
    for deleting in [shim.begin("Delete", id=f"n{i}") for i in range(50)]:
        deleting.result()
