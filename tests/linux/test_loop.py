"""Mounts of image files: real loop devices, which are free again when nobody uses them."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
from support.bed import until

from shim.linux.loop import attach_loop
from shim.linux.mounts import Mount, mount_all, unmount_tree

pytestmark = pytest.mark.root


def backing_files(folder):
    """Of those in ``folder``: loop devices are the whole machine's."""
    found = (file.read_text().strip() for file in Path("/sys/block").glob("loop*/loop/backing_file"))
    return [path for path in found if path.startswith(f"{folder}/")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    (folder / "content").mkdir()
    (folder / "content" / "file").write_text("of the image")
    image = folder / "image"
    image.write_bytes(b"")
    os.truncate(image, 1 << 20)
    command = ["mkfs.ext4", "-q", "-O", "^has_journal", "-d", folder / "content", image]
    subprocess.run(command, check=True)
    return image


@pytest.fixture
def image(made, state_root):
    path = state_root / "image"
    path.write_bytes(made.read_bytes())
    (state_root / "rootfs").mkdir()
    yield path
    assert unmount_tree(str(state_root)) == []
    until(lambda: not backing_files(state_root), "a loop device is still in use")


@pytest.mark.parametrize("access", ["ro", "rw"])
def test_an_image_is_mounted(image, access):
    rootfs = image.parent / "rootfs"
    mount_all([Mount("ext4", str(image), "", ("loop", access))], str(rootfs))
    assert backing_files(image.parent) == [str(image)]
    assert (rootfs / "file").read_text() == "of the image"
    if access == "ro":
        with pytest.raises(OSError, match="Read-only file system"):
            (rootfs / "new").touch()
    else:
        (rootfs / "new").touch()


def test_an_image_without_write_permission_is_mounted_read_only(image):
    image.chmod(0o400)
    rootfs = image.parent / "rootfs"
    mount_all([Mount("ext4", str(image), "", ("ro", "loop"))], str(rootfs))
    (device,) = [p for p in Path("/sys/block").glob("loop*/loop/backing_file") if str(image) in p.read_text()]
    assert (device.parent.parent / "ro").read_text() == "1\n"


def test_what_is_no_file_system_leaves_no_device(image):
    image.write_bytes(bytes(1 << 16))
    with pytest.raises(OSError, match=r"cannot mount ext4 .*: Invalid argument"):
        mount_all([Mount("ext4", str(image), "", ("loop",))], str(image.parent / "rootfs"))


def test_a_device_taken_by_somebody_else_is_not_ours(image, monkeypatch):
    path, first = attach_loop(image, read_only=True)
    answers = [int(path.removeprefix("/dev/loop"))]
    real = attach_loop.__globals__["fcntl"].ioctl

    def ioctl(fd, request, *args):
        return answers.pop() if request == 0x4C82 and answers else real(fd, request, *args)

    monkeypatch.setattr("shim.linux.loop.fcntl.ioctl", ioctl)
    other, second = attach_loop(image, read_only=True)
    with first, second:
        assert other != path
        assert backing_files(image.parent) == [str(image)] * 2


def test_no_loop_device_without_a_driver(image, monkeypatch):
    real = os.open

    def no_control(path, flags, *rest):
        if path == "/dev/loop-control":
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return real(path, flags, *rest)

    monkeypatch.setattr("shim.linux.loop.os.open", no_control)
    with pytest.raises(OSError, match=r"No such file.*loop-control"):
        attach_loop(image, read_only=True)
