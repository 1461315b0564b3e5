"""Root file systems, unpacked by the real umoci and by us: legitimate images as they are meant, hostile ones where they cannot harm."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from support import bed
from support.forks import in_fork
from support.oci_images import add_blob, layer, make_image, make_layout, member

from shim.errors import FailedPrecondition, NotFound, ResourceExhausted
from shim.image import Images, tools, unpacking

pytestmark = pytest.mark.root

DIR, SYM, LNK = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.fixture(autouse=True, params=["umoci", "ourselves"])
def unpacker(request, monkeypatch, tmp_path_factory):
    """Who unpacks; without umoci on PATH it is us."""
    if request.param == "umoci":
        bed.need(shutil.which("umoci"), "umoci is not installed: apt-get install umoci")
    else:
        programs = tmp_path_factory.mktemp("bin")
        for name in ("setpriv", "mknod"):
            (programs / name).symlink_to(shutil.which(name))
        monkeypatch.setenv("PATH", str(programs))
    return request.param


@pytest.fixture
def unpacked(images, tmp_path):
    """The root file system of an image that has these layers."""

    def make(*layers: list, **options):
        image = images.import_(make_layout(tmp_path / "layout", list(map(layer, layers)), **options))
        images.unpack(image, tmp_path / "rootfs")
        return tmp_path / "rootfs"

    return make


def test_owners_modes_links_and_times(unpacked, tmp_path, root):
    rootfs = unpacked(
        [
            member("bin", kind=DIR, mode=0o750),
            member("bin/busybox", b"\x7fELF", mode=0o4755, uid=7, gid=8, mtime=1_000_000_000),
            member("bin/sh", kind=SYM, linkname="/bin/busybox"),
            member("bin/again", kind=LNK, linkname="bin/busybox"),
            member("pipe", kind=tarfile.FIFOTYPE),
            member("é", b"x", pax_headers={"SCHILY.xattr.user.a": "b"}),
        ],
    )
    about = (rootfs / "bin" / "busybox").stat()
    assert (about.st_uid, about.st_gid, about.st_mode, about.st_mtime) == (7, 8, 0o104755, 1e9)
    assert about.st_nlink == 2
    assert os.readlink(rootfs / "bin" / "sh") == "/bin/busybox"
    assert (rootfs / "bin").stat().st_mode & 0o777 == 0o750
    assert stat.S_ISFIFO((rootfs / "pipe").stat().st_mode)
    assert os.getxattr(rootfs / "é", "user.a") == b"b"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "layout", "rootfs"]
    assert list(root.rglob(".*")) == []


def test_the_directory_may_be_there_if_it_is_empty(unpacked, tmp_path):
    (tmp_path / "rootfs").mkdir()
    assert (unpacked([member("a")]) / "a").exists()


def test_whiteouts(unpacked):
    rootfs = unpacked(
        [member("a/1"), member("a/2"), member("b/1"), member("b/2"), member("..odd"), member("kept")],
        [member("a/.wh.1"), member("b/.wh..wh..opq"), member("b/3"), member(".wh...odd")],
    )
    found = sorted(str(p.relative_to(rootfs)) for p in rootfs.rglob("*") if p.is_file())
    assert found == ["a/2", "b/3", "kept"]


def test_a_later_layer_replaces(unpacked):
    rootfs = unpacked(
        [member("a", b"1"), member("b", kind=SYM, linkname="a"), member("c/d")],
        [member("a", b"2"), member("b", b"3"), member("c", b"4")],
    )
    assert [(rootfs / name).read_bytes() for name in "abc"] == [b"2", b"3", b"4"]


def test_plain_layers_and_no_layers(images, tmp_path):
    image = images.import_(make_layout(tmp_path / "1", [layer({"a": b""})], gz=False))
    images.unpack(image, tmp_path / "r1")
    assert os.listdir(tmp_path / "r1") == ["a"]
    images.unpack(images.import_(make_layout(tmp_path / "2", [])), tmp_path / "r2")
    assert os.listdir(tmp_path / "r2") == []


def test_images_with_docker_s_types(images, tmp_path):
    """As containerd exports what came from a registry of Docker's; umoci does not know them."""
    layout = make_image(tmp_path / "l", {"a": b"x"})
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads((layout / "blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text())
    manifest["config"]["mediaType"] = "application/vnd.docker.container.image.v1+json"
    manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    entry = add_blob(layout, json.dumps(manifest).encode(), "")
    entry["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    image = images.import_(layout)
    assert image.manifest_digest == entry["digest"]
    images.unpack(image, tmp_path / "r")
    assert (tmp_path / "r" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("depth", ["same layer", "next layer"])
@pytest.mark.parametrize("target", ["/", "/etc", "."])
def test_what_is_written_through_a_link_stays_in_the_image(unpacked, tmp_path, depth, target):
    """A link to / or /etc is right in an image, and means the image's own."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link = [member("etc", kind=DIR), member("l", kind=SYM, linkname=target)]
    through = [member(f"l{tmp_path}/outside/evil", b"x"), member("l/evil", b"x")]
    rootfs = unpacked(link + through) if depth == "same layer" else unpacked(link, through)
    assert os.listdir(outside) == []
    assert not os.path.exists("/evil")
    assert not os.path.exists("/etc/evil")
    assert len(list(rootfs.rglob("evil"))) >= 2


def test_a_link_to_a_place_of_the_host_gets_nothing_there(unpacked, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    rootfs = unpacked(
        [member("l", kind=SYM, linkname=str(outside))],
        [member("l/kept", b"theirs"), member("l/.wh.kept2"), member("m", kind=LNK, linkname="l/kept")],
    )
    assert (outside / "kept").read_text() == "mine"
    assert os.listdir(outside) == ["kept"]
    assert (rootfs / "m").stat().st_ino != (outside / "kept").stat().st_ino


def test_whoever_would_make_a_device_cannot(tmp_path):
    """Should an unpacker see one that we have not seen."""
    with pytest.raises(FailedPrecondition, match=r"^mknod: .*Operation not permitted"):
        tools.run(["mknod", "null", "c", "1", "3"], tmp_path, "mknod")


def test_a_directory_that_is_taken(images, tmp_path):
    image = images.import_(make_image(tmp_path / "l", {"a": b""}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("full", "file", "link", "dangling"):
        with pytest.raises(FailedPrecondition, match=f"{name} is no empty directory"):
            images.unpack(image, tmp_path / name)
    with pytest.raises(NotFound, match="No such file"):
        images.unpack(image, tmp_path / "no" / "where")
    assert (tmp_path / "full" / "a").read_text() == "mine"


def test_what_cannot_be_unpacked_leaves_nothing(images, tmp_path, root):
    image = images.import_(make_layout(tmp_path / "l", [layer([member("a", kind=LNK, linkname="none")])]))
    with pytest.raises(FailedPrecondition, match=rf"cannot unpack {image.id}: .*[Nn]o such file"):
        images.unpack(image, tmp_path / "rootfs")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "l"]
    assert list(root.rglob(".*")) == []


def test_blobs_that_were_changed_since(images, tmp_path, root):
    image = images.import_(make_image(tmp_path / "l", {"a": b""}))
    path = root / "images" / "blobs" / image.layers[0].digest.replace(":", "/")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FailedPrecondition, match="cannot unpack"):
        images.unpack(image, tmp_path / "rootfs")
    assert not (tmp_path / "rootfs").exists()


def test_an_image_that_is_gone(images, tmp_path):
    image = images.import_(make_image(tmp_path / "l", {"a": b""}))
    images.remove(image.id)
    with pytest.raises(NotFound, match="does not exist any more"):
        images.unpack(image, tmp_path / "rootfs")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "l"]


def test_no_room(images, tmp_path):
    image = images.import_(make_image(tmp_path / "l", {"a": b""}))
    for huge in (replace(image, unpacked_size=1 << 60), replace(image, entries=1 << 60)):
        with pytest.raises(ResourceExhausted, match="no room"):
            images.unpack(huge, tmp_path / "rootfs")


def test_places_with_a_colon(tmp_path):
    odd = tmp_path / "a:b c"
    odd.mkdir()
    images = Images(odd)
    images.unpack(images.import_(make_image(odd / "l:1", {"a": b""})), odd / "r:1")
    assert os.listdir(odd / "r:1") == ["a"]


@pytest.mark.parametrize("unpacker", ["umoci"], indirect=True)
def test_a_user_unpacks_what_is_his():
    """As nobody, who cannot give files away, and whose directories may forbid him to empty them."""
    with tempfile.TemporaryDirectory(prefix="ocishim-", dir="/run") as folder:
        home = Path(folder)
        os.chown(home, 65534, 65534)
        good = make_layout(home / "l", [layer([member("a", b"x", uid=5), member("d/e", b"", mode=0o500)])])
        bad = make_layout(
            home / "m",
            [layer([member("d", kind=DIR, mode=0o500), member("d/b"), member("c", kind=LNK, linkname="e")])],
        )

        def attempt() -> None:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.environ["HOME"] = folder
            images = Images(home / "data")
            images.unpack(images.import_(good), home / "rootfs")
            with pytest.raises(FailedPrecondition, match="umoci cannot unpack"):
                images.unpack(images.import_(bad), home / "none")
            (home / "locked" / "below").mkdir(parents=True)
            (home / "locked").chmod(0o500)
            unpacking._remove(home / "locked")

        in_fork(attempt)
        assert (home / "rootfs" / "a").stat().st_uid == 65534
        assert sorted(p.name for p in home.iterdir()) == ["data", "l", "m", "rootfs"]


@pytest.mark.parametrize("unpacker", ["ourselves"], indirect=True)
def test_a_user_without_umoci_is_told(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="ocishim-", dir="/run") as folder:
        home = Path(folder)
        os.chown(home, 65534, 65534)
        layout = make_image(home / "l", {"a": b""})

        def attempt() -> None:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            images = Images(home / "data")
            with pytest.raises(NotFound, match=r"needs umoci, which is not installed: apt-get install umoci"):
                images.unpack(images.import_(layout), home / "rootfs")

        in_fork(attempt)
        assert sorted(p.name for p in home.iterdir()) == ["data", "l"]


@pytest.mark.parametrize("unpacker", ["ourselves"], indirect=True)
@pytest.mark.parametrize("field", [{"uid": 1 << 40}, {"mtime": 1e30}])
def test_numbers_out_of_range(unpacker, images, tmp_path, field):
    image = images.import_(make_layout(tmp_path / "l", [layer([member("a", pax_headers={}, **field)])]))
    with pytest.raises(FailedPrecondition, match="a time or an owner is out of range"):
        images.unpack(image, tmp_path / "rootfs")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "l"]


@pytest.mark.parametrize("unpacker", ["ourselves"], indirect=True)
def test_both_unpack_the_same(unpacker, images, tmp_path, monkeypatch):
    """What umoci makes of a root file system and of changes to it is what we make of it."""
    base = [
        *(member(name, kind=DIR, mode=0o751, mtime=1_000_000_000) for name in ("a", "a/b", "c", "d")),
        member("a/f", b"x" * 5000, mode=0o4711, uid=3, gid=4, mtime=1_000_000_001),
        member("a/b/l", kind=LNK, linkname="a/f"),
        member("a/s", kind=SYM, linkname="b/../f", uid=5, mtime=1_000_000_002),
        member("c/d/e/deep", b"deep", pax_headers={"SCHILY.xattr.user.x": "y", "mtime": "1000000000.25"}),
        member("d/gone", b"1"),
        member("d/kept", b"2"),
        member("link", kind=SYM, linkname="/a"),
    ]
    changes = [
        member(".", kind=DIR, mode=0o711),
        member("a/b", kind=DIR, mode=0o700, mtime=1_000_000_003),
        member("a/b/.wh..wh..opq"),
        member("a/b/new", b"new"),
        member("a/f", b"changed", mode=0o600),
        member("d/.wh.gone"),
        member("c", b"a file now"),
        member("link/through", b"z"),
        member("fifo", kind=tarfile.FIFOTYPE, mode=0o620),
    ]
    image = images.import_(make_layout(tmp_path / "l", [layer(base), layer(changes)]))
    images.unpack(image, tmp_path / "ours")
    monkeypatch.undo()
    bed.need(shutil.which("umoci"), "umoci is not installed: apt-get install umoci")
    images.unpack(image, tmp_path / "theirs")
    ours, theirs = listing(tmp_path / "ours"), listing(tmp_path / "theirs")
    assert len(ours) > 10
    assert ours == theirs


def listing(root: Path) -> dict[str, tuple]:
    found = {}
    for path in [root, *root.rglob("*")]:
        about = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = os.readlink(path) if path.is_symlink() else ""
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
        # Directories that no layer speaks of have the time of their making.
        time = about.st_mtime_ns if about.st_mtime < 1_500_000_000 else 0
        owner = (oct(about.st_mode), about.st_uid, about.st_gid, about.st_nlink)
        found[str(path.relative_to(root))] = (*owner, time, content, target, xattrs)
    return found
