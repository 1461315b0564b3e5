"""Requests that cannot work: one clear line, the right code, and nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path

import pytest
from support.mounts import mount_points
from support.shims import options, raises

from shim.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ShimError,
    Unknown,
)
from shim.linux.mounts import mount, umount2

pytestmark = pytest.mark.root


def edit(bundle: Path, **changes: object) -> Path:
    """``bundle`` with other members at the top of its config.json; None removes."""
    config = json.loads((bundle / "config.json").read_text())
    for key, value in changes.items():
        config[key] = value
        if value is None:
            del config[key]
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["not valid JSON"]),
        ("{", ["not valid JSON"]),
        ("[]", ["object"]),
        ("\xff", ["config.json"]),
        ('{"ociVersion": "1.0.2"}', ["process"]),
        ("[" * 100_000, ["config.json"]),
    ],
)
def test_a_config_json_that_is_none(shim, text, words):
    bundle = shim.make_bundle(["true"])
    (bundle / "config.json").write_bytes(text.encode("latin-1"))
    with raises(InvalidArgument, f"config.json of {bundle}", *words):
        shim.container(bundle)


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("ociVersion", "2.0.0", ["ociVersion", "2.0.0"]),
        ("ociVersion", 1, ["ociVersion"]),
        ("process", None, ["process"]),
        ("process", {"args": [], "cwd": "/"}, ["process.args"]),
        ("process", {"args": "true", "cwd": "/"}, ["process.args"]),
        ("process", {"args": ["true"], "cwd": "relative"}, ["process.cwd"]),
        ("root", {"path": ""}, ["root.path"]),
        ("root", {"path": 5}, ["root.path"]),
        ("hostname", 5, ["hostname"]),
        ("linux", {"namespaces": [{"type": "space"}]}, ["linux.namespaces", "space"]),
        ("linux", {"resources": {"memory": {"limit": "much"}}}, ["memory.limit", "much"]),
        ("linux", {"cgroupsPath": "/a/../b"}, ["/a/../b"]),
    ],
)
def test_a_config_json_with_a_wrong_value(shim, member, value, words):
    config = {"cgroup_parent": ""} if "/a/../b" in words else {}
    with raises(InvalidArgument, *words):
        shim.container(edit(shim.make_bundle(["true"]), **{member: value}), **config)


def test_a_bundle_that_is_not_there(shim, tmp_path):
    with raises(NotFound, f"config.json of {tmp_path}/none does not exist"):
        shim.container(tmp_path / "none")
    with raises(NotFound, f"config.json of {tmp_path} does not exist"):
        shim.container(tmp_path)


@pytest.mark.parametrize("path", ["relative/path", "", "/with\0nul"])
def test_a_bundle_that_is_no_absolute_path(shim, path):
    with raises(InvalidArgument, "bundle"):
        shim.call("Create", id="c", bundle=path, options=options())


@pytest.mark.parametrize(
    "container_id",
    ["", "a/b", "..", ".", "../c", "a\0b", "-rf", "x" * 256, "x" * 1025, "ü", "a b", "a\nb"],
)
def test_an_id_that_is_none(shim, container_id):
    bundle = shim.make_bundle(["true"])
    with raises(InvalidArgument, "id"):
        shim.call("Create", id=container_id, bundle=str(bundle), options=options())
    assert os.listdir(bundle) == ["config.json"]


def test_the_longest_id(shim, runtime):
    """255 bytes are a file name; runsc puts the id twice into one, which ends in an error that says so."""
    name = "x" * 255
    if runtime == "runsc":
        with pytest.raises(ShimError, match="name too long"):
            shim.container(id=name, runtime=runtime)
    else:
        assert shim.running(id=name, runtime=runtime).end() == 137


def test_a_root_filesystem_that_is_not_there(shim, tmp_path):
    with raises(NotFound, "root.path", f"{tmp_path}/none"):
        shim.container(edit(shim.make_bundle(["true"]), root={"path": f"{tmp_path}/none"}))
    (tmp_path / "file").write_text("")
    with raises(FailedPrecondition, "root.path", f"{tmp_path}/file", "not a directory"):
        shim.container(edit(shim.make_bundle(["true"]), root={"path": f"{tmp_path}/file"}))


@pytest.mark.parametrize("command", ["nothing-here", "/bin/nothing-here", "/etc", "/etc/passwd"])
def test_a_command_that_cannot_run(shim, runtime, command):
    """Some runtimes say so at Create, others at Start; the container is not left half made."""
    streams = shim.streams(stderr=True)
    with pytest.raises(ShimError) as caught:
        shim.running([command], streams=streams, runtime=runtime)
    assert "\n" not in str(caught.value)
    for container_id in shim.inspect()["containers"]:
        shim.call("Delete", id=container_id)
    assert shim.inspect()["containers"] == []


def test_a_missing_command_keeps_nobody_waiting(shim, runtime):
    """runsc finds out as late as at Start, and leaves a sandbox that can never run."""
    if runtime != "runsc":
        with raises(Unknown, "nothing-here"):
            shim.container(["nothing-here"], runtime=runtime)
        return
    container = shim.container(["nothing-here"], runtime=runtime)
    waiting = container.begin("Wait", timeout=20)
    with raises(Unknown, "nothing-here"):
        container.start()
    assert waiting.result().exit_status
    assert container.state() == "STOPPED"
    container.delete()


@pytest.mark.parametrize(
    ("runtime_name", "words"),
    [
        ("norunc", ["norunc", "not on PATH"]),
        ("/nowhere/runc", ["/nowhere/runc", "does not exist"]),
        ("/etc/passwd", ["/etc/passwd", "not executable"]),
    ],
)
def test_an_unknown_runtime(shim, runtime_name, words):
    with raises(NotFound, *words):
        shim.container(runtime=runtime_name)


def test_mounts_that_cannot_be_made_are_undone(shim, tmp_path):
    bundle = shim.make_bundle(["true"], root={"path": "rootfs"})
    good = {"type": "bind", "source": str(tmp_path), "options": ["rbind"]}
    for bad in (
        {"type": "bind", "source": f"{tmp_path}/none", "options": ["rbind"]},
        {"type": "nofs", "source": "x"},
        {"type": "bind", "source": str(tmp_path), "target": "missing", "options": ["rbind"]},
        {"type": "bind", "source": "/a\0b", "options": ["rbind"]},
    ):
        with pytest.raises(ShimError):
            shim.container(bundle, rootfs=[good, bad])
        assert f"{bundle}/rootfs" not in mount_points().values()


def test_a_full_disk(shim, tmp_path):
    """The bundle lies on a file system without room."""
    made = shim.make_bundle(["sleep", "1000"])
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("none", str(disk), "tmpfs", 0, "size=64k")
    bundle = disk / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_bytes((made / "config.json").read_bytes())
    fill(disk)
    with raises(ResourceExhausted, str(bundle)):
        shim.container(bundle)
    assert os.listdir(bundle) == ["config.json"]
    (disk / "filler").unlink()
    container = shim.running(bundle)
    fill(disk)
    with raises(ResourceExhausted, "no space left"):
        container.exec("e", ["true"])
    assert container.wait("e") == 255
    # Its end cannot be written down, and is told all the same.
    assert container.end() == 137
    umount2(str(disk), 0)


def fill(disk: Path) -> None:
    with open(disk / "filler", "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 1024):
                pass
        except OSError:
            return


def test_limits_that_the_kernel_refuses(shim):
    with raises(InvalidArgument, "1000000"):
        shim.container(cpu_nanos=1)


# Bytes that are no ttrpc.


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0" * 10_000,
        b"\xff" * 10_000,
        os.urandom(100_000),
        struct.pack(">IIBB", 100, 1, 1, 0),
        struct.pack(">IIBB", 5, 1, 1, 0) + b"\xff" * 5,
        struct.pack(">IIBB", 0, 2, 1, 0),
        struct.pack(">IIBB", 0, 1, 99, 0) * 1000,
        struct.pack(">IIBB", 5 << 20, 1, 1, 0) + b"x" * (5 << 20),
    ],
    ids=range(9),
)
def test_garbage_harms_nobody_else(shim, garbage):
    container = shim.container()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(shim.process.address.removeprefix("unix://"))
        try:
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert container.state() == "CREATED"
