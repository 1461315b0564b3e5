"""What a running process in a mount namespace of its own is given, without a runtime: hostile paths, faults, crashes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.cgroup.hierarchy import Hierarchy
from shim.device import Inside
from shim.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ShimError
from shim.sandbox import DeviceConfig, Devices
from shim.sandbox import devices as module

bind_module = sys.modules["shim.device.bind"]  # its name is hidden by that of its function

pytestmark = [pytest.mark.root, pytest.mark.guest, pytest.mark.usefixtures("leaks")]

# Rules are tested in tests/cgroup and, with real runtimes, in tests/cli.
NO_CGROUPS = Hierarchy("none")


class Contained:
    """A process that has pivoted into ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        script = (
            f"mount --bind {root} {root} && cd {root} && mkdir -p old && busybox pivot_root . old && exec /bin/sh -c "
            "'umount -l /old; echo ready; exec sleep inf'"
        )
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    @property
    def pid(self) -> int:
        return self.process.pid

    def sees(self, path: str) -> Path:
        return Path(f"/proc/{self.pid}/root{path}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def contained(tmp_path: Path) -> Iterator[Contained]:
    root = tmp_path / "root"
    for name in ("bin", "dev", "data"):
        (root / name).mkdir(parents=True)
    busybox = Path("/bin/busybox").read_bytes()
    for name in ("sh", "sleep", "umount"):
        (root / "bin" / name).write_bytes(busybox)
        (root / "bin" / name).chmod(0o755)
    inside = Contained(root)
    yield inside
    inside.close()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "file").write_text("of the host\n")
    return folder


@pytest.fixture
def devices(contained: Contained, tmp_path: Path) -> Devices:
    record = tmp_path / "record"
    record.mkdir()
    return Devices(record, contained.pid, NO_CGROUPS)


def mounts(contained: Contained) -> list[str]:
    return [line.split()[4] for line in Path(f"/proc/{contained.pid}/mountinfo").read_text().splitlines()]


def test_a_directory_comes_and_goes(contained, shared, devices):
    before = mounts(contained)
    added = devices.add(DeviceConfig(str(shared), "/data/a/b"))
    assert added.made == ("/data/a", "/data/a/b")
    assert contained.sees("/data/a/b/file").read_text() == "of the host\n"
    contained.sees("/data/a/b/new").write_text("of the container\n")
    assert (shared / "new").read_text() == "of the container\n"
    with contained.sees("/data/a/b/file").open() as kept:
        assert devices.remove("/data/a/b")
        assert kept.read() == "of the host\n"
    assert not devices.remove("/data/a/b")
    assert devices.all() == []
    assert mounts(contained) == before
    assert list((contained.root / "data").iterdir()) == []
    assert (shared / "file").exists()


def test_a_file_and_read_only(contained, shared, devices):
    devices.add(DeviceConfig(str(shared / "file"), "/data/one", read_only=True))
    with pytest.raises(OSError, match="Read-only"):
        contained.sees("/data/one").write_text("x")
    devices.add(DeviceConfig(str(shared), "/data/all", read_only=True))
    with pytest.raises(OSError, match="Read-only"):
        contained.sees("/data/all/x").touch()
    assert [device.to_dict() for device in devices.all()] == [
        {"target": "/data/one", "source": str(shared / "file"), "kind": "mount", "read_only": True},
        {"target": "/data/all", "source": str(shared), "kind": "mount", "read_only": True},
    ]
    devices.remove("/data/all")
    devices.remove("/data/one")


def test_what_was_there_stays_there(contained, shared, devices):
    contained.sees("/data/mine").mkdir()
    devices.add(DeviceConfig(str(shared), "/data/mine"))
    devices.remove("/data/mine")
    assert contained.sees("/data/mine").is_dir()


def test_a_device_node_has_the_modes_of_the_hosts(contained, devices):
    added = devices.add(DeviceConfig("/dev/null", "/dev/nothing", access="rw"))
    node = contained.sees("/dev/nothing").stat()
    host = os.stat("/dev/null")
    assert (node.st_mode, node.st_rdev, node.st_uid) == (host.st_mode, host.st_rdev, host.st_uid)
    assert (added.kind, added.major, added.minor, added.access) == ("c", 1, 3, "rw")
    with contained.sees("/dev/nothing").open("w") as kept:
        assert devices.remove("/dev/nothing")
        kept.write("goes nowhere")
    assert not contained.sees("/dev/nothing").exists()


def test_what_the_container_put_in_its_place_stays(contained, devices):
    devices.add(DeviceConfig("/dev/null", "/dev/nothing"))
    contained.sees("/dev/nothing").unlink()
    contained.sees("/dev/nothing").write_text("mine")
    with pytest.raises(FailedPrecondition, match="another thing by now"):
        devices.remove("/dev/nothing")
    contained.sees("/dev/nothing").unlink()
    assert devices.remove("/dev/nothing")


