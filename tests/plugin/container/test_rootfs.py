"""The root file systems of plugins: whose they are, what they share, and when an unpacked image goes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from support import bed
from support.oci_images import layer as make_layer
from support.oci_images import make_image, make_layout, member

from shim.image import Images
from shim.linux.mountinfo import read
from shim.plugin.container.home import Home
from shim.plugin.container.rootfs import drop_unused, provide

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("leaks")]


@pytest.fixture
def image(tmp_path):
    """In a store of its own; its root belongs to somebody, and nobody else may write there."""
    files = make_layer([member(".", kind=b"5", mode=0o750, uid=7, gid=8), member("file", b"of the image\n")])
    layout = make_layout(tmp_path / "layout", [files])
    return Images(tmp_path).import_(layout, "i:1")


@pytest.fixture
def homes(tmp_path, image):
    made = []

    def make(data_root: Path = tmp_path) -> Home:
        home = Home(str(data_root), f"p{len(made)}")
        home.claim("i:1", image.id, "/run/none")
        made.append(home)
        provide(Images(tmp_path), image, home, str(data_root))
        return home

    yield make
    for home in made:
        home.remove()
        home.remove()
        assert not home.path.exists()


def is_mounted(home: Home) -> bool:
    return str(home.rootfs) in [entry.mount_point for entry in read()]


def check_own(first: Home, second: Home) -> None:
    (first.rootfs / "file").write_text("changed\n")
    (first.rootfs / "new").touch()
    assert (second.rootfs / "file").read_text() == "of the image\n"
    assert os.listdir(second.rootfs) == ["file"]
    about = first.rootfs.stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (7, 8, 0o750)


def test_each_plugin_has_its_own_over_one_that_is_unpacked_once(homes, image, tmp_path):
    first, second = homes(), homes()
    assert is_mounted(first)
    check_own(first, second)
    (base,) = tmp_path.glob("plugin-images/*/*")
    assert f"sha256:{base.name}" == image.id
    assert os.listdir(base) == ["rootfs"]


def test_a_path_that_an_overlay_cannot_have_gives_copies(homes, tmp_path):
    folder = tmp_path / "a,b:c"
    folder.mkdir()
    first, second = homes(folder), homes(folder)
    assert not is_mounted(first)
    check_own(first, second)


def test_where_no_overlay_can_be_there_are_copies(homes, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("shim.plugin.container.rootfs.mount_all", refuse)
    first, second = homes(), homes()
    assert not is_mounted(first)
    assert os.listdir(first.path) == os.listdir(second.path)
    check_own(first, second)


def test_one_that_was_half_unpacked_is_unpacked_anew(homes, tmp_path):
    homes().remove()
    (base,) = tmp_path.glob("plugin-images/*/*")
    (base / "rootfs").rename(base / "partial")
    (base / "partial" / "file").write_text("broken")
    assert (homes().rootfs / "file").read_text() == "of the image\n"
    assert os.listdir(base) == ["rootfs"]


def test_unpacked_images_that_nobody_needs_go(homes, image, tmp_path):
    homes()
    earlier = tmp_path / "plugin-images" / "another-boot" / "x"
    earlier.mkdir(parents=True)
    drop_unused(str(tmp_path), {image.id})
    (base,) = tmp_path.glob("plugin-images/*/*")
    assert base.name == image.id.removeprefix("sha256:")
    drop_unused(str(tmp_path), set())
    assert list(tmp_path.glob("plugin-images/*/*")) == []
    drop_unused(str(tmp_path / "nothing"), set())


async def test_they_go_with_the_image_and_its_last_plugin(plugin, settings, store):
    """The next start of any plugin sees to it."""
    store = Path(settings.data_root)
    (store / "images").unlink()
    (store / "plugin-images").unlink()
    for name in ("one", "two"):
        files = {"bin": bed.rootfs() / "bin"}
        layout = make_image(store / name, files, {"Entrypoint": ["/bin/sh", "-c"], "Env": [f"N={name}"]})
        Images(store).import_(layout, f"{name}:1")
    one = plugin("trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done", image="one")
    await one.start()
    await one.stdout.readline()
    Images(store).remove("one:1")
    for running in (True, False):
        two = plugin("exit 0", image="two")
        await two.start()
        assert len(list(store.glob("plugin-images/*/*"))) == (2 if running else 1)
        await two.wait()
        await one.kill()
