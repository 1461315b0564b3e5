"""Real mounts, below a directory of the test's own; what a test leaves mounted is taken away and is a failure."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shim.linux import mount_api as api
from shim.linux import mountinfo, mounts, overlay
from shim.linux.mounts import Mount, mount, mount_all, unmount_tree

MS_MOVE = 8192

pytestmark = pytest.mark.root


def below(path):
    return [entry for entry in mountinfo.read() if entry.mount_point.startswith(str(path))]


def open_fds():
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def tree(tmp_path):
    fds = open_fds()
    for name in ("rootfs", "source", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "file").write_text("source")
    yield tmp_path
    left = unmount_tree(str(tmp_path))
    assert left == []
    assert open_fds() == fds


def layers(tree, count, name="fs"):
    paths = []
    for index in range(count):
        path = tree / "snapshots" / str(index) / name
        path.mkdir(parents=True)
        (path / f"from{index}").touch()
        paths.append(str(path))
    return paths


def kernel():
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


def options_of(path):
    return next(e.options for e in reversed(mountinfo.read()) if e.mount_point == str(path)).split(",")


def test_a_read_only_bind_is_read_only(tree):
    mount_all([Mount("bind", str(tree / "source"), "", ("rbind", "ro"))], str(tree / "rootfs"))
    assert (tree / "rootfs" / "file").read_text() == "source"
    with pytest.raises(OSError, match="Read-only file system"):
        (tree / "rootfs" / "new").touch()
    (tree / "source" / "new").touch()


def test_flags_of_a_bind_take_effect_and_those_of_its_source_stay(tree):
    rootfs = tree / "rootfs"
    mount("tmpfs", tree / "upper", "tmpfs", api.MS_NOEXEC)
    mount_all([Mount("bind", str(tree / "upper"), "", ("bind", "nodev", "ro"))], str(rootfs))
    assert {"ro", "nodev", "noexec"} <= set(options_of(rootfs))
    unmount_tree(str(rootfs))
    mount_all([Mount("bind", str(tree / "upper"), "", ("bind", "exec"))], str(rootfs))
    assert "noexec" not in options_of(rootfs)


def test_bind_without_the_option(tree):
    mount_all([Mount("bind", str(tree / "source"), "")], str(tree / "rootfs"))
    assert (tree / "rootfs" / "file").exists()


def test_tmpfs_with_data_and_propagation(tree):
    options = ("size=64k", "nosuid", "rprivate")
    mount_all([Mount("tmpfs", "tmpfs", "", options)], str(tree / "rootfs"))
    entry = below(tree / "rootfs")[0]
    assert entry.fs_type == "tmpfs"
    assert "size=64k" in entry.super_options
    assert "nosuid" in entry.options
    assert entry.propagation == ()


def test_overlay_then_a_mount_inside_it(tree):
    one, two = layers(tree, 2)
    (Path(one) / "data").mkdir()
    mount_all(
        [
            Mount(
                "overlay",
                "overlay",
                "",
                (f"lowerdir={one}:{two}", f"upperdir={tree}/upper", f"workdir={tree}/work", "index=off"),
            ),
            Mount("bind", str(tree / "source"), "/data", ("bind",)),
        ],
        str(tree / "rootfs"),
    )
    assert {"from0", "from1", "data"} == {entry.name for entry in (tree / "rootfs").iterdir()}
    assert (tree / "rootfs" / "data" / "file").read_text() == "source"
    (tree / "rootfs" / "written").touch()
    assert (tree / "upper" / "written").exists()
    assert unmount_tree(str(tree / "rootfs")) == []


@pytest.mark.parametrize("way", ["piecewise", "relative"])
def test_overlay_longer_than_a_page(tree, monkeypatch, way):
    def unavailable(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    if way == "relative":
        monkeypatch.setattr(overlay, "_mount_piecewise", unavailable)
    elif kernel() >= (6, 8):
        monkeypatch.setattr(overlay, "_mount_relative", unavailable)
    lowers = layers(tree, 60, name="f" * 30)
    assert len(":".join(lowers)) > os.sysconf("SC_PAGE_SIZE")
    cwd = Path.cwd()
    options = (f"lowerdir={':'.join(lowers)}", f"upperdir={tree}/upper", f"workdir={tree}/work", "nodev")
    mount_all([Mount("overlay", "overlay", "", options)], str(tree / "rootfs"))
    assert len(list((tree / "rootfs").iterdir())) == 60
    assert "nodev" in options_of(tree / "rootfs")
    assert Path.cwd() == cwd


def test_read_only_overlay_longer_than_a_page(tree):
    lowers = layers(tree, 60, name="f" * 30)
    options = (f"lowerdir={':'.join(lowers)}", "ro", "noatime")
    mount_all([Mount("overlay", "overlay", "", options)], str(tree / "rootfs"))
    assert {"ro", "noatime"} <= set(options_of(tree / "rootfs"))


def test_overlay_that_nothing_can_express(tree):
    lowers = layers(tree, 60, name="f" * 240)
    with pytest.raises(OSError, match="cannot mount overlay overlay: ") as caught:
        mount_all(
            [Mount("overlay", "overlay", "", (f"lowerdir={':'.join(lowers)}", "no_such_option"))],
            str(tree / "rootfs"),
        )
    assert caught.value.errno == errno.E2BIG
    assert below(tree) == []


def test_options_longer_than_a_page_are_not_cut(tree):
    with pytest.raises(OSError, match="more than fit a page") as caught:
        mount_all([Mount("tmpfs", "tmpfs", "", ("size=1m," * 600,))], str(tree / "rootfs"))
    assert caught.value.errno == errno.E2BIG


def test_a_link_in_the_root_does_not_lead_out(tree):
    rootfs = tree / "rootfs"
    (rootfs / "inside").mkdir()
    (rootfs / "link").symlink_to("/inside")
    (rootfs / "up").symlink_to("../../../../inside")
    for target in ("/link", "up"):
        mount_all([Mount("tmpfs", "tmpfs", target)], str(rootfs))
        assert [entry.mount_point for entry in below(tree)] == [str(rootfs / "inside")]
        assert unmount_tree(str(rootfs)) == []


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (Mount("tmpfs", "tmpfs", "/none"), "cannot mount tmpfs tmpfs: No such file"),
        (Mount("nosuchfs", "x", ""), "cannot mount nosuchfs x: No such device"),
        (Mount("bind", "/no/such/source", "", ("bind",)), "cannot mount bind /no/such/source: No such file"),
        (Mount("tmpfs", "tmpfs", "", ("size=banana",)), "cannot mount tmpfs tmpfs: Invalid argument"),
        (Mount("ext4", "/no/image", "", ("loop",)), "cannot mount ext4 /no/image: No such file"),
        (Mount("ext4", "/dev/null", "", ("loop",)), "cannot mount ext4 /dev/null: Invalid argument"),
        (Mount("tmpfs", "x", "", ("uidmap=0:1:2",)), "needs both uidmap= and gidmap="),
        (Mount("tmpfs", "x", "", ("uidmap=0:1", "gidmap=0:1:1")), "'0:1' is not inside:outside:size"),
        (Mount("tmpfs", "x", "", ("uidmap=0:1:0", "gidmap=0:1:1")), "refuses the id map '0 1 0': Invalid"),
    ],
)
def test_a_failure_undoes_what_was_mounted(tree, bad, text):
    rootfs = tree / "rootfs"
    good = Mount("tmpfs", "tmpfs", "")
    with pytest.raises(OSError, match=text) as caught:
        mount_all([good, Mount("bind", str(tree / "source"), "", ("bind", "ro")), bad], str(rootfs))
    assert caught.value.filename == str(rootfs / bad.target.lstrip("/"))
    assert below(tree) == []


def test_undo_spares_what_was_there_before(tree):
    rootfs = str(tree / "rootfs")
    mount_all([Mount("tmpfs", "before", "")], rootfs)
    with pytest.raises(OSError, match="nosuchfs"):
        mount_all([Mount("tmpfs", "after", ""), Mount("nosuchfs", "x", "")], rootfs)
    assert [entry.source for entry in below(tree)] == ["before"]


def test_nothing_mounted_is_success(tree):
    assert unmount_tree(str(tree / "rootfs")) == []
    assert unmount_tree(str(tree / "none" / "at all")) == []


def test_stacked_hidden_and_nested_mounts_all_go(tree):
    rootfs = tree / "rootfs"
    mount("a", rootfs, "tmpfs", 0)
    (rootfs / "sub dir\n").mkdir()
    mount("b", rootfs / "sub dir\n", "tmpfs", 0)
    mount("c", rootfs / "sub dir\n", "tmpfs", 0)
    mount("d", rootfs, "tmpfs", 0)
    (rootfs / "x").mkdir()
    mount("e", rootfs / "x", "tmpfs", 0)
    neighbour = tree / "rootfs2"
    neighbour.mkdir()
    mount("f", neighbour, "tmpfs", 0)
    assert unmount_tree(str(rootfs)) == []
    assert [entry.source for entry in below(tree)] == ["f"]


def test_a_mount_that_moved_below_a_younger_one(tree):
    rootfs = tree / "rootfs"
    # Nothing moves out of or into a shared mount, as "/" may be.
    mount("top", rootfs, "tmpfs", 0)
    mount("", rootfs, "", api.MS_PRIVATE)
    for name in ("old", "young"):
        (rootfs / name).mkdir()
        mount(name, rootfs / name, "tmpfs", 0)
    (rootfs / "young" / "x").mkdir()
    mount(rootfs / "old", rootfs / "young" / "x", "", MS_MOVE)
    assert unmount_tree(str(rootfs)) == []
    assert below(tree) == []


def test_a_path_through_a_link(tree):
    mount("a", tree / "rootfs", "tmpfs", 0)
    (tree / "link").symlink_to(tree)
    assert unmount_tree(str(tree / "link" / "rootfs")) == []
    assert below(tree) == []


def test_a_link_is_not_followed(tree):
    mount("a", tree / "source", "tmpfs", 0)
    (tree / "rootfs" / "link").symlink_to(tree / "source")
    assert unmount_tree(str(tree / "rootfs" / "link")) == []
    assert [entry.source for entry in below(tree)] == ["a"]


def test_what_is_in_use_is_detached_and_told(tree):
    rootfs = tree / "rootfs"
    mount("a", rootfs, "tmpfs", 0)
    (rootfs / "busy").write_text("still here")
    with (rootfs / "busy").open() as user:
        assert unmount_tree(str(rootfs)) == [str(rootfs)]
        assert below(tree) == []
        assert user.read() == "still here"


def test_what_is_in_use_for_a_moment_is_unmounted_properly(tree, monkeypatch):
    rootfs = tree / "rootfs"
    mount("a", rootfs, "tmpfs", 0)
    code = "import sys; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=rootfs, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        user.stdout.readline()
        pauses = []

        def sleep(seconds):
            pauses.append(seconds)
            if len(pauses) == 3:
                user.communicate()

        monkeypatch.setattr(mounts.time, "sleep", sleep)
        assert unmount_tree(str(rootfs)) == []
        assert len(pauses) == 3


def test_mount_errors_name_the_target(tree):
    with pytest.raises(OSError, match="No such device") as caught:
        mount("x", tree / "rootfs", "nosuchfs", 0)
    assert caught.value.filename == str(tree / "rootfs")
    with pytest.raises(OSError, match="Invalid argument") as caught:
        mounts.umount2(tree / "rootfs", 0)
    assert caught.value.filename == str(tree / "rootfs")
