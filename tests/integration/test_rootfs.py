"""Root filesystems that Create mounts: of an image file, and with other owners than on disk."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from support import bed
from support.shims import raises

from shim.errors import InvalidArgument

pytestmark = pytest.mark.root

SCRIPT = ["sh", "-c", "stat -c %u:%g /bin/busybox; echo new > /new && cat /new"]
OUTSIDE = 100000
WRITABLE = {"path": "rootfs", "readonly": False}


def is_in_use(image):
    """By a loop device."""
    found = (file.read_text().strip() for file in Path("/sys/block").glob("loop*/loop/backing_file"))
    return str(image) in found


def output_of(shim, mount):
    streams = shim.streams(stderr=True)
    container = shim.running(shim.make_bundle(SCRIPT, root=WRITABLE), streams=streams, rootfs=[mount])
    container.wait()
    container.delete()
    assert not os.path.ismount(container.bundle / "rootfs")
    return (streams.read() + streams.read("stderr")).decode()


def test_an_image_file(shim, state_root):
    image = state_root / "image"
    image.touch()
    os.truncate(image, 8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-d", bed.rootfs(), image], check=True)
    mount = {"type": "ext4", "source": str(image), "options": ["loop"]}
    assert output_of(shim, mount) == "0:0\nnew\n"
    mount["options"].append("ro")
    assert "Read-only file system" in output_of(shim, mount)
    bed.until(lambda: not is_in_use(image), "a loop device is still in use")


def test_an_overlay_with_other_owners(shim, tmp_path):
    upper, work = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    options = [f"lowerdir={bed.rootfs()}", f"upperdir={upper}", f"workdir={work}"]
    options += ["uidmap=0:1000:65536", "gidmap=0:2000:65536"]
    assert output_of(shim, {"type": "overlay", "source": "overlay", "options": options}) == "1000:2000\nnew\n"


def test_a_map_that_is_none(shim):
    options = ["rbind", "uidmap=0", "gidmap=0:0:1"]
    mount = {"type": "bind", "source": str(bed.rootfs()), "options": options}
    with raises(InvalidArgument, "cannot mount bind", "'0' is not inside:outside:size"):
        shim.container(rootfs=[mount])


def test_a_user_namespace(shim, tmp_path, state_root):
    """As Kubernetes' pods have it: the container's root is nobody outside, and owns its files all the same."""
    upper, work = tmp_path / "upper", tmp_path / "work"
    for folder in (upper, work):
        folder.mkdir()
        os.chown(folder, OUTSIDE, OUTSIDE)
    options = [f"lowerdir={bed.rootfs()}", f"upperdir={upper}", f"workdir={work}"]
    options += [f"uidmap=0:{OUTSIDE}:65536", f"gidmap=0:{OUTSIDE}:65536"]
    config = json.loads((shim.make_bundle(SCRIPT, root=WRITABLE) / "config.json").read_text())
    ids = [{"containerID": 0, "hostID": OUTSIDE, "size": 65536}]
    config["linux"] |= {"uidMappings": ids, "gidMappings": ids}
    config["linux"]["namespaces"].append({"type": "user"})
    (state_root / "config.json").write_text(json.dumps(config))
    # The container's root has to get to its rootfs.
    state_root.chmod(0o711)
    streams = shim.streams(stderr=True)
    mount = {"type": "overlay", "source": "overlay", "options": options}
    owner = {"io_uid": OUTSIDE, "io_gid": OUTSIDE}
    container = shim.container(state_root, streams=streams, rootfs=[mount], **owner)
    assert Path(f"/proc/{container.pid}/uid_map").read_text().split() == ["0", str(OUTSIDE), "65536"]
    container.start()
    assert container.wait() == 0, streams.read("stderr")
    container.delete()
    assert streams.read() == b"0:0\nnew\n"
    assert (upper / "new").stat().st_uid == OUTSIDE