@pytest.mark.parametrize("link", ["/data/out", "/data/up"])
def test_links_lead_nowhere_but_into_the_container(contained, shared, devices, tmp_path, link):
    target = tmp_path / "host"
    target.mkdir()
    (contained.root / "data" / "out").symlink_to(target)
    (contained.root / "data" / "up").symlink_to("../../../../../../../.." + str(target))
    with pytest.raises(ShimError):
        devices.add(DeviceConfig(str(shared), f"{link}/in"))
    with pytest.raises(ShimError):
        devices.add(DeviceConfig("/dev/null", f"{link}/null"))
    assert list(target.iterdir()) == []
    (contained.root / str(target)[1:]).mkdir(parents=True)
    devices.add(DeviceConfig(str(shared), f"{link}/in"))
    assert (contained.sees(str(target)) / "in" / "file").exists()
    assert list(target.iterdir()) == []
    assert devices.remove(f"{link}/in")


@pytest.mark.parametrize(
    ("config", "error", "text"),
    [
        (DeviceConfig("/no/such", "/data/x"), NotFound, "/no/such"),
        (DeviceConfig("dev/null", "/data/x"), InvalidArgument, "no absolute path"),
        (DeviceConfig("/dev/null", "data/x"), InvalidArgument, "no absolute path inside"),
        (DeviceConfig("/dev/null", "/"), InvalidArgument, "no absolute path inside"),
        (DeviceConfig("/dev/null", "/data/.."), InvalidArgument, "no absolute path inside"),
        (DeviceConfig("/dev/null", "/data/x\0"), InvalidArgument, "no absolute path inside"),
        (DeviceConfig("/dev/null", "/data/x", access="z"), InvalidArgument, "device access 'z'"),
        (
            DeviceConfig("/dev/null", "/data/x", read_only=True, access="w"),
            InvalidArgument,
            "device access ''",
        ),
        (DeviceConfig("/dev/null", "/bin/sh"), AlreadyExists, "cannot be made"),
        (DeviceConfig("/dev/null", "/bin/sh/x"), InvalidArgument, "cannot be made"),
        (DeviceConfig("/etc/hostname", "/data"), ShimError, "cannot be mounted at /data"),
        (DeviceConfig("/etc", "/bin/sh"), ShimError, "cannot be mounted at /bin/sh"),
    ],
)
def test_what_cannot_be_added_leaves_nothing(contained, devices, config, error, text):
    before = mounts(contained)
    with pytest.raises(error, match=text):
        devices.add(config)
    assert devices.all() == []
    assert mounts(contained) == before
    assert list((contained.root / "data").iterdir()) == []


def test_twice_at_one_place(shared, devices):
    devices.add(DeviceConfig(str(shared), "/data/x"))
    with pytest.raises(AlreadyExists, match="remove it first"):
        devices.add(DeviceConfig(str(shared), "/data/x"))
    assert len(devices.all()) == 1
    devices.remove("/data/x")


def test_a_fault_at_any_step_leaves_nothing(contained, shared, devices, monkeypatch):
    before = mounts(contained)

    def fail(*_args, **_kwargs):
        raise OSError(5, "injected")

    for patched in ((module, "_place"), (bind_module, "move_mount"), (bind_module, "open_tree")):
        with monkeypatch.context() as patch:
            patch.setattr(*patched, fail)
            with pytest.raises((ShimError, OSError), match="injected"):
                devices.add(DeviceConfig(str(shared), "/data/x/y"))
        assert devices.all() == []
        assert mounts(contained) == before
        assert list((contained.root / "data").iterdir()) == []


def test_who_dies_half_way_leaves_a_record_by_which_it_is_removed(contained, shared, devices, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "replace", lambda *_a, **_k: os._exit(0))
        child = os.fork()
        if child == 0:
            devices.add(DeviceConfig(str(shared), "/data/x"))
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    assert "/data/x" in mounts(contained)
    (left,) = devices.all()
    assert left.target == "/data/x"
    assert devices.remove("/data/x")
    assert "/data/x" not in mounts(contained)


def test_a_hundred_times(contained, shared, devices, tmp_path):
    descriptors = len(os.listdir("/proc/self/fd"))
    before = mounts(contained)
    for _ in range(100):
        devices.add(DeviceConfig(str(shared), "/data/x"))
        devices.add(DeviceConfig("/dev/null", "/dev/x"))
        devices.remove("/dev/x")
        devices.remove("/data/x")
    assert mounts(contained) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert json.loads((tmp_path / "record" / "devices.json").read_text())["devices"] == []


def test_no_container():
    with pytest.raises(FailedPrecondition, match="the mounts of the host"):
        Inside(os.getpid())
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(FailedPrecondition, match="has ended"):
        Inside(process.pid)
