"""Images of a real containerd, taken into the store by its own client."""

from __future__ import annotations

import json
import shutil

import pytest
from support import bed
from support.containerd import IMAGE

from shim.errors import FailedPrecondition, InvalidArgument
from shim.image import Images

pytestmark = pytest.mark.root


@pytest.fixture
def images(tmp_path, daemon, settled, monkeypatch):
    monkeypatch.setenv("CONTAINERD_ADDRESS", str(daemon.socket))
    return Images(tmp_path / "data")


def test_an_image_is_taken_over(images, daemon, tmp_path):
    bed.need(shutil.which("umoci"), "umoci is not installed: apt-get install umoci")
    image = images.import_(f"containerd://default/{IMAGE}")
    assert image.names == (IMAGE,)
    assert image.config.cmd == ("sh",)
    shown = daemon.ctr("image", "list", f"name=={IMAGE}").stdout
    assert image.digests & set(shown.split())
    images.unpack(image, tmp_path / "rootfs")
    assert (tmp_path / "rootfs" / "bin" / "busybox").exists()
    assert images.import_(f"containerd://default/{IMAGE}", "mine:1").names == (IMAGE, "mine:1")


def test_what_containerd_does_not_have(images, tmp_path, monkeypatch):
    source = "containerd://default/ocishim.test/none:1"
    with pytest.raises(FailedPrecondition, match=f"ctr cannot export {source}: .*not found"):
        images.import_(source)
    with pytest.raises(FailedPrecondition, match="not found"):
        images.import_(f"containerd://other/{IMAGE}")
    monkeypatch.setenv("CONTAINERD_ADDRESS", str(tmp_path / "none.sock"))
    with pytest.raises(FailedPrecondition, match=r"none\.sock"):
        images.import_(f"containerd://default/{IMAGE}")
    for wrong in (
        "containerd://",
        "containerd://default",
        "containerd://default/",
        "containerd:///x",
        "containerd://-a/x",
    ):
        with pytest.raises(InvalidArgument):
            images.import_(wrong)
    with pytest.raises(InvalidArgument, match="names no image"):
        images.import_("containerd://default/--all-platforms")
    assert list((tmp_path / "data" / "images").iterdir()) == []


def test_a_ctr_that_says_rubbish(images, tmp_path, monkeypatch):
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ctr").write_text('#!/bin/sh\ncase "$*" in *--help) ;; *) yes ;; esac\n')
    (programs / "ctr").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    with pytest.raises(InvalidArgument, match="is damaged, or no tar"):
        images.import_(f"containerd://default/{IMAGE}")
    (programs / "ctr").write_text("#!/bin/sh\nyes\n")
    with pytest.raises(FailedPrecondition, match="does not know 'images export'"):
        images.import_(f"containerd://default/{IMAGE}")
    (programs / "ctr").write_text("#!/bin/sh\necho first >&2\necho last >&2\nexit 3\n")
    with pytest.raises(FailedPrecondition, match=r": last$"):
        images.import_(f"containerd://default/{IMAGE}")


def test_the_command_line(daemon, tmp_path, images, capfd):
    from shim.cli.app import run  # noqa: PLC0415 - as others have it from a fixture of theirs

    config = tmp_path / "config.toml"
    config.write_text(f'data_root = "{tmp_path}/data"\n')
    assert run(["--config", str(config), "image", "import", "--json", f"containerd://default/{IMAGE}"]) == 0
    assert json.loads(capfd.readouterr().out)["names"] == [IMAGE]
