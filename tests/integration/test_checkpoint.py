"""A container is written to an image and goes on from it: with criu under runc, gVisor without."""

from __future__ import annotations

import json

import pytest
from google.protobuf.any_pb2 import Any
from support import bed
from support.shims import raises

from shim.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unknown
from shim.proto.runc_options_pb2 import CheckpointOptions, Options

COUNT = ["sh", "-c", "i=0; while :; do echo count $i; i=$((i+1)); sleep 0.02; done"]

# A connection within the container, which criu does not take without being told to.
CONNECTED = """
mkfifo /tmp/f; exec 8<>/tmp/f
nc -l -p 7 <&8 & until netstat -ltn | grep -q :7; do :; done
nc 127.0.0.1 7 <&8 & until netstat -tn | grep -q ESTAB; do :; done
echo up; wait
"""

pytestmark = pytest.mark.root
criu = pytest.mark.criu

# A gVisor sandbox exits with 0 when it has been written to an image.
RUNTIMES = [pytest.param("runc", 137, marks=criu), *([("runsc", 0)] if bed.has_steady_runsc() else [])]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image"
    path.mkdir()
    return path


def checkpoint(container, image, **options):
    value = CheckpointOptions(**options).SerializeToString()
    wire = Any(type_url="containerd.runc.v1.CheckpointOptions", value=value)
    container.call("Checkpoint", path=str(image), options=wire)


def restorable(shim, old, image, streams, **config):
    """A container of the same bundle, which Start will restore."""
    return shim.container(old.bundle, id=old.id, streams=streams, checkpoint=str(image), **config)


def numbers(output):
    words = [line.split() for line in output.decode().splitlines()]
    return [int(line[1]) for line in words if line[:1] == ["count"]]


def files(container):
    return {entry.name for entry in container.bundle.iterdir()}


@pytest.mark.parametrize(("runtime", "status"), RUNTIMES)
def test_a_counter_goes_on_counting(shim, image, runtime, status):
    streams = shim.streams()
    container = shim.running(COUNT, streams=streams, runtime=runtime)
    streams.read_until(b"count 3\n")
    checkpoint(container, image, exit=True)
    assert container.wait() == status
    container.delete()
    counted = numbers(streams.read())
    assert counted == list(range(len(counted)))
    assert not list(image.glob("*.log"))

    again = shim.streams()
    restored = restorable(shim, container, image, again, runtime=runtime)
    assert (restored.state(), restored.pid, restored.pids()) == ("CREATED", 0, [])
    pid = restored.start()
    assert restored.state() == "RUNNING"
    assert pid in restored.pids()
    again.read_until(b"count %d\n" % (len(counted) + 20))
    counted_again = numbers(again.seen())
    assert counted_again == list(range(len(counted), len(counted) + len(counted_again)))
    assert restored.end() == 137
    assert files(restored) == {"config.json", "exit.json"}


@criu
def test_a_container_may_run_on_and_its_copy_beside_it(shim, image):
    streams = shim.streams(terminal=True)
    container = shim.running(COUNT, streams=streams)
    streams.read_until(b"count 1\r\n")
    checkpoint(container, image)
    assert container.state() == "RUNNING"
    streams.read_until(b"count %d\r\n" % (numbers(streams.seen())[-1] + 5))
    container.end()
    again = shim.streams(terminal=True)
    restored = restorable(shim, container, image, again)
    restored.start()
    again.read_until(b"count ")
    restored.end()


@criu
def test_the_paths_that_the_options_name(shim, image, tmp_path):
    """containerd hands an image of the client's own through like this when the runtime is not called runc."""
    elsewhere, work = tmp_path / "made up", tmp_path / "work"
    elsewhere.mkdir()
    container = shim.running(["sleep", "1000"])
    checkpoint(container, elsewhere, image_path=str(image), work_path=str(work), exit=True)
    container.wait()
    container.delete()
    assert list(elsewhere.iterdir()) == []
    options = Options(criu_image_path=str(image), criu_work_path=str(work)).SerializeToString()
    wire = Any(type_url="containerd.runc.v1.Options", value=options)
    shim.call("Create", id=container.id, bundle=str(container.bundle), options=wire)
    assert container.start() in container.pids()
    container.end()
    assert {"dump.log", "restore.log"} <= {path.name for path in work.iterdir()}


@criu
def test_a_checkpoint_that_fails_says_where_the_log_is(shim, image):
    streams = shim.streams()
    container = shim.running(["sh", "-c", CONNECTED], streams=streams)
    streams.read_until(b"up")
    log = container.bundle / "criu-dump.log"
    with raises(Unknown, "OCI runtime checkpoint failed: criu failed", str(log)):
        checkpoint(container, image)
    assert "--tcp-established" in log.read_text()
    assert container.state() == "RUNNING"
    checkpoint(container, image, open_tcp=True, exit=True)
    assert container.wait() == 137
    assert not log.exists()


@criu
def test_a_restore_that_fails_has_ended(shim, image):
    (image / "descriptors.json").write_text(json.dumps(["/dev/null"] * 3))
    container = shim.container()
    container.delete()
    restored = restorable(shim, container, image, shim.streams())
    waiting = restored.begin("Wait")
    with raises(Unknown, "OCI runtime restore failed: criu failed", str(restored.bundle)):
        restored.start()
    assert waiting.result().exit_status == 255
    with raises(FailedPrecondition, "cannot start", "stopped"):
        restored.start()
    assert restored.delete().exit_status == 255


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [("image", InvalidArgument, "must be an absolute path"), ("/no/image", NotFound, "/no/image does not")],
)
def test_an_image_that_is_not_there(shim, bundle, path, kind, words):
    with raises(kind, words):
        shim.call("Create", id="c", bundle=str(bundle(["true"])), checkpoint=path)


@criu
def test_an_open_connection_is_restored_without_being_told(shim, image):
    """criu needs to hear of it both times; what it heard the first time stands in the image."""
    streams = shim.streams()
    container = shim.running(["sh", "-c", CONNECTED], streams=streams)
    streams.read_until(b"up")
    checkpoint(container, image, open_tcp=True, exit=True)
    container.wait()
    container.delete()
    restored = restorable(shim, container, image, shim.streams())
    assert restored.start() in restored.pids()
    restored.end()


def test_an_image_with_a_broken_note(shim, image, bundle):
    (image / "ocishim.json").write_text('{"schema": 1, "image_path": "/elsewhere"}')
    with raises(DataLoss, str(image), "other members"):
        shim.call("Create", id="c", bundle=str(bundle(["true"])), checkpoint=str(image))
