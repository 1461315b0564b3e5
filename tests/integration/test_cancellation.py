"""Clients that go away in the middle of something: it is done, or nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time

import pytest
from support import bed
from support.client_streams import until
from support.mounts import mount_points
from support.shims import Connection, options, raises

from shim.errors import Canceled, DeadlineExceeded, NotFound, ShimError

pytestmark = pytest.mark.root


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_client_goes_away_during_create(shim, runtime):
    bundle = shim.make_bundle(["sleep", "1000"])
    with shim.process.connect() as other:
        other.begin("Create", id="left", bundle=str(bundle), options=options(runtime=runtime))
    until(lambda: shim.inspect()["containers"] == ["left"], "the container")
    assert shim.call("State", id="left").pid
    shim.call("Start", id="left")
    shim.call("Kill", id="left", signal=9)
    assert shim.call("Wait", id="left").exit_status == 137


def test_a_deadline_passes_during_create(shim):
    bundle = shim.make_bundle(["sleep", "1000"])
    with raises(DeadlineExceeded):
        shim.call("Create", id="late", bundle=str(bundle), options=options(), timeout=0.001)
    until(lambda: shim.inspect()["containers"] == ["late"], "the container")
    shim.call("Delete", id="late")


def test_what_is_deleted_while_it_is_created_never_was(shim):
    """containerd deletes what it has given up on; here the client of the output has gone, so nobody opens the FIFO."""
    bundle = shim.make_bundle(["sleep", "1000"])
    streams = shim.streams()
    streams.close_reader()
    creating = shim.begin("Create", id="c", bundle=str(bundle), options=options(), **streams.fields)
    with raises(NotFound, "c"):
        shim.call("Delete", id="c")
    with raises(Canceled, "was deleted while it was created"):
        creating.result()
    assert shim.inspect()["containers"] == []
    assert os.listdir(bundle) == ["config.json"]
    shim.container(bundle, id="c").delete()


def test_a_client_goes_away_during_delete(shim):
    container = shim.running(["true"])
    container.wait()
    with shim.process.connect() as other:
        other.begin("Delete", id=container.id)
    until(lambda: not shim.inspect()["containers"], "the deletion")
    with raises(NotFound, container.id):
        container.delete()


def test_creates_are_cancelled_at_any_moment(shim):
    """The connection is closed, or the deadline passes, while it is made; what is made all the same can be deleted."""
    dice = random.Random(20261127)
    source = json.loads((shim.make_bundle(["true"]) / "config.json").read_text())["root"]["path"]
    rootfs = [{"type": "bind", "source": source, "options": ["rbind", "ro"]}]
    for number in range(bed.scaled(40)):
        bundle = shim.make_bundle(["sleep", "1000"], root={"path": "rootfs"})
        moment = dice.random() * 0.05
        with shim.process.connect() as client:
            creating = client.begin(
                "Create",
                id=f"n{number}",
                bundle=str(bundle),
                rootfs=rootfs,
                options=options(),
                timeout=moment if number % 2 else None,
            )
            time.sleep(moment)
            with contextlib.suppress(DeadlineExceeded):
                if number % 2:
                    creating.result()
        take_away(shim)
        assert f"{bundle}/rootfs" not in mount_points().values()


def test_clients_go_away_at_any_moment(shim):
    """A hundred lives, each cut at a random point: connections closed, deadlines missed, or both."""
    dice = random.Random(20261126)
    for number in range(100):
        bundle = shim.make_bundle(["sh", "-c", "sleep 0.01; exit 3"])
        with shim.process.connect() as client:
            live(client, f"n{number}", str(bundle), until_s=time.monotonic() + dice.random() * 0.12)
        if number % 4 == 3:
            take_away(shim)
    take_away(shim)
    assert shim.inspect()["containers"] == []


def live(client: Connection, name: str, bundle: str, until_s: float) -> None:
    """Create to Delete, given up at ``until_s``: nothing more is asked, and no answer waited for."""
    steps = [
        ("Create", {"bundle": bundle, "options": options()}),
        ("Start", {}),
        ("Wait", {}),
        ("Delete", {}),
    ]
    for method, fields in steps:
        try:
            client.call(method, id=name, timeout=max(0.001, until_s - time.monotonic()), **fields)
        except DeadlineExceeded:
            return


def take_away(shim) -> None:
    """As containerd does with what it finds: until the shim has nothing any more, nor is making anything."""
    deadline = time.monotonic() + 60
    while (about := shim.inspect())["containers"] or about["creating"] or about["children"]:
        assert time.monotonic() < deadline, about
        for name in about["containers"]:
            for method, fields in (("Kill", {"signal": 9}), ("Wait", {}), ("Delete", {})):
                with contextlib.suppress(ShimError):
                    shim.call(method, id=name, **fields)
